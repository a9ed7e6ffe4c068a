// Kernels of the spectral cross-correlation
//
//   out[p, Ry + t, Rx + s] = sum over y, x of f_i(y - t, x - s) f_j(y, x),   p = pair (i, j), i <= j, row-major
//
// and of its gradient grad_a = sum over b of K_ab * f_b (convolution), K_ab(t, s) = G_ba(t, s) for b < a, G_ab(-t, -s) for
// b > a and the sum of both for b = a, G the gradient of out.
//
// The maps are cut into strips of rows and these into tiles of columns. The core of a strip or tile is what it adds to the
// sum, its halo the core and the largest lags on either side; zeros around the core keep both at one origin. Where one
// strip (tile) takes the whole image, padded by zeros for the lags or of a period that is the image's own, the core is its
// own halo and there is no margin. A group of tiles is transformed along its columns, which are kept; then one block of
// vertical frequencies after the other along the rows of its tiles, multiplied pair by pair, added over the tiles,
// transformed back and reduced to the wanted lags. The sums of the vertical inverse transform are a small matrix product:
// of its size_y results only 2 Ry + 1 are wanted. The transforms between the kernels are those of torch.fft.
//
// Layouts, complex values as (real, imaginary), columns and pairs last so that lanes read neighbours:
//   columns   [sequence][column][size_y], transformed [sequence][column][frequency]; a sequence is (image, channel, part),
//             part 0 the halo and 1 the core, or one for both
//   tiles     [frequency of the block][image][tile][part, channel][size_x]
//   pairs     [frequency of the block][image][pair][size_x]
//   waves     [frequency][t = 0 .. Ry, rounded up to lag_block], cos and sin of 2 pi frequency t / size_y
//
// Floors on an H100 for 32 maps of 768x1024, R = 42, in the plan of cross_correlation_plan.h: the features take 101 MB,
// columns (size_y 810) 106 MB before and after their transform, all frequencies of tiles 374 MB and of pairs 343 MB (9 tiles,
// size_x 200), of the gradient's tiles 160 MB and pairs 439 MB (6 tiles, size_x 256). A block of frequencies, at most 57 MB,
// stays in the L2 cache from kernel to kernel as far as that reaches.
#pragma once

#include "cuda/cross_correlation_sizes.h"

