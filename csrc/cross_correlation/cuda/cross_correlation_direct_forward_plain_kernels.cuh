// The direct sums of the cross-correlation by plain multiply-adds, for float64 and for few maps.
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_forward_parts_kernels.cuh"

namespace asnet::cuda::direct {

// A block's threads: `runs` runs of lags s, innermost; `lags_y` lags t; `rows` rows of the image. All are powers of two.
struct PlainBlock {
  int runs, lags_y, rows;
  __host__ __device__ constexpr int threads() const { return runs * lags_y * rows; }
};

constexpr int kMostRuns = 4, kMostLagsY = 8, kMostRows = 32;

// Row pitch of a segment: 256 bytes of pixels, one run for each run of lags, and 16 bytes of padding that put four runs of
// two rows into different banks.
template <typename T>
constexpr int kPlainSegment = 256 / sizeof(Accumulation<T>);
template <typename T>
__host__ __device__ constexpr int shifted_pitch(const PlainBlock& block) {
  return kPlainSegment<T> + block.runs * kRun<T> + 16 / static_cast<int>(sizeof(Accumulation<T>));
}

// Tiles after which the sums go to memory, as for tensor cores: 4096 pixels per thread.
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
constexpr PlainBlock plain_block(const CrossCorrelationSizes& sizes) {
  PlainBlock block{power_of_two(runs_of_lags<T>(sizes.lag_x), kMostRuns), power_of_two(sizes.lag_y + 1, kMostLagsY), 1};
  block.rows = kThreads / (block.runs * block.lags_y);
  if (block.rows > kMostRows) block.rows = kMostRows;
  return block;
}

// A thread has kRun lags s of one t, and maps x maps ordered pairs, in registers. For float32 and maps = 2 it loads a run
// of pixels of each of 2 maps i and 2 maps j for 256 multiply-adds.
//
// Floor: half_lags x C^2 x pixels multiply-adds over 33.5e12 a second: 2 maps of 768x1024, R = 30: 0.17 ms.
// ptxas limits: registers 128, shared 43008
template <typename T, int maps>
__global__ void __launch_bounds__(kThreads, 2)
    correlate_plain_kernel(CrossCorrelationSizes sizes, PlainBlock block, bool aligned, const T* __restrict__ features,
                           Accumulation<T>* __restrict__ products) {
  using A = Accumulation<T>;
  constexpr int kLags = kRun<T>, kPixels = kRun<T>, kSums = kLags * maps * maps;
  ASNET_DYNAMIC_SHARED(A, shared);
  const Image<T> image(sizes, features, blockIdx.z, aligned);
  const int channel_blocks = static_cast<int>(ceil_divide(sizes.channels, maps)), row = channel_blocks * maps;
  const int groups = static_cast<int>(ceil_divide(runs_of_lags<T>(sizes.lag_x), block.runs));
  const int thread = static_cast<int>(threadIdx.x), threads = block.threads(), warp = thread / 32,
            warps = (threads + 31) / 32;
  const int pitch = shifted_pitch<T>(block), shifted_rows = block.rows + block.lags_y - 1;

  int index = static_cast<int>(blockIdx.x);
  const int channel_j = index % channel_blocks * maps;
  index /= channel_blocks;
  const int channel_i = index % channel_blocks * maps;
  index /= channel_blocks;
  const int first_s = first_lag(sizes.lag_x) + index % groups * block.runs * kLags, first_t = index / groups * block.lags_y;
  if (first_t == 0 && block.lags_y == 1 && first_s + block.runs * kLags <= 0) return;  // the other half of the lags

  const int run = thread % block.runs, lag = thread / block.runs % block.lags_y,
            own_row = thread / (block.runs * block.lags_y);
  const int top = first_row(sizes, first_t), across = static_cast<int>(ceil_divide(sizes.width, kPlainSegment<T>));
  const Share share(ceil_divide(image.height - top, block.rows) * across, blockIdx.y, gridDim.y);
  products += ((blockIdx.z * gridDim.y + blockIdx.y) * half_lags(sizes)) * row * row;

  A* const fixed = shared + maps * shifted_rows * pitch;
  const A* const own_fixed = fixed + own_row * kPlainSegment<T>;
  // f(y - t, x - s) for the largest s of the run is one element after this.
  const A* const own_shifted = shared + (own_row - lag + block.lags_y - 1) * pitch + (block.runs - 1 - run) * kLags;
  A sums[kLags][maps][maps] = {};
  bool stored = false;

  const auto store = [&] {
    // The sums of each row in turn; then one thread adds up each sum.
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
    const int y = top + static_cast<int>(tile / across) * block.rows,
              x = static_cast<int>(tile % across) * kPlainSegment<T>;
    __syncthreads();
    for (int i = warp; i < maps * shifted_rows; i += warps)
      image.copy_row(shared + i * pitch, channel_i + i / shifted_rows, y - first_t - (block.lags_y - 1) + i % shifted_rows,
                     x - first_s - block.runs * kLags, kPlainSegment<T> + block.runs * kLags, sizes.circular);
    for (int i = warp; i < maps * block.rows; i += warps)
      image.copy_row(fixed + i * kPlainSegment<T>, channel_j + i / block.rows, y + i % block.rows, x, kPlainSegment<T>,
                     false);
    group_copies();
    wait_for_copies<0>();
    __syncthreads();

    // Two runs of pixels of the maps i. Lag k of pixel p is element p + kLags - k.
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

}  // namespace asnet::cuda::direct
