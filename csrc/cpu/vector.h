// One SIMD register of the instruction set that the including *_kernels.cpp is compiled for.
// Vector<T> is a GCC/Clang vector: + - * and comparisons work lane by lane, a*b+c contracts to a fused multiply-add.
#pragma once

#include <cstdint>

namespace asnet::ASNET_ISA {

template <typename T>
struct VectorTypes {
  // may_alias and aligned(alignof(T)): loads and stores need no alignment beyond that of the element.
  typedef T Register __attribute__((vector_size(ASNET_VECTOR_BYTES)));
  typedef T Unaligned __attribute__((vector_size(ASNET_VECTOR_BYTES), aligned(alignof(T)), may_alias));
};

template <typename T>
using Vector = typename VectorTypes<T>::Register;

template <typename T>
inline constexpr int64_t lanes = ASNET_VECTOR_BYTES / sizeof(T);

template <typename T>
inline Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorTypes<T>::Unaligned*>(from);
}

template <typename T>
inline void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorTypes<T>::Unaligned*>(to) = value;
}

template <typename T>
inline Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

template <typename T>
inline T sum_of_lanes(Vector<T> value) {
  T sum = 0;
  for (int64_t lane = 0; lane < lanes<T>; ++lane) sum += value[lane];
  return sum;
}

}  // namespace asnet::ASNET_ISA
