// Types that CUDA's headers define.
#pragma once

#include <bit>
#include <cstdint>

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

using cudaStream_t = struct CUstream_st*;

namespace asnet::cuda {

// Storage only: kernels compute in float, with to_float and from_float.
struct __attribute__((visibility("default"))) bfloat16 {
  uint16_t bits;
};
struct __attribute__((visibility("default"))) float16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bfloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
inline float to_float(float16 x) { return static_cast<float>(std::bit_cast<_Float16>(x.bits)); }

inline bfloat16 round_to_bfloat16(float x) {
  if (x != x) return {0x7fff};
  const auto bits = std::bit_cast<uint32_t>(x);
  // Adds half a unit in the last place, or one bit less if the last bit is even: ties to even.
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float16 round_to_float16(float x) {
  if (x != x) return {0x7fff};
  return {std::bit_cast<uint16_t>(static_cast<_Float16>(x))};
}

}  // namespace asnet::cuda
