// The spectral method, from top to bottom in the order of execution. Forward: columns_to_spectra, then for every block of
// vertical frequencies tiles_to_spectra, pair_products, pairs_to_lags. Gradient: columns_to_spectra, then for every block
// tiles_to_spectra, lags_to_pairs, pair_products_gradient, spectra_to_tiles, and last spectra_to_columns.
#include "cpu/cross_correlation_kernels.h"
#include "cpu/fft.h"
#include "cpu/vector.h"

namespace asnet::ASNET_ISA {
namespace {

template <typename T>
inline void copy_complex(T* to, const T* from, int64_t count) {
  __builtin_memcpy(to, from, count * complex_size<T> * sizeof(T));
}

template <typename T>
inline void clear_complex(T* to, int64_t count) {
  __builtin_memset(to, 0, count * complex_size<T> * sizeof(T));
}

inline int64_t remainder(int64_t value, int64_t period) {
  const int64_t rest = value % period;
  return rest < 0 ? rest + period : rest;
}

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Columns x .. x + lanes of row y of a map; outside of it zeros or the opposite side.
template <typename T>
inline Vector<T> load_pixels(const SpectralArguments<T>& a, const T* map, int64_t y, int64_t x) {
  const int64_t width = a.sizes.width, height = a.sizes.height;
  if (y < 0 || y >= height) {
    if (!a.sizes.circular) return Vector<T>{};
    y = remainder(y, height);
  }
  const T* row = map + y * width;
  if (x >= 0 && x + lanes<T> <= width) return load(row + x);
  Vector<T> pixels{};
  for (int64_t lane = 0; lane < lanes<T>; ++lane) {
    const int64_t column = x + lane;
    if (column >= 0 && column < width)
      pixels[lane] = row[column];
    else if (a.sizes.circular)
      pixels[lane] = row[remainder(column, width)];
  }
  return pixels;
}

// Rows first .. first + count - 1 of a map as the real or imaginary part of values, which start at `to`.
template <typename T>
void load_column(const SpectralArguments<T>& a, const T* map, int64_t first, int64_t count, int64_t x, T* to) {
  for (int64_t row = 0; row < count; ++row)
    store(to + row * complex_size<T>, load_pixels(a, map, first + row, x));
}

// A task of the transforms along columns: the sequences 2m and 2m + 1 of one register of columns.
struct ColumnTask {
  int64_t first_sequence, column;
  bool second;
};

template <typename T>
ColumnTask column_task(const SpectralArguments<T>& a, int64_t task) {
  const int64_t registers = a.columns_per_sequence / lanes<T>, first = task / registers * 2;
  return {first, task % registers * lanes<T>, first + 1 < a.sequences()};
}

}  // namespace

template <typename T>
int64_t register_lanes() {
  return lanes<T>;
}

template <typename T>
int64_t column_tasks(const SpectralArguments<T>& a) {
  return (a.sequences() + 1) / 2 * (a.columns_per_sequence / lanes<T>);
}

// Two real sequences travel as real and imaginary part: Z = A + iB. The spectra are left twice too large.
template <typename T>
void columns_to_spectra(const SpectralArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const int64_t size = a.spectral.size_y, frequencies = a.spectral.frequencies_y(), map_size = a.sizes.height * a.sizes.width;
  const bool halo_only = a.spectral.whole_y || a.gradient;
  const int64_t margin = a.margin_y();
  for (int64_t index = begin; index < end; ++index) {
    const ColumnTask task = column_task(a, index);
    const int64_t x = a.x - a.margin_x() + task.column;
    clear_complex(scratch, size);
    if (halo_only) {
      const T* map = a.features + task.first_sequence * map_size;
      load_column(a, map, a.y - margin, a.rows + 2 * margin, x, scratch);
      if (task.second) load_column(a, map + map_size, a.y - margin, a.rows + 2 * margin, x, scratch + lanes<T>);
    } else {
      const T* map = a.features + task.first_sequence / 2 * map_size;
      load_column(a, map, a.y, a.rows, x, scratch + margin * complex_size<T>);
      load_column(a, map, a.y - margin, a.rows + 2 * margin, x, scratch + lanes<T>);
    }
    const T* z = fft<T, false>(a.fft_y, scratch, scratch + size * complex_size<T>);

    for (int64_t block = 0; block * lanes<T> < frequencies; ++block) {
      Vector<T> parts[4][lanes<T>];  // real and imaginary part of A, then of B
      for (int64_t lane = 0; lane < lanes<T>; ++lane) {
        const int64_t ky = block * lanes<T> + lane;
        const bool inside = ky < frequencies;
        const Complex<T> plus = inside ? load_complex(z + ky * complex_size<T>) : Complex<T>{};
        const Complex<T> minus = inside ? load_complex(z + (ky ? size - ky : 0) * complex_size<T>) : Complex<T>{};
        parts[0][lane] = plus.re + minus.re;
        parts[1][lane] = plus.im - minus.im;
        parts[2][lane] = plus.im + minus.im;
        parts[3][lane] = minus.re - plus.re;
      }
      T* to = a.columns + ((block * a.sequences() + task.first_sequence) * a.columns_per_sequence + task.column) * complex_size<T>;
      for (int64_t sequence = 0; sequence <= task.second; ++sequence, to += a.columns_per_sequence * complex_size<T>) {
        transpose<T>(parts[2 * sequence]);
        transpose<T>(parts[2 * sequence + 1]);
        for (int64_t column = 0; column < lanes<T>; ++column)
          store_complex(to + column * complex_size<T>, Complex<T>{parts[2 * sequence][column], parts[2 * sequence + 1][column]});
      }
    }
  }
}

template <typename T>
void tiles_to_spectra(const SpectralArguments<T>& a, int64_t block, T* scratch, int64_t begin, int64_t end) {
  const SpectralSizes& spectral = a.spectral;
  const int64_t size = spectral.size_x, margin = a.margin_x(), channels = a.sizes.channels, spectra = a.spectra_per_channel();
  const int64_t stride = tiles_spectra_stride(a, lanes<T>);
  const int64_t halo_sequence = spectral.whole_y || a.gradient ? 0 : 1;  // 1: the core and the halo of strips alternate
  for (int64_t task = begin; task < end; ++task) {
    const int64_t tile = task / channels, channel = task % channels;
    const int64_t core = least(spectral.core_x, a.sizes.width - a.x - tile * spectral.core_x);
    for (int64_t spectrum = 0; spectrum < spectra; ++spectrum) {
      const bool is_core = spectra == 2 && spectrum == 0;
      const int64_t sequence = channel * (1 + halo_sequence) + (is_core ? 0 : halo_sequence);
      const int64_t skipped = is_core ? margin : 0, count = is_core ? core : core + 2 * margin;
      const T* from = a.columns + ((block * a.sequences() + sequence) * a.columns_per_sequence + tile * spectral.core_x) * complex_size<T>;
      clear_complex(scratch, skipped);
      copy_complex(scratch + skipped * complex_size<T>, from + skipped * complex_size<T>, count);
      clear_complex(scratch + (skipped + count) * complex_size<T>, size - skipped - count);
      const T* result = fft<T, false>(a.fft_x, scratch, scratch + size * complex_size<T>);
      T* to = a.tiles_spectra + (task * spectra + spectrum) * complex_size<T>;
      for (int64_t kx = 0; kx < size; ++kx) copy_complex(to + kx * stride, result + kx * complex_size<T>, 1);
    }
  }
}

namespace {

// sum[i][j] += core_j conj(halo_i) over the tiles
template <typename T, int count_i, int count_j>
inline void accumulate_products(const T* halo_i, const T* core_j, int64_t channel_stride, int64_t tiles, int64_t tile_stride,
                                T* const (&to)[count_i][count_j]) {
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
            accumulate_products<T, count_i, count_j>(halo + i0 * channel_stride, core + j0 * channel_stride, channel_stride, a.tiles,
                                                     tile_stride, to);
          });
        });
  }
}

