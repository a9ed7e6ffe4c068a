// A 1x1 convolution of the concatenation of two inputs, with a modulated epilogue:
//   out[n, o, pixel] = act((sum_c W[o, c] [x1; x2][n, c, pixel] + c[o]) * (1 + m[n, o]) + b[n, o])
// It is a matrix product whose depth runs through the channels of x1 and then of x2; they are not concatenated in memory.
//
// Contiguous maps: rows are output channels, columns are pixels. Channels-last: rows are pixels, columns are output
// channels. In both cases a row of the product is contiguous in the output, and the first factor, W or a pixel's channels,
// is contiguous along the depth.
#pragma once

#include "common/cuda/guided_epilogue.cuh"
#include "common/cuda/matrix_tiles.cuh"

namespace asnet::cuda::guided_conv {

template <typename T>
struct PointwiseProblem {
  const T *x1, *x2;  // [N, C1, pixels] and [N, C2, pixels], or [N, pixels, C1] and [N, pixels, C2]
  const T* weight;   // [out_channels, C1 + C2]
  T* out;            // [N, out_channels, pixels] or [N, pixels, out_channels]
  int64_t N, pixels;
  int C1, C2, out_channels;
  ParameterTables<Accumulation<T>> tables;
  bool relu;
};

constexpr int kPointwisePixels = 128;

// Channels of a step: two slices.
constexpr int kPointwiseSlices = 2;
template <typename T>
constexpr int kPointwiseDepth = kPointwiseSlices * kSlice<T>;

// Output channels of a block. With all 128 of a level of the released topology, the inputs are read once. That is for
// 16-bit types: 64 x 32 sums per warp take 64 registers per thread and leave room for the factors. Floats need twice the
// registers for their factors, doubles for their sums; their second block of output channels starts next and finds the
// inputs in the second-level cache. 64 is also used with few output channels or few pixels.
constexpr int kPointwiseWide = 128, kPointwiseNarrow = 64;

// Floor on an H100 of 128 + 128 to 128 maps of 1024x768: in bfloat16 604 MB or 0.18 ms against 51.5 GFLOP or 0.05 ms; in
// float32 1.21 GB or 0.36 ms against three times 51.5 GFLOP in TF32 or 0.31 ms (0.77 ms on FP32 units). Both are memory
// bound; a block's copies of W, as many bytes as those of the inputs, come from the second-level cache.
// `packed`: chunks of 16 bytes are aligned in every tensor; otherwise elements are copied one by one.
// ptxas limits: registers 128, shared 49152
template <typename T, bool channels_last, int out_channels, bool packed>
__global__ void __launch_bounds__(kThreads, 2) guided_pointwise_conv2d_kernel(const PointwiseProblem<T> problem) {
  using Tile = BlockTile<channels_last ? kPointwisePixels : out_channels, channels_last ? out_channels : kPointwisePixels>;
  using Weights = DepthLines<T, out_channels, kPointwiseDepth<T>>;
  using Maps = std::conditional_t<channels_last, DepthLines<T, kPointwisePixels, kPointwiseDepth<T>>,
                                  ColumnLines<T, kPointwisePixels, kPointwiseDepth<T>>>;
  constexpr int kCount = packed ? kChunk<T> : 1;
  ASNET_SHARED(T, weights, [kStages][Weights::elements]);
  ASNET_SHARED(T, maps, [kStages][Maps::elements]);

  const auto& [x1, x2, weight, out, N, pixels, C1, C2, all_out_channels, tables, relu] = problem;
  const int channel_tiles = ceil_divide(all_out_channels, out_channels);
  const unsigned pixel_tiles = ceil_divide(pixels, kPointwisePixels);
  const int channel = blockIdx.x % channel_tiles * out_channels;
  const int64_t n = blockIdx.x / channel_tiles / pixel_tiles;
  const int64_t pixel = int64_t(blockIdx.x / channel_tiles % pixel_tiles) * kPointwisePixels;
  const int channels_left = all_out_channels - channel;
  const int pixels_left = min(pixels - pixel, int64_t(kPointwisePixels));

  const int steps1 = ceil_divide(C1, kPointwiseDepth<T>), steps = steps1 + ceil_divide(C2, kPointwiseDepth<T>);
  const auto load = [&](int step) {
    const bool is_second = step >= steps1;
    const T* const x = is_second ? x2 : x1;
    const int C = is_second ? C2 : C1, k = (is_second ? step - steps1 : step) * kPointwiseDepth<T>;
    const int stage = step % kStages;
    const T* const from = weight + int64_t(channel) * (C1 + C2) + (is_second ? C1 : 0) + k;
    Weights::template load<kCount>(weights[stage], from, C1 + C2, channels_left, C - k);
    if constexpr (channels_last)
      Maps::template load<kCount>(maps[stage], x + (n * pixels + pixel) * C + k, C, pixels_left, C - k);
    else
      Maps::template load<kCount>(maps[stage], x + (n * C + k) * pixels + pixel, pixels, pixels_left, C - k);
  };
  Sums<T, Tile> sums = {};
  run_pipeline(steps, load, [&](int step) {
    using First = std::conditional_t<channels_last, Maps, Weights>;
    using Second = std::conditional_t<channels_last, Weights, Maps>;
    const T* const first = channels_last ? maps[step % kStages] : weights[step % kStages];
    const T* const second = channels_last ? weights[step % kStages] : maps[step % kStages];
    // Two slices of floats would not fit into the registers.
#pragma unroll(sizeof(T) == 4 ? 1 : kPointwiseSlices)
    for (int slice = 0; slice < kPointwiseSlices; ++slice)
      multiply_slice<T, Tile>(
          sums, [&](int row, int chunk) { return first + First::index(row, slice * kSlice<T> + chunk * kChunk<T>); },
          second, Second(), slice);
  });

  const int row = Tile::warp_row(), column = Tile::warp_column();
  modulate_sums<channels_last>(sums, tables, n, channel + (channels_last ? column : row), all_out_channels, relu);
  if constexpr (channels_last)
    store_sums<packed, T>(sums, channels_left - column, [&](int r) {
      return row + r < pixels_left ? out + (n * pixels + pixel + row + r) * all_out_channels + channel + column : nullptr;
    });
  else
    store_sums<packed, T>(sums, pixels_left - column, [&](int r) {
      return row + r < channels_left ? out + (n * all_out_channels + channel + row + r) * pixels + pixel + column : nullptr;
    });
}

template <typename T, bool channels_last, int out_channels, bool packed>
void launch_guided_pointwise_conv2d(const PointwiseProblem<T>& problem, cudaStream_t stream) {
  const int64_t blocks =
      problem.N * ceil_divide(problem.pixels, kPointwisePixels) * ceil_divide(problem.out_channels, out_channels);
  const auto kernel = guided_pointwise_conv2d_kernel<T, channels_last, out_channels, packed>;
  ASNET_LAUNCH(kernel, blocks, kThreads, 0, stream, problem);
}

template <typename T>
bool is_packed(const PointwiseProblem<T>& problem, bool channels_last) {
  const auto is_multiple = [](int64_t size) { return size % kChunk<T> == 0; };
  for (const void* pointer : {static_cast<const void*>(problem.x1), static_cast<const void*>(problem.x2),
                              static_cast<const void*>(problem.weight), static_cast<const void*>(problem.out)})
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  return is_multiple(problem.C1) && is_multiple(problem.C2) &&
         is_multiple(channels_last ? problem.out_channels : problem.pixels);
}

// Every size except C1 and C2 is at least 1.
template <typename T, bool channels_last>
void guided_pointwise_conv2d(const PointwiseProblem<T>& problem, int multiprocessors, cudaStream_t stream) {
  // Doubles are copied one by one, 8 bytes each: their speed does not matter.
  if constexpr (sizeof(T) == 8) {
    launch_guided_pointwise_conv2d<T, channels_last, kPointwiseNarrow, false>(problem, stream);
  } else {
    if (!is_packed(problem, channels_last))
      return launch_guided_pointwise_conv2d<T, channels_last, kPointwiseNarrow, false>(problem, stream);
    if constexpr (sizeof(T) == 2) {
      const int64_t tiles = problem.N * ceil_divide(problem.pixels, kPointwisePixels);
      if (problem.out_channels > kPointwiseNarrow && tiles >= multiprocessors)
        return launch_guided_pointwise_conv2d<T, channels_last, kPointwiseWide, true>(problem, stream);
    }
    launch_guided_pointwise_conv2d<T, channels_last, kPointwiseNarrow, true>(problem, stream);
  }
}

}  // namespace asnet::cuda::guided_conv
