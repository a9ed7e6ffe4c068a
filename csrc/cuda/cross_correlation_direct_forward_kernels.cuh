// The direct sums of the cross-correlation.
//
// C_ij(-t, -s) = C_ji(t, s): half the lags for all ordered pairs are as good as all lags for half the pairs, and they make
// whole matrices. Half the lags are those with h = t (2 R_x + 1) + s >= 0, h also being the distance from the middle of a
// window in memory. Every lag is a matrix product over the pixels, of the maps with themselves, shifted:
//
//   product[h][i][j] = sum over y, x of f_i(y - t, x - s) f_j(y, x)
//
// Blocks share the pixels too. Each keeps its sums in `products` [n][part][h][i][j], and a second kernel adds the parts in
// their order and puts the pairs where they belong: no atomics, the same bits always.
#pragma once

#include "cuda/cross_correlation_direct_tiles.cuh"

namespace asnet::cuda::direct {

__host__ __device__ constexpr int64_t half_lags(const CorrelationSizes& sizes) { return (sizes.window() + 1) / 2; }

// A block's share of `count` things: of parts that differ by at most one.
struct Share {
  int64_t begin, end;
  __device__ __forceinline__ Share(int64_t count, unsigned part, unsigned parts)
      : begin(count * part / parts), end(count * (part + 1) / parts) {}
};

// The first row y at which f(y - t, .) lies in the image; the rows before contribute nothing.
__device__ __forceinline__ int first_row(const CorrelationSizes& sizes, int t) { return sizes.circular ? 0 : t; }

// ---------------------------------------------------------------------------------------------------------------------
// Tensor cores: a block has 32 maps i, 32 maps j, one lag t and a group of lags s

// Pixels of half a step of an mma. Lags s that are so far apart share operands: the half step that one of them reads now
// the other reads next. A warp has two, its residue and residue + kHalfStep; together the warps have a group.
template <typename T>
constexpr int kHalfStep = 16 / sizeof(T);
template <typename T>
constexpr int kGroupLags = 2 * kHalfStep<T>;

// A segment of a row is a stage of the pipeline: four steps. Two stages are on their way while one is multiplied.
template <typename T>
constexpr int kSegment = 8 * kHalfStep<T>;
constexpr int kStages = 3;

// Lines of 32 channels, 64 or 128 bytes, with a margin that puts eight lines into different groups of banks.
constexpr int kLine = kMaps + 8;

template <typename T>
constexpr int kShiftedPixels = kSegment<T> + kGroupLags<T> - 1;
template <typename T>
constexpr int kStageElements = (kShiftedPixels<T> + kSegment<T>)*kLine;

// Segments after which sums go to memory: longer sums on tensor cores, which truncate, would lose what 16 bits hold; the
// roundings of a long sum of floats grow as well.
constexpr int kSegmentsInSum = 256;

// Of the 32 maps i the 16-bit types have all in a warp; floats, whose operands take twice the registers, 16.
template <typename T>
constexpr int kRowTiles = sizeof(T) == 2 ? 2 : 1;

// r[k]: the pixels of half a step, whose first has its line there, of the channels first_channel + 8 k .. + 7.
template <typename T, int count>
__device__ __forceinline__ void load_half_step(Operand<T> (&r)[count], const T* line, int first_channel) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (sizeof(T) == 2) {
    static_assert(count == 4);
    load_matrices<true>(r, line + lane % 8 * kLine + first_channel + lane / 8 * 8);
  } else {
    const T* from = line + lane % 4 * kLine + first_channel + lane / 4;
#pragma unroll
    for (int k = 0; k < count; ++k) r[k] = operand<T>(same_bits<uint32_t>(from[8 * k]));
  }
}

