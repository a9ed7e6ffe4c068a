// Convolution of bfloat16 on the processor's matrix units, with bias, addition and ReLU, for inference: kernels of up to
// 8x8, stride 1 or 2. Processors without matrix units compute the same, slowly, for the tests.
//
// Maps are [N, H, W, C]. Every output pixel is computed in the same way in any block, so the bits of the result do not
// depend on the number of threads.
#include "common/cpu/conv2d_arguments.h"
#include "common/cpu/tasks.h"
#include "common/cpu/workspace.h"
#include "common/integers.h"
#include "common/tensor_pointers.h"
#include "matrix_conv2d/cpu/matrix_conv2d_kernels.h"

#include <algorithm>
#include <cstdint>

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr Conv2dLimits kLimits{"matrix_conv2d", 1, largest_matrix_kernel, largest_matrix_kernel};

// Columns of a block: the input rows of its taps fit into the second-level cache, and few are copied for two blocks. Small
// images are cut into blocks for 16 threads.
constexpr int64_t kBlockColumns = 256;
int64_t block_rows(const Conv2dShape& shape) { return std::clamp<int64_t>(ceil_divide(shape.height_out, 16), 4, 32); }

void run(const Conv2dArguments& arguments, const Tensor& out) {
  STD_TORCH_CHECK(out.scalar_type() == ScalarType::BFloat16, kLimits.op, ": feature maps must be bfloat16");
  const Conv2dShape& shape = arguments.shape;
  const int64_t panels = ceil_divide(shape.channels_out, ASNET_DISPATCH(matrix_panel_channels()));
  const int64_t panel_size = ASNET_DISPATCH(matrix_panel_size(shape));
  Workspace<BFloat16> packed(panels * panel_size);
  const float* const weights = arguments.weight.const_data_ptr<float>();
  torch::stable::parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      ASNET_DISPATCH(pack_matrix_weights(shape, weights, panel, packed.data() + panel * panel_size));
  });

  const int64_t at_once = block_rows(shape), rows = ceil_divide(shape.height_out, at_once);
  const int64_t columns = ceil_divide(shape.width_out, kBlockColumns);
  const BFloat16* const from = const_pointer<BFloat16>(arguments.x);
  BFloat16* const to = pointer<BFloat16>(out);
  const Conv2dEpilogue epilogue = arguments.epilogue();
  const bool units = has_matrix_units();
  const int64_t workspace_size = ASNET_DISPATCH(matrix_workspace_size(shape, least(kBlockColumns, shape.width_out)));
  const auto convolve = [&](BFloat16* workspace, int64_t first, int64_t last) {
    for (int64_t index = first; index < last; ++index) {
      const int64_t n = index / (rows * columns), row = index / columns % rows * at_once;
      const int64_t column = index % columns * kBlockColumns;
      const MatrixBlock block{row, column, least(at_once, shape.height_out - row),
                              least(kBlockColumns, shape.width_out - column)};
      ASNET_DISPATCH(convolve_matrix_block(shape, from + n * arguments.image(), packed.data(), epilogue, block, units,
                                           workspace, to + n * arguments.image_out()));
    }
  };
  parallel_with_scratch<BFloat16>(arguments.x.size(0) * rows * columns, workspace_size, convolve);
}

Tensor matrix_conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t top, int64_t left,
                     int64_t rows, int64_t columns, int64_t stride, int64_t interleave, bool relu) {
  return make_conv2d(kLimits, x, weight, bias, {top, left, rows, columns, stride}, interleave, relu, run);
}

void matrix_conv2d_add_(const Tensor& sum, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        int64_t top, int64_t left, int64_t stride, bool relu) {
  add_conv2d(kLimits, sum, x, weight, bias, top, left, stride, relu, run);
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) {
  m.impl("matrix_conv2d", TORCH_BOX(&asnet::matrix_conv2d));
  m.impl("matrix_conv2d_add_", TORCH_BOX(&asnet::matrix_conv2d_add_));
}
