// Sizes of a cross-correlation, for all of its CUDA kernels. Its formula is in cpu/cross_correlation_kernels.h.
#pragma once

#include <compare>

#include "common/cuda/device.cuh"

namespace asnet::cuda {

struct CorrelationSizes {
  int64_t count, channels, height, width;  // of the features (N, C, H, W)
  int64_t lag_y, lag_x;                    // the largest lags, less than height and width
  bool circular;

  auto operator<=>(const CorrelationSizes&) const = default;

  __host__ __device__ constexpr int64_t pairs() const { return channels * (channels + 1) / 2; }
  __host__ __device__ constexpr int64_t lags_y() const { return 2 * lag_y + 1; }
  __host__ __device__ constexpr int64_t lags_x() const { return 2 * lag_x + 1; }
  __host__ __device__ constexpr int64_t window() const { return lags_y() * lags_x(); }
  __host__ __device__ constexpr int64_t pixels() const { return height * width; }
};

// Index of the pair (i, j), i <= j.
__host__ __device__ constexpr int64_t pair_index(int64_t i, int64_t j, int64_t channels) {
  return i * channels - i * (i - 1) / 2 + j - i;
}

}  // namespace asnet::cuda
