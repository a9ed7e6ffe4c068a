// Devices of the arguments of an operator.
#pragma once

#include <torch/csrc/stable/tensor.h>

namespace asnet {

inline bool on_same_device(const torch::stable::Tensor& a, const torch::stable::Tensor& b) {
  return a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
}

}  // namespace asnet
