// The gradient of the direct sums on tensor cores: rows of the product are 32 maps a, columns are pixels, the depth is the
// maps b of a slab.
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_backward_parts_kernels.cuh"

namespace asnet::cuda::direct {

// Channels in 32 bytes of a pixel, the depth of an mma.
template <typename T>
constexpr int kSlab = 32 / sizeof(T);

// A tile of the image: a row for each warp, eight columns for each of its eight mma.
constexpr int kTileRows = kWarps, kTileColumns = 64;

// Taps s of a group. Taps s and s + 8 read the same columns of eight pixels, so the operands of one pair of neighbouring
// columns serve both. `kPairs` such pairs make a piece, whose 8 KiB of weights are copied together.
constexpr int kTaps = 16;
template <typename T>
constexpr int kPairs = sizeof(T) == 2 ? 4 : 2;
template <typename T>
constexpr int kPieces = kTaps / 2 / kPairs<T>;

// Fragments of weights in order of use, kFragment words each, with the four words of a lane adjacent:
// [block of a][slab][group][t][pair][s, s + 8][first, second 16 maps a][parts: one, or high and low of a float].
constexpr int kFragment = 4 * 32;
template <typename T>
constexpr int kParts = sizeof(T) == 4 ? 2 : 1;
template <typename T>
constexpr int kPieceWords = kPairs<T> * 2 * 2 * kParts<T> * kFragment;

struct TapCounts {
  int blocks, slabs, groups, lags_y;
  __host__ __device__ constexpr int rows() const { return slabs * groups * lags_y; }
};
template <typename T>
__host__ __device__ constexpr TapCounts tap_counts(const CrossCorrelationSizes& sizes) {
  return {static_cast<int>(ceil_divide(sizes.channels, kMaps)), static_cast<int>(ceil_divide(sizes.channels, kSlab<T>)),
          static_cast<int>(ceil_divide(sizes.lags_x(), kTaps)), static_cast<int>(sizes.lags_y())};
}
template <typename T>
__host__ __device__ constexpr int64_t fragment_words(const CrossCorrelationSizes& sizes) {
  const TapCounts counts = tap_counts<T>(sizes);
  return static_cast<int64_t>(counts.blocks) * counts.rows() * kPieces<T> * kPieceWords<T>;
}

// Floor: gradient and fragments once at 3.35 TB/s, 2 us for 32 maps and R = 21 in 16 bits. The gradient is read element by
// element, in sectors of 32 bytes, from L2.
// ptxas limits: registers 64, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads)
    prepare_fragments_kernel(CrossCorrelationSizes sizes, const T* __restrict__ gradient,
                             uint32_t* __restrict__ fragments) {
  constexpr int kPacked = 4 / sizeof(T);
  const TapCounts counts = tap_counts<T>(sizes);
  const int64_t words = fragment_words<T>(sizes) / kParts<T>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= words) return;
  gradient += blockIdx.z * sizes.pairs() * sizes.window();
  fragments += blockIdx.z * words * kParts<T>;

  const int within = static_cast<int>(index % kFragment), element = within % 4, lane = within / 4;
  const int64_t fragment = index / kFragment;
  index = fragment;
  const auto next = [&](int count) {
    const int value = static_cast<int>(index % count);
    index /= count;
    return value;
  };
  const int half = next(2), far = next(2), pair = next(kTaps / 2), t = next(counts.lags_y), group = next(counts.groups);
  const int slab = next(counts.slabs), block = static_cast<int>(index);

  const int a = block * kMaps + half * 16 + element % 2 * 8 + lane / 4;
  const int b = slab * kSlab<T> + (element / 2 * 4 + lane % 4) * kPacked;
  const int s = group * kTaps + far * 8 + pair - static_cast<int>(sizes.lag_x);
  uint32_t* to = fragments + fragment * kFragment * kParts<T> + within;
  Pack<T, kPacked> word;
#pragma unroll
  for (int i = 0; i < kPacked; ++i)
    word.element[i] = from_float<T>(symmetrised(sizes, gradient, a, b + i, t - static_cast<int>(sizes.lag_y), s));
  const auto value = operand<T>(same_bits<uint32_t>(word));
  if constexpr (sizeof(T) == 4) {
    to[0] = value.high;
    to[kFragment] = value.low;
  } else {
    to[0] = value;
  }
}

// A slab of a row of pixels: 32 bytes per pixel, with their halves swapped every four pixels, so that any eight successive
// pixels are in different banks.
constexpr int kRowPixels = kTileColumns + kTaps;
constexpr int kPixelWords = 8;
__device__ __forceinline__ int word_place(int pixel, int word) {
  return pixel * kPixelWords + ((word / 4 ^ pixel / 4 % 2) * 4 + word % 4);
}

