// The direct sums.
#include "common/cpu/vector.h"
#include "cross_correlation/cpu/cross_correlation_kernels.h"

namespace asnet::ASNET_ISA {
namespace {

// Sizes of the blocks of sums held in registers.
inline constexpr int block_j = many_registers ? 4 : 2;
inline constexpr int block_lags = many_registers ? 6 : 4;
inline constexpr int block_channels = many_registers ? 4 : 2;
inline constexpr int block_registers = many_registers ? 6 : 4;

// Rows of about this many pixels are summed in registers and then added to the total: short partial sums limit the rounding
// error, and the rows of all lags stay in the cache.
inline constexpr int64_t chunk_pixels = 4096;

// Number of blocks of j >= i over all i.
int64_t pair_blocks(int64_t channels) {
  int64_t blocks = 0;
  for (int64_t i = 0; i < channels; ++i) blocks += (channels - i + block_j - 1) / block_j;
  return blocks;
}

// total[lag][j] += sum over the chunk's rows, x of f_i(y - t, x - s0 - lag) f_j(y, x)
template <typename T, int count_lags, int count_j>
void correlate_rows(const T* shifted_i, const T* rows_j, int64_t map_stride, int64_t row_stride, int64_t rows,
                    int64_t width, T* total) {
  Vector<T> sum[count_lags][count_j] = {};
  const int64_t whole = width / lanes<T> * lanes<T>;
  decltype(Vector<T>{} < Vector<T>{}) inside;
  for (int64_t lane = 0; lane < lanes<T>; ++lane) inside[lane] = whole + lane < width ? -1 : 0;
  for (int64_t row = 0; row < rows; ++row, shifted_i += row_stride, rows_j += row_stride) {
    const auto step = [&](int64_t x, auto&& masked) {
      Vector<T> value[count_lags];
#pragma GCC unroll 8
      for (int lag = 0; lag < count_lags; ++lag) value[lag] = load(shifted_i + x - lag);
#pragma GCC unroll 8
      for (int j = 0; j < count_j; ++j) {
        const Vector<T> other = masked(load(rows_j + j * map_stride + x));
#pragma GCC unroll 8
        for (int lag = 0; lag < count_lags; ++lag) sum[lag][j] += value[lag] * other;
      }
    };
    for (int64_t x = 0; x < whole; x += lanes<T>) step(x, [](Vector<T> pixels) { return pixels; });
    // Beyond the width, the margin may hold nonzero pixels.
    if (whole < width) step(whole, [&](Vector<T> pixels) { return inside ? pixels : Vector<T>{}; });
  }
  for (int lag = 0; lag < count_lags; ++lag)
    for (int j = 0; j < count_j; ++j) {
      T* place = total + (lag * block_j + j) * lanes<T>;
      store(place, load(place) + sum[lag][j]);
    }
}

}  // namespace

template <typename T>
int64_t direct_tasks(const CrossCorrelationSizes& sizes) {
  return pair_blocks(sizes.channels) * sizes.lags_y();
}

template <typename T>
void direct_forward(const DirectArguments<T>& a, int64_t begin, int64_t end) {
  const CrossCorrelationSizes& sizes = a.sizes;
  const int64_t map_stride = (sizes.height + 2 * sizes.lag_y) * a.row, lags = sizes.lags_x();
  const int64_t chunk = sizes.width < chunk_pixels ? chunk_pixels / sizes.width : 1;
  T* total = new T[lags * block_j * lanes<T>];
  for (int64_t task = begin; task < end; ++task) {
    const int64_t t = task % sizes.lags_y();
    int64_t i = 0, block = task / sizes.lags_y();
    for (int64_t blocks; block >= (blocks = (sizes.channels - i + block_j - 1) / block_j); ++i) block -= blocks;
    const int64_t j0 = i + block * block_j, count_j = sizes.channels - j0 < block_j ? sizes.channels - j0 : block_j;
    // f_j(y, x), and f_i(y - t, x - s) for the first lags, t - lag_y and s = -lag_x
    const T* rows_j = a.padded + j0 * map_stride + sizes.lag_y * a.row + sizes.lag_x;
    const T* rows_i = a.padded + i * map_stride + (2 * sizes.lag_y - t) * a.row + 2 * sizes.lag_x;
    for (int64_t k = 0; k < lags * block_j; ++k) store(total + k * lanes<T>, Vector<T>{});
    for (int64_t y = 0; y < sizes.height; y += chunk) {
      const int64_t rows = sizes.height - y < chunk ? sizes.height - y : chunk;
      for (int64_t s = 0; s < lags; s += block_lags)
        with_constant<block_lags>(lags - s, [&]<int count_lags>() {
          with_constant<block_j>(count_j, [&]<int constant_j>() {
            correlate_rows<T, count_lags, constant_j>(rows_i + y * a.row - s, rows_j + y * a.row, map_stride, a.row, rows,
                                                      sizes.width, total + s * block_j * lanes<T>);
          });
        });
    }
    for (int64_t j = 0; j < count_j; ++j) {
      T* out = a.out + (pair_index(i, j0 + j, sizes.channels) * sizes.lags_y() + t) * lags;
      for (int64_t s = 0; s < lags; ++s) out[s] = sum_of_lanes<T>(load(total + (s * block_j + j) * lanes<T>));
    }
  }
  delete[] total;
}

namespace {

template <typename T, int count_channels, int count_registers>
void convolve_registers(const DirectArguments<T>& a, int64_t channel, int64_t y, int64_t x) {
  const CrossCorrelationSizes& sizes = a.sizes;
  const int64_t map_stride = (sizes.height + 2 * sizes.lag_y) * a.row;
  Vector<T> total[count_channels][count_registers] = {};
  const T* weights = a.weights + channel;
  for (int64_t b = 0; b < sizes.channels; ++b)
    for (int64_t t = 0; t < sizes.lags_y(); ++t) {
      Vector<T> sum[count_channels][count_registers] = {};
      // f_b(y - (t - lag_y), x - (s - lag_x)) at s = 0
      const T* pixels = a.padded + b * map_stride + (y + 2 * sizes.lag_y - t) * a.row + x + 2 * sizes.lag_x;
      for (int64_t s = 0; s < sizes.lags_x(); ++s, weights += sizes.channels) {
        Vector<T> value[count_registers];
#pragma GCC unroll 8
        for (int k = 0; k < count_registers; ++k) value[k] = load(pixels - s + k * lanes<T>);
#pragma GCC unroll 8
        for (int channel_index = 0; channel_index < count_channels; ++channel_index)
#pragma GCC unroll 8
          for (int k = 0; k < count_registers; ++k) sum[channel_index][k] += value[k] * weights[channel_index];
      }
      for (int channel_index = 0; channel_index < count_channels; ++channel_index)
        for (int k = 0; k < count_registers; ++k) total[channel_index][k] += sum[channel_index][k];
    }
  for (int channel_index = 0; channel_index < count_channels; ++channel_index)
    for (int k = 0; k < count_registers; ++k) {
      const int64_t column = x + k * lanes<T>;
      T* to = a.out + ((channel + channel_index) * sizes.height + y) * sizes.width + column;
      if (column + lanes<T> <= sizes.width)
        store(to, total[channel_index][k]);
      else
        for (int64_t lane = 0; column + lane < sizes.width; ++lane) to[lane] = total[channel_index][k][lane];
    }
}

}  // namespace

template <typename T>
int64_t direct_gradient_tasks(const CrossCorrelationSizes& sizes) {
  return (sizes.channels + block_channels - 1) / block_channels * sizes.height;
}

template <typename T>
void direct_gradient(const DirectArguments<T>& a, int64_t begin, int64_t end) {
  const int64_t registers = (a.sizes.width + lanes<T> - 1) / lanes<T>;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t channel = task / a.sizes.height * block_channels, y = task % a.sizes.height;
    for (int64_t k = 0; k < registers; k += block_registers)
      with_constant<block_channels>(a.sizes.channels - channel, [&]<int count_channels>() {
        with_constant<block_registers>(registers - k, [&]<int count_registers>() {
          convolve_registers<T, count_channels, count_registers>(a, channel, y, k * lanes<T>);
        });
      });
  }
}

#define ASNET_INSTANTIATE(T)                                                    \
  template int64_t direct_tasks<T>(const CrossCorrelationSizes&);               \
  template int64_t direct_gradient_tasks<T>(const CrossCorrelationSizes&);      \
  template void direct_forward<T>(const DirectArguments<T>&, int64_t, int64_t); \
  template void direct_gradient<T>(const DirectArguments<T>&, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
