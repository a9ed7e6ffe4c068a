// Kernels of the convolution by transforms; see transform_conv2d_kernels.cpp.
#pragma once

#include "common/cpu/conv2d.h"
#include "common/cpu/element_types.h"
#include "common/cpu/isa.h"

namespace asnet {

// How tiles are convolved. F(m x m, r x r) is Winograd's method for m x m outputs and r x r kernels.
enum class TransformAlgorithm {
  winograd_4,       // F(4x4, 3x3)
  winograd_8,       // F(8x8, 3x3)
  winograd_stride,  // stride 2: F(4x4, 3x3) of the even and odd samples together
  fourier,          // tiles of 16x16 pixels, kernels of up to 8x8
};

struct TransformMethod {
  TransformAlgorithm algorithm;
  int64_t inputs;  // side of an input tile in pixels
  int64_t tile;    // side of an output tile in pixels
  int64_t points;  // products of a tile for each pair of channels
};

inline constexpr int64_t smallest_transform_kernel = 2, largest_transform_kernel = 8;

// The larger error of F(8x8, 3x3) is negligible compared with the rounding to bfloat16.
constexpr TransformMethod transform_method(int64_t kernel, int64_t stride, bool bfloat16) {
  if (stride == 2) return {TransformAlgorithm::winograd_stride, 9, 4, 9 * 9};
  if (kernel > 3) return {TransformAlgorithm::fourier, 16, 17 - kernel, 382};
  if (bfloat16) return {TransformAlgorithm::winograd_8, 10, 8, 10 * 10};
  return {TransformAlgorithm::winograd_4, 6, 4, 6 * 6};
}

// How a convolution is divided into blocks.
struct TransformShape : Conv2dShape {
  TransformMethod method;
  int64_t block_rows, block_columns;  // tiles of a block, computed by one call of convolve_block
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Output channels of one panel of weights, and floats of all panels.
    int64_t panel_channels(); int64_t packed_size(const TransformShape& shape);
    // Floats in the workspace of convolve_block.
    int64_t workspace_size(const TransformShape& shape);

    // weight: [kernel, kernel, C_in, C_out]. Fills one panel of `packed`.
    void transform_weights(const TransformShape& shape, const float* weight, int64_t panel, float* packed);

    // Computes the tiles of the block whose first tile is (row, column).
    template <typename T>
    void convolve_block(const TransformShape& shape, const T* x, const float* packed, const Conv2dEpilogue& epilogue,
                        int64_t row, int64_t column, float* workspace, T* out);)
