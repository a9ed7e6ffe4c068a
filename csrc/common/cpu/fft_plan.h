// Sizes and twiddle factors of a complex Fourier transform, for cpu/fft.h.
#pragma once

#include <cstdint>

namespace asnet {

inline constexpr int64_t maximum_fft_stages = 24;

// twiddles: for every stage of radix r with m butterflies, m * (r - 1) pairs (re, im)
// w^k, k = 1 .. r - 1, w = exp(-2 pi i p / (r m)), p = 0 .. m - 1.
template <typename T>
struct Fft {
  int64_t size;
  int64_t stages;
  int32_t radix[maximum_fft_stages];
  const T* twiddles;
};

}  // namespace asnet
