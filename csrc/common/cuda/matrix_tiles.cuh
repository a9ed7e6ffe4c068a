// A matrix product of one block, sums[row, column] = sum_k first[row, k] second[k, column], for the guided pointwise
// convolution. Tiles in shared memory are filled in the background; the sums are in the registers of eight warps.
//
// The depth k is cut into slices of 32 bytes, the depth of one mma in any type. Tiles are addressed in chunks of 16 bytes,
// the unit of copies and of load_matrices. Chunks are permuted within their line so that the eight chunks read at once are
// in eight different groups of four banks. Bank conflicts do not show on the CPU; is_conflict_free checks for them.
#pragma once

#include "common/cuda/device.cuh"

namespace asnet::cuda::guided_conv {

constexpr int kWarps = 8, kThreads = 32 * kWarps;

// Two stages are in flight while one is multiplied. Shared memory stays within 48 KiB, so two blocks fit on a
// multiprocessor of any architecture (100 KiB on sm_86, sm_89 and sm_120). At a memory latency of about 600 ns, 3.35 TB/s
// need 15 KB in flight on each of 132 multiprocessors; two blocks have up to 64 KiB.
constexpr int kStages = 3;

constexpr int kChunkBytes = 16, kSliceBytes = 32;
template <typename T>
constexpr int kChunk = kChunkBytes / sizeof(T);
template <typename T>
constexpr int kSlice = kSliceBytes / sizeof(T);

// Whether the chunks at elements index_of(0) .. index_of(7) of a tile are in different banks.
template <typename T, typename IndexOf>
constexpr bool is_conflict_free(IndexOf index_of) {
  bool taken[8] = {};
  for (int i = 0; i < 8; ++i) {
    bool& group = taken[index_of(i) / kChunk<T> % 8];
    if (group) return false;
    group = true;
  }
  return true;
}

// Copies `count` elements, or zeros, from global to shared memory; in the background except for a single 2-byte element.
template <int count, typename T>
__device__ __forceinline__ void copy_elements(T* to, const T* from, bool inside) {
  if constexpr (sizeof(T) * count >= 4)
    copy_in_background<sizeof(T) * count>(to, from, inside);
  else
    *to = inside ? *from : from_float<T>(0.f);
}

// ---------------------------------------------------------------------------------------------------------------------
// 1. Tiles

// A line of `depth` elements along k for each row of the first factor or column of the second. 128 bytes, that is, two or
// four lines, span all banks; the chunks of the next lines are permuted so that eight successive lines share no bank.
template <typename T, int lines, int depth>
struct DepthLines {
  static constexpr int elements = lines * depth;

  __host__ __device__ static constexpr int index(int line, int k) {
    constexpr int kChunksOfLine = depth / kChunk<T>;
    return line * depth + (k / kChunk<T> ^ line / (8 / kChunksOfLine) % kChunksOfLine) * kChunk<T> + k % kChunk<T>;
  }
  __host__ __device__ static constexpr int second_index(int k, int column) { return index(column, k); }
  static_assert(is_conflict_free<T>([](int i) { return index(i, 0); }) &&
                is_conflict_free<T>([](int i) { return index(i + 3, 0); }));

  // Fills the tile from from[line * stride + k], `count` elements per copy; zeros from `lines_left` and `depth_left` on.
  template <int count>
  __device__ static __forceinline__ void load(T* tile, const T* from, int64_t stride, int lines_left, int depth_left) {
    constexpr int kCopies = depth / count, kPass = kThreads / kCopies;
    const int first = threadIdx.x / kCopies, k = threadIdx.x % kCopies * count;
    from += first * stride + k;
#pragma unroll
    for (int line = first; line < first + lines; line += kPass, from += kPass * stride)
      copy_elements<count>(tile + index(line, k), from, line < lines_left && k < depth_left);
  }
};

// The second factor, with a line of `columns` elements for each k. Reads take eight lines of one column of 16-bit elements
// (load_matrices), or two neighbouring chunks of four lines of floats.
template <typename T, int columns, int depth>
struct ColumnLines {
  static constexpr int elements = columns * depth;

