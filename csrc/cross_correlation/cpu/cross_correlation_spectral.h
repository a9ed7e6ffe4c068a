// Shared by the kernels of the spectral cross-correlation.
// For *_kernels.cpp files only.
#pragma once

#include "common/cpu/fft.h"
#include "common/integers.h"

namespace asnet::ASNET_ISA {

template <typename T>
inline void copy_complex(T* to, const T* from, int64_t count) {
  __builtin_memcpy(to, from, count * complex_size<T> * sizeof(T));
}

template <typename T>
inline void clear_complex(T* to, int64_t count) {
  __builtin_memset(to, 0, count * complex_size<T> * sizeof(T));
}

inline int64_t remainder(int64_t value, int64_t period) {
  const int64_t rest = value % period;
  return rest < 0 ? rest + period : rest;
}

}  // namespace asnet::ASNET_ISA
