// Argument checks of the cross-correlation's host entries, for all devices.
#pragma once

#include "common/devices.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <string>

namespace asnet {

inline void check_correlation(const torch::stable::Tensor& features, int64_t lag_y, int64_t lag_x,
                              const std::string& method) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(features.dim() == 4, "cross_correlation: features has ", features.dim(),
                  " dimensions, expected 4 (N, C, H, W)");
  const ScalarType type = features.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 || type == ScalarType::Half,
      "cross_correlation: features has dtype ", torch::headeronly::toString(type),
      ", expected float32, float64, bfloat16 or float16");
  STD_TORCH_CHECK(lag_y >= 0 && lag_x >= 0, "cross_correlation: the largest lags are ", lag_y, " and ", lag_x,
                  ", expected 0 or more");
  const int64_t height = features.size(2), width = features.size(3);
  STD_TORCH_CHECK(features.size(1) > 0 && height > 0 && width > 0, "cross_correlation: features has ", features.size(1),
                  " maps of ", height, " x ", width, ", expected at least one of at least 1 x 1");
  STD_TORCH_CHECK(lag_y < height && lag_x < width, "cross_correlation: the largest lags are ", lag_y, " and ", lag_x,
                  ", expected less than the height ", height, " and the width ", width);
  STD_TORCH_CHECK(method == "auto" || method == "direct" || method == "spectral", "cross_correlation: method is '", method,
                  "', expected auto, direct or spectral");
}

// Call check_correlation first.
inline void check_correlation_gradient(const torch::stable::Tensor& gradient, const torch::stable::Tensor& features,
                                       int64_t lag_y, int64_t lag_x) {
  const int64_t count = features.size(0), pairs = features.size(1) * (features.size(1) + 1) / 2;
  STD_TORCH_CHECK(gradient.dim() == 4 && gradient.size(0) == count && gradient.size(1) == pairs &&
                      gradient.size(2) == 2 * lag_y + 1 && gradient.size(3) == 2 * lag_x + 1,
                  "cross_correlation_backward: grad does not have the shape of the correlation, (", count, ", ", pairs,
                  ", ", 2 * lag_y + 1, ", ", 2 * lag_x + 1, ")");
  STD_TORCH_CHECK(on_same_device(gradient, features), "cross_correlation_backward: grad is not on the device of features");
}

// The type in which the correlation is computed.
inline torch::headeronly::ScalarType correlation_computing_type(const torch::stable::Tensor& features) {
  using torch::headeronly::ScalarType;
  return features.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

}  // namespace asnet
