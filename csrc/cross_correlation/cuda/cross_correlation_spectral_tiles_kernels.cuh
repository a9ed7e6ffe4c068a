// Kernels of the spectral cross-correlation that arrange features for the transforms along columns and along the rows of
// tiles, and arrange the gradient back.
#pragma once

#include "cross_correlation/cuda/cross_correlation_spectral_layout.cuh"

namespace asnet::cuda {

constexpr int transpose_tile = 32;  // side of the squares transposed in shared memory
constexpr int transpose_rows = 8;   // threads across, each with four rows of the square

namespace spectral {

// Wraps a coordinate less than one size outside a circular image; negative if it stays outside.
__device__ __forceinline__ int place(int coordinate, int size, bool circular) {
  if (circular) coordinate += coordinate < 0 ? size : coordinate >= size ? -size : 0;
  return coordinate < size ? coordinate : -1;
}

// Floor: 101 MB read and 106 MB written, 62 us.
// ptxas limits: registers 64, shared 8448
template <typename E, typename T>
__global__ void __launch_bounds__(transpose_tile* transpose_rows)
    gather_columns_kernel(SpectralGroup group, const E* features, FeatureStrides strides, int64_t first_sequence,
                          T* columns) {
  ASNET_SHARED(T, square, [transpose_tile][transpose_tile + 1]);
  const int across = static_cast<int>(ceil_divide(group.columns, transpose_tile));
  const int down = static_cast<int>(ceil_divide(group.size_y, transpose_tile));
  const int first_x = static_cast<int>(blockIdx.x % across) * transpose_tile;
  const int first_y = static_cast<int>(blockIdx.x / across % down) * transpose_tile;
  const int64_t local = blockIdx.x / across / down, sequence = first_sequence + local;
  const bool core = group.parts_y == 2 && sequence % 2 == 1;
  const int64_t map = sequence / group.parts_y;
  const E* const from = features + map / group.channels * strides.n + map % group.channels * strides.c;
  const int rows_begin = core ? group.margin_y : 0;
  const int rows_end = group.rows + (core ? group.margin_y : 2 * group.margin_y);
  const int column = first_x + threadIdx.x;
  const int x = column < group.columns ? place(group.first_column + column, group.width, group.circular) : -1;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int row = first_y + threadIdx.y + i;
    const int y =
        row >= rows_begin && row < rows_end ? place(group.y - group.margin_y + row, group.height, group.circular) : -1;
    T value = 0;
    if (x >= 0 && y >= 0) value = to_computing<T>(from[y * strides.y + x * strides.x]);
    square[threadIdx.y + i][threadIdx.x] = value;
  }
  __syncthreads();
  const int row = first_y + threadIdx.x;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int to = first_x + threadIdx.y + i;
    if (row < group.size_y && to < group.columns)
      columns[(local * group.columns + to) * group.size_y + row] = square[threadIdx.x][threadIdx.y + i];
  }
}

// The reverse: the strip's rows of the gradient from columns transformed back. Floor: as gather_columns_kernel.
// ptxas limits: registers 64, shared 8448
template <typename E, typename T>
__global__ void __launch_bounds__(transpose_tile* transpose_rows)
    scatter_columns_kernel(SpectralGroup group, const T* columns, int64_t first_sequence, T scale, E* gradient) {
  ASNET_SHARED(T, square, [transpose_tile][transpose_tile + 1]);
  const int core_columns = group.core_columns();
  const int across = static_cast<int>(ceil_divide(core_columns, transpose_tile));
  const int down = static_cast<int>(ceil_divide(group.rows, transpose_tile));
  const int first_x = static_cast<int>(blockIdx.x % across) * transpose_tile;
  const int first_y = static_cast<int>(blockIdx.x / across % down) * transpose_tile;
  const int64_t local = blockIdx.x / across / down;
  const int row = first_y + threadIdx.x;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int x = first_x + threadIdx.y + i, column = group.x - group.first_column + x;
    T value = 0;
    if (row < group.rows && x < core_columns)
      value = columns[(local * group.columns + column) * group.size_y + group.margin_y + row];
    square[threadIdx.x][threadIdx.y + i] = value;
  }
  __syncthreads();
  const int x = first_x + threadIdx.x;
  E* const map = gradient + (first_sequence + local) * group.height * group.width;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int y = first_y + threadIdx.y + i;
    if (y < group.rows && x < core_columns)
      map[int64_t{group.y + y} * group.width + group.x + x] =
          from_computing<E>(scale * square[threadIdx.y + i][threadIdx.x]);
  }
}

