// The direct sums of the cross-correlation on tensor cores: a block has 32 maps i, 32 maps j, one lag t and a group of lags
// s.
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_forward_parts_kernels.cuh"

namespace asnet::cuda::direct {

// Pixels of half a step of an mma. Lags s this far apart share operands: the half step that one reads now is read by the
// other next. A warp has two such lags, its residue and residue + kHalf; together the warps have a group.
template <typename T>
constexpr int kHalfStep = 16 / sizeof(T);
template <typename T>
constexpr int kGroupLags = 2 * kHalfStep<T>;

// A segment of a row is a pipeline stage of four steps. Two stages are in flight while one is multiplied.
template <typename T>
constexpr int kSegment = 8 * kHalfStep<T>;
constexpr int kStages = 3;

// Lines of 32 channels, 64 or 128 bytes, padded so that eight lines are in different groups of banks.
constexpr int kLine = kMaps + 8;

template <typename T>
constexpr int kShiftedPixels = kSegment<T> + kGroupLags<T> - 1;
template <typename T>
constexpr int kStageElements = (kShiftedPixels<T> + kSegment<T>)*kLine;

// Segments after which sums go to memory. Tensor cores truncate, so longer sums would lose more than 16-bit precision; the
// rounding error of a long sum of floats grows as well.
constexpr int kSegmentsInSum = 256;

// Tiles of 16 maps i per warp: all 32 maps in 16-bit types, 16 for floats, whose operands take twice the registers.
template <typename T>
constexpr int kRowTiles = sizeof(T) == 2 ? 2 : 1;

// Operands of mma in register order, so none has to be moved. `line`: of the first pixel.
//
// a: a step of 16 maps i starting at first_channel, [half of the step][first, second 8 maps].
template <typename T>
__device__ __forceinline__ void load_shifted(Operand<T> (&a)[4], const T* line, int first_channel) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (sizeof(T) == 2) {
    load_matrices<true>(a, line + (lane / 16 * kHalfStep<T> + lane % 8) * kLine + first_channel + lane / 8 % 2 * 8);
  } else {
    const T* from = line + lane % 4 * kLine + first_channel + lane / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = operand<T>(same_bits<uint32_t>(from[i / 2 * kHalfStep<T> * kLine + i % 2 * 8]));
  }
}

// The first halves of the operands of 16 kRowTiles maps i: half a step.
template <typename T>
__device__ __forceinline__ void load_half_shifted(Operand<T> (&a)[kRowTiles<T>][4], const T* line, int first_channel) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (sizeof(T) == 2) {
    uint32_t r[4];
    load_matrices<true>(r, line + lane % 8 * kLine + first_channel + lane / 8 * 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i / 2][i % 2] = r[i];
  } else {
    const T* from = line + lane % 4 * kLine + first_channel + lane / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) a[0][i] = operand<T>(same_bits<uint32_t>(from[8 * i]));
  }
}

// b: a step of 32 maps j, [8 maps][half of the step].
template <typename T>
__device__ __forceinline__ void load_fixed(Operand<T> (&b)[4][2], const T* line) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      uint32_t r[4];
      load_matrices<true>(r, line + (lane / 8 % 2 * kHalfStep<T> + lane % 8) * kLine + 16 * pair + lane / 16 * 8);
#pragma unroll
      for (int i = 0; i < 4; ++i) b[2 * pair + i / 2][i % 2] = r[i];
    }
  } else {
    const T* from = line + lane % 4 * kLine + lane / 4;
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) b[n][i] = operand<T>(same_bits<uint32_t>(from[i * kHalfStep<T> * kLine + 8 * n]));
  }
}

// sums[n] += a b[n]
template <typename T>
__device__ __forceinline__ void multiply_step(float (&sums)[4][4], const Operand<T> (&a)[4], const Operand<T> (&b)[4][2]) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    if constexpr (sizeof(T) == 2) {
      multiply<T>(sums[n], a, b[n]);
    } else {
      float part[4] = {};
      multiply<T>(part, a, b[n]);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[n][e] += part[e];
    }
  }
}

// Floor: 2 x half_lags x C^2 x pixels operations over 990 TFLOP/s (16 bits) or 165 TFLOP/s (float32): 32 maps of 384x512,
// R = 21: 0.38 ms and 2.3 ms; 96x128, R = 6: 2.1 us and 13 us. Per segment and lag of a group, a block reads 64 lines twice
// from L2 for 65,536 products: 18 of about 40 available bytes per cycle and multiprocessor at peak.
// For 16 products of fragments, a warp loads 4 times 512 bytes from shared memory, which takes as long as the products.
// ptxas limits: registers 128, shared 34560
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    correlate_maps_kernel(CrossCorrelationSizes sizes, const T* __restrict__ maps, float* __restrict__ products) {
  constexpr int kHalf = kHalfStep<T>, kTiles = kRowTiles<T>;
  ASNET_SHARED(T, stages, [kStages * kStageElements<T>]);
  // Row and h of the group's first lag, for the end of a sum. In shared memory, lest the compiler compute the addresses of
  // all sums in advance and keep them in registers.
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
      float* to = products + static_cast<int64_t>(h) * stride * stride +
                  (block_i * kMaps + row_channel + lane / 4) * stride + block_j * kMaps + lane % 4 * 2;
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
    // Of the maps i, the first lag reads the step, the second the preceding half step and the first half of the step.
    Operand<T> a[kTiles][4], delayed[kTiles][4], b[4][2];
    load_half_shifted<T>(delayed, shifted - kHalf * kLine, row_channel);
#pragma unroll 1
    for (int pixel = 0; pixel < pixels; pixel += 2 * kHalf, shifted += 2 * kHalf * kLine, fixed += 2 * kHalf * kLine) {
#pragma unroll
      for (int m = 0; m < kTiles; ++m) load_shifted<T>(a[m], shifted, row_channel + 16 * m);
      load_fixed<T>(b, fixed);
#pragma unroll
      for (int m = 0; m < kTiles; ++m) multiply_step<T>(sums[0][m], a[m], b);
      if (second) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          delayed[m][2] = a[m][0];
          delayed[m][3] = a[m][1];
          multiply_step<T>(sums[1][m], delayed[m], b);
        }
      }
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        delayed[m][0] = a[m][2];
        delayed[m][1] = a[m][3];
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
      // This step's pixels are visible to every warp, and no warp still reads the stage that is filled next.
      __syncthreads();
      if (step + kStages - 1 < steps) load(step + kStages - 1);
      group_copies();
      multiply_segment(sums, step);
    }
    if (active) store(sums, begin == 0);
  }
}

}  // namespace asnet::cuda::direct