// Floor: 2 x half_lags x C^2 x pixels operations over 990 TFLOP/s (16 bits) or 165 TFLOP/s (float32): 32 maps of 384x512,
// R = 21: 0.38 ms and 2.3 ms; 96x128, R = 6: 2.1 us and 13 us. Per segment and lag of a group a block reads 64 lines twice
// from L2 for 65,536 products: 18 bytes a cycle and multiprocessor at peak, of about 40 there are.
// For 16 products of fragments a warp loads 4 times 512 bytes from shared memory, which takes as long as the products.
// ptxas limits: registers 128, shared 34560
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    correlate_maps_kernel(CorrelationSizes sizes, const T* __restrict__ maps, float* __restrict__ products) {
  constexpr int kHalf = kHalfStep<T>, kTiles = kRowTiles<T>;
  ASNET_SHARED(T, stages, [kStages * kStageElements<T>]);
  // For the end of a sum, row and h of the group's first lag: the compiler, which would prepare the addresses of all sums
  // and keep them in registers, has to read these when it comes to them.
  ASNET_SHARED(int, for_later, [2]);
  const int height = static_cast<int>(sizes.height), width = static_cast<int>(sizes.width);
  const int lags_x = static_cast<int>(sizes.lags_x()), groups = static_cast<int>(ceil_divide(lags_x, kGroupLags<T>));
  const int channel_blocks = static_cast<int>(ceil_divide(sizes.channels, kMaps));
  const int row = channel_blocks * kMaps;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;

  int index = static_cast<int>(blockIdx.x);
  const int block_j = index % channel_blocks;
  index /= channel_blocks;
  const int block_i = index % channel_blocks;
  index /= channel_blocks;
  const int group = index % groups, t = index / groups;
  const int first_s = group * kGroupLags<T> - static_cast<int>(sizes.lag_x);
  if (t == 0 && first_s + kGroupLags<T> <= 0) return;  // the other half of the lags

  // Lags s and s + kHalf, and 16 kTiles of the maps i.
  const int residue = warp % kHalf, s = first_s + residue, row_channel = warp / kHalf * 16 * kTiles;
  const bool second = s + kHalf <= sizes.lag_x;
  const bool active = (s <= sizes.lag_x && t * lags_x + s >= 0) || (second && t * lags_x + s + kHalf >= 0);

  const int top = first_row(sizes, t), across = static_cast<int>(ceil_divide(width, kSegment<T>));
  const Share share(static_cast<int64_t>(height - top) * across, blockIdx.y, gridDim.y);
  const int steps = static_cast<int>(share.end - share.begin);
  maps += blockIdx.z * sizes.pixels() * row;
  products += (blockIdx.z * gridDim.y + blockIdx.y) * half_lags(sizes) * row * row;

  int load_y = top + static_cast<int>(share.begin / across), load_x = static_cast<int>(share.begin % across) * kSegment<T>;
  int x = load_x;

  const auto load = [&](int step) {
    constexpr int kCount = 16 / sizeof(T), kChunks = kMaps / kCount;
    T* shifted = stages + step % kStages * kStageElements<T>;
    T* fixed = shifted + kShiftedPixels<T> * kLine;
    const int shifted_y = inside_image(load_y - t, height, sizes.circular);
    const int shifted_x = load_x - first_s - (kGroupLags<T> - 1);
#pragma unroll 1
    for (int i = thread; i < kShiftedPixels<T> * kChunks; i += kThreads) {
      const int pixel = i / kChunks, chunk = i % kChunks * kCount;
      const int from_x = inside_image(shifted_x + pixel, width, sizes.circular);
      const bool inside = shifted_y >= 0 && from_x >= 0;
      const int64_t place = inside ? static_cast<int64_t>(shifted_y) * width + from_x : 0;
      copy_in_background<16>(shifted + pixel * kLine + chunk, maps + place * row + block_i * kMaps + chunk, inside);
    }
    static_assert(kSegment<T> * kChunks == kThreads);
    const int pixel = thread / kChunks, chunk = thread % kChunks * kCount;
    const bool inside = load_x + pixel < width;
    const int64_t place = static_cast<int64_t>(load_y) * width + (inside ? load_x + pixel : 0);
    copy_in_background<16>(fixed + pixel * kLine + chunk, maps + place * row + block_j * kMaps + chunk, inside);
    if ((load_x += kSegment<T>) >= width) {
      load_x = 0;
      ++load_y;
    }
  };

  if (thread == 0) {
    for_later[0] = row;
    for_later[1] = t * lags_x + first_s;
  }
  __syncthreads();

  using Sums = float[2][kTiles][4][4];
  const auto store = [&](const Sums& sums, bool first) {
#pragma unroll
    for (int lag = 0; lag < 2; ++lag) {
      const int stride = for_later[0], h = for_later[1] + residue + lag * kHalf;
      if ((lag == 1 && !second) || h < 0) continue;
      float* to = products + static_cast<int64_t>(h) * stride * stride + (block_i * kMaps + row_channel + lane / 4) * stride +
                  block_j * kMaps + lane % 4 * 2;
#pragma unroll
      for (int m = 0; m < 2 * kTiles; ++m, to += 8 * stride)
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const float* from = sums[lag][m / 2][n] + m % 2 * 2;
          Pack<float, 2> pack{{from[0], from[1]}};
          if (!first) {
            const Pack<float, 2> before = load_pack<float, 2>(to + 8 * n);
            pack.element[0] += before.element[0];
            pack.element[1] += before.element[1];
          }
          store_pack(to + 8 * n, pack);
        }
    }
  };

  const auto multiply_segment = [&](Sums& sums, int step) {
    const int pixels = width - x < kSegment<T> ? width - x : kSegment<T>;
    x = x + kSegment<T> < width ? x + kSegment<T> : 0;
    if (!active) return;
    const T* shifted = stages + step % kStages * kStageElements<T> + (kGroupLags<T> - 1 - residue) * kLine;
    const T* fixed = stages + step % kStages * kStageElements<T> + kShiftedPixels<T> * kLine;
    // Half steps of the maps i: the one before this step, which only the second lag reads, and the two of it.
    Operand<T> a[3][2 * kTiles];
    load_half_step<T>(a[2], shifted - kHalf * kLine, row_channel);
#pragma unroll 1
    for (int pixel = 0; pixel < pixels; pixel += 2 * kHalf, shifted += 2 * kHalf * kLine, fixed += 2 * kHalf * kLine) {
      Operand<T> b[2][4];
#pragma unroll
      for (int m = 0; m < 2 * kTiles; ++m) a[0][m] = a[2][m];
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        load_half_step<T>(a[part + 1], shifted + part * kHalf * kLine, row_channel);
        load_half_step<T>(b[part], fixed + part * kHalf * kLine, 0);
      }
#pragma unroll
      for (int lag = 0; lag < 2; ++lag) {
        if (lag == 1 && !second) continue;
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          const auto& before = a[1 - lag];
          const auto& after = a[2 - lag];
          const Operand<T> rows[4] = {before[2 * m], before[2 * m + 1], after[2 * m], after[2 * m + 1]};
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            const Operand<T> columns[2] = {b[0][n], b[1][n]};
            if constexpr (sizeof(T) == 2) {
              multiply<T>(sums[lag][m][n], rows, columns);
            } else {
              float part[4] = {};
              multiply<T>(part, rows, columns);
#pragma unroll
              for (int e = 0; e < 4; ++e) sums[lag][m][n][e] += part[e];
            }
          }
        }
      }
    }
  };

