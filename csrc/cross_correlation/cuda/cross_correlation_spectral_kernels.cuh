// Launchers of the spectral cross-correlation. Method, layouts and floors are in cross_correlation_spectral_layout.cuh.
// Every grid is one-dimensional: a batch of images may exceed the limits of the other dimensions.
#pragma once

#include "cross_correlation/cuda/cross_correlation_spectral_pairs_kernels.cuh"
#include "cross_correlation/cuda/cross_correlation_spectral_tiles_kernels.cuh"

namespace asnet::cuda {

// Lags of a row of the waves.
inline int row_of_waves(int lag_y) { return static_cast<int>(ceil_divide(lag_y + 1, lag_block)) * lag_block; }

// Waves of the inverse transform (forward pass), with its weights and `scale`, or of the window's transform (gradient).
template <typename T>
void fill_waves(const SpectralGroup& group, bool inverse, double scale, T* waves, cudaStream_t stream) {
  const int row = row_of_waves(group.lag_y);
  ASNET_LAUNCH(spectral::fill_waves_kernel<T>, dim3(ceil_divide(int64_t{group.frequencies_y()} * row, 256)), dim3(256), 0,
               stream, waves, group.size_y, group.lag_y, row, inverse, scale);
}

// `count` sequences starting at `first_sequence`.
template <typename E, typename T>
void gather_columns(const SpectralGroup& group, const E* features, const FeatureStrides& strides, int64_t first_sequence,
                    int64_t count, T* columns, cudaStream_t stream) {
  const int64_t squares = ceil_divide(group.columns, transpose_tile) * ceil_divide(group.size_y, transpose_tile);
  ASNET_LAUNCH((spectral::gather_columns_kernel<E, T>), dim3(squares * count), dim3(transpose_tile, transpose_rows), 0,
               stream, group, features, strides, first_sequence, columns);
}

// `gradient` is contiguous.
template <typename E, typename T>
void scatter_columns(const SpectralGroup& group, const T* columns, int64_t first_sequence, int64_t count, double scale,
                     E* gradient, cudaStream_t stream) {
  const int64_t squares = ceil_divide(group.core_columns(), transpose_tile) * ceil_divide(group.rows, transpose_tile);
  ASNET_LAUNCH((spectral::scatter_columns_kernel<E, T>), dim3(squares * count), dim3(transpose_tile, transpose_rows), 0,
               stream, group, columns, first_sequence, static_cast<T>(scale), gradient);
}

template <typename T>
void gather_tiles(const SpectralGroup& group, FrequencyBlock block, const ColumnSpectra<T>& columns, T* tiles,
                  cudaStream_t stream) {
  const int64_t squares = ceil_divide(group.size_x, transpose_tile) * ceil_divide(block.count, transpose_tile);
  const int64_t sequences = int64_t{group.images} * group.tiles * group.parts * group.channels;
  ASNET_LAUNCH(spectral::gather_tiles_kernel<T>, dim3(squares * sequences), dim3(transpose_tile, transpose_rows), 0, stream,
               group, block, columns, tiles);
}

template <typename T>
void scatter_tiles(const SpectralGroup& group, FrequencyBlock block, const T* tiles, const ColumnSpectra<T>& columns,
                   cudaStream_t stream) {
  const int64_t squares = ceil_divide(group.core_x, transpose_tile) * ceil_divide(block.count, transpose_tile);
  const int64_t sequences = int64_t{group.images} * group.tiles * group.channels;
  ASNET_LAUNCH(spectral::scatter_tiles_kernel<T>, dim3(squares * sequences), dim3(transpose_tile, transpose_rows), 0,
               stream, group, block, tiles, columns);
}

template <typename T>
void pair_products(const SpectralGroup& group, FrequencyBlock block, const T* tiles, T* pairs, cudaStream_t stream) {
  const int64_t blocks = ceil_divide(group.channels, pair_block);
  const int64_t tasks = int64_t{block.count} * group.images * spectral::row_blocks(group) * (blocks * (blocks + 1) / 2);
  ASNET_LAUNCH(spectral::pair_products_kernel<T>, dim3(ceil_divide(tasks, warps_of_products)), dim3(32, warps_of_products),
               0, stream, group, block, tiles, pairs);
}

template <typename T>
void gradient_products(const SpectralGroup& group, FrequencyBlock block, const T* pairs, const T* tiles, T* gradients,
                       cudaStream_t stream) {
  const int64_t tasks =
      int64_t{block.count} * group.images * spectral::row_blocks(group) * ceil_divide(group.channels, gradient_maps);
  ASNET_LAUNCH(spectral::gradient_products_kernel<T>, dim3(ceil_divide(tasks, warps_of_products)),
               dim3(32, warps_of_products), 0, stream, group, block, pairs, tiles, gradients);
}

// `window` is [image][pair][lag_y][lag_x].
template <typename T>
void pairs_to_lags(const SpectralGroup& group, FrequencyBlock block, const T* pairs, const T* waves, bool first, T* window,
                   cudaStream_t stream) {
  const int64_t windows = ceil_divide(2 * group.lag_x + 1, 32) * (row_of_waves(group.lag_y) / lag_block);
  ASNET_LAUNCH(spectral::pairs_to_lags_kernel<T>,
               dim3(windows * ceil_divide(int64_t{group.images} * group.pairs(), warps_of_products)),
               dim3(32, warps_of_products), 0, stream, group, block, pairs, waves, first, window);
}

template <typename E, typename T>
void lags_to_pairs(const SpectralGroup& group, FrequencyBlock block, const E* window, const T* waves, T* pairs,
                   cudaStream_t stream) {
  const int64_t rows = int64_t{spectral::row_blocks(group)} * ceil_divide(block.count, frequency_block<T>);
  ASNET_LAUNCH((spectral::lags_to_pairs_kernel<E, T>),
               dim3(rows * ceil_divide(int64_t{group.images} * group.pairs(), warps_of_products)),
               dim3(32, warps_of_products), 0, stream, group, block, window, waves, pairs);
}

}  // namespace asnet::cuda
