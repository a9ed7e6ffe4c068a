// Shared by the host entries of the latent image with few gradients on all devices: checks, results.
#pragma once

#include "common/devices.h"
#include "common/tensor_pointers.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cmath>
#include <cstdint>
#include <optional>

namespace asnet::sparse_latent {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline constexpr const char* kName = "sparse_latent";

// lambda; the first beta, in the same units; its growth factor per step; the upper limit of clipped light; the intensity
// of an even ground.
struct Splitting {
  double strength, beta, growth;
  int64_t steps;
  double brightest;
  std::optional<double> ground;
};

inline void check_like_padded(const char* name, const Tensor& t, ScalarType type, const char* type_words,
                              const Tensor& padded) {
  STD_TORCH_CHECK(t.scalar_type() == type, kName, ": ", name, " must have ", type_words);
  STD_TORCH_CHECK(on_same_device(t, padded), kName, ": ", name, " is not on the device of padded");
  STD_TORCH_CHECK(t.dim() == 4, kName, ": ", name, " has ", t.dim(), " dimensions, expected 4 (N, 1, H, W)");
  for (int64_t dim = 0; dim < 4; ++dim)
    STD_TORCH_CHECK(t.size(dim) == padded.size(dim), kName, ": ", name, " has size ", t.size(dim), " in dimension ", dim,
                    ", padded has ", padded.size(dim));
}

inline void check(const Tensor& padded, const Tensor& observed, const OptionalTensor& clipped, const Tensor& kernel,
                  const Splitting& splitting) {
  const ScalarType type = padded.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, kName, ": padded has dtype ",
                  torch::headeronly::toString(type), ", expected float32 or float64");
  STD_TORCH_CHECK(padded.dim() == 4 && padded.size(1) == 1, kName, ": padded must have the shape (N, 1, H, W)");
  STD_TORCH_CHECK(padded.size(2) > 0 && padded.size(3) > 0, kName, ": padded has ", padded.size(2), " x ", padded.size(3),
                  " pixels, expected at least 1 x 1");
  check_like_padded("observed", observed, type, "the dtype of padded", padded);
  if (clipped) check_like_padded("clipped", *clipped, ScalarType::Bool, "dtype bool", padded);
  STD_TORCH_CHECK(kernel.scalar_type() == type && on_same_device(kernel, padded), kName,
                  ": kernel must have the dtype and the device of padded");
  STD_TORCH_CHECK(kernel.dim() == 3 && kernel.size(0) == padded.size(0) && kernel.size(1) == kernel.size(2), kName,
                  ": kernel must have the shape (", padded.size(0), ", s, s)");
  const int64_t size = kernel.size(1);
  STD_TORCH_CHECK(size % 2 == 1 && size <= padded.size(2) && size <= padded.size(3), kName, ": the kernel has ", size,
                  " x ", size, " pixels, expected an odd number, at most ", padded.size(2), " x ", padded.size(3));
  STD_TORCH_CHECK(splitting.strength > 0 && splitting.beta > 0 && splitting.growth > 0, kName, ": strength is ",
                  splitting.strength, ", beta ", splitting.beta, " and growth ", splitting.growth,
                  ", expected more than 0");
  STD_TORCH_CHECK(splitting.steps > 0, kName, ": steps is ", splitting.steps, ", expected at least 1");
  STD_TORCH_CHECK(!splitting.ground || std::isfinite(*splitting.ground), kName, ": ground is ", *splitting.ground,
                  ", expected a finite number");
}

// The arguments, contiguous, and the final y, which is empty if nothing is clipped.
struct Tensors {
  Tensor padded, observed;
  OptionalTensor clipped;
  Tensor kernel, raised;
};

inline Tensors dense(const Tensor& padded, const Tensor& observed, const OptionalTensor& clipped, const Tensor& kernel) {
  Tensors tensors{torch::stable::contiguous(padded),
                  torch::stable::contiguous(observed),
                  {},
                  torch::stable::contiguous(kernel),
                  torch::stable::new_empty(padded, {clipped ? padded.size(0) : 0, 1, padded.size(2), padded.size(3)})};
  if (clipped) tensors.clipped = torch::stable::contiguous(*clipped);
  return tensors;
}

// A new tensor with the shape and dtype of the images.
inline Tensor empty_images(const Tensor& padded) {
  return torch::stable::new_empty(padded, {padded.size(0), 1, padded.size(2), padded.size(3)});
}

}  // namespace asnet::sparse_latent