#pragma unroll 1
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) load(step);
    group_copies();
  }
  for (int begin = 0; begin == 0 || begin < steps; begin += kSegmentsInSum) {
    Sums sums = {};
    const int end = begin + kSegmentsInSum < steps ? begin + kSegmentsInSum : steps;
    for (int step = begin; step < end; ++step) {
      wait_for_copies<kStages - 2>();
      // Shows this step's pixels to every warp, and that all have done with the stage which is filled next.
      __syncthreads();
      if (step + kStages - 1 < steps) load(step + kStages - 1);
      group_copies();
      multiply_segment(sums, step);
    }
    if (active) store(sums, begin == 0);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Plain multiply-adds, for float64 and for few maps

// A block's threads: `runs` of kRun lags s, innermost; `lags_y` lags t; `rows` of the image. All powers of two.
struct PlainBlock {
  int runs, lags_y, rows;
  __host__ __device__ constexpr int threads() const { return runs * lags_y * rows; }
};

constexpr int kMostRuns = 4, kMostLagsY = 8, kMostRows = 32;

// Of a segment 256 bytes of each row; then one run for each run of lags, and 16 bytes that put four runs of two rows into
// different banks.
template <typename T>
constexpr int kPlainSegment = 256 / sizeof(Accumulation<T>);
template <typename T>
__host__ __device__ constexpr int shifted_pitch(const PlainBlock& block) {
  return kPlainSegment<T> + block.runs * kRun<T> + 16 / static_cast<int>(sizeof(Accumulation<T>));
}

// Tiles after which the sums go to memory, as for tensor cores: 4096 pixels of a thread.
constexpr int kTilesInSum = 64;

template <typename T, int maps>
constexpr int plain_shared_bytes(const PlainBlock& block) {
  const int tiles = maps * ((block.rows + block.lags_y - 1) * shifted_pitch<T>(block) + block.rows * kPlainSegment<T>);
  const int sums = block.threads() * kRun<T> * maps * maps;
  return static_cast<int>(sizeof(Accumulation<T>)) * (tiles > sums ? tiles : sums);
}

constexpr int power_of_two(int64_t least, int most) {
  int power = 1;
  while (power < least && power < most) power *= 2;
  return power;
}

template <typename T>
constexpr PlainBlock plain_block(const CorrelationSizes& sizes) {
  PlainBlock block{power_of_two(runs_of_lags<T>(sizes.lag_x), kMostRuns), power_of_two(sizes.lag_y + 1, kMostLagsY), 1};
  block.rows = kThreads / (block.runs * block.lags_y);
  if (block.rows > kMostRows) block.rows = kMostRows;
  return block;
}

// A thread has kRun lags s of one t, and maps x maps ordered pairs, in registers: a run of pixels is loaded once for each
// of 2 maps twice over, for 256 multiply-adds (float32, maps = 2).
//
// Floor: half_lags x C^2 x pixels multiply-adds over 33.5e12 a second: 2 maps of 768x1024, R = 30: 0.17 ms.
// ptxas limits: registers 128, shared 43008
template <typename T, int maps>
__global__ void __launch_bounds__(kThreads, 2)
    correlate_plain_kernel(CorrelationSizes sizes, PlainBlock block, bool aligned, const T* __restrict__ features,
                           Accumulation<T>* __restrict__ products) {
  using A = Accumulation<T>;
  constexpr int kLags = kRun<T>, kPixels = kRun<T>, kSums = kLags * maps * maps;
  ASNET_DYNAMIC_SHARED(A, shared);
  const Image<T> image(sizes, features, blockIdx.z, aligned);
  const int channel_blocks = static_cast<int>(ceil_divide(sizes.channels, maps)), row = channel_blocks * maps;
  const int groups = static_cast<int>(ceil_divide(runs_of_lags<T>(sizes.lag_x), block.runs));
  const int thread = static_cast<int>(threadIdx.x), threads = block.threads(), warp = thread / 32, warps = (threads + 31) / 32;
  const int pitch = shifted_pitch<T>(block), shifted_rows = block.rows + block.lags_y - 1;

  int index = static_cast<int>(blockIdx.x);
  const int channel_j = index % channel_blocks * maps;
  index /= channel_blocks;
  const int channel_i = index % channel_blocks * maps;
  index /= channel_blocks;
  const int first_s = first_lag(sizes.lag_x) + index % groups * block.runs * kLags, first_t = index / groups * block.lags_y;
  if (first_t == 0 && block.lags_y == 1 && first_s + block.runs * kLags <= 0) return;  // the other half of the lags

  const int run = thread % block.runs, lag = thread / block.runs % block.lags_y, own_row = thread / (block.runs * block.lags_y);
  const int top = first_row(sizes, first_t), across = static_cast<int>(ceil_divide(sizes.width, kPlainSegment<T>));
  const Share share(ceil_divide(image.height - top, block.rows) * across, blockIdx.y, gridDim.y);
  products += ((blockIdx.z * gridDim.y + blockIdx.y) * half_lags(sizes)) * row * row;

  A* const fixed = shared + maps * shifted_rows * pitch;
  const A* const own_fixed = fixed + own_row * kPlainSegment<T>;
  // f(y - t, x - s) for the largest s of the run stands one element behind this.
  const A* const own_shifted = shared + (own_row - lag + block.lags_y - 1) * pitch + (block.runs - 1 - run) * kLags;
  A sums[kLags][maps][maps] = {};
  bool stored = false;

  const auto store = [&] {
    // The rows' sums, one after the other; then every sum has a thread that adds them up.
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      A& sum = sums[i / (maps * maps)][i / maps % maps][i % maps];
      shared[i * threads + thread] = sum;
      sum = 0;
    }
    __syncthreads();
    const int lags = block.runs * block.lags_y;
    for (int i = thread; i < lags * kSums; i += threads) {
      const int unit = i % lags, k = i / lags;
      const int s = first_s + unit % block.runs * kLags + k / (maps * maps), t = first_t + unit / block.runs;
      const int64_t h = t * sizes.lags_x() + s;
      if (t > sizes.lag_y || s < -sizes.lag_x || s > sizes.lag_x || h < 0) continue;
      A sum = 0;
      for (int r = 0; r < block.rows; ++r) sum += shared[k * threads + r * lags + unit];
      A* to = products + (h * row + channel_i + k / maps % maps) * row + channel_j + k % maps;
      *to = stored ? *to + sum : sum;
    }
    stored = true;
  };

  for (int64_t tile = share.begin; tile < share.end; ++tile) {
    const int y = top + static_cast<int>(tile / across) * block.rows, x = static_cast<int>(tile % across) * kPlainSegment<T>;
    __syncthreads();
    for (int i = warp; i < maps * shifted_rows; i += warps)
      image.copy_row(shared + i * pitch, channel_i + i / shifted_rows, y - first_t - (block.lags_y - 1) + i % shifted_rows,
                     x - first_s - block.runs * kLags, kPlainSegment<T> + block.runs * kLags, sizes.circular);
    for (int i = warp; i < maps * block.rows; i += warps)
      image.copy_row(fixed + i * kPlainSegment<T>, channel_j + i / block.rows, y + i % block.rows, x, kPlainSegment<T>, false);
    group_copies();
    wait_for_copies<0>();
    __syncthreads();

    // Two runs of pixels of the maps i; lag k of pixel p is element p + kLags - k.
    A window[maps][kLags + kPixels];
#pragma unroll
    for (int i = 0; i < maps; ++i) {
      A run_of_map[kPixels];
      load_run(run_of_map, own_shifted + i * shifted_rows * pitch);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) window[i][kLags + p] = run_of_map[p];
    }
    const int pixels = image.width - x < kPlainSegment<T> ? image.width - x : kPlainSegment<T>;
#pragma unroll 2
    for (int first = 0; first < pixels; first += kPixels) {
#pragma unroll
      for (int i = 0; i < maps; ++i) {
        A next[kPixels];
        load_run(next, own_shifted + i * shifted_rows * pitch + first + kLags);
#pragma unroll
        for (int p = 0; p < kPixels; ++p) {
          window[i][p] = window[i][kLags + p];
          window[i][kLags + p] = next[p];
        }
      }
#pragma unroll
      for (int j = 0; j < maps; ++j) {
        A other[kPixels];
        load_run(other, own_fixed + j * block.rows * kPlainSegment<T> + first);
#pragma unroll
        for (int i = 0; i < maps; ++i)
#pragma unroll
          for (int k = 0; k < kLags; ++k)
#pragma unroll
            for (int p = 0; p < kPixels; ++p) sums[k][i][j] += window[i][kLags + p - k] * other[p];
      }
    }
    if ((tile - share.begin + 1) % kTilesInSum == 0) store();
  }
  store();
}

