// Kernels of the convolution on matrix units; see matrix_conv2d_kernels.cpp.
#pragma once

#include "common/cpu/conv2d.h"
#include "common/cpu/element_types.h"
#include "common/cpu/isa.h"

namespace asnet {

inline constexpr int64_t largest_matrix_kernel = 8;

// Output pixels of a block, computed by one call of convolve_matrix_block.
struct MatrixBlock {
  int64_t row, column, rows, columns;
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Output channels of one panel of weights, and numbers of one panel.
    int64_t matrix_panel_channels(); int64_t matrix_panel_size(const Conv2dShape& shape);
    // Numbers in the workspace of convolve_matrix_block for blocks of this many columns.
    int64_t matrix_workspace_size(const Conv2dShape& shape, int64_t columns);

    // weight: [kernel, kernel, C_in, C_out]. Fills one panel of `packed`.
    void pack_matrix_weights(const Conv2dShape& shape, const float* weight, int64_t panel, BFloat16* packed);

    // With `units` on the matrix units, which it configures and releases; otherwise the same with vectors.
    void convolve_matrix_block(const Conv2dShape& shape, const BFloat16* x, const BFloat16* packed,
                               const Conv2dEpilogue& epilogue, const MatrixBlock& block, bool units, BFloat16* workspace,
                               BFloat16* out);)
