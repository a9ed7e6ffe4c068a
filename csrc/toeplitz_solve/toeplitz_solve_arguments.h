// What the host entries of the solution of Toeplitz systems check on every device.
#pragma once

#include "common/devices.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>

namespace asnet::toeplitz_solve {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline constexpr const char* kName = "toeplitz_solve";

// lags: (N, 2 s - 1, 2 s - 1), right: (N, s, s), support: (N, s, s) bool.
inline void check(const Tensor& lags, const Tensor& right, const OptionalTensor& support, int64_t steps) {
  const ScalarType type = right.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, kName, ": right has dtype ",
                  torch::headeronly::toString(type), ", expected float32 or float64");
  STD_TORCH_CHECK(right.dim() == 3 && right.size(1) == right.size(2) && right.size(1) > 0, kName,
                  ": right must have the shape (N, s, s), s at least 1");
  const int64_t count = right.size(0), size = right.size(1), side = 2 * size - 1;
  STD_TORCH_CHECK(lags.scalar_type() == type && lags.dim() == 3 && lags.size(0) == count && lags.size(1) == side &&
                      lags.size(2) == side,
                  kName, ": lags must have the dtype of right and the shape (", count, ", ", side, ", ", side, ")");
  STD_TORCH_CHECK(on_same_device(lags, right), kName, ": lags is not on the device of right");
  if (support) {
    STD_TORCH_CHECK(support->scalar_type() == ScalarType::Bool && support->dim() == 3 && support->size(0) == count &&
                        support->size(1) == size && support->size(2) == size,
                    kName, ": support must have dtype bool and the shape (", count, ", ", size, ", ", size, ")");
    STD_TORCH_CHECK(on_same_device(*support, right), kName, ": support is not on the device of right");
  }
  STD_TORCH_CHECK(steps >= 0, kName, ": steps is ", steps, ", expected at least 0");
}

}  // namespace asnet::toeplitz_solve
