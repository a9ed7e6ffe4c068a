// Chooses the method, and the transform sizes of the spectral method, by counting operations.
#pragma once

#include "cross_correlation/cpu/cross_correlation_kernels.h"

namespace asnet {

struct Estimate {
  SpectralSizes spectral;
  double spectral_cost, direct_cost;  // in operations on registers
};

// A register has `lanes` values of value_bytes bytes.
Estimate estimate_costs(const CrossCorrelationSizes& sizes, bool gradient, int64_t lanes, int64_t value_bytes);

}  // namespace asnet
