// Kernels of the Winograd convolution; see winograd_conv2d_kernels.cpp.
#pragma once

#include "cpu/element_types.h"
#include "cpu/isa.h"

namespace asnet {

// A convolution of stride 1 over channels-last maps, and how it is cut up. Everything is measured in pixels, tiles or
// channels; N is left to the caller.
struct WinogradShape {
  int64_t channels_in, channels_out;
  int64_t height, width;          // of the input
  int64_t height_out, width_out;  // of the output
  int64_t kernel, padding;
  int64_t block_rows, block_columns;  // tiles of a block: what one call of convolve_block makes
};

// out = act(convolution + bias + addend); x: [height, width, C_in], addend and out: [height_out, width_out, C_out].
template <typename T>
struct WinogradEpilogue {
  const float* bias;  // [C_out] or null
  const T* addend;    // or null
  bool relu;
};

// What a kernel of some size asks for.
struct WinogradMethod {
  int64_t tile;    // output pixels of a tile, a side
  int64_t points;  // of a tile's transform, both directions together
  int64_t parts;   // a kernel is parts x parts kernels of the size that the method is for
};

// F(4x4, 3x3) for kernels of 3x3. Larger ones are cut into four of 4x4, whose products F(4x4, 4x4) adds up before they are
// transformed back: 4 is the step of the tiles too, so the part next to another meets the tile next to it.
constexpr WinogradMethod winograd_method(int64_t kernel) {
  return kernel <= 3 ? WinogradMethod{4, 36, 1} : WinogradMethod{4, 49, 2};
}
inline constexpr int64_t smallest_winograd_kernel = 2, largest_winograd_kernel = 8;

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Output channels that one panel of weights serves, and floats of all panels.
    int64_t panel_channels();
    int64_t packed_size(const WinogradShape& shape);
    // Floats that convolve_block needs as its workspace.
    int64_t workspace_size(const WinogradShape& shape);

    // weight: [kernel, kernel, C_in, C_out]. Fills one panel of `packed`.
    void transform_weights(const WinogradShape& shape, const float* weight, int64_t panel, float* packed);

    // Makes the tiles of the block whose first one is (row, column).
    template <typename T>
    void convolve_block(const WinogradShape& shape, const T* x, const float* packed, const WinogradEpilogue<T>& epilogue,
                        int64_t row, int64_t column, float* workspace, T* out);)
