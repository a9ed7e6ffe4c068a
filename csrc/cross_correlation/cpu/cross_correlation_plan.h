// Which method, and for the spectral one which sizes of transforms, by counting operations.
#pragma once

#include "cross_correlation/cpu/cross_correlation_kernels.h"

namespace asnet {

struct Estimate {
  SpectralSizes spectral;
  double spectral_cost, direct_cost;  // in operations on registers
};

// `lanes` values make a register of value_bytes * lanes bytes.
Estimate estimate_costs(const CrossCorrelationSizes& sizes, bool gradient, int64_t lanes, int64_t value_bytes);

}  // namespace asnet