  __host__ __device__ static constexpr int second_index(int k, int column) {
    const int permutation = sizeof(T) == 2 ? k % 8 : sizeof(T) == 4 ? k % 4 * 2 : 0;
    return k * columns + (column / kChunk<T> ^ permutation) * kChunk<T> + column % kChunk<T>;
  }
  static_assert(sizeof(T) != 2 || is_conflict_free<T>([](int i) { return second_index(i, 0); }));
  static_assert(sizeof(T) != 4 || is_conflict_free<T>([](int i) { return second_index(i / 2, i % 2 * kChunk<T>); }));

  // Fills the tile from from[k * stride + column].
  template <int count>
  __device__ static __forceinline__ void load(T* tile, const T* from, int64_t stride, int columns_left, int depth_left) {
    constexpr int kCopies = columns / count, kPass = kThreads / kCopies;
    const int first = threadIdx.x / kCopies, column = threadIdx.x % kCopies * count;
    from += first * stride + column;
#pragma unroll
    for (int k = first; k < first + depth; k += kPass, from += kPass * stride)
      copy_elements<count>(tile + second_index(k, column), from, k < depth_left && column < columns_left);
  }
};

// load(step) begins the copies of a step into its stage (step % kStages), multiply(step) uses them.
template <typename Load, typename Multiply>
__device__ __forceinline__ void run_pipeline(int steps, const Load& load, const Multiply& multiply) {
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) load(step);
    group_copies();
  }
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<kStages - 2>();
    // This step's tiles are visible to every warp, and no warp still reads the stage that is filled next.
    __syncthreads();
    if (step + kStages - 1 < steps) load(step + kStages - 1);
    group_copies();
    multiply(step);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. Products

// A block's tile and its eight warps: each has 32 columns, four times those of an mma, and an equal share of the rows.
template <int rows_, int columns_>
struct BlockTile {
  static constexpr int rows = rows_, columns = columns_;
  static constexpr int warp_columns = 32, warps_across = columns / warp_columns;
  static constexpr int warp_rows = rows * warps_across / kWarps;

  __device__ static __forceinline__ int warp_row() { return static_cast<int>(threadIdx.x) / 32 / warps_across * warp_rows; }
  __device__ static __forceinline__ int warp_column() {
    return static_cast<int>(threadIdx.x) / 32 % warps_across * warp_columns;
  }
};

// A warp's part of a BlockTile in the layout of mma_m16n8k16: element [i][j][e] of lane l is row
// 16 i + 8 (e / 2) + l / 4, column 8 j + 2 (l % 4) + e % 2.
template <typename T, typename Tile>
using Sums = Accumulation<T>[Tile::warp_rows / 16][4][4];

// A slice of 32 columns from `column` on, as four right factors of an mma. Floats along k are loaded as pairs of 16-bit
// elements by load_matrices, which brings each to the lane that an mma in TF32 expects.
template <typename T, int lines, int depth>
__device__ __forceinline__ void load_columns(uint32_t (&b)[4][2], const T* tile, DepthLines<T, lines, depth>, int column,
                                             int slice) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const int line = column + 16 * pair + lane / 16 * 8 + lane % 8, k = slice * kSlice<T> + lane / 8 % 2 * kChunk<T>;
    uint32_t r[4];
    load_matrices(r, tile + DepthLines<T, lines, depth>::index(line, k));
#pragma unroll
    for (int i = 0; i < 4; ++i) b[2 * pair + i / 2][i % 2] = r[i];
  }
}
template <typename T, int columns, int depth>
__device__ __forceinline__ void load_columns(uint32_t (&b)[4][2], const T* tile, ColumnLines<T, columns, depth> layout,
                                             int column, int slice) {
  const int lane = threadIdx.x % 32;
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int k = slice * kSlice<T> + lane % 16;
      uint32_t r[4];
      load_matrices<true>(r, tile + layout.second_index(k, column + 16 * pair + lane / 16 * 8));
#pragma unroll
      for (int i = 0; i < 4; ++i) b[2 * pair + i / 2][i % 2] = r[i];
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = slice * kSlice<T> + 4 * i + lane % 4;
        b[j][i] = same_bits<uint32_t>(tile[layout.second_index(k, column + 8 * j + lane / 4)]);
      }
  }
}

