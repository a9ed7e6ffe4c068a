// Loads of any element type into a register of its accumulation type, and stores back with one rounding (to nearest,
// ties to even). For *_kernels.cpp files, see isa.h.
#pragma once

#include "common/cpu/element_types.h"
#include "common/cpu/vector.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace asnet::ASNET_ISA {

// A register of the accumulation type, and the number of elements of T that it holds.
template <typename T>
using Wide = Vector<Accumulation<T>>;
template <typename T>
inline constexpr int64_t wide_lanes = lanes<Accumulation<T>>;

typedef uint32_t WideBits __attribute__((vector_size(ASNET_VECTOR_BYTES)));
typedef uint16_t HalfBits __attribute__((vector_size(ASNET_VECTOR_BYTES / 2)));

inline Vector<float> widen(const BFloat16*, HalfBits packed) {
  return (Vector<float>)(__builtin_convertvector(packed, WideBits) << 16);
}

inline HalfBits narrow(const BFloat16*, Vector<float> value) {
  const WideBits bits = (WideBits)value;
  const WideBits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  // Rounding could carry a NaN's mantissa into infinity.
  const WideBits quiet_nan = WideBits{} + 0x7fc0;
  return __builtin_convertvector(value != value ? quiet_nan : rounded, HalfBits);
}

#if defined(__AVX512F__)
// Zero-masked intrinsics with a full mask: g++ warns of an uninitialised register in the plain ones.
inline Vector<float> widen(const Float16*, HalfBits packed) {
  return (Vector<float>)_mm512_maskz_cvtph_ps(0xffff, (__m256i)packed);
}
inline HalfBits narrow(const Float16*, Vector<float> value) {
  return (HalfBits)_mm512_maskz_cvtps_ph(0xffff, (__m512)value, _MM_FROUND_TO_NEAREST_INT);
}
#elif defined(__F16C__)
inline Vector<float> widen(const Float16*, HalfBits packed) { return (Vector<float>)_mm256_cvtph_ps((__m128i)packed); }
inline HalfBits narrow(const Float16*, Vector<float> value) {
  return (HalfBits)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT);
}
#else
// The exponent is biased by 15 in float16 and by 127 in float32.
inline Vector<float> widen(const Float16*, HalfBits packed) {
  const WideBits bits = __builtin_convertvector(packed, WideBits);
  const WideBits magnitude = (bits & 0x7fff) << 13;
  // The multiplication by 2^112 moves the bias and makes subnormal numbers normal.
  const Vector<float> scaled = (Vector<float>)magnitude * 0x1p112f;
  const WideBits not_finite = magnitude | 0x7f800000;
  const WideBits result = magnitude >= (0x7c00u << 13) ? not_finite : (WideBits)scaled;
  return (Vector<float>)(result | (bits & 0x8000) << 16);
}

inline HalfBits narrow(const Float16*, Vector<float> value) {
  const WideBits bits = (WideBits)value, magnitude = bits & 0x7fffffff;
  const WideBits normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5, whose last mantissa bit is worth 2^-24, leaves the subnormal float16 in the low bits, rounded.
  const WideBits subnormal = (WideBits)((Vector<float>)magnitude + 0.5f) - 0x3f000000;
  const WideBits infinity = WideBits{} + 0x7c00, quiet_nan = WideBits{} + 0x7e00;
  WideBits result = magnitude < (113u << 23) ? subnormal : normal;
  result = magnitude >= (143u << 23) ? infinity : result;
  result = magnitude > 0x7f800000 ? quiet_nan : result;
  return __builtin_convertvector(result | (bits & 0x80000000) >> 16, HalfBits);
}
#endif

template <typename T>
inline Wide<T> load_elements(const T* from) {
  HalfBits packed;
  __builtin_memcpy(&packed, from, sizeof(packed));
  return widen(from, packed);
}
template <>
inline Wide<float> load_elements(const float* from) {
  return load(from);
}
template <>
inline Wide<double> load_elements(const double* from) {
  return load(from);
}

template <typename T>
inline void store_elements(T* to, Wide<T> value) {
  const HalfBits packed = narrow(to, value);
  __builtin_memcpy(to, &packed, sizeof(packed));
}
template <>
inline void store_elements(float* to, Wide<float> value) {
  store(to, value);
}
template <>
inline void store_elements(double* to, Wide<double> value) {
  store(to, value);
}

// The last elements of a row, fewer than a register holds. Lanes without an element read as zero.
template <typename T>
inline Wide<T> load_elements(const T* from, int64_t count) {
  T whole[wide_lanes<T>] = {};
  __builtin_memcpy(whole, from, count * sizeof(T));
  return load_elements(whole);
}

template <typename T>
inline void store_elements(T* to, Wide<T> value, int64_t count) {
  T whole[wide_lanes<T>];
  store_elements(whole, value);
  __builtin_memcpy(to, whole, count * sizeof(T));
}

}  // namespace asnet::ASNET_ISA