// Inverse transform along kx of which the lags are kept, then this block's part of the inverse transform along ky: a product
// with cosines (even part in t) and sines (odd part).
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
          // From zero: a long sum of single terms loses digits at the peak of an autocorrelation, where all are positive.
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
  const int64_t size = a.spectral.size_x, lags = a.sizes.lags_x(), row = a.window_row, stride = pairs_spectra_stride(a, lanes<T>);
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
          // Lags beyond half the period of a whole tile share a place with others.
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
    for (int tile = 0; tile < count_tiles; ++tile) store_complex(to + tile * tile_stride + a * complex_size<T>, sum[a][tile]);
}

}  // namespace

// The spectra of the tiles are replaced by those of their gradients.
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

template <typename T>
void spectra_to_tiles(const SpectralArguments<T>& a, int64_t block, T* scratch, int64_t begin, int64_t end) {
  const int64_t size = a.spectral.size_x, margin = a.margin_x(), channels = a.sizes.channels;
  const int64_t stride = tiles_spectra_stride(a, lanes<T>);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t tile = task / channels, channel = task % channels;
    const int64_t core = least(a.spectral.core_x, a.sizes.width - a.x - tile * a.spectral.core_x);
    const T* from = a.tiles_spectra + task * complex_size<T>;
    for (int64_t kx = 0; kx < size; ++kx) copy_complex(scratch + kx * complex_size<T>, from + kx * stride, 1);
    const T* result = fft<T, true>(a.fft_x, scratch, scratch + size * complex_size<T>);
    T* to = a.columns +
            ((block * channels + channel) * a.columns_per_sequence + tile * a.spectral.core_x + margin) * complex_size<T>;
    copy_complex(to, result + margin * complex_size<T>, core);
  }
}

