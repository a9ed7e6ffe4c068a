// A tensor's memory as elements of T; the caller guarantees the type. T may also be a type that torch's typed accessors do
// not support: void, or the 16-bit types of the kernels.
#pragma once

#include <torch/csrc/stable/tensor.h>

namespace asnet {

template <typename T>
T* pointer(const torch::stable::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <typename T>
const T* const_pointer(const torch::stable::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

}  // namespace asnet
