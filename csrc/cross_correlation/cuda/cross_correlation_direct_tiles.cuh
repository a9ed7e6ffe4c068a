// Shared by the forward and backward direct sums: choice of processing units, maps with channels last for the tensor cores,
// and tiles of maps in shared memory for plain multiply-adds.
#pragma once

#include "common/cuda/device.cuh"
#include "cross_correlation/cross_correlation_sizes.h"

namespace asnet::cuda::direct {

constexpr int kWarps = 8, kThreads = 32 * kWarps;

// Channels that a block of the tensor-core kernels takes at a time.
constexpr int kMaps = 32;

__host__ __device__ constexpr int64_t padded_channels(int64_t channels) { return ceil_divide(channels, kMaps) * kMaps; }

// Products in the time of one plain float32 multiply-add, from the peaks of an H100 (67 TFLOP/s; 990 for 16 bits; 495 for
// TF32, three of which make a product of floats; 33.5 for float64 outside the tensor cores).
template <typename T>
constexpr double kTensorSpeed = sizeof(T) == 2   ? 990.0 / 67
                                : sizeof(T) == 4 ? 495.0 / 67 / 3
                                                 : 0;
template <typename T>
constexpr double kPlainSpeed = sizeof(T) == 8 ? 0.5 : 1;

// Whether tensor cores are faster although they also multiply the channels that pad the last block: from 9 maps in 16 bits,
// from 21 in float32.
template <typename T>
constexpr bool on_tensor_cores(int64_t channels) {
  const double share = static_cast<double>(channels) / static_cast<double>(padded_channels(channels));
  return kTensorSpeed<T> * share * share > kPlainSpeed<T>;
}

// The image coordinate of `position`, or -1 if it is outside.
__device__ __forceinline__ int inside_image(int position, int size, bool circular) {
  if (!circular) return position < size ? max(position, -1) : -1;
  // Rarely more than one iteration; a remainder would take registers.
  while (position < 0) position += size;
  while (position >= size) position -= size;
  return position;
}

// A register of an mma operand. Floats are multiplied as three products of their TF32 parts.
template <typename T>
using Operand = std::conditional_t<sizeof(T) == 4, Tf32Pair, uint32_t>;

template <typename T>
__device__ __forceinline__ Operand<T> operand(uint32_t bits) {
  if constexpr (sizeof(T) == 4)
    return to_tf32_pair(bits);
  else
    return bits;
}

// sum += a b. For floats, split into high + low, the product low low is omitted: at most 2^-22 of the product. Tensor cores
// truncate sums, so at most two such products enter one sum before an ordinary, rounding addition. On the CPU, which rounds
// instead, for 32 maps of 96x128 normally distributed pixels, the largest error is 2.9e-7 of the largest sum; that of plain
// multiply-adds is 2.1e-7, of NumPy's float32 sums 1.1e-6. Float32 therefore uses tensor cores by default.
template <typename T>
__device__ __forceinline__ void multiply(float (&sum)[4], const Operand<T> (&a)[4], const Operand<T> (&b)[2]) {
  if constexpr (sizeof(T) == 2) {
    mma_m16n8k16<T>(sum, a, b);
  } else {
    const uint32_t a_high[4] = {a[0].high, a[1].high, a[2].high, a[3].high};
    const uint32_t a_low[4] = {a[0].low, a[1].low, a[2].low, a[3].low};
    const uint32_t b_high[2] = {b[0].high, b[1].high}, b_low[2] = {b[0].low, b[1].low};
    mma_m16n8k8_tf32(sum, a_low, b_high);
    mma_m16n8k8_tf32(sum, a_high, b_low);
    mma_m16n8k8_tf32(sum, a_high, b_high);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Channels last

constexpr int kTransposedPixels = 64;

// to[n][pixel][channel] = from[n][channel][pixel], zeros for the channels that pad the last block of kMaps. With channels
// last, a shift by a lag moves whole lines of 64 or 128 bytes, so every access of the following kernels is aligned for any
// lag and width.
//
// Floor: the maps twice at 3.35 TB/s; 32 maps of 384x512 in 16 bits: 8 us.
// ptxas limits: registers 64, shared 8448
template <typename T>
__global__ void __launch_bounds__(kThreads)
    channels_last_kernel(const T* __restrict__ from, T* __restrict__ to, int channels, int64_t pixels) {
  constexpr int kPitch = kTransposedPixels + 4 / sizeof(T), kCount = 16 / sizeof(T);  // columns in different banks
  ASNET_SHARED(T, tile, [kMaps][kPitch]);
  const int64_t first_pixel = static_cast<int64_t>(blockIdx.x) * kTransposedPixels;
  const int first_channel = static_cast<int>(blockIdx.y) * kMaps, row = static_cast<int>(gridDim.y) * kMaps;
  const int left = pixels - first_pixel < kTransposedPixels ? static_cast<int>(pixels - first_pixel) : kTransposedPixels;
  const int64_t n = blockIdx.z;
  from += n * channels * pixels + first_pixel;
  to += (n * pixels + first_pixel) * row + first_channel;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int pass = 0; pass < kMaps * kTransposedPixels / kThreads; ++pass) {
    const int channel = pass * kThreads / kTransposedPixels + thread / kTransposedPixels,
              pixel = thread % kTransposedPixels;
    const bool inside = first_channel + channel < channels && pixel < left;
    tile[channel][pixel] = inside ? from[(first_channel + channel) * pixels + pixel] : from_float<T>(0.f);
  }
  __syncthreads();
#pragma unroll
  for (int pack = thread; pack < kTransposedPixels * kMaps / kCount; pack += kThreads) {
    const int pixel = pack / (kMaps / kCount), channel = pack % (kMaps / kCount) * kCount;
    if (pixel >= left) continue;
    Pack<T, kCount> values;
#pragma unroll
    for (int i = 0; i < kCount; ++i) values.element[i] = tile[channel + i][pixel];
    store_pack(to + static_cast<int64_t>(pixel) * row + channel, values);
  }
}

template <typename T>
void channels_last(const CrossCorrelationSizes& sizes, int64_t images, const T* from, T* to, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_divide(sizes.pixels(), kTransposedPixels)),
                  static_cast<unsigned>(ceil_divide(sizes.channels, kMaps)), static_cast<unsigned>(images));
  ASNET_LAUNCH((channels_last_kernel<T>), grid, kThreads, 0, stream, from, to, static_cast<int>(sizes.channels),
               sizes.pixels());
}

