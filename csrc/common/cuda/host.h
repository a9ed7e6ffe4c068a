// Used by every host entry: device, stream, number of multiprocessors. Compiled by nvcc for the GPU and, for the tests, by
// g++ with the kernels running on the CPU (tests/kernels/cuda_on_cpu).
#pragma once

#include "common/cuda/device.cuh"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#ifdef __CUDACC__

#include <torch/csrc/stable/accelerator.h>

#define ASNET_CUDA_LIBRARY(module) STABLE_TORCH_LIBRARY_IMPL(asnet, CUDA, module)

namespace asnet::cuda {

// Makes the device of a tensor current during its lifetime.
struct DeviceGuard {
  explicit DeviceGuard(const torch::stable::Tensor& tensor) : guard(tensor.get_device_index()) {}
  torch::stable::accelerator::DeviceGuard guard;
};

inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Multiprocessors of the current device. A driver too old for this CUDA fails here.
inline int multiprocessors() {
  int device = 0, count = 0;
  check_cuda(cudaGetDevice(&device), "the question which device is current");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "the question how many multiprocessors the device has");
  return count;
}

}  // namespace asnet::cuda

#else

// Operators of the same names for CPU tensors, in a separate library.
#define ASNET_CUDA_LIBRARY(module) STABLE_TORCH_LIBRARY_IMPL(asnet_cuda_on_cpu, CPU, module)

namespace asnet::cuda {

struct DeviceGuard {
  explicit DeviceGuard(const torch::stable::Tensor&) {}
};
inline cudaStream_t current_stream(const torch::stable::Tensor&) { return nullptr; }
inline int multiprocessors() { return 4; }

}  // namespace asnet::cuda

#endif
