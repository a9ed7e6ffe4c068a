// A 3x3 convolution with its modulated epilogue, for inference in 16-bit types and channels-last memory:
//   out[n, y, x, o] = act((sum_{dy, dx, c} W[o, dy, dx, c] in[n, stride y + dy - 1, stride x + dx - 1, c] + c[o])
//                         * (1 + m[n, o]) + b[n, o])
// An implicit matrix product: rows are the output pixels of a block, columns output channels. The depth runs through 16
// channels at each of the nine taps, a row of three taps in a step, before it goes on to the next 16.
#pragma once

#include "cuda/guided_epilogue.cuh"
#include "cuda/matrix_tiles.cuh"

namespace asnet::cuda::guided_conv {

// Whole chunks of 16 bytes.
constexpr int kConvChannelMultiple = 8;

template <typename T>
struct Conv3x3Problem {
  const T* x;       // [N, H, W, C], C a multiple of kConvChannelMultiple; all three tensors begin on 16 bytes
  const T* weight;  // [out_channels, 3, 3, C], less than 2^31 elements
  T* out;           // [N, out_H, out_W, out_channels]
  int64_t N;
  int C, H, W, out_channels, out_H, out_W;
  ParameterTables<float> tables;
  bool relu;
};

// A block's output pixels and channels. A pixel is read once for all taps and W anew by every block, hence many pixels and
// few channels: 256 and 64 ask the second-level cache for 230 KB where 128 and 128 would ask for 390. Fewer pixels where
// there are too few for two blocks on every multiprocessor, and at stride 2, where their inputs are four times as many.
constexpr int kConvW = 16, kConvChannels = 64;
constexpr int kConvTall = 16, kConvShort = 8, kConvStrided = 4;

// Steps of 16 channels, one for each row of taps.
constexpr int kTaps = 3;

// The pixels, of 16 channels, that the out_H x 16 output pixels of a block depend on; two of these, so that one is filled
// while the other is multiplied. Rows and columns count from the first that any tap touches.
template <typename T, int stride, int out_H>
struct Patch {
  static constexpr int H = (out_H - 1) * stride + kTaps, W = (kConvW - 1) * stride + kTaps;
  static constexpr int kGroup = ceil_divide(W, stride), kCopiesOfPixel = kSlice<T> / kChunk<T>;
  static constexpr int elements = H * stride * kGroup * kSlice<T>;

