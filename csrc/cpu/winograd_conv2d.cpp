// Convolution of stride 1 with kernels of 2x2 to 8x8 by Winograd's method, bias and ReLU included, for inference.
//
// Maps lie as [N, H, W, C]. Blocks of tiles are computed independently and their size depends on the shape alone, so the
// bits of the result are the same for any number of threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "cpu/winograd_conv2d_kernels.h"
#include "cpu/workspace.h"

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// What a block may take of a core's second-level cache, in floats, beside the weights that stream through it.
constexpr int64_t kBlockFloats = 192 * 1024;
// Tiles in a row of a block: what the product holds in registers.
constexpr int64_t kBlockColumns = 6;
constexpr int64_t kMaximumBlockRows = 8;

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

WinogradShape plan(const Tensor& x, const Tensor& weight, int64_t padding) {
  WinogradShape shape{};
  shape.channels_in = x.size(3);
  shape.channels_out = weight.size(3);
  shape.height = x.size(1);
  shape.width = x.size(2);
  shape.kernel = weight.size(0);
  shape.padding = padding;
  shape.height_out = shape.height + 2 * padding - shape.kernel + 1;
  shape.width_out = shape.width + 2 * padding - shape.kernel + 1;
  shape.block_columns = kBlockColumns;
  for (shape.block_rows = kMaximumBlockRows; shape.block_rows > 1; --shape.block_rows)
    if (ASNET_DISPATCH(workspace_size(shape)) <= kBlockFloats) break;
  return shape;
}

template <typename T>
void convolve(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
              const std::optional<Tensor>& addend, bool relu, const WinogradShape& shape, const Tensor& out) {
  const int64_t panels = ceil_divide(shape.channels_out, ASNET_DISPATCH(panel_channels()));
  Workspace<float> packed(ASNET_DISPATCH(packed_size(shape)));
  const float* weights = weight.const_data_ptr<float>();
  torch::stable::parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      ASNET_DISPATCH(transform_weights(shape, weights, panel, packed.data()));
  });

  const int64_t tile = winograd_method(shape.kernel).tile;
  const int64_t rows = ceil_divide(ceil_divide(shape.height_out, tile), shape.block_rows);
  const int64_t columns = ceil_divide(ceil_divide(shape.width_out, tile), shape.block_columns);
  const T* from = static_cast<const T*>(x.const_data_ptr());
  T* to = static_cast<T*>(out.mutable_data_ptr());
  const float* biases = bias ? bias->const_data_ptr<float>() : nullptr;
  const T* addends = addend ? static_cast<const T*>(addend->const_data_ptr()) : nullptr;
  const int64_t image = shape.height * shape.width * shape.channels_in;
  const int64_t image_out = shape.height_out * shape.width_out * shape.channels_out;
  torch::stable::parallel_for(0, x.size(0) * rows * columns, 1, [&](int64_t first, int64_t last) {
    Workspace<float> workspace(ASNET_DISPATCH(workspace_size(shape)));
    for (int64_t block = first; block < last; ++block) {
      const int64_t n = block / (rows * columns), row = block / columns % rows, column = block % columns;
      const WinogradEpilogue<T> epilogue{biases, addends ? addends + n * image_out : nullptr, relu};
      ASNET_DISPATCH(convolve_block<T>(shape, from + n * image, packed.data(), epilogue, row * shape.block_rows,
                                       column * shape.block_columns, workspace.data(), to + n * image_out));
    }
  });
}

std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(torch::stable::contiguous(*tensor)) : std::nullopt;
}

// x: [N, H, W, C_in], weight: [K, K, C_in, C_out] and bias: [C_out] float32, addend and the result [N, H_out, W_out, C_out].
Tensor winograd_conv2d(const Tensor& x_, const Tensor& weight_, const std::optional<Tensor>& bias,
                       const std::optional<Tensor>& addend, int64_t padding, bool relu) {
  constexpr const char* op = "winograd_conv2d";
  STD_TORCH_CHECK(x_.dim() == 4, op, ": x must have the shape (N, H, W, C), got ", x_.dim(), " dimensions");
  STD_TORCH_CHECK(weight_.scalar_type() == ScalarType::Float && weight_.dim() == 4 && weight_.size(2) == x_.size(3), op,
                  ": weight must be float32 of the shape (K, K, ", x_.size(3), ", C_out)");
  STD_TORCH_CHECK(weight_.size(0) == weight_.size(1) && weight_.size(0) >= smallest_winograd_kernel &&
                      weight_.size(0) <= largest_winograd_kernel,
                  op, ": the kernel is ", weight_.size(0), "x", weight_.size(1), ", expected a square of ",
                  smallest_winograd_kernel, " to ", largest_winograd_kernel);
  STD_TORCH_CHECK(padding >= 0, op, ": the padding is ", padding, ", expected 0 or more");
  if (bias)
    STD_TORCH_CHECK(bias->scalar_type() == ScalarType::Float && bias->dim() == 1 && bias->size(0) == weight_.size(3), op,
                    ": bias must be float32 of the shape (", weight_.size(3), ",)");
  const Tensor x = torch::stable::contiguous(x_), weight = torch::stable::contiguous(weight_);
  const WinogradShape shape = plan(x, weight, padding);
  STD_TORCH_CHECK(shape.height_out > 0 && shape.width_out > 0, op, ": a kernel of ", shape.kernel,
                  " does not fit into padded maps of ", shape.height + 2 * padding, "x", shape.width + 2 * padding);
  Tensor out = torch::stable::new_empty(x, {x.size(0), shape.height_out, shape.width_out, shape.channels_out});
  if (addend) {
    STD_TORCH_CHECK(addend->scalar_type() == x.scalar_type() && addend->dim() == 4, op,
                    ": addend must have the dtype of x and 4 dimensions, got ", addend->dim());
    for (int64_t dim = 0; dim < 4; ++dim)
      STD_TORCH_CHECK(addend->size(dim) == out.size(dim), op, ": addend has size ", addend->size(dim), " in dimension ",
                      dim, ", the result has ", out.size(dim));
  }
  if (out.numel() == 0) return out;
  advise_large_pages(out.mutable_data_ptr(), static_cast<std::size_t>(out.numel()) * out.element_size());
  const auto run = [&](auto element) {
    convolve<decltype(element)>(x, weight, contiguous(bias), contiguous(addend), relu, shape, out);
  };
  switch (x.scalar_type()) {
    case ScalarType::Float: run(float()); break;
    case ScalarType::BFloat16: run(BFloat16()); break;
    case ScalarType::Half: run(Float16()); break;
    default: STD_TORCH_CHECK(false, op, ": feature maps must be float32, bfloat16 or float16");
  }
  return out;
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) { m.impl("winograd_conv2d", TORCH_BOX(&asnet::winograd_conv2d)); }
