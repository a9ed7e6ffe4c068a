// CPU kernels that gather several images as one feature map; the formula is in asnet/ops/reference.py.
#pragma once

#include "common/cpu/element_types.h"
#include "common/cpu/isa.h"

#include <cstdint>

namespace asnet {

// The channels of an image; its rows are contiguous.
struct ImagePlanes {
  const float* data;
  int64_t channel_stride, row_stride;
};

// One image of a batch.
template <typename T>
struct GatherArguments {
  const ImagePlanes* images;
  int64_t count, channels, height, width;
  const float* mean;  // of each channel of the first image; null if the images are gathered as they are
  float scale, difference_scale;
  int64_t factor, rows, columns;
  T* gathered;  // [rows][columns][count * channels * factor^2]
};

// Columns of the result that are gathered at a time: their pixels stay in the first-level cache.
inline constexpr int64_t gathered_columns = 32;

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Rows begin to end - 1 of the result. Scratch: (count * channels * factor + 2) * gathered_columns * factor values of
    // 4 bytes.
    template <typename T>
    void gather_rows(const GatherArguments<T>& arguments, float* scratch, int64_t begin, int64_t end);)
