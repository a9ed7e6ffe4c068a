// Spectral method: products of tile spectra for each pair, and the windows of lags computed from them (for the gradient:
// from which they are computed). The order of execution is in cross_correlation_spectral_tiles_kernels.cpp.
#include "common/cpu/fft.h"
#include "common/cpu/vector.h"
#include "cross_correlation/cpu/cross_correlation_kernels.h"
#include "cross_correlation/cpu/cross_correlation_spectral.h"

namespace asnet::ASNET_ISA {
namespace {

// sum[i][j] += core_j conj(halo_i) over the tiles
template <typename T, int count_i, int count_j>
inline void accumulate_products(const T* halo_i, const T* core_j, int64_t channel_stride, int64_t tiles,
                                int64_t tile_stride, T* const (&to)[count_i][count_j]) {
  Complex<T> sum[count_i][count_j] = {};
  for (int64_t tile = 0; tile < tiles; ++tile, halo_i += tile_stride, core_j += tile_stride) {
    Complex<T> halo[count_i];
#pragma GCC unroll 4
    for (int i = 0; i < count_i; ++i) halo[i] = load_complex(halo_i + i * channel_stride);
#pragma GCC unroll 4
    for (int j = 0; j < count_j; ++j) {
      const Complex<T> core = load_complex(core_j + j * channel_stride);
#pragma GCC unroll 4
      for (int i = 0; i < count_i; ++i) {
        sum[i][j].re += core.re * halo[i].re;
        sum[i][j].im += core.im * halo[i].re;
        sum[i][j].re += core.im * halo[i].im;
        sum[i][j].im -= core.re * halo[i].im;
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < count_i; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < count_j; ++j)
      if (to[i][j]) store_complex(to[i][j], sum[i][j]);
}

inline constexpr int block_i = many_registers ? 3 : 2;
inline constexpr int block_j = many_registers ? 4 : 2;

}  // namespace

template <typename T>
void pair_products(const SpectralArguments<T>& a, int64_t begin, int64_t end) {
  const int64_t channels = a.sizes.channels, spectra = a.spectra_per_channel();
  const int64_t channel_stride = spectra * complex_size<T>, tile_stride = channels * channel_stride;
  const int64_t pair_stride = pairs_spectra_stride(a, lanes<T>);
  for (int64_t kx = begin; kx < end; ++kx) {
    const T* core = a.tiles_spectra + kx * tiles_spectra_stride(a, lanes<T>);
    const T* halo = core + (spectra - 1) * complex_size<T>;
    T* sums = a.pairs_spectra + kx * complex_size<T>;
    for (int64_t i0 = 0; i0 < channels; i0 += block_i)
      for (int64_t j0 = i0; j0 < channels; j0 += block_j)
        with_constant<block_i>(channels - i0, [&]<int count_i>() {
          with_constant<block_j>(channels - j0, [&]<int count_j>() {
            T* to[count_i][count_j];
            for (int i = 0; i < count_i; ++i)
              for (int j = 0; j < count_j; ++j)
                to[i][j] = i0 + i <= j0 + j ? sums + pair_index(i0 + i, j0 + j, channels) * pair_stride : nullptr;
            accumulate_products<T, count_i, count_j>(halo + i0 * channel_stride, core + j0 * channel_stride, channel_stride,
                                                     a.tiles, tile_stride, to);
          });
        });
  }
}

// Inverse transform along kx, of which only the lags are kept, then this block's share of the inverse transform along ky: a
// product with cosines (even part in t) and sines (odd part).
template <typename T>
void pairs_to_lags(const SpectralArguments<T>& a, int64_t block, T* scratch, int64_t begin, int64_t end) {
  constexpr int unroll = 8;
  const int64_t size = a.spectral.size_x, lags = a.sizes.lags_x(), row = a.window_row;
  const T* waves = a.waves + block * lanes<T> * 2 * row;
  for (int64_t pair = begin; pair < end; ++pair) {
    copy_complex(scratch, a.pairs_spectra + pair * pairs_spectra_stride(a, lanes<T>), size);
    const T* correlation = fft<T, true>(a.fft_x, scratch, scratch + size * complex_size<T>);
    for (int64_t s0 = 0; s0 < lags; s0 += unroll)
      with_constant<unroll>(lags - s0, [&]<int count>() {
        const T* values[count];
        for (int s = 0; s < count; ++s) values[s] = correlation + remainder(s0 + s - a.sizes.lag_x, size) * complex_size<T>;
        T* window = a.window + (pair * lags + s0) * 2 * row;
        for (int64_t t = 0; t < 2 * row; t += lanes<T>) {
          const int64_t part = t < row ? 0 : lanes<T>;
          // A partial sum from zero: a long running sum loses digits at the peak of an autocorrelation, where all terms are
          // positive.
          Vector<T> sum[count] = {};
          for (int64_t lane = 0; lane < lanes<T>; ++lane) {
            const Vector<T> wave = load(waves + lane * 2 * row + t);
#pragma GCC unroll 8
            for (int s = 0; s < count; ++s) sum[s] += wave * values[s][part + lane];
          }
#pragma GCC unroll 8
          for (int s = 0; s < count; ++s) store(window + s * 2 * row + t, load(window + s * 2 * row + t) + sum[s]);
        }
      });
  }
}

// The transpose of pairs_to_lags: spectra of the gradient's windows.
template <typename T>
void lags_to_pairs(const SpectralArguments<T>& a, int64_t block, T* scratch, int64_t begin, int64_t end) {
  constexpr int unroll = 8;
  const int64_t size = a.spectral.size_x, lags = a.sizes.lags_x(), row = a.window_row,
                stride = pairs_spectra_stride(a, lanes<T>);
  const T* waves = a.waves + block * row * complex_size<T>;
  for (int64_t pair = begin; pair < end; ++pair) {
    clear_complex(scratch, size);
    for (int64_t s0 = 0; s0 < lags; s0 += unroll)
      with_constant<unroll>(lags - s0, [&]<int count>() {
        const T* window = a.window + (pair * lags + s0) * 2 * row;
        Complex<T> sum[count] = {};
        for (int64_t t = 0; t <= a.sizes.lag_y; ++t) {
          const Complex<T> wave = load_complex(waves + t * complex_size<T>);
#pragma GCC unroll 8
          for (int s = 0; s < count; ++s) {
            sum[s].re += wave.re * window[s * 2 * row + t];
            sum[s].im -= wave.im * window[s * 2 * row + row + t];
          }
        }
        for (int s = 0; s < count; ++s) {
          // In a whole tile, lags beyond half the period share a place with others.
          T* place = scratch + remainder(s0 + s - a.sizes.lag_x, size) * complex_size<T>;
          store_complex(place, load_complex(place) + sum[s]);
        }
      });
    const T* result = fft<T, false>(a.fft_x, scratch, scratch + size * complex_size<T>);
    T* to = a.pairs_spectra + pair * complex_size<T>;
    for (int64_t kx = 0; kx < size; ++kx) copy_complex(to + kx * stride, result + kx * complex_size<T>, 1);
  }
}

namespace {

// Spectra of K_ab for the channels a of a block and all b, as [b][a].
template <typename T>
void gather_weights(const SpectralArguments<T>& arguments, const T* pairs, int64_t a0, int64_t count, T* to) {
  const int64_t channels = arguments.sizes.channels;
  for (int64_t b = 0; b < channels; ++b)
    for (int64_t a = a0; a < a0 + count; ++a, to += complex_size<T>) {
      const Complex<T> value = load_complex(pairs + pair_index(least(a, b), a < b ? b : a, channels) * complex_size<T>);
      if (b < a)
        store_complex(to, value);
      else if (b > a)
        store_complex(to, Complex<T>{value.re, Vector<T>{} - value.im});
      else
        store_complex(to, Complex<T>{value.re + value.re, Vector<T>{}});
    }
}

inline constexpr int block_a = many_registers ? 3 : 2;
inline constexpr int block_tiles = many_registers ? 4 : 2;

template <typename T, int count_a, int count_tiles>
inline void accumulate_gradient(const T* weights, const T* spectra, int64_t channels, int64_t tile_stride, T* to) {
  Complex<T> sum[count_a][count_tiles] = {};
  for (int64_t b = 0; b < channels; ++b, weights += count_a * complex_size<T>, spectra += complex_size<T>) {
    Complex<T> weight[count_a];
#pragma GCC unroll 4
    for (int a = 0; a < count_a; ++a) weight[a] = load_complex(weights + a * complex_size<T>);
#pragma GCC unroll 4
    for (int tile = 0; tile < count_tiles; ++tile) {
      const Complex<T> value = load_complex(spectra + tile * tile_stride);
#pragma GCC unroll 4
      for (int a = 0; a < count_a; ++a) {
        sum[a][tile].re += weight[a].re * value.re;
        sum[a][tile].im += weight[a].re * value.im;
        sum[a][tile].re -= weight[a].im * value.im;
        sum[a][tile].im += weight[a].im * value.re;
      }
    }
  }
#pragma GCC unroll 4
  for (int a = 0; a < count_a; ++a)
#pragma GCC unroll 4
    for (int tile = 0; tile < count_tiles; ++tile)
      store_complex(to + tile * tile_stride + a * complex_size<T>, sum[a][tile]);
}

}  // namespace

// Replaces the spectra of the tiles by those of their gradients.
template <typename T>
void pair_products_gradient(const SpectralArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const int64_t channels = a.sizes.channels, tile_stride = channels * complex_size<T>;
  T* results = scratch + block_a * channels * complex_size<T>;
  for (int64_t kx = begin; kx < end; ++kx) {
    T* spectra = a.tiles_spectra + kx * tiles_spectra_stride(a, lanes<T>);
    const T* pairs = a.pairs_spectra + kx * pairs_spectra_stride(a, lanes<T>);
    for (int64_t a0 = 0; a0 < channels; a0 += block_a) {
      gather_weights(a, pairs, a0, least(block_a, channels - a0), scratch);
      for (int64_t tile = 0; tile < a.tiles; tile += block_tiles)
        with_constant<block_a>(channels - a0, [&]<int count_a>() {
          with_constant<block_tiles>(a.tiles - tile, [&]<int count_tiles>() {
            accumulate_gradient<T, count_a, count_tiles>(scratch, spectra + tile * tile_stride, channels, tile_stride,
                                                         results + tile * tile_stride + a0 * complex_size<T>);
          });
        });
    }
    copy_complex(spectra, results, a.tiles * channels);
  }
}

#define ASNET_INSTANTIATE(T)                                                                  \
  template void pairs_to_lags<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t); \
  template void lags_to_pairs<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t); \
  template void pair_products<T>(const SpectralArguments<T>&, int64_t, int64_t);              \
  template void pair_products_gradient<T>(const SpectralArguments<T>&, T*, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
