// Which method, and for the spectral one which sizes of transforms, by counting operations.
#pragma once

#include <vector>

#include "cpu/cross_correlation_kernels.h"

namespace asnet {

// A Fourier transform of `size` values, size a product of 2, 3 and 5, and the memory that its plan points to.
template <typename T>
class FftPlan {
 public:
  explicit FftPlan(int64_t size);
  const Fft<T>& fft() const { return fft_; }

 private:
  std::vector<T> twiddles_;
  Fft<T> fft_;
};

// Smallest product of 2, 3 and 5 that is not below `least`.
int64_t next_fft_size(int64_t least);

struct Estimate {
  SpectralSizes spectral;
  double spectral_cost, direct_cost;  // in operations on registers
};

// `lanes` values make a register of value_bytes * lanes bytes.
Estimate estimate_costs(const CrossCorrelationSizes& sizes, bool gradient, int64_t lanes, int64_t value_bytes);

}  // namespace asnet
