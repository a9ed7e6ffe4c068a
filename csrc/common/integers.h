// Arithmetic of sizes, for host entries and kernels of every device.
#pragma once

#include <cstdint>

// For functions of both devices. Always inlined, so that no copy compiled for one CPU instruction set is left for the
// linker to use for all.
#ifdef __CUDACC__
#define ASNET_EVERYWHERE __host__ __device__ __forceinline__ constexpr
#else
#define ASNET_EVERYWHERE inline __attribute__((always_inline)) constexpr
#endif

namespace asnet {

ASNET_EVERYWHERE int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
ASNET_EVERYWHERE int64_t round_up(int64_t value, int64_t multiple) { return ceil_divide(value, multiple) * multiple; }
ASNET_EVERYWHERE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace asnet
