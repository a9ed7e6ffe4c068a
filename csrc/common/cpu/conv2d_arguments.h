// Shared by the host entries of the inference convolutions: checks, sizes, results.
//
// x: [N, H, W, C_in], weight: [K, K, C_in, C_out] and bias: [C_out], both float32. The result is [N, rows, columns, C_out],
// or [N, 2 rows, 2 columns, C_out / 4] with interleave 2.
#pragma once

#include "common/cpu/conv2d.h"
#include "common/cpu/reused_memory.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>

namespace asnet {

// The convolution kernels that a method supports.
struct Conv2dLimits {
  const char* op;
  int64_t smallest, largest, largest_with_stride_two;
};

// The window of the first output pixel begins at (-top, -left).
struct Window {
  int64_t top, left, rows, columns, stride;
};

struct Conv2dArguments {
  torch::stable::Tensor x, weight;  // contiguous
  std::optional<torch::stable::Tensor> bias;
  bool accumulate, relu;
  int64_t interleave;
  Conv2dShape shape;

  Conv2dEpilogue epilogue() const { return {bias ? bias->const_data_ptr<float>() : nullptr, accumulate, relu, interleave}; }
  int64_t image() const { return shape.height * shape.width * shape.channels_in; }
  int64_t image_out() const { return shape.height_out * shape.width_out * shape.channels_out; }
};

inline void check_conv2d(const Conv2dLimits& limits, const torch::stable::Tensor& x, const torch::stable::Tensor& weight,
                         const std::optional<torch::stable::Tensor>& bias, const Window& window) {
  using torch::headeronly::ScalarType;
  const char* const op = limits.op;
  STD_TORCH_CHECK(x.dim() == 4, op, ": x must have the shape (N, H, W, C), got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Float && weight.dim() == 4 && weight.size(2) == x.size(3), op,
                  ": weight must be float32 of the shape (K, K, ", x.size(3), ", C_out)");
  STD_TORCH_CHECK(window.stride == 1 || window.stride == 2, op, ": the stride is ", window.stride, ", expected 1 or 2");
  const int64_t largest = window.stride == 1 ? limits.largest : limits.largest_with_stride_two;
  STD_TORCH_CHECK(weight.size(0) == weight.size(1) && weight.size(0) >= limits.smallest && weight.size(0) <= largest, op,
                  ": the kernel is ", weight.size(0), "x", weight.size(1), ", expected a square of ", limits.smallest,
                  " to ", largest, " with stride ", window.stride);
  STD_TORCH_CHECK(window.top >= 0 && window.left >= 0, op, ": the padding is ", window.top, " and ", window.left,
                  ", expected 0 or more");
  STD_TORCH_CHECK(window.rows >= 0 && window.columns >= 0, op, ": the result is to have ", window.rows, "x", window.columns,
                  " pixels");
  if (bias)
    STD_TORCH_CHECK(bias->scalar_type() == ScalarType::Float && bias->dim() == 1 && bias->size(0) == weight.size(3), op,
                    ": bias must be float32 of the shape (", weight.size(3), ",)");
}

inline Conv2dArguments conv2d_arguments(const torch::stable::Tensor& x, const torch::stable::Tensor& weight,
                                        const std::optional<torch::stable::Tensor>& bias, const Window& window,
                                        bool accumulate, bool relu, int64_t interleave) {
  std::optional<torch::stable::Tensor> dense_bias;
  if (bias) dense_bias = torch::stable::contiguous(*bias);
  return {torch::stable::contiguous(x),
          torch::stable::contiguous(weight),
          dense_bias,
          accumulate,
          relu,
          interleave,
          {x.size(3), weight.size(3), x.size(1), x.size(2), window.rows, window.columns, weight.size(0), window.stride,
           window.top, window.left}};
}

// Allocates the result, which `run(arguments, out)` writes.
template <typename Run>
torch::stable::Tensor make_conv2d(const Conv2dLimits& limits, const torch::stable::Tensor& x,
                                  const torch::stable::Tensor& weight, const std::optional<torch::stable::Tensor>& bias,
                                  const Window& window, int64_t interleave, bool relu, const Run& run) {
  check_conv2d(limits, x, weight, bias, window);
  STD_TORCH_CHECK(interleave == 1 || (interleave == 2 && weight.size(3) % 64 == 0), limits.op, ": interleave is ",
                  interleave, ", expected 1, or 2 with a multiple of 64 channels, of which there are ", weight.size(3));
  const torch::stable::Tensor out = empty_maps(
      x, {x.size(0), window.rows * interleave, window.columns * interleave, weight.size(3) / (interleave * interleave)});
  if (out.numel() > 0) run(conv2d_arguments(x, weight, bias, window, false, relu, interleave), out);
  return out;
}

inline bool share_memory(const torch::stable::Tensor& a, const torch::stable::Tensor& b) {
  const auto begin = [](const torch::stable::Tensor& t) { return static_cast<const char*>(t.const_data_ptr()); };
  const auto end = [&](const torch::stable::Tensor& t) { return begin(t) + t.numel() * t.element_size(); };
  return begin(a) < end(b) && begin(b) < end(a);
}

// sum: [N, rows, columns, C_out] becomes act(convolution + bias + sum). It may be x, as in a residual block of one layer.
template <typename Run>
void add_conv2d(const Conv2dLimits& limits, const torch::stable::Tensor& sum, const torch::stable::Tensor& x,
                const torch::stable::Tensor& weight, const std::optional<torch::stable::Tensor>& bias, int64_t top,
                int64_t left, int64_t stride, bool relu, const Run& run) {
  const char* const op = limits.op;
  STD_TORCH_CHECK(sum.dim() == 4 && sum.is_contiguous() && sum.scalar_type() == x.scalar_type(), op,
                  ": the sum must be contiguous, of the shape (N, H_out, W_out, C_out) and of the dtype of x");
  const Window window{top, left, sum.size(1), sum.size(2), stride};
  check_conv2d(limits, x, weight, bias, window);
  STD_TORCH_CHECK(sum.size(0) == x.size(0) && sum.size(3) == weight.size(3), op, ": the sum has ", sum.size(0),
                  " images of ", sum.size(3), " channels, the convolution ", x.size(0), " of ", weight.size(3));
  if (sum.numel() == 0) return;
  Conv2dArguments arguments = conv2d_arguments(x, weight, bias, window, true, relu, 1);
  // Windows overlap: a pixel is still read after its sum is written.
  if (share_memory(arguments.x, sum)) arguments.x = torch::stable::clone(arguments.x);
  run(arguments, sum);
}

}  // namespace asnet
