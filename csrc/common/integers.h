// Arithmetic of sizes, for host entries and kernels.
#pragma once

#include <cstdint>

namespace asnet {

// always_inline: compiled for one instruction set they leave no copy that the linker could keep for all.
constexpr inline __attribute__((always_inline)) int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr inline __attribute__((always_inline)) int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace asnet
