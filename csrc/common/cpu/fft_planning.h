// Host side of the Fourier transforms of cpu/fft.h: which sizes there are, and their twiddle factors.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cpu/fft_plan.h"

namespace asnet {

// The stages of a transform that cost the least; size is a product of 2, 3 and 5.
struct FftStages {
  std::vector<int32_t> radices;
  double cost;  // registers operated on per value
};
FftStages fft_stages(int64_t size);

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

}  // namespace asnet