template <typename T>
void spectra_to_columns(const SpectralArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const int64_t size = a.spectral.size_y, frequencies = a.spectral.frequencies_y(), map_size = a.sizes.height * a.sizes.width;
  const int64_t last_x = least(a.sizes.width, a.x + a.tiles * a.spectral.core_x);
  const T scale = T(1) / T(2 * size * a.spectral.size_x);  // 2: columns_to_spectra
  for (int64_t index = begin; index < end; ++index) {
    const ColumnTask task = column_task(a, index);
    const int64_t x = a.x - a.margin_x() + task.column;
    for (int64_t block = 0; block * lanes<T> < frequencies; ++block) {
      Vector<T> parts[4][lanes<T>];
      const T* from = a.columns + ((block * a.sequences() + task.first_sequence) * a.columns_per_sequence + task.column) * complex_size<T>;
      for (int64_t sequence = 0; sequence < 2; ++sequence, from += a.columns_per_sequence * complex_size<T>) {
        for (int64_t column = 0; column < lanes<T>; ++column) {
          const Complex<T> value = sequence <= task.second ? load_complex(from + column * complex_size<T>) : Complex<T>{};
          parts[2 * sequence][column] = value.re;
          parts[2 * sequence + 1][column] = value.im;
        }
        transpose<T>(parts[2 * sequence]);
        transpose<T>(parts[2 * sequence + 1]);
      }
      for (int64_t lane = 0; lane < lanes<T> && block * lanes<T> + lane < frequencies; ++lane) {
        const int64_t ky = block * lanes<T> + lane;
        const Complex<T> first{parts[0][lane], parts[1][lane]}, second{parts[2][lane], parts[3][lane]};
        if (ky > 0) {
          const Complex<T> conjugate{first.re, Vector<T>{} - first.im}, second_conjugate{second.re, Vector<T>{} - second.im};
          store_complex(scratch + (size - ky) * complex_size<T>, add_i_times(conjugate, second_conjugate));
        }
        store_complex(scratch + ky * complex_size<T>, add_i_times(first, second));
      }
    }
    const T* z = fft<T, true>(a.fft_y, scratch, scratch + size * complex_size<T>) + a.margin_y() * complex_size<T>;
    for (int64_t sequence = 0; sequence <= task.second; ++sequence) {
      T* map = a.image + (task.first_sequence + sequence) * map_size;
      for (int64_t row = 0; row < a.rows; ++row) {
        const Vector<T> pixels = load(z + row * complex_size<T> + sequence * lanes<T>) * scale;
        T* to = map + (a.y + row) * a.sizes.width + x;
        if (x >= a.x && x + lanes<T> <= last_x)
          store(to, pixels);
        else
          for (int64_t lane = 0; lane < lanes<T>; ++lane)
            if (x + lane >= a.x && x + lane < last_x) to[lane] = pixels[lane];
      }
    }
  }
}

#define ASNET_INSTANTIATE(T)                                                                                      \
  template int64_t register_lanes<T>();                                                                           \
  template int64_t column_tasks<T>(const SpectralArguments<T>&);                                                  \
  template void columns_to_spectra<T>(const SpectralArguments<T>&, T*, int64_t, int64_t);                         \
  template void spectra_to_columns<T>(const SpectralArguments<T>&, T*, int64_t, int64_t);                         \
  template void tiles_to_spectra<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t);                  \
  template void spectra_to_tiles<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t);                  \
  template void pairs_to_lags<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t);                     \
  template void lags_to_pairs<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t);                     \
  template void pair_products<T>(const SpectralArguments<T>&, int64_t, int64_t);                                  \
  template void pair_products_gradient<T>(const SpectralArguments<T>&, T*, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