// sum += a b as high high + high low + low high of the pairs. Tensor cores truncate sums towards zero, so these eight k
// have a sum of their own, which an ordinary addition adds to the others. In a model of such tensor cores, the sum of 256
// products of normal numbers has a relative error (root mean square) of 1.4e-7; a sequential sum in float32 has 2.9e-7,
// one long sum on tensor cores 2.3e-6, a single product in TF32 2.9e-4.
__device__ __forceinline__ void multiply_floats(float (&sum)[4], const Tf32Pair* a, const Tf32Pair* b) {
  const uint32_t a_high[4] = {a[0].high, a[1].high, a[2].high, a[3].high};
  const uint32_t a_low[4] = {a[0].low, a[1].low, a[2].low, a[3].low};
  const uint32_t b_high[2] = {b[0].high, b[1].high}, b_low[2] = {b[0].low, b[1].low};
  float part[4] = {};
  mma_m16n8k8_tf32(part, a_low, b_high);
  mma_m16n8k8_tf32(part, a_high, b_low);
  mma_m16n8k8_tf32(part, a_high, b_high);
#pragma unroll
  for (int e = 0; e < 4; ++e) sum[e] += part[e];
}

// Adds the product of one slice. first(row, chunk) is the address of chunk 0 or 1 of the first factor's slice; `slice` is
// the index of the second factor's slice in its tile.
template <typename T, typename Tile, typename First, typename SecondLines>
__device__ __forceinline__ void multiply_slice(Sums<T, Tile>& sums, const First& first, const T* second, SecondLines layout,
                                               int slice) {
  constexpr int kRowTiles = Tile::warp_rows / 16;
  const int lane = threadIdx.x % 32, warp_row = Tile::warp_row(), warp_column = Tile::warp_column();
  if constexpr (sizeof(T) == 8) {
    // Only two k at a time fit into the registers.
#pragma unroll 2
    for (int k = 0; k < kSlice<T>; ++k) {
      T a[2 * kRowTiles], b[8];
#pragma unroll
      for (int i = 0; i < 2 * kRowTiles; ++i) a[i] = first(warp_row + 8 * i + lane / 4, k / kChunk<T>)[k % kChunk<T>];
#pragma unroll
      for (int j = 0; j < 8; ++j)
        b[j] = second[layout.second_index(slice * kSlice<T> + k, warp_column + j / 2 * 8 + lane % 4 * 2 + j % 2)];
#pragma unroll
      for (int i = 0; i < 2 * kRowTiles; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[i / 2][j / 2][i % 2 * 2 + j % 2] += a[i] * b[j];
    }
  } else {
    uint32_t b[4][2];
    load_columns(b, second, layout, warp_column, slice);
    if constexpr (sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        uint32_t a[4];
        load_matrices(a, first(warp_row + 16 * i + lane % 16, lane / 16));
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_m16n8k16<T>(sums[i][j], a, b[j]);
      }
    } else {
      Tf32Pair b_pairs[4][2] = {{to_tf32_pair(b[0][0]), to_tf32_pair(b[0][1])},
                                {to_tf32_pair(b[1][0]), to_tf32_pair(b[1][1])},
                                {to_tf32_pair(b[2][0]), to_tf32_pair(b[2][1])},
                                {to_tf32_pair(b[3][0]), to_tf32_pair(b[3][1])}};
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        uint32_t a[4];
        load_matrices(a, first(warp_row + 16 * i + lane % 16, lane / 16));
        const Tf32Pair a_pairs[4] = {to_tf32_pair(a[0]), to_tf32_pair(a[1]), to_tf32_pair(a[2]), to_tf32_pair(a[3])};
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply_floats(sums[i][j], a_pairs, b_pairs[j]);
      }
    }
  }
}

}  // namespace asnet::cuda::guided_conv
