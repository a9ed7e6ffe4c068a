// The divergence of the shrunk differences of periodic images.
#include "common/cpu/reused_memory.h"
#include "common/cpu/tasks.h"
#include "common/devices.h"
#include "common/integers.h"
#include "common/tensor_pointers.h"
#include "shrunk_divergence/cpu/shrunk_divergence_kernels.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr const char* kName = "shrunk_divergence";

// Rows of a task, which computes the differences of one more.
constexpr int64_t kRows = 16;

template <typename T>
void run(const Tensor& images, const Tensor& threshold, const Tensor& divergence) {
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3);
  const int64_t size = channels * height * width;
  for (int64_t n = 0; n < images.size(0); ++n) {
    const DivergenceArguments<T> arguments{channels,
                                           height,
                                           width,
                                           const_pointer<T>(threshold)[n],
                                           const_pointer<T>(images) + n * size,
                                           pointer<T>(divergence) + n * size};
    const int64_t scratch_size = (3 * channels + 1) * (width + 1);
    parallel_with_scratch<T>(ceil_divide(height, kRows), scratch_size, [&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(shrunk_divergence_rows<T>(arguments, scratch, begin * kRows, least(end * kRows, height)));
    });
  }
}

Tensor shrunk_divergence(const Tensor& images, const Tensor& threshold) {
  const ScalarType type = images.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, kName, ": images has dtype ",
                  torch::headeronly::toString(type), ", expected float32 or float64");
  STD_TORCH_CHECK(images.dim() == 4, kName, ": images has ", images.dim(), " dimensions, expected 4 (N, C, H, W)");
  STD_TORCH_CHECK(threshold.scalar_type() == type && on_same_device(threshold, images), kName,
                  ": threshold must have the dtype and the device of images");
  STD_TORCH_CHECK(threshold.dim() == 1 && threshold.size(0) == images.size(0), kName, ": threshold must have the shape (",
                  images.size(0), ")");
  const Tensor dense = torch::stable::contiguous(images), thresholds = torch::stable::contiguous(threshold);
  const Tensor divergence = empty_maps(images, {images.size(0), images.size(1), images.size(2), images.size(3)});
  if (divergence.numel() == 0) return divergence;
  type == ScalarType::Double ? run<double>(dense, thresholds, divergence) : run<float>(dense, thresholds, divergence);
  return divergence;
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) { m.impl("shrunk_divergence", TORCH_BOX(&asnet::shrunk_divergence)); }