// ---------------------------------------------------------------------------------------------------------------------
// The end

constexpr int kWindowTile = 32;

// Adds the parts and stores C_ij at h of pair (i, j) for i <= j, and at -h of pair (j, i) for i >= j. `row` is the number of
// channels in `products`, those that fill up a block included.
//
// Floor: parts and result once over 3.35 TB/s; 32 maps, R = 21, 4 parts: 7 us.
// ptxas limits: registers 64, shared 8448
template <typename T>
__global__ void __launch_bounds__(kThreads, 4)
    add_products_kernel(CorrelationSizes sizes, int row, int parts, const Accumulation<T>* __restrict__ products,
                        T* __restrict__ out) {
  using A = Accumulation<T>;
  ASNET_SHARED(A, tile, [kWindowTile][kWindowTile + 1]);
  const int column = static_cast<int>(threadIdx.x) % kWindowTile, line = static_cast<int>(threadIdx.x) / kWindowTile;
  const int64_t products_of_lag = static_cast<int64_t>(row) * row, lags = half_lags(sizes);
  const int64_t across = ceil_divide(sizes.channels * row, kWindowTile);
  const int64_t first_product = blockIdx.x % across * kWindowTile, first_h = blockIdx.x / across * kWindowTile;
  products += blockIdx.z * parts * lags * products_of_lag;
  for (int i = line; i < kWindowTile; i += kThreads / kWindowTile) {
    const int64_t product = first_product + column, h = first_h + i;
    if (product >= sizes.channels * row || h >= lags) continue;
    A sum = 0;
    for (int part = 0; part < parts; ++part) sum += products[(part * lags + h) * products_of_lag + product];
    tile[i][column] = sum;
  }
  __syncthreads();
  const int64_t h = first_h + column, middle = sizes.window() / 2;
  if (h >= lags) return;
  out += blockIdx.z * sizes.pairs() * sizes.window() + middle;
  for (int k = line; k < kWindowTile; k += kThreads / kWindowTile) {
    const int64_t i = (first_product + k) / row, j = (first_product + k) % row;
    if (i >= sizes.channels || j >= sizes.channels) continue;
    T value;
    if constexpr (sizeof(T) == 8)
      value = tile[column][k];
    else
      value = from_float<T>(tile[column][k]);
    if (i <= j) out[pair_index(i, j, sizes.channels) * sizes.window() + h] = value;
    if (i > j ? h > 0 : i == j) out[pair_index(j, i, sizes.channels) * sizes.window() - h] = value;
  }
}

}  // namespace asnet::cuda::direct
