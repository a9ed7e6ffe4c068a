// Convolution by transforms, bias, addition and ReLU included, for inference: kernels of 2x2 to 8x8, and those of up to 3x3
// with stride 2.
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

#include "cpu/integers.h"
#include "cpu/reused_memory.h"
#include "cpu/transform_conv2d_kernels.h"
#include "cpu/workspace.h"
#include "tensor_pointers.h"

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// What a block may take of a core's second-level cache, in floats, beside the weights that stream through it.
constexpr int64_t kBlockFloats = 192 * 1024;
// Tiles in a row of a block: what the product holds in registers.
constexpr int64_t kBlockColumns = 6;
constexpr int64_t kMaximumBlockRows = 8;

// The window of the first output pixel begins at (-top, -left).
struct Window {
  int64_t top, left, rows, columns, stride;
};

TransformShape plan(const Tensor& x, const Tensor& weight, const Window& window) {
  TransformShape shape{};
  shape.channels_in = x.size(3);
  shape.channels_out = weight.size(3);
  shape.height = x.size(1);
  shape.width = x.size(2);
  shape.height_out = window.rows;
  shape.width_out = window.columns;
  shape.kernel = weight.size(0);
  shape.stride = window.stride;
  shape.top = window.top;
  shape.left = window.left;
  shape.method = transform_method(shape.kernel, shape.stride, x.scalar_type() == ScalarType::BFloat16);
  shape.block_columns = kBlockColumns;
  for (shape.block_rows = kMaximumBlockRows; shape.block_rows > 1; --shape.block_rows)
    if (ASNET_DISPATCH(workspace_size(shape)) <= kBlockFloats) break;
  return shape;
}

struct Epilogue {
  std::optional<Tensor> bias;  // float32 (C_out,)
  bool accumulate, relu;
  int64_t interleave;
};

template <typename T>
void convolve(const Tensor& x, const Tensor& weight, const Epilogue& epilogue, const TransformShape& shape,
              const Tensor& out) {
  const int64_t panels = ceil_divide(shape.channels_out, ASNET_DISPATCH(panel_channels()));
  Workspace<float> packed(ASNET_DISPATCH(packed_size(shape)));
  const float* weights = weight.const_data_ptr<float>();
  torch::stable::parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      ASNET_DISPATCH(transform_weights(shape, weights, panel, packed.data()));
  });

  const int64_t tile = shape.method.tile;
  const int64_t rows = ceil_divide(ceil_divide(shape.height_out, tile), shape.block_rows);
  const int64_t columns = ceil_divide(ceil_divide(shape.width_out, tile), shape.block_columns);
  const T* const from = const_pointer<T>(x);
  T* const to = pointer<T>(out);
  const TransformEpilogue steps{epilogue.bias ? epilogue.bias->const_data_ptr<float>() : nullptr, epilogue.accumulate,
                                epilogue.relu, epilogue.interleave};
  const int64_t image = shape.height * shape.width * shape.channels_in;
  const int64_t image_out = shape.height_out * shape.width_out * shape.channels_out;
  torch::stable::parallel_for(0, x.size(0) * rows * columns, 1, [&](int64_t first, int64_t last) {
    Workspace<float> workspace(ASNET_DISPATCH(workspace_size(shape)));
    for (int64_t block = first; block < last; ++block) {
      const int64_t n = block / (rows * columns), row = block / columns % rows, column = block % columns;
      ASNET_DISPATCH(convolve_block<T>(shape, from + n * image, packed.data(), steps, row * shape.block_rows,
                                       column * shape.block_columns, workspace.data(), to + n * image_out));
    }
  });
}