// Position of a transposing block among frequencies, positions in the rows of a tile, and sequences of a tile.
struct TilePosition {
  int first_frequency, first_q, tile, part, channel;
  int64_t image, sequence;  // sequence: of the tiles of one frequency

  __device__ __forceinline__ TilePosition(const SpectralGroup& group, FrequencyBlock block, int width) {
    const int across = static_cast<int>(ceil_divide(width, transpose_tile));
    const int down = static_cast<int>(ceil_divide(block.count, transpose_tile));
    first_q = static_cast<int>(blockIdx.x % across) * transpose_tile;
    first_frequency = static_cast<int>(blockIdx.x / across % down) * transpose_tile;
    sequence = blockIdx.x / across / down;
    channel = static_cast<int>(sequence % group.channels);
    part = static_cast<int>(sequence / group.channels % group.parts);
    tile = static_cast<int>(sequence / group.channels / group.parts % group.tiles);
    image = sequence / group.channels / group.parts / group.tiles;
  }
};

// Halo and core of every tile from the spectra of columns. Floor: 106 MB read and 374 MB written, 0.14 ms.
// ptxas limits: registers 64, shared 16896
template <typename T>
__global__ void __launch_bounds__(transpose_tile* transpose_rows)
    gather_tiles_kernel(SpectralGroup group, FrequencyBlock block, ColumnSpectra<T> columns, T* tiles) {
  ASNET_SHARED(Complex<T>, square, [transpose_tile][transpose_tile + 1]);
  const TilePosition at(group, block, group.size_x);
  const bool core = group.parts == 2 && at.part == 1;
  const int64_t sequence = (at.image * group.channels + at.channel) * group.parts_y + (core ? group.parts_y - 1 : 0);
  const int begin = core ? group.margin_x : 0;
  const int end = group.core_of_tile(at.tile) + (core ? group.margin_x : 2 * group.margin_x);
  const int origin = group.x + at.tile * group.core_x - group.margin_x - group.first_column;
  const int frequency = at.first_frequency + threadIdx.x;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int q = at.first_q + threadIdx.y + i;
    int column = origin + q;
    // If all columns of a circular image are kept, each is kept once.
    if (group.columns == group.width) column = place(column, group.width, group.circular);
    Complex<T> value{};
    if (frequency < block.count && q >= begin && q < end && column >= 0 && column < group.columns)
      value = load_complex(columns.at(group, sequence, column) + 2 * (block.begin + frequency));
    square[threadIdx.y + i][threadIdx.x] = value;
  }
  __syncthreads();
  const int64_t sequences = int64_t{group.images} * group.tiles * group.parts * group.channels;
  const int q = at.first_q + threadIdx.x;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int to = at.first_frequency + threadIdx.y + i;
    if (to < block.count && q < group.size_x)
      store_pack(tiles + 2 * ((to * sequences + at.sequence) * group.size_x + q), square[threadIdx.x][threadIdx.y + i]);
  }
}

// The reverse: the cores of the gradient's tiles replace the features' columns, for the block's frequencies.
// Floor: 107 MB read and 106 MB written, 64 us.
// ptxas limits: registers 64, shared 16896
template <typename T>
__global__ void __launch_bounds__(transpose_tile* transpose_rows)
    scatter_tiles_kernel(SpectralGroup group, FrequencyBlock block, const T* tiles, ColumnSpectra<T> columns) {
  ASNET_SHARED(Complex<T>, square, [transpose_tile][transpose_tile + 1]);
  const TilePosition at(group, block, group.core_x);
  const int64_t sequences = int64_t{group.images} * group.tiles * group.channels;
  const int core = group.core_of_tile(at.tile), q = at.first_q + threadIdx.x;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int frequency = at.first_frequency + threadIdx.y + i;
    Complex<T> value{};
    if (q < core && frequency < block.count)
      value = load_complex(tiles + 2 * ((frequency * sequences + at.sequence) * group.size_x + group.margin_x + q));
    square[threadIdx.y + i][threadIdx.x] = value;
  }
  __syncthreads();
  const int origin = group.x + at.tile * group.core_x - group.first_column;
  const int frequency = at.first_frequency + threadIdx.x;
#pragma unroll
  for (int i = 0; i < transpose_tile; i += transpose_rows) {
    const int to = at.first_q + threadIdx.y + i;
    if (to < core && frequency < block.count)
      store_pack(columns.at(group, at.image * group.channels + at.channel, origin + to) + 2 * (block.begin + frequency),
                 square[threadIdx.x][threadIdx.y + i]);
  }
}

}  // namespace spectral

}  // namespace asnet::cuda