// The rows that the warps read, and one for the next t.
constexpr int kRingRows = kTileRows + 1;

// sums[half][n] += weights times pixels, for both taps of a pair and kRowTilesAtOnce blocks of 16 maps a (operands of
// floats take twice the registers). fragment: of the lane; first, second: halves of the lane's pixel in the first eight
// columns.
template <typename T>
constexpr int kRowTilesAtOnce = sizeof(T) == 2 ? 2 : 1;
template <typename T>
__device__ __forceinline__ void multiply_pair(float (&sums)[2][8][4], int half, const uint32_t* fragment,
                                              const uint32_t* first, const uint32_t* second) {
  Operand<T> a[2][kRowTilesAtOnce<T>][4];
#pragma unroll
  for (int far = 0; far < 2; ++far)
#pragma unroll
    for (int m = 0; m < kRowTilesAtOnce<T>; ++m) {
      const uint32_t* from = fragment + (2 * far + m) * kParts<T> * kFragment;
      const Pack<uint32_t, 4> high = load_pack<uint32_t, 4>(from);
      if constexpr (sizeof(T) == 4) {
        const Pack<uint32_t, 4> low = load_pack<uint32_t, 4>(from + kFragment);
#pragma unroll
        for (int e = 0; e < 4; ++e) a[far][m][e] = {high.element[e], low.element[e]};
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) a[far][m][e] = high.element[e];
      }
    }
  Operand<T> columns[2][2];
  columns[1][0] = operand<T>(*first);
  columns[1][1] = operand<T>(*second);
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    columns[0][0] = columns[1][0];
    columns[0][1] = columns[1][1];
    columns[1][0] = operand<T>(first[8 * kPixelWords * (n + 1)]);
    columns[1][1] = operand<T>(second[8 * kPixelWords * (n + 1)]);
#pragma unroll
    for (int m = 0; m < kRowTilesAtOnce<T>; ++m) {
      if constexpr (sizeof(T) == 2) {
        multiply<T>(sums[half + m][n], a[0][m], columns[1]);
        multiply<T>(sums[half + m][n], a[1][m], columns[0]);
      } else {
        float part[4] = {};
        multiply<T>(part, a[0][m], columns[1]);
        multiply<T>(part, a[1][m], columns[0]);
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[half + m][n][e] += part[e];
      }
    }
  }
}