void check(const char* op, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Window& window) {
  STD_TORCH_CHECK(x.dim() == 4, op, ": x must have the shape (N, H, W, C), got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Float && weight.dim() == 4 && weight.size(2) == x.size(3), op,
                  ": weight must be float32 of the shape (K, K, ", x.size(3), ", C_out)");
  STD_TORCH_CHECK(window.stride == 1 || window.stride == 2, op, ": the stride is ", window.stride, ", expected 1 or 2");
  const int64_t largest = window.stride == 1 ? largest_transform_kernel : 3;
  STD_TORCH_CHECK(
      weight.size(0) == weight.size(1) && weight.size(0) >= smallest_transform_kernel && weight.size(0) <= largest, op,
      ": the kernel is ", weight.size(0), "x", weight.size(1), ", expected a square of ", smallest_transform_kernel, " to ",
      largest, " with stride ", window.stride);
  STD_TORCH_CHECK(window.top >= 0 && window.left >= 0, op, ": the padding is ", window.top, " and ", window.left,
                  ", expected 0 or more");
  STD_TORCH_CHECK(window.rows >= 0 && window.columns >= 0, op, ": the result is to have ", window.rows, "x", window.columns,
                  " pixels");
  if (bias)
    STD_TORCH_CHECK(bias->scalar_type() == ScalarType::Float && bias->dim() == 1 && bias->size(0) == weight.size(3), op,
                    ": bias must be float32 of the shape (", weight.size(3), ",)");
}

void run(const char* op, const Tensor& x, const Tensor& weight, const Epilogue& epilogue, const Window& window,
         const Tensor& out) {
  if (out.numel() == 0) return;
  const Tensor pixels = torch::stable::contiguous(x), taps = torch::stable::contiguous(weight);
  Epilogue steps = epilogue;
  if (steps.bias) steps.bias = torch::stable::contiguous(*steps.bias);
  const TransformShape shape = plan(pixels, taps, window);
  switch (x.scalar_type()) {
    case ScalarType::Float: convolve<float>(pixels, taps, steps, shape, out); break;
    case ScalarType::BFloat16: convolve<BFloat16>(pixels, taps, steps, shape, out); break;
    case ScalarType::Half: convolve<Float16>(pixels, taps, steps, shape, out); break;
    default: STD_TORCH_CHECK(false, op, ": feature maps must be float32, bfloat16 or float16");
  }
}

// x: [N, H, W, C_in], weight: [K, K, C_in, C_out] and bias: [C_out] float32. The result is [N, rows, columns, C_out], or
// [N, 2 rows, 2 columns, C_out / 4] with interleave 2.
Tensor transform_conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t top, int64_t left,
                        int64_t rows, int64_t columns, int64_t stride, int64_t interleave, bool relu) {
  constexpr const char* op = "transform_conv2d";
  const Window window{top, left, rows, columns, stride};
  check(op, x, weight, bias, window);
  STD_TORCH_CHECK(interleave == 1 || (interleave == 2 && weight.size(3) % 64 == 0), op, ": interleave is ", interleave,
                  ", expected 1, or 2 with a multiple of 64 channels, of which there are ", weight.size(3));
  const Tensor out =
      empty_maps(x, {x.size(0), rows * interleave, columns * interleave, weight.size(3) / (interleave * interleave)});
  run(op, x, weight, {bias, false, relu, interleave}, window, out);
  return out;
}

// sum: [N, rows, columns, C_out] becomes act(convolution + bias + sum).
void transform_conv2d_add_(const Tensor& sum, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                           int64_t top, int64_t left, int64_t stride, bool relu) {
  constexpr const char* op = "transform_conv2d_add_";
  STD_TORCH_CHECK(sum.dim() == 4 && sum.is_contiguous() && sum.scalar_type() == x.scalar_type(), op,
                  ": the sum must be contiguous, of the shape (N, H_out, W_out, C_out) and of the dtype of x");
  const Window window{top, left, sum.size(1), sum.size(2), stride};
  check(op, x, weight, bias, window);
  STD_TORCH_CHECK(sum.size(0) == x.size(0) && sum.size(3) == weight.size(3), op, ": the sum has ", sum.size(0),
                  " images of ", sum.size(3), " channels, the convolution ", x.size(0), " of ", weight.size(3));
  run(op, x, weight, {bias, true, relu, 1}, window, sum);
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) {
  m.impl("transform_conv2d", TORCH_BOX(&asnet::transform_conv2d));
  m.impl("transform_conv2d_add_", TORCH_BOX(&asnet::transform_conv2d_add_));
}
