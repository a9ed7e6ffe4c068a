// The direct sums of the cross-correlation, computed in parts and added by a second kernel.
//
// As C_ij(-t, -s) = C_ji(t, s), half the lags for all ordered pairs contain all lags for half the pairs, and they form
// whole matrices. Half the lags means h = t (2 R_x + 1) + s >= 0; h is also the offset from the middle of a window in
// memory. Every lag is a matrix product, over the pixels, of the maps with the shifted maps:
//
//   product[h][i][j] = sum over y, x of f_i(y - t, x - s) f_j(y, x)
//
// The pixels are divided among blocks too. Each block writes its sums to `products` [n][part][h][i][j]; a second kernel
// adds the parts in order and stores the pairs in place. There are no atomics, so results are bit-reproducible.
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_tiles.cuh"

namespace asnet::cuda::direct {

__host__ __device__ constexpr int64_t half_lags(const CrossCorrelationSizes& sizes) { return (sizes.window() + 1) / 2; }

// A block's share of `count` items; shares differ by at most one.
struct Share {
  int64_t begin, end;
  __device__ __forceinline__ Share(int64_t count, unsigned part, unsigned parts)
      : begin(count * part / parts), end(count * (part + 1) / parts) {}
};

// The first row y at which f(y - t, .) is inside the image; earlier rows contribute nothing.
__device__ __forceinline__ int first_row(const CrossCorrelationSizes& sizes, int t) { return sizes.circular ? 0 : t; }

constexpr int kWindowTile = 32;

// Adds the parts and stores C_ij at h of pair (i, j) for i <= j, and at -h of pair (j, i) for i >= j. `row` is the number
// of channels in `products`, including those that pad the last block.
//
// Floor: parts and result once at 3.35 TB/s; 32 maps, R = 21, 4 parts: 7 us.
// ptxas limits: registers 64, shared 8448
template <typename T>
__global__ void __launch_bounds__(kThreads, 4)
    add_products_kernel(CrossCorrelationSizes sizes, int row, int parts, const Accumulation<T>* __restrict__ products,
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