// ---------------------------------------------------------------------------------------------------------------------
// Tiles for plain multiply-adds, in the type of the sums

// Pixels, or lags, that a thread keeps in registers: 32 bytes.
template <typename T>
constexpr int kRun = 32 / sizeof(Accumulation<T>);

// Elements of an aligned copy: 16 bytes, or 8 bytes of 16-bit elements, which are converted to floats.
template <typename T>
constexpr int kCopied = sizeof(T) == 8 ? 2 : 4;

// The first lag s of the first run: a multiple of 4, so that tiles start at multiples of kCopied.
__host__ __device__ constexpr int first_lag(int64_t lag_x) { return -static_cast<int>(ceil_divide(lag_x, 4)) * 4; }
template <typename T>
__host__ __device__ constexpr int runs_of_lags(int64_t lag_x) {
  return static_cast<int>(ceil_divide(lag_x + 1 - first_lag(lag_x), kRun<T>));
}

// Whether rows can be copied kCopied elements at a time.
template <typename T>
bool has_aligned_rows(const CrossCorrelationSizes& sizes, const T* features) {
  return sizes.width % kCopied<T> == 0 && reinterpret_cast<uintptr_t>(features) % (kCopied<T> * sizeof(T)) == 0;
}

template <typename T>
struct Image {
  const T* features;  // [channels][height][width]
  int channels, height, width;
  bool aligned;  // has_aligned_rows

  __device__ __forceinline__ Image(const CrossCorrelationSizes& sizes, const T* all, unsigned n, bool aligned_)
      : features(all + n * sizes.channels * sizes.pixels()),
        channels(static_cast<int>(sizes.channels)),
        height(static_cast<int>(sizes.height)),
        width(static_cast<int>(sizes.width)),
        aligned(aligned_) {}

  // A warp copies `columns` pixels of row y from x on: to[column] = map(y, x + column); x and columns are multiples of 4.
  // In the background, except for 16-bit elements.
  __device__ __forceinline__ void copy_row(Accumulation<T>* to, int channel, int y, int x, int columns,
                                           bool circular) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = inside_image(y, height, circular);
    const bool row_inside = channel < channels && row >= 0;
    const T* from = row_inside ? features + (static_cast<int64_t>(channel) * height + row) * width : features;
    if (aligned) {
      for (int column = kCopied<T> * lane; column < columns; column += kCopied<T> * 32)
        copy<kCopied<T>>(to + column, from, row_inside ? inside_image(x + column, width, circular) : -1);
    } else {
      for (int column = lane; column < columns; column += 32)
        copy<1>(to + column, from, row_inside ? inside_image(x + column, width, circular) : -1);
    }
  }

 private:
  template <int count>
  __device__ static __forceinline__ void copy(Accumulation<T>* to, const T* row, int x) {
    if constexpr (sizeof(T) >= 4) {
      copy_in_background<count * sizeof(T)>(to, x < 0 ? row : row + x, x >= 0);
    } else {
      Pack<float, count> values{};
      if (x >= 0) {
        const Pack<T, count> read = load_pack<T, count>(row + x);
#pragma unroll
        for (int i = 0; i < count; ++i) values.element[i] = to_float(read.element[i]);
      }
      store_pack(to, values);
    }
  }
};

// kRun elements from an address aligned to 16 bytes.
template <typename A, int count>
__device__ __forceinline__ void load_run(A (&to)[count], const A* from) {
  constexpr int kPack = 16 / sizeof(A);
#pragma unroll
  for (int i = 0; i < count; i += kPack) {
    const Pack<A, kPack> pack = load_pack<A, kPack>(from + i);
#pragma unroll
    for (int k = 0; k < kPack; ++k) to[i + k] = pack.element[k];
  }
}

}  // namespace asnet::cuda::direct
