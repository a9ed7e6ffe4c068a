// Kernels of the convolution by transforms; see transform_conv2d_kernels.cpp.
#pragma once

#include "cpu/element_types.h"
#include "cpu/isa.h"

namespace asnet {

// How tiles are convolved: F(m x m, r x r) is Winograd's method for m x m outputs and kernels of r x r.
enum class TransformAlgorithm {
  winograd_4,       // F(4x4, 3x3)
  winograd_8,       // F(8x8, 3x3)
  winograd_stride,  // stride 2: F(4x4, 3x3) of the even and odd samples together
  fourier,          // of 16x16 pixels, kernels of up to 8x8
};

struct TransformMethod {
  TransformAlgorithm algorithm;
  int64_t inputs;  // pixels of a tile of the input, a side
  int64_t tile;    // pixels of a tile of the output, a side
  int64_t points;  // products of a tile for each pair of channels
};

inline constexpr int64_t smallest_transform_kernel = 2, largest_transform_kernel = 8;

// A bfloat16 is rounded so much that the larger error of F(8x8, 3x3) is nothing beside it.
constexpr TransformMethod transform_method(int64_t kernel, int64_t stride, bool bfloat16) {
  if (stride == 2) return {TransformAlgorithm::winograd_stride, 9, 4, 9 * 9};
  if (kernel > 3) return {TransformAlgorithm::fourier, 16, 17 - kernel, 382};
  if (bfloat16) return {TransformAlgorithm::winograd_8, 10, 8, 10 * 10};
  return {TransformAlgorithm::winograd_4, 6, 4, 6 * 6};
}

// A convolution over channels-last maps, and how it is cut up. Everything is measured in pixels, tiles or channels; N is
// left to the caller.
struct TransformShape {
  TransformMethod method;
  int64_t channels_in, channels_out;
  int64_t height, width;          // of the input, zero outside
  int64_t height_out, width_out;  // of the output
  int64_t kernel, stride;
  int64_t top, left;                  // the first window begins at (-top, -left)
  int64_t block_rows, block_columns;  // tiles of a block: what one call of convolve_block makes
};

// out = act(convolution + bias), to which what was in `out` is added before act where asked for; x: [height, width, C_in].
struct TransformEpilogue {
  const float* bias;  // [C_out] or null
  bool accumulate;
  bool relu;
  // 1: out is [height_out, width_out, C_out]. 2: it is [2 height_out, 2 width_out, C_out / 4], and the channels of one
  // pixel are the four pixels (row, column, channel) of a square.
  int64_t interleave;
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Output channels that one panel of weights serves, and floats of all panels.
    int64_t panel_channels(); int64_t packed_size(const TransformShape& shape);
    // Floats that convolve_block needs as its workspace.
    int64_t workspace_size(const TransformShape& shape);

    // weight: [kernel, kernel, C_in, C_out]. Fills one panel of `packed`.
    void transform_weights(const TransformShape& shape, const float* weight, int64_t panel, float* packed);

    // Makes the tiles of the block whose first one is (row, column).
    template <typename T>
    void convolve_block(const TransformShape& shape, const T* x, const float* packed, const TransformEpilogue& epilogue,
                        int64_t row, int64_t column, float* workspace, T* out);)
