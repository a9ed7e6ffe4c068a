// Kernels of the spectral cross-correlation between the transforms along rows: products of pairs, and windows of lags to
// and from the spectra of pairs.
#pragma once

#include "cross_correlation/cuda/cross_correlation_spectral_layout.cuh"

namespace asnet::cuda {

constexpr int warps_of_products = 8;
constexpr int lag_block = 16;     // vertical lags that a thread sums in registers
constexpr int pair_block = 4;     // side, in maps, of the square of pairs that a thread sums in registers
constexpr int gradient_maps = 4;  // maps, and tiles, that a thread sums for the gradient; double has registers for no more
template <typename T>
constexpr int gradient_tiles = sizeof(T) == 4 ? 6 : 3;
// Vertical frequencies that a thread sums in registers.
template <typename T>
constexpr int frequency_block = sizeof(T) == 4 ? 16 : 8;

namespace spectral {

// Floor: negligible, 20,000 values.
// ptxas limits: registers 64, shared 0
template <typename T>
__global__ void __launch_bounds__(256)
    fill_waves_kernel(T* waves, int size_y, int lag_y, int row, bool inverse, double scale) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  const int frequency = index / row, t = index % row;
  if (frequency > size_y / 2) return;
  // Frequencies other than the first and the middle one also represent their conjugates.
  const double weight = t > lag_y ? 0 : inverse && frequency > 0 && 2 * frequency < size_y ? 2 * scale : scale;
  double sine = 0, cosine = 0;
  sincospi(2.0 * static_cast<double>(int64_t{frequency} * t % size_y) / size_y, &sine, &cosine);
  store_complex(waves + 2 * int64_t{index}, static_cast<T>(weight * cosine), static_cast<T>(weight * sine));
}

// Square `index` of the squares that cover the pairs i <= j of `blocks` blocks of maps.
struct BlockOfPairs {
  int i, j;
  __device__ __forceinline__ BlockOfPairs(int index, int blocks) : i(0) {
    for (; index >= blocks - i; ++i) index -= blocks - i;
    j = i + index;
  }
};

// Sums over the tiles of core_j conj(halo_i). A lane has one frequency, a warp one square of pairs in registers. The next
// warps have the other squares of the same frequencies and find shared inputs in the caches. Floor: 374 MB read, 343 MB
// written, 0.21 ms; 3.1 GFLOP for the pairs (3.4 for their squares), 50 us.
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
  // 32 bits suffice to count the values of a frequency's pairs (up to 34 GB) and of the tiles summed at once.
  const T* const filters = pairs + 2 * (image * group.pairs() * group.size_x + kx);
  const int row = 2 * group.size_x, tile_stride = group.channels * row;
  const int64_t base = image * group.tiles * tile_stride + 2 * kx;
  for (int first_tile = 0; first_tile < group.tiles; first_tile += tiles_at_once) {
    T real[maps][tiles_at_once] = {}, imaginary[maps][tiles_at_once] = {};
    const T* values = tiles + base + int64_t{first_tile} * tile_stride;
    int of_tile[tiles_at_once];
#pragma unroll
    for (int tile = 0; tile < tiles_at_once; ++tile) of_tile[tile] = min(tile, group.tiles - 1 - first_tile) * tile_stride;
    unsigned of_pair[maps];  // (b, a) for b < a, else (a, b)
#pragma unroll
    for (int i = 0; i < maps; ++i) of_pair[i] = min(first + i, last) * group.size_x;
    for (int b = 0; b < group.channels; ++b, values += row) {
      Complex<T> filter[maps];
#pragma unroll
      for (int i = 0; i < maps; ++i) {
        const int a = min(first + i, last);
        filter[i] = load_complex(filters + 2 * size_t{of_pair[i]});
        // Pair (b + 1, a) comes channels - 1 - b pairs after (b, a); (a, b + 1) directly follows (a, b).
        of_pair[i] += (b < a ? group.channels - 1 - b : 1) * group.size_x;
        // The two orders of the pair (a, a) add up to a real filter.
        if (a == b) filter[i] = {{2 * filter[i].element[0], T(0)}};
        if (b > a) filter[i].element[1] = -filter[i].element[1];
      }
#pragma unroll
      for (int tile = 0; tile < tiles_at_once; ++tile) {
        const Complex<T> value = load_complex(values + of_tile[tile]);
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
          store_complex(gradients + base + int64_t{first_tile + tile} * tile_stride + (first + i) * row, real[i][tile],
                        imaginary[i][tile]);
  }
}

// The window of lags from pairs transformed back along the rows. Even and odd part in t are sums of cosines and sines,
// which give both t and -t. Adds to the results of earlier blocks unless `first`. Floor: 146 MB of pairs read, 44 us; the
// window's 15 MB, read and written for each of 14 blocks, stay in the L2 cache; 3.1 GFLOP, 47 us.
// ptxas limits: registers 128, shared 4096
template <typename T>
__global__ void __launch_bounds__(32 * warps_of_products, 2)
    pairs_to_lags_kernel(SpectralGroup group, FrequencyBlock block, const T* pairs, const T* waves, bool first, T* window) {
  ASNET_SHARED(Complex<T>, wave, [lag_block][lag_block]);
  const int lags_y = 2 * group.lag_y + 1, lags_x = 2 * group.lag_x + 1;
  const int row = static_cast<int>(ceil_divide(group.lag_y + 1, lag_block)) * lag_block;
  const int across = static_cast<int>(ceil_divide(lags_x, 32)), down = row / lag_block;
  const int s = static_cast<int>(blockIdx.x % across) * 32 + threadIdx.x - group.lag_x;
  const int first_t = static_cast<int>(blockIdx.x / across % down) * lag_block;
  const int64_t pair = int64_t{blockIdx.x / across / down} * warps_of_products + threadIdx.y;
  const int64_t all = int64_t{group.images} * group.pairs();
  const bool inside = pair < all && s <= group.lag_x;
  // A circular image may have fewer columns than the window.
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
    // For sm_100, ptxas would unroll by two, which needs too many registers for doubles.
#pragma unroll 1
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

// The transform along columns of the gradient of the window, zero-padded along the rows: the transpose of
// pairs_to_lags_kernel. Floor: 439 MB written, 0.13 ms, and the window's 15 MB from the L2 cache for every 16 frequencies;
// 3.1 GFLOP, 47 us.
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
    // The lags at place q; in a circular image with few columns there may be several.
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

}  // namespace asnet::cuda
