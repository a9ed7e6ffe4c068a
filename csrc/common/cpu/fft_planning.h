// Host side of the Fourier transforms of cpu/fft.h: supported sizes and twiddle factors.
#pragma once

#include "common/cpu/fft_plan.h"

#include <cstdint>
#include <vector>

namespace asnet {

// The cheapest stages of a transform; its size is a product of 2, 3 and 5.
struct FftStages {
  std::vector<int32_t> radices;
  double cost;  // registers operated on per value
};
FftStages fft_stages(int64_t size);

// A Fourier transform of `size` values, a product of 2, 3 and 5. Owns the memory that its plan points to.
template <typename T>
class FftPlan {
 public:
  explicit FftPlan(int64_t size);
  const Fft<T>& fft() const { return fft_; }

 private:
  std::vector<T> twiddles_;
  Fft<T> fft_;
};

// Smallest product of 2, 3 and 5 that is at least `least`.
int64_t next_fft_size(int64_t least);

}  // namespace asnet