// Floor: 2 x C^2 x window x pixels operations over 990 TFLOP/s (16 bits) or 165 TFLOP/s (float32): 32 maps of 384x512,
// R = 21: 0.75 ms and 4.5 ms; 96x128, R = 6: 4.3 us and 26 us. For 32 products of fragments, a warp loads 17 times 256 and
// 4 times 512 bytes from shared memory, which takes as long as the products. A block reads 8 KiB of weights for 128
// products of each warp: 8 bytes per cycle and multiprocessor at peak.
// ptxas limits: registers 128, shared 39456
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    convolve_maps_kernel(CrossCorrelationSizes sizes, const T* __restrict__ maps, const uint32_t* __restrict__ fragments,
                         GatheredPixels<T> result) {
  ASNET_SHARED(uint32_t, ring, [kRingRows * kRowPixels * kPixelWords]);
  ASNET_SHARED(uint32_t, weights, [2 * kPieceWords<T>]);
  // The tile's first channel, row and column, in shared memory because registers are full.
  ASNET_SHARED(int, place_of_tile, [3]);
  const int height = static_cast<int>(sizes.height), width = static_cast<int>(sizes.width);
  const TapCounts counts = tap_counts<T>(sizes);
  const int row = counts.blocks * kMaps;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;

  const int across = static_cast<int>(ceil_divide(width, kTileColumns));
  int64_t index = blockIdx.x;
  const int block = static_cast<int>(index % counts.blocks);
  index /= counts.blocks;
  if (thread == 0) {
    place_of_tile[0] = block * kMaps;
    place_of_tile[1] = static_cast<int>(index / across) * kTileRows;
    place_of_tile[2] = static_cast<int>(index % across) * kTileColumns;
  }
  __syncthreads();
  const int begin = static_cast<int>(static_cast<int64_t>(counts.rows()) * blockIdx.y / gridDim.y);
  const int end = static_cast<int>(static_cast<int64_t>(counts.rows()) * (blockIdx.y + 1) / gridDim.y);
  int t = begin % counts.lags_y, group = begin / counts.lags_y % counts.groups,
      slab = begin / counts.lags_y / counts.groups;

  maps += blockIdx.z * sizes.pixels() * row;
  // Pieces are stored in order of use.
  fragments +=
      (static_cast<int64_t>(blockIdx.z * counts.blocks + block) * counts.rows() + begin) * kPieces<T> * kPieceWords<T>;

  // Copies row `number` of the tile, shifted by t, to a row of the ring.
  const auto copy_row = [&](uint32_t* to, int number, int t) {
    const int from_y =
        inside_image(place_of_tile[1] + number - (t - static_cast<int>(sizes.lag_y)), height, sizes.circular);
    const int first_x = place_of_tile[2] - (group * kTaps - static_cast<int>(sizes.lag_x)) - (kTaps - 1);
    static_assert(2 * kRowPixels <= kThreads);
    if (const int i = thread; i < 2 * kRowPixels) {
      const int pixel = i / 2, half = i % 2, from_x = inside_image(first_x + pixel, width, sizes.circular);
      const bool inside = from_y >= 0 && from_x >= 0;
      const int64_t place = inside ? static_cast<int64_t>(from_y) * width + from_x : 0;
      copy_in_background<16>(to + word_place(pixel, 4 * half), maps + place * row + slab * kSlab<T> + half * (kSlab<T> / 2),
                             inside);
    }
  };
  const auto copy_next_weights = [&](int stage) {
    static_assert(kPieceWords<T> % (4 * kThreads) == 0);
#pragma unroll
    for (int first = 0; first < kPieceWords<T>; first += 4 * kThreads)
      copy_in_background<16>(weights + stage * kPieceWords<T> + first + 4 * thread, fragments + first + 4 * thread);
    fragments += kPieceWords<T>;
  };

  float sums[2][8][4] = {};
  int origin = 0;  // the ring's row that warp 0 reads
  const auto ring_row = [&](int number) {
    const int place = origin + number;
    return ring + (place < kRingRows ? place : place - kRingRows) * (kRowPixels * kPixelWords);
  };

  const auto multiply_piece = [&](int piece) {
    if (place_of_tile[1] + warp >= height) return;
    const uint32_t* pixels = ring_row(warp);
    const uint32_t* from = weights + piece % 2 * kPieceWords<T> + 4 * lane;
#pragma unroll 1
    for (int k = 0; k < kPairs<T>; ++k, from += 4 * kParts<T> * kFragment) {
      const int pair = piece * kPairs<T> + k;
      if (group * kTaps + pair >= sizes.lags_x()) return;
      // f(x - s) for pixel x and tap s = 16 group + pair + 8 far is at x + 15 - pair - 8 far.
      const int pixel = 7 - pair + lane / 4, first = word_place(pixel, lane % 4), second = word_place(pixel, 4 + lane % 4);
#pragma unroll
      for (int half = 0; half < 2; half += kRowTilesAtOnce<T>) {
        // Keeps the compiler from loading the weights of both blocks of floats at once, which would exceed the registers.
        __syncwarp();
        multiply_pair<T>(sums, half, from + half * kParts<T> * kFragment, pixels + first, pixels + second);
      }
    }
  };

  static_assert(kPieces<T> % 2 == 0, "stages of the weights take turns with the pieces");
  bool continued = false;  // the ring holds the rows of the previous t
  for (int left = end - begin; left > 0; --left) {
    if (!continued) {
      __syncthreads();
#pragma unroll 1
      for (int number = 0; number < kTileRows; ++number) copy_row(ring_row(number), number, t);
      copy_next_weights(0);
      group_copies();
    }
#pragma unroll 1
    for (int piece = 0; piece < kPieces<T>; ++piece) {
      wait_for_copies<0>();
      // The copies are visible to all warps, and no warp still reads what is overwritten next.
      __syncthreads();
      const bool last = piece + 1 == kPieces<T>;
      continued = left > 1 && t + 1 < counts.lags_y;
      if (!last || continued) copy_next_weights((piece + 1) % 2);
      // The row above the first one, for the next t, goes to the row that no warp reads.
      if (last && continued) copy_row(ring_row(kTileRows), 0, t + 1);
      group_copies();
      multiply_piece(piece);
    }
    origin = origin == 0 ? kRingRows - 1 : origin - 1;
    if (++t == counts.lags_y) {
      t = 0;
      if (++group == counts.groups) {
        group = 0;
        ++slab;
      }
    }
  }

#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        result.store(sizes, place_of_tile[0] + half * 16 + e / 2 * 8 + lane / 4, place_of_tile[1] + warp,
                     place_of_tile[2] + 8 * n + lane % 4 * 2 + e % 2, sums[half][n][e]);
}

}  // namespace asnet::cuda::direct
