// Convolution by transforms, with bias, addition and ReLU, for inference: kernels of 2x2 to 8x8, and up to 3x3 with stride
// 2.
//
// Maps are [N, H, W, C]. Blocks of tiles are independent and their size depends only on the shape, so the bits of the
// result do not depend on the number of threads.
#include "common/cpu/conv2d_arguments.h"
#include "common/cpu/tasks.h"
#include "common/cpu/workspace.h"
#include "common/integers.h"
#include "common/tensor_pointers.h"
#include "transform_conv2d/cpu/transform_conv2d_kernels.h"

#include <cstdint>

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr Conv2dLimits kLimits{"transform_conv2d", smallest_transform_kernel, largest_transform_kernel, 3};

// Floats of a core's second-level cache that a block may use, besides the weights that stream through it.
constexpr int64_t kBlockFloats = 192 * 1024;
// Tiles in a row of a block: as many as the product holds in registers.
constexpr int64_t kBlockColumns = 6;
constexpr int64_t kMaximumBlockRows = 8;

TransformShape plan(const Conv2dArguments& arguments) {
  TransformShape shape{arguments.shape, {}, 0, kBlockColumns};
  shape.method = transform_method(shape.kernel, shape.stride, arguments.x.scalar_type() == ScalarType::BFloat16);
  for (shape.block_rows = kMaximumBlockRows; shape.block_rows > 1; --shape.block_rows)
    if (ASNET_DISPATCH(workspace_size(shape)) <= kBlockFloats) break;
  return shape;
}

template <typename T>
void convolve(const Conv2dArguments& arguments, const Tensor& out) {
  const TransformShape shape = plan(arguments);
  const int64_t panels = ceil_divide(shape.channels_out, ASNET_DISPATCH(panel_channels()));
  Workspace<float> packed(ASNET_DISPATCH(packed_size(shape)));
  const float* weights = arguments.weight.const_data_ptr<float>();
  torch::stable::parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      ASNET_DISPATCH(transform_weights(shape, weights, panel, packed.data()));
  });

  const int64_t tile = shape.method.tile;
  const int64_t rows = ceil_divide(ceil_divide(shape.height_out, tile), shape.block_rows);
  const int64_t columns = ceil_divide(ceil_divide(shape.width_out, tile), shape.block_columns);
  const T* const from = const_pointer<T>(arguments.x);
  T* const to = pointer<T>(out);
  const Conv2dEpilogue epilogue = arguments.epilogue();
  const auto convolve_blocks = [&](float* workspace, int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t n = block / (rows * columns), row = block / columns % rows, column = block % columns;
      ASNET_DISPATCH(convolve_block<T>(shape, from + n * arguments.image(), packed.data(), epilogue, row * shape.block_rows,
                                       column * shape.block_columns, workspace, to + n * arguments.image_out()));
    }
  };
  parallel_with_scratch<float>(out.size(0) * rows * columns, ASNET_DISPATCH(workspace_size(shape)), convolve_blocks);
}

void run(const Conv2dArguments& arguments, const Tensor& out) {
  switch (out.scalar_type()) {
    case ScalarType::Float: return convolve<float>(arguments, out);
    case ScalarType::BFloat16: return convolve<BFloat16>(arguments, out);
    case ScalarType::Half: return convolve<Float16>(arguments, out);
    default: STD_TORCH_CHECK(false, kLimits.op, ": feature maps must be float32, bfloat16 or float16");
  }
}

Tensor transform_conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t top, int64_t left,
                        int64_t rows, int64_t columns, int64_t stride, int64_t interleave, bool relu) {
  return make_conv2d(kLimits, x, weight, bias, {top, left, rows, columns, stride}, interleave, relu, run);
}

void transform_conv2d_add_(const Tensor& sum, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                           int64_t top, int64_t left, int64_t stride, bool relu) {
  add_conv2d(kLimits, sum, x, weight, bias, top, left, stride, relu, run);
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) {
  m.impl("transform_conv2d", TORCH_BOX(&asnet::transform_conv2d));
  m.impl("transform_conv2d_add_", TORCH_BOX(&asnet::transform_conv2d_add_));
}
