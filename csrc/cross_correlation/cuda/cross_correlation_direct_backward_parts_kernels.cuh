// The gradient of the cross-correlation with respect to the maps, a convolution of all maps with all maps:
//
//   grad_a(y, x) = sum over b, t, s of K_ab(t, s) f_b(y - t, x - s),   K_ab(t, s) = G_ba(t, s) for b < a,
//                  G_ab(-t, -s) for b > a, and the sum of both for b = a, G the gradient of the correlation.
//
// One thread gathers each pixel. If an image has too few pixels for all multiprocessors, the terms (b, t, s) are divided
// among blocks too: parts [part][n][channel][height][width], which a second kernel adds in order.
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_tiles.cuh"

namespace asnet::cuda::direct {

// K_ab(t, s); 0 outside the window or the maps. gradient: of one image.
template <typename T>
__device__ __forceinline__ Accumulation<T> symmetrised(const CrossCorrelationSizes& sizes, const T* gradient, int a, int b,
                                                       int t, int s) {
  using A = Accumulation<T>;
  const auto value = [&](int64_t place) {
    if constexpr (sizeof(T) == 8)
      return gradient[place];
    else
      return to_float(gradient[place]);
  };
  if (a >= sizes.channels || b >= sizes.channels || t > sizes.lag_y || s < -sizes.lag_x || s > sizes.lag_x) return A(0);
  const int64_t window = sizes.window(), h = t * sizes.lags_x() + s;
  A sum = 0;
  if (b <= a) sum += value(pair_index(b, a, sizes.channels) * window + window / 2 + h);
  if (b >= a) sum += value(pair_index(a, b, sizes.channels) * window + window / 2 - h);
  return sum;
}

// Destination of a result: the gradient itself, or a part of the sum.
template <typename T>
struct GatheredPixels {
  T* gradient;             // [n][channel][height][width]; null if there are parts
  Accumulation<T>* parts;  // [part][n][channel][height][width]

  __device__ __forceinline__ void store(const CrossCorrelationSizes& sizes, int channel, int y, int x,
                                        Accumulation<T> value) const {
    if (channel >= sizes.channels || y >= sizes.height || x >= sizes.width) return;
    const int64_t place = ((blockIdx.z * sizes.channels + channel) * sizes.height + y) * sizes.width + x;
    if (parts != nullptr)
      parts[blockIdx.y * (gridDim.z * sizes.channels * sizes.pixels()) + place] = value;
    else if constexpr (sizeof(T) == 8)
      gradient[place] = value;
    else
      gradient[place] = from_float<T>(value);
  }
};

// gradient[i] = sum over parts of parts[part][i]. Floor: all parts and the gradient once at 3.35 TB/s.
// ptxas limits: registers 64, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(int64_t size, int parts, const Accumulation<T>* __restrict__ from, T* __restrict__ gradient) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= size) return;
  Accumulation<T> sum = 0;
  for (int part = 0; part < parts; ++part) sum += from[part * size + i];
  if constexpr (sizeof(T) == 8)
    gradient[i] = sum;
  else
    gradient[i] = from_float<T>(sum);
}

}  // namespace asnet::cuda::direct
