// The gradient of the direct sums by plain multiply-adds, for float64 and for few maps.
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_backward_parts_kernels.cuh"

namespace asnet::cuda::direct {

// A block's tile: eight runs of kRun pixels in 32 rows, one run per thread; and, for one map b at a time, the taps of
// kTapRows lags t and one run of s. Rows are padded by 16 bytes so that four runs of two rows are in different banks.
constexpr int kPlainTileRows = 32, kPlainTileRuns = kThreads / kPlainTileRows, kTapRows = 8;
template <typename T>
constexpr int kPlainTileColumns = kPlainTileRuns * kRun<T>;
template <typename T>
constexpr int kPlainPitch = kPlainTileColumns<T> + kRun<T> + 16 / static_cast<int>(sizeof(Accumulation<T>));

// Weights of one step: [t][a][s].
template <typename T, int maps>
constexpr int kStepWeights = kTapRows * maps * kRun<T>;

struct PlainSteps {
  int blocks, channels, tap_rows, runs;
  __host__ __device__ constexpr int64_t steps() const { return static_cast<int64_t>(channels) * tap_rows * runs; }
};
template <typename T, int maps>
__host__ __device__ constexpr PlainSteps plain_steps(const CrossCorrelationSizes& sizes) {
  return {static_cast<int>(ceil_divide(sizes.channels, maps)), static_cast<int>(sizes.channels),
          static_cast<int>(ceil_divide(sizes.lags_y(), kTapRows)), runs_of_lags<T>(sizes.lag_x)};
}
template <typename T, int maps>
constexpr int64_t plain_weights(const CrossCorrelationSizes& sizes) {
  const PlainSteps counts = plain_steps<T, maps>(sizes);
  return counts.blocks * counts.steps() * kStepWeights<T, maps>;
}

// weights [block of a][b][kTapRows of t][run of s][t][a][s]
// ptxas limits: registers 64, shared 0
template <typename T, int maps>
__global__ void __launch_bounds__(kThreads)
    prepare_weights_kernel(CrossCorrelationSizes sizes, const T* __restrict__ gradient,
                           Accumulation<T>* __restrict__ weights) {
  const PlainSteps counts = plain_steps<T, maps>(sizes);
  const int64_t size = counts.blocks * counts.steps() * kStepWeights<T, maps>;
  int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= size) return;
  gradient += blockIdx.z * sizes.pairs() * sizes.window();
  Accumulation<T>* to = weights + blockIdx.z * size + index;
  const auto next = [&](int count) {
    const int value = static_cast<int>(index % count);
    index /= count;
    return value;
  };
  const int k = next(kRun<T>), own = next(maps), row = next(kTapRows), run = next(counts.runs),
            rows = next(counts.tap_rows);
  const int b = next(counts.channels), block = static_cast<int>(index);
  *to = symmetrised(sizes, gradient, block * maps + own, b, rows * kTapRows + row - static_cast<int>(sizes.lag_y),
                    first_lag(sizes.lag_x) + run * kRun<T> + k);
}

// For each t, a thread loads two runs of pixels and, for each of its maps a, a run of weights: 64 multiply-adds per map.
//
// Floor: C^2 x window x pixels multiply-adds over 33.5e12 a second: 2 maps of 768x1024, R = 30: 0.35 ms.
// ptxas limits: registers 128, shared 28672
template <typename T, int maps>
__global__ void __launch_bounds__(kThreads, 2)
    convolve_plain_kernel(CrossCorrelationSizes sizes, bool aligned, const T* __restrict__ features,
                          const Accumulation<T>* __restrict__ weights, GatheredPixels<T> result) {
  using A = Accumulation<T>;
  constexpr int kLags = kRun<T>, kPixels = kRun<T>, kRows = kPlainTileRows + kTapRows - 1;
  constexpr int kWeights = kStepWeights<T, maps>;
  ASNET_SHARED(A, tiles, [2][kRows * kPlainPitch<T>]);
  ASNET_SHARED(A, step_weights, [2][kWeights]);
  const Image<T> image(sizes, features, blockIdx.z, aligned);
  const PlainSteps counts = plain_steps<T, maps>(sizes);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  // A warp has four runs and eight rows.
  const int own_run = warp % 2 * 4 + lane % 4, own_row = warp / 2 * 8 + lane / 4;

  const int across = static_cast<int>(ceil_divide(sizes.width, kPlainTileColumns<T>));
  int64_t index = blockIdx.x;
  const int block = static_cast<int>(index % counts.blocks);
  index /= counts.blocks;
  const int x = static_cast<int>(index % across) * kPlainTileColumns<T>,
            y = static_cast<int>(index / across) * kPlainTileRows;
  const int64_t begin = counts.steps() * blockIdx.y / gridDim.y, end = counts.steps() * (blockIdx.y + 1) / gridDim.y;
  weights += (blockIdx.z * counts.blocks + block) * counts.steps() * kWeights;

  const auto load = [&](int64_t step) {
    const int run = static_cast<int>(step % counts.runs), rows = static_cast<int>(step / counts.runs % counts.tap_rows);
    const int b = static_cast<int>(step / counts.runs / counts.tap_rows);
    const int first_s = first_lag(sizes.lag_x) + run * kLags;
    const int first_y = y - (rows * kTapRows - static_cast<int>(sizes.lag_y)) - (kTapRows - 1);
    for (int i = warp; i < kRows; i += kWarps)
      image.copy_row(tiles[step % 2] + i * kPlainPitch<T>, b, first_y + i, x - first_s - kLags,
                     kPlainTileColumns<T> + kLags, sizes.circular);
    constexpr int kCount = 16 / sizeof(A);
    for (int i = kCount * thread; i < kWeights; i += kCount * kThreads)
      copy_in_background<16>(step_weights[step % 2] + i, weights + step * kWeights + i);
    group_copies();
  };

  A sums[maps][kPixels] = {};
  if (begin < end) load(begin);
  for (int64_t step = begin; step < end; ++step) {
    wait_for_copies<0>();
    __syncthreads();
    if (step + 1 < end) load(step + 1);
    const int rows_left =
        static_cast<int>(sizes.lags_y()) - static_cast<int>(step / counts.runs % counts.tap_rows) * kTapRows;
    const int rows = rows_left < kTapRows ? rows_left : kTapRows;
    const A* pixels = tiles[step % 2] + (own_row + kTapRows - 1) * kPlainPitch<T> + own_run * kPixels;
    const A* from = step_weights[step % 2];
#pragma unroll 1
    for (int t = 0; t < rows; ++t, pixels -= kPlainPitch<T>) {
      A window[kLags + kPixels];
      load_run(window, pixels);
#pragma unroll
      for (int a = 0; a < maps; ++a, from += kLags) {
        A weight[kLags];
        load_run(weight, from);
#pragma unroll
        for (int k = 0; k < kLags; ++k)
#pragma unroll
          for (int p = 0; p < kPixels; ++p) sums[a][p] += weight[k] * window[kLags + p - k];
      }
    }
  }
#pragma unroll
  for (int a = 0; a < maps; ++a)
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
      result.store(sizes, block * maps + a, y + own_row, x + own_run * kPixels + p, sums[a][p]);
}

}  // namespace asnet::cuda::direct
