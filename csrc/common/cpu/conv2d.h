// Shared by the inference convolutions: sizes and epilogue. Includes no torch header.
#pragma once

#include <cstdint>

namespace asnet {

// A convolution over channels-last maps, in pixels and channels. The caller loops over N.
struct Conv2dShape {
  int64_t channels_in, channels_out;
  int64_t height, width;          // of the input, zero outside
  int64_t height_out, width_out;  // of the output
  int64_t kernel, stride;
  int64_t top, left;  // the first window begins at (-top, -left)
};

// out = act(convolution + bias), or act(convolution + bias + out) on request; x: [height, width, C_in].
struct Conv2dEpilogue {
  const float* bias;  // [C_out] or null
  bool accumulate;
  bool relu;
  // 1: out is [height_out, width_out, C_out]. 2: out is [2 height_out, 2 width_out, C_out / 4]; the channels of a pixel
  // become a 2x2 square of pixels, in the order (row, column, channel).
  int64_t interleave;
};

// Offset of the channels of an output pixel, see Conv2dEpilogue::interleave. always_inline: see common/integers.h.
constexpr inline __attribute__((always_inline)) int64_t output_position(const Conv2dShape& shape, int64_t interleave,
                                                                        int64_t row, int64_t column, int64_t channel) {
  if (interleave == 1) return (row * shape.width_out + column) * shape.channels_out + channel;
  const int64_t channels = shape.channels_out / 4, phase = channel / channels;
  return ((2 * row + phase / 2) * 2 * shape.width_out + 2 * column + phase % 2) * channels + channel % channels;
}

}  // namespace asnet
