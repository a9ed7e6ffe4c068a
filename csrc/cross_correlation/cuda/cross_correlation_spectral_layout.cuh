// Method and layouts of the spectral cross-correlation
//
//   out[p, Ry + t, Rx + s] = sum over y, x of f_i(y - t, x - s) f_j(y, x),   p = pair (i, j), i <= j, row-major
//
// and of its gradient grad_a = sum over b of K_ab * f_b (convolution), K_ab(t, s) = G_ba(t, s) for b < a, G_ab(-t, -s) for
// b > a and the sum of both for b = a, G the gradient of out.
//
// The maps are cut into strips of rows, and strips into tiles of columns. The core of a strip or tile is its contribution
// to the sum, its halo the core with the largest lags on either side; zeros around the core give both the same origin. If
// one strip (tile) covers the whole image, zero-padded for the lags or with the period of a circular image, the core is its
// own halo and there is no margin. A group of tiles is transformed along its columns, and these spectra are kept. Then each
// block of vertical frequencies is transformed along the rows of its tiles, multiplied pair by pair, summed over the tiles,
// transformed back and reduced to the lags. The vertical inverse transform is a small matrix product, since only 2 Ry + 1
// of its size_y results are needed. The transforms between the kernels are those of torch.fft.
//
// Layouts; complex values are (real, imaginary), and lanes read neighbours:
//   columns   [sequence][column][size_y], transformed [sequence][column][frequency]; a sequence is (image, channel, part),
//             part 0 the halo and 1 the core, or one for both
//   tiles     [frequency of the block][image][tile][part, channel][size_x]
//   pairs     [frequency of the block][image][pair][size_x]
//   waves     [frequency][t = 0 .. Ry, rounded up to lag_block], cos and sin of 2 pi frequency t / size_y
//
// Floors are for an H100, 32 maps of 768x1024 and R = 42, in the plan of cross_correlation_plan.h: the features take 101
// MB, columns (size_y 810) 106 MB before and after their transform; over all frequencies, tiles take 374 MB and pairs 343
// MB (9 tiles, size_x 200), for the gradient 160 MB and 439 MB (6 tiles, size_x 256). A block of frequencies, at most 57
// MB, stays in the L2 cache from kernel to kernel if it fits.
#pragma once

#include "common/cuda/device.cuh"
#include "cross_correlation/cross_correlation_sizes.h"

namespace asnet::cuda {

// A group of tiles, and the sizes of the whole. Positions within an image fit into 32 bits.
struct SpectralGroup {
  int channels, height, width, lag_y, lag_x;
  bool circular;
  int size_y, size_x;      // of the transforms
  int margin_y, margin_x;  // the largest lag, or 0 where the core is its own halo
  int parts_y, parts;      // of columns and of tiles: 2 if core and halo differ and both are needed
  int core_x;
  int images;                 // of the batch
  int y, rows;                // the strip
  int x, tiles;               // first column of the first tile
  int first_column, columns;  // kept columns; may be outside a circular image

  __host__ __device__ int frequencies_y() const { return size_y / 2 + 1; }
  __host__ __device__ int pairs() const { return channels * (channels + 1) / 2; }
  __host__ __device__ int64_t sequences() const { return int64_t{images} * channels * parts_y; }
  // Columns of the image that the tiles' cores cover.
  __host__ __device__ int core_columns() const { return min(width - x, tiles * core_x); }
  __host__ __device__ int core_of_tile(int tile) const { return min(width - x - tile * core_x, core_x); }
};

// Strides of (N, C, H, W) in elements.
struct FeatureStrides {
  int64_t n, c, y, x;
};

// The columns of the first sequences and of the others are two pieces of memory, transformed one after the other to reduce
// peak memory.
template <typename T>
struct ColumnSpectra {
  T *first, *second;
  int64_t sequences_of_first;

  __device__ __forceinline__ T* at(const SpectralGroup& group, int64_t sequence, int64_t column) const {
    T* const base = sequence < sequences_of_first ? first : second;
    const int64_t local = sequence < sequences_of_first ? sequence : sequence - sequences_of_first;
    return base + 2 * (local * group.columns + column) * group.frequencies_y();
  }
};

// A block of vertical frequencies: the first one and their number.
struct FrequencyBlock {
  int begin, count;
};

template <typename T>
using Complex = Pack<T, 2>;

namespace spectral {

template <typename T, typename E>
__device__ __forceinline__ T to_computing(E value) {
  if constexpr (std::is_same_v<E, double>)
    return value;
  else
    return to_float(value);
}

template <typename E, typename T>
__device__ __forceinline__ E from_computing(T value) {
  if constexpr (std::is_same_v<E, double>)
    return value;
  else
    return from_float<E>(value);
}

template <typename T>
__device__ __forceinline__ Complex<T> load_complex(const T* from) {
  return load_pack<T, 2>(from);
}
template <typename T>
__device__ __forceinline__ void store_complex(T* to, T real, T imaginary) {
  store_pack<T, 2>(to, Complex<T>{{real, imaginary}});
}

// Warps of 32 horizontal frequencies that together cover size_x.
__host__ __device__ inline int row_blocks(const SpectralGroup& group) {
  return static_cast<int>(ceil_divide(group.size_x, 32));
}

}  // namespace spectral

}  // namespace asnet::cuda