namespace asnet::cuda {

// A group of tiles, and what kernels need to know of the whole. Positions within an image fit into 32 bits.
struct SpectralGroup {
  int channels, height, width, lag_y, lag_x;
  bool circular;
  int size_y, size_x;      // of the transforms
  int margin_y, margin_x;  // the largest lag, or 0 where the core is its own halo
  int parts_y, parts;      // of columns and of tiles: 2 where the core differs from its halo and both are needed
  int core_x;
  int images;                 // of the batch
  int y, rows;                // the strip
  int x, tiles;               // first column of the first tile
  int first_column, columns;  // that are kept; may lie outside of a circular image

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

// The columns of the first sequences and those of the others are two pieces of memory: they are transformed one after the
// other, which takes less at a time.
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

// A block of vertical frequencies: the first, and how many.
struct FrequencyBlock {
  int begin, count;
};

template <typename T>
using Complex = Pack<T, 2>;

constexpr int transpose_tile = 32;  // side of the squares that change their order through shared memory
constexpr int transpose_rows = 8;   // threads across, each with four rows of the square
constexpr int lag_block = 16;       // vertical lags that a thread sums in registers
constexpr int warps_of_products = 8;
constexpr int pair_block = 4;     // maps a side of the square of pairs that a thread sums in registers
constexpr int gradient_maps = 4;  // maps, and tiles, that a thread sums for the gradient; so many registers has double
template <typename T>
constexpr int gradient_tiles = sizeof(T) == 4 ? 6 : 3;
// Vertical frequencies that a thread sums in registers.
template <typename T>
constexpr int frequency_block = sizeof(T) == 4 ? 16 : 8;

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

// A coordinate moved into a circular image that it leaves by less than its size; negative for what stays outside.
__device__ __forceinline__ int place(int coordinate, int size, bool circular) {
  if (circular) coordinate += coordinate < 0 ? size : coordinate >= size ? -size : 0;
  return coordinate < size ? coordinate : -1;
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

// Floor: nothing, 20,000 values.
// ptxas limits: registers 64, shared 0
template <typename T>
__global__ void __launch_bounds__(256)
    fill_waves_kernel(T* waves, int size_y, int lag_y, int row, bool inverse, double scale) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  const int frequency = index / row, t = index % row;
  if (frequency > size_y / 2) return;
  // Frequencies other than the first and the middle one stand for their conjugates too.
  const double weight = t > lag_y ? 0 : inverse && frequency > 0 && 2 * frequency < size_y ? 2 * scale : scale;
  double sine = 0, cosine = 0;
  sincospi(2.0 * static_cast<double>(int64_t{frequency} * t % size_y) / size_y, &sine, &cosine);
  store_complex(waves + 2 * int64_t{index}, static_cast<T>(weight * cosine), static_cast<T>(weight * sine));
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

// The way back: the strip's rows of the gradient from columns that are transformed back. Floor: as gather_columns_kernel.
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

// Where a transposing block stands among frequencies, positions in the rows of a tile, and sequences of a tile.
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
    // Where all columns of a circular image are kept, each is kept once.
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

// The way back: the cores of the gradient's tiles take the place of the features' columns, for the block's frequencies.
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

// Square `index` of those that cover the pairs i <= j of `blocks` blocks of maps a side.
struct BlockOfPairs {
  int i, j;
  __device__ __forceinline__ BlockOfPairs(int index, int blocks) : i(0) {
    for (; index >= blocks - i; ++i) index -= blocks - i;
    j = i + index;
  }
};

// Sums over the tiles of core_j conj(halo_i). A lane has one frequency, a warp one square of pairs in registers; the warps
// that follow take the other squares of the same frequencies, and find what they share in the caches. Floor: 374 MB read,
// 343 MB written, 0.21 ms; 3.1 GFLOP for the pairs (3.4 for their squares), 50 us.
// ptxas limits: registers 128, shared 0
template <typename T>
__global__ void __launch_bounds__(32 * warps_of_products, 2)
    pair_products_kernel(SpectralGroup group, FrequencyBlock block, const T* tiles, T* pairs) {
  constexpr int side = pair_block;
  const int blocks = static_cast<int>(ceil_divide(group.channels, side)), squares = blocks * (blocks + 1) / 2;
  const int64_t task = int64_t{blockIdx.x} * warps_of_products + threadIdx.y;
  const int64_t image = task / squares / row_blocks(group);  // of the block's frequencies
  const int kx = static_cast<int>(task / squares % row_blocks(group)) * 32 + threadIdx.x;
  if (image >= int64_t{block.count} * group.images || kx >= group.size_x) return;
  const BlockOfPairs square(static_cast<int>(task % squares), blocks);
  const int first_i = square.i * side, first_j = square.j * side, last = group.channels - 1;
  const int64_t part = int64_t{2} * group.channels * group.size_x, tile_stride = group.parts * part;
  const T* halos = tiles + image * group.tiles * tile_stride + 2 * kx;
  T* const results = pairs + 2 * (image * group.pairs() * group.size_x + kx);
  T real[side][side] = {}, imaginary[side][side] = {};
  for (int tile = 0; tile < group.tiles; ++tile, halos += tile_stride) {
    const T* const cores = halos + (group.parts - 1) * part;
    Complex<T> halo[side];
#pragma unroll
    for (int i = 0; i < side; ++i) halo[i] = load_complex(halos + 2 * min(first_i + i, last) * group.size_x);
#pragma unroll
    for (int j = 0; j < side; ++j) {
      const Complex<T> core = load_complex(cores + 2 * min(first_j + j, last) * group.size_x);
#pragma unroll
      for (int i = 0; i < side; ++i) {
        real[i][j] += core.element[0] * halo[i].element[0];
        real[i][j] += core.element[1] * halo[i].element[1];
        imaginary[i][j] += core.element[1] * halo[i].element[0];
        imaginary[i][j] -= core.element[0] * halo[i].element[1];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < side; ++i)
#pragma unroll
    for (int j = 0; j < side; ++j)
      if (first_i + i <= first_j + j && first_j + j <= last)
        store_complex(results + 2 * pair_index(first_i + i, first_j + j, group.channels) * group.size_x, real[i][j],
                      imaginary[i][j]);
}

// Sums over b of K_ab F_b, the spectra of K from those of the pairs. A lane has one frequency, a warp some maps a of some
// tiles in registers. Floor: 160 MB of tiles and 439 MB of pairs read, 160 MB written, 0.23 ms; 5.1 GFLOP, 76 us.
// ptxas limits: registers 128, shared 0
template <typename T>
__global__ void __launch_bounds__(32 * warps_of_products, 2)
    gradient_products_kernel(SpectralGroup group, FrequencyBlock block, const T* pairs, const T* tiles, T* gradients) {
  constexpr int maps = gradient_maps, tiles_at_once = gradient_tiles<T>;
  const int blocks = static_cast<int>(ceil_divide(group.channels, maps));
  const int64_t task = int64_t{blockIdx.x} * warps_of_products + threadIdx.y;
  const int64_t image = task / blocks / row_blocks(group);
  const int kx = static_cast<int>(task / blocks % row_blocks(group)) * 32 + threadIdx.x;
  if (image >= int64_t{block.count} * group.images || kx >= group.size_x) return;
  const int first = static_cast<int>(task % blocks) * maps, last = group.channels - 1;
  const int64_t tile_stride = int64_t{2} * group.channels * group.size_x;
  const int64_t base = image * group.tiles * tile_stride + 2 * kx;
  const T* const filters = pairs + 2 * (image * group.pairs() * group.size_x + kx);
  for (int first_tile = 0; first_tile < group.tiles; first_tile += tiles_at_once) {
    T real[maps][tiles_at_once] = {}, imaginary[maps][tiles_at_once] = {};
    for (int b = 0; b < group.channels; ++b) {
      Complex<T> filter[maps];
#pragma unroll
      for (int i = 0; i < maps; ++i) {
        const int a = min(first + i, last);
        filter[i] = load_complex(filters + int64_t{2} * pair_index(min(a, b), max(a, b), group.channels) * group.size_x);
        // Both orders of the pair (a, a) add up to a real filter.
        filter[i].element[0] *= a == b ? T(2) : T(1);
        filter[i].element[1] *= a == b ? T(0) : b > a ? T(-1) : T(1);
      }
#pragma unroll
      for (int tile = 0; tile < tiles_at_once; ++tile) {
        const Complex<T> value = load_complex(tiles + base + min(first_tile + tile, group.tiles - 1) * tile_stride +
                                              int64_t{2} * b * group.size_x);
#pragma unroll
        for (int i = 0; i < maps; ++i) {
          real[i][tile] += filter[i].element[0] * value.element[0];
          real[i][tile] -= filter[i].element[1] * value.element[1];
          imaginary[i][tile] += filter[i].element[0] * value.element[1];
          imaginary[i][tile] += filter[i].element[1] * value.element[0];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < maps; ++i)
#pragma unroll
      for (int tile = 0; tile < tiles_at_once; ++tile)
        if (first + i <= last && first_tile + tile < group.tiles)
          store_complex(gradients + base + (first_tile + tile) * tile_stride + int64_t{2} * (first + i) * group.size_x,
                        real[i][tile], imaginary[i][tile]);
  }
}

// The window of lags from pairs that are transformed back along the rows: even and odd part in t are sums of cosines and
// sines, which serve t and -t. Adds to what earlier blocks left unless `first`. Floor: 146 MB of pairs
// read, 44 us; the window's 15 MB, read and written for each of 14 blocks, stay in the L2 cache; 3.1 GFLOP, 47 us.
// ptxas limits: registers 128, shared 4096
template <typename T>
__global__ void __launch_bounds__(32 * warps_of_products, 2)
    pairs_to_lags_kernel(SpectralGroup group, FrequencyBlock block, const T* pairs, const T* waves, bool first,
                         T* window) {
  ASNET_SHARED(Complex<T>, wave, [lag_block][lag_block]);
  const int lags_y = 2 * group.lag_y + 1, lags_x = 2 * group.lag_x + 1;
  const int row = static_cast<int>(ceil_divide(group.lag_y + 1, lag_block)) * lag_block;
  const int across = static_cast<int>(ceil_divide(lags_x, 32)), down = row / lag_block;
  const int s = static_cast<int>(blockIdx.x % across) * 32 + threadIdx.x - group.lag_x;
  const int first_t = static_cast<int>(blockIdx.x / across % down) * lag_block;
  const int64_t pair = int64_t{blockIdx.x / across / down} * warps_of_products + threadIdx.y;
  const int64_t all = int64_t{group.images} * group.pairs();
  const bool inside = pair < all && s <= group.lag_x;
  // A circular image may have fewer columns than the window has lags.
  const int q = s < 0 ? s + group.size_x : s;
  T even[lag_block] = {}, odd[lag_block] = {};
  for (int begin = 0; begin < block.count; begin += lag_block) {
    __syncthreads();
    for (int index = threadIdx.y * 32 + threadIdx.x; index < lag_block * lag_block; index += 32 * warps_of_products) {
      const int frequency = begin + index / lag_block;
      if (frequency < block.count)
        wave[index / lag_block][index % lag_block] =
            load_complex(waves + 2 * (int64_t{block.begin + frequency} * row + first_t + index % lag_block));
    }
    __syncthreads();
    if (!inside) continue;
    for (int frequency = begin; frequency < min(begin + lag_block, block.count); ++frequency) {
      const Complex<T> value = load_complex(pairs + 2 * ((frequency * all + pair) * group.size_x + q));
#pragma unroll
      for (int t = 0; t < lag_block; ++t) {
        const Complex<T> turn = wave[frequency - begin][t];
        even[t] += value.element[0] * turn.element[0];
        odd[t] += value.element[1] * turn.element[1];
      }
    }
  }
  if (!inside) return;
  T* const middle = window + (pair * lags_y + group.lag_y) * lags_x + s + group.lag_x;
#pragma unroll
  for (int i = 0; i < lag_block; ++i) {
    const int t = first_t + i;
    if (t > group.lag_y) continue;
    T* const plus = middle + t * lags_x;
    T* const minus = middle - t * lags_x;
    *plus = (first ? T(0) : *plus) + (even[i] - odd[i]);
    if (t > 0) *minus = (first ? T(0) : *minus) + (even[i] + odd[i]);
  }
}

// The transform along columns of the gradient of the window, set among zeros along the rows; what pairs_to_lags_kernel does,
// backwards. Floor: 439 MB written, 0.13 ms, and the window's 15 MB from the L2 cache for every 16 frequencies; 3.1 GFLOP, 47 us.
// ptxas limits: registers 128, shared 2048
template <typename E, typename T>
__global__ void __launch_bounds__(32 * warps_of_products, 2)
    lags_to_pairs_kernel(SpectralGroup group, FrequencyBlock block, const E* window, const T* waves, T* pairs) {
  constexpr int frequencies = frequency_block<T>;
  ASNET_SHARED(Complex<T>, wave, [lag_block][frequencies]);
  const int lags_y = 2 * group.lag_y + 1, lags_x = 2 * group.lag_x + 1;
  const int row = static_cast<int>(ceil_divide(group.lag_y + 1, lag_block)) * lag_block;
  const int across = row_blocks(group), down = static_cast<int>(ceil_divide(block.count, frequencies));
  const int q = static_cast<int>(blockIdx.x % across) * 32 + threadIdx.x;
  const int first_frequency = static_cast<int>(blockIdx.x / across % down) * frequencies;
  const int64_t pair = int64_t{blockIdx.x / across / down} * warps_of_products + threadIdx.y;
  const int64_t all = int64_t{group.images} * group.pairs();
  const bool inside = pair < all && q < group.size_x;
  const E* const middle = window + (pair * lags_y + group.lag_y) * lags_x + group.lag_x;
  T real[frequencies] = {}, imaginary[frequencies] = {};
  for (int begin = 0; begin <= group.lag_y; begin += lag_block) {
    __syncthreads();
    for (int index = threadIdx.y * 32 + threadIdx.x; index < lag_block * frequencies; index += 32 * warps_of_products) {
      const int frequency = first_frequency + index / lag_block;
      if (frequency < block.count)
        wave[index % lag_block][index / lag_block] =
            load_complex(waves + 2 * (int64_t{block.begin + frequency} * row + begin + index % lag_block));
    }
    __syncthreads();
    if (!inside) continue;
    // The lags that share the place q; in a circular image of few columns more than one.
#pragma unroll 1
    for (int s = q - (q + group.lag_x) / group.size_x * group.size_x; s <= group.lag_x; s += group.size_x)
#pragma unroll 1
      for (int t = begin; t <= min(begin + lag_block - 1, group.lag_y); ++t) {
        const T plus = to_computing<T>(middle[t * lags_x + s]), minus = to_computing<T>(middle[-t * lags_x + s]);
        const T even = t > 0 ? plus + minus : plus, odd = plus - minus;
#pragma unroll
        for (int i = 0; i < frequencies; ++i) {
          const Complex<T> turn = wave[t - begin][i];
          real[i] += even * turn.element[0];
          imaginary[i] -= odd * turn.element[1];
        }
      }
  }
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < frequencies; ++i)
    if (first_frequency + i < block.count)
      store_complex(pairs + 2 * (((first_frequency + i) * all + pair) * group.size_x + q), real[i], imaginary[i]);
}

}  // namespace spectral

// Launchers. Every grid is one-dimensional: a batch of images may exceed what the other dimensions take.

// Lags of a row of the waves.
inline int row_of_waves(int lag_y) { return static_cast<int>(ceil_divide(lag_y + 1, lag_block)) * lag_block; }

// For the inverse transform (forward pass), with its weights and `scale`, or for the transform of the window (gradient).
template <typename T>
void fill_waves(const SpectralGroup& group, bool inverse, double scale, T* waves, cudaStream_t stream) {
  const int row = row_of_waves(group.lag_y);
  ASNET_LAUNCH(spectral::fill_waves_kernel<T>, dim3(ceil_divide(int64_t{group.frequencies_y()} * row, 256)), dim3(256), 0,
               stream, waves, group.size_y, group.lag_y, row, inverse, scale);
}

// `count` sequences from `first_sequence` on.
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
  ASNET_LAUNCH(spectral::gather_tiles_kernel<T>, dim3(squares * sequences), dim3(transpose_tile, transpose_rows), 0,
               stream, group, block, columns, tiles);
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
  ASNET_LAUNCH(spectral::pair_products_kernel<T>, dim3(ceil_divide(tasks, warps_of_products)),
               dim3(32, warps_of_products), 0, stream, group, block, tiles, pairs);
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
void pairs_to_lags(const SpectralGroup& group, FrequencyBlock block, const T* pairs, const T* waves, bool first,
                   T* window, cudaStream_t stream) {
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
