// What every host entry does around its kernels: device, stream, size of the device. Compiled by nvcc for the GPU and, for the
// tests, by g++ with the kernels running on the CPU (tests/kernels/cuda_on_cpu).
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "common/cuda/device.cuh"

#ifdef __CUDACC__

#include <torch/csrc/stable/accelerator.h>

#define ASNET_CUDA_LIBRARY(module) STABLE_TORCH_LIBRARY_IMPL(asnet, CUDA, module)

namespace asnet::cuda {

// The device of a tensor made current for as long as this lives.
struct DeviceGuard {
  explicit DeviceGuard(const torch::stable::Tensor& tensor) : guard(tensor.get_device_index()) {}
  torch::stable::accelerator::DeviceGuard guard;
};

inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Of the current device. Where the driver is too old for this CUDA, it is here that it shows.
inline int multiprocessors() {
  int device = 0, count = 0;
  check_cuda(cudaGetDevice(&device), "the question which device is current");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "the question how many multiprocessors the device has");
  return count;
}

}  // namespace asnet::cuda

#else

// Operators of the same names in a library of their own, which take CPU tensors.
#define ASNET_CUDA_LIBRARY(module) STABLE_TORCH_LIBRARY_IMPL(asnet_cuda_on_cpu, CPU, module)

namespace asnet::cuda {

struct DeviceGuard {
  explicit DeviceGuard(const torch::stable::Tensor&) {}
};
inline cudaStream_t current_stream(const torch::stable::Tensor&) { return nullptr; }
inline int multiprocessors() { return 4; }

}  // namespace asnet::cuda

#endif