  // Columns that are read together, every `stride`-th, lie side by side in one of `stride` groups. 128 bytes, four columns,
  // span all banks; the next four have their two chunks exchanged, hence any eight successive ones share no bank.
  __host__ __device__ static constexpr int index(int y, int x, int k) {
    const int place = x % stride * kGroup + x / stride;
    return ((y * stride * kGroup + place) * 2 + (k / kChunk<T> ^ place / 4 % 2)) * kChunk<T> + k % kChunk<T>;
  }
  static_assert(is_conflict_free<T>([](int i) { return index(0, i * stride, 0); }) &&
                is_conflict_free<T>([](int i) { return index(1, i * stride + 1, 0); }) &&
                is_conflict_free<T>([](int i) { return index(2, i * stride + 2, 0); }));
};

// Floor on an H100 of 128 to 128 maps of 1024x768 at stride 1: 232 GFLOP or 0.23 ms, 0.35 ms where mma attains two thirds
// of the peak (the rest takes wgmma); 403 MB or 0.12 ms. The second-level cache is asked for 1.4 GB, 0.26 ms at 5.5 TB/s.
// ptxas limits: registers 128, shared 49152
template <typename T, int stride, int tile_H>
__global__ void __launch_bounds__(kThreads, 2) guided_conv3x3_kernel(const Conv3x3Problem<T> problem) {
  using Tile = BlockTile<tile_H * kConvW, kConvChannels>;
  using Weights = DepthLines<T, kConvChannels, kSlice<T>>;
  using Pixels = Patch<T, stride, tile_H>;
  ASNET_SHARED(T, weights, [kStages][kTaps][Weights::elements]);
  ASNET_SHARED(T, patches, [2][Pixels::elements]);

  const auto& [x, weight, out, N, C, H, W, out_channels, out_H, out_W, tables, relu] = problem;
  const unsigned channel_tiles = ceil_divide(out_channels, kConvChannels);
  const unsigned tiles_across = ceil_divide(out_W, kConvW), tiles_down = ceil_divide(out_H, tile_H);
  const int channel = blockIdx.x % channel_tiles * kConvChannels;
  const unsigned tile = blockIdx.x / channel_tiles;
  const int left = tile % tiles_across * kConvW, top = tile / tiles_across % tiles_down * tile_H;
  const int64_t n = tile / tiles_across / tiles_down;
  const int channels_left = out_channels - channel;

  const T* const image = x + n * H * W * C;
  const auto load_pixels = [&](int patch, int first_copy, int last_copy) {
    for (int copy = first_copy + threadIdx.x; copy < last_copy; copy += kThreads) {
      const int pixel = copy / Pixels::kCopiesOfPixel, k = copy % Pixels::kCopiesOfPixel * kChunk<T>;
      const int patch_y = pixel / Pixels::W, patch_x = pixel % Pixels::W, c = patch * kSlice<T> + k;
      const int in_y = stride * top - 1 + patch_y, in_x = stride * left - 1 + patch_x;
      const bool inside = in_y >= 0 && in_y < H && in_x >= 0 && in_x < W && c < C;
      copy_elements<kChunk<T>>(patches[patch % 2] + Pixels::index(patch_y, patch_x, k),
                               image + int64_t(in_y * W + in_x) * C + c, inside);
    }
  };
  // What a step loads has to be there two steps later, at the first row of taps, and a patch takes the place of the one
  // before the last, which is free two steps before that: it comes in two parts, with the steps 3 j - 1 and 3 j.
  static_assert(kStages == kTaps && kTaps == 3);
  const auto load = [&](int step) {
    constexpr int kCopies = Pixels::H * Pixels::W * Pixels::kCopiesOfPixel, kPart = ceil_divide(kCopies, 2);
    const int patch = (step + 1) / kTaps, part = (step + 1) % kTaps;
    if (step == 0)
      load_pixels(0, 0, kCopies);
    else if (part < 2 && patch * kSlice<T> < C)
      load_pixels(patch, part * kPart, min((part + 1) * kPart, kCopies));

    const int row = step % kTaps;
#pragma unroll
    for (int copy = threadIdx.x; copy < kTaps * Weights::elements / kChunk<T>; copy += kThreads) {
      const int tap = copy / (Weights::elements / kChunk<T>), chunk = copy % (Weights::elements / kChunk<T>);
      const int line = chunk / 2, k = chunk % 2 * kChunk<T>, c = step / kTaps * kSlice<T> + k;
      copy_elements<kChunk<T>>(weights[step % kStages][tap] + Weights::index(line, k),
                               weight + (((channel + line) * kTaps + row) * kTaps + tap) * C + c,
                               line < channels_left && c < C);
    }
  };
  Sums<T, Tile> sums = {};
  run_pipeline(kTaps * ceil_divide(C, kSlice<T>), load, [&](int step) {
    const T* const patch = patches[step / kTaps % 2];
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap)
      multiply_slice<T, Tile>(
          sums,
          [&](int row, int chunk) {
            const int patch_y = row / kConvW * stride + step % kTaps, patch_x = row % kConvW * stride + tap;
            return patch + Pixels::index(patch_y, patch_x, chunk * kChunk<T>);
          },
          weights[step % kStages][tap], Weights(), 0);
  });

  const int column = Tile::warp_column();
  modulate_sums<true>(sums, tables, n, channel + column, out_channels, relu);
  const auto row_address = [&](int r) -> T* {
    const int row = Tile::warp_row() + r, out_y = top + row / kConvW, out_x = left + row % kConvW;
    if (out_y >= out_H || out_x >= out_W) return nullptr;
    return out + ((n * out_H + out_y) * out_W + out_x) * out_channels + channel + column;
  };
  if (out_channels % kChunk<T> == 0)
    store_sums<true, T>(sums, channels_left - column, row_address);
  else
    store_sums<false, T>(sums, channels_left - column, row_address);
}

template <typename T, int stride, int tile_H>
void launch_guided_conv3x3(const Conv3x3Problem<T>& problem, cudaStream_t stream) {
  const int64_t blocks = problem.N * ceil_divide(problem.out_H, tile_H) * ceil_divide(problem.out_W, kConvW) *
                         ceil_divide(problem.out_channels, kConvChannels);
  ASNET_LAUNCH((guided_conv3x3_kernel<T, stride, tile_H>), blocks, kThreads, 0, stream, problem);
}

// Every size is at least 1, the stride 1 or 2.
template <typename T>
void guided_conv3x3(const Conv3x3Problem<T>& problem, int stride, int multiprocessors, cudaStream_t stream) {
  const int64_t tall_blocks = problem.N * ceil_divide(problem.out_H, kConvTall) * ceil_divide(problem.out_W, kConvW) *
                              ceil_divide(problem.out_channels, kConvChannels);
  if (stride == 2)
    launch_guided_conv3x3<T, 2, kConvStrided>(problem, stream);
  else if (tall_blocks >= 2 * multiprocessors)
    launch_guided_conv3x3<T, 1, kConvTall>(problem, stream);
  else
    launch_guided_conv3x3<T, 1, kConvShort>(problem, stream);
}

}  // namespace asnet::cuda::guided_conv
