// One SIMD register of the instruction set for which the including *_kernels.cpp is compiled.
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

#if defined(__GNUC__) && !defined(__clang__)
// Swaps the lanes on the wrong side of the diagonal between rows that are `half` apart. The indices are a pack to be
// constants: computed in a loop, they would be rebuilt at every call.
template <typename T, int64_t half, int64_t... lane>
inline void exchange(Vector<T> (&rows)[lanes<T>]) {
  typedef decltype(rows[0] < rows[0]) Indices;
  const Indices low{(lane & half ? lanes<T> + lane - half : lane)...},
      high{(lane & half ? lanes<T> + lane : lane + half)...};
#pragma GCC unroll 16
  for (int64_t row = 0; row < lanes<T>; ++row) {
    if (row & half) continue;
    const Vector<T> upper = rows[row], lower = rows[row + half];
    rows[row] = __builtin_shuffle(upper, lower, low);
    rows[row + half] = __builtin_shuffle(upper, lower, high);
  }
}

template <typename T, int64_t half, int64_t... lane>
inline void exchange_all(Vector<T> (&rows)[lanes<T>]) {
  exchange<T, half, lane...>(rows);
  if constexpr (half > 1) exchange_all<T, half / 2, lane...>(rows);
}

// Transposes a square of lanes<T> x lanes<T> held in registers.
template <typename T>
inline void transpose(Vector<T> (&rows)[lanes<T>]) {
  exchange_all<T, lanes<T> / 2, __integer_pack(lanes<T>)...>(rows);
}
#else
template <typename T>
inline void transpose(Vector<T> (&rows)[lanes<T>]) {
  for (int64_t row = 0; row < lanes<T>; ++row)
    for (int64_t lane = 0; lane < row; ++lane) {
      const T value = rows[row][lane];
      rows[row][lane] = rows[lane][row];
      rows[lane][row] = value;
    }
}
#endif

// Calls function<n>() with the run-time n, 1 <= n <= maximum, as a constant.
template <int maximum, typename Function>
inline void with_constant(int64_t n, const Function& function) {
  if (n >= maximum)
    function.template operator()<maximum>();
  else if constexpr (maximum > 1)
    with_constant<maximum - 1>(n, function);
}

// With 32 registers, blocks of sums can be larger than with 16.
#if defined(__aarch64__)
inline constexpr bool many_registers = true;
#else
inline constexpr bool many_registers = ASNET_VECTOR_BYTES == 64;
#endif

}  // namespace asnet::ASNET_ISA
