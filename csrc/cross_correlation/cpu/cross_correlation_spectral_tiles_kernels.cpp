// Spectral method: transforms from maps to columns to tiles and, for the gradient, back. Order of execution:
//   forward: columns_to_spectra; then for each block of vertical frequencies tiles_to_spectra, pair_products,
//     pairs_to_lags.
//   gradient: columns_to_spectra; then for each block tiles_to_spectra, lags_to_pairs, pair_products_gradient,
//     spectra_to_tiles; finally spectra_to_columns.
#include "common/cpu/fft_pairs.h"
#include "common/cpu/vector.h"
#include "cross_correlation/cpu/cross_correlation_kernels.h"
#include "cross_correlation/cpu/cross_correlation_spectral.h"

namespace asnet::ASNET_ISA {
namespace {

// Columns x .. x + lanes of row y of a map; outside the map, zeros or the opposite side.
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

// Copies rows first .. first + count - 1 of a map into the real or imaginary parts of the values at `to`.
template <typename T>
void load_column(const SpectralArguments<T>& a, const T* map, int64_t first, int64_t count, int64_t x, T* to) {
  for (int64_t row = 0; row < count; ++row) store(to + row * complex_size<T>, load_pixels(a, map, first + row, x));
}

// A task of the transforms along columns: sequences 2m and 2m + 1 of one register of columns.
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

// Leaves twice the spectra.
template <typename T>
void columns_to_spectra(const SpectralArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const int64_t size = a.spectral.size_y, frequencies = a.spectral.frequencies_y(),
                map_size = a.sizes.height * a.sizes.width;
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
      PairSpectra<T> spectra;
      split_pair(z, size, block * lanes<T>, spectra);
      T* to = a.columns +
              ((block * a.sequences() + task.first_sequence) * a.columns_per_sequence + task.column) * complex_size<T>;
      for (int64_t sequence = 0; sequence <= task.second; ++sequence, to += a.columns_per_sequence * complex_size<T>) {
        for (int64_t column = 0; column < lanes<T>; ++column)
          store_complex(to + column * complex_size<T>,
                        Complex<T>{spectra[2 * sequence][column], spectra[2 * sequence + 1][column]});
      }
    }
  }
}

template <typename T>
void tiles_to_spectra(const SpectralArguments<T>& a, int64_t block, T* scratch, int64_t begin, int64_t end) {
  const SpectralSizes& spectral = a.spectral;
  const int64_t size = spectral.size_x, margin = a.margin_x(), channels = a.sizes.channels,
                spectra = a.spectra_per_channel();
  const int64_t stride = tiles_spectra_stride(a, lanes<T>);
  const int64_t halo_sequence = spectral.whole_y || a.gradient ? 0 : 1;  // 1: core and halo of strips alternate
  for (int64_t task = begin; task < end; ++task) {
    const int64_t tile = task / channels, channel = task % channels;
    const int64_t core = least(spectral.core_x, a.sizes.width - a.x - tile * spectral.core_x);
    for (int64_t spectrum = 0; spectrum < spectra; ++spectrum) {
      const bool is_core = spectra == 2 && spectrum == 0;
      const int64_t sequence = channel * (1 + halo_sequence) + (is_core ? 0 : halo_sequence);
      const int64_t skipped = is_core ? margin : 0, count = is_core ? core : core + 2 * margin;
      const T* from = a.columns + ((block * a.sequences() + sequence) * a.columns_per_sequence + tile * spectral.core_x) *
                                      complex_size<T>;
      clear_complex(scratch, skipped);
      copy_complex(scratch + skipped * complex_size<T>, from + skipped * complex_size<T>, count);
      clear_complex(scratch + (skipped + count) * complex_size<T>, size - skipped - count);
      const T* result = fft<T, false>(a.fft_x, scratch, scratch + size * complex_size<T>);
      T* to = a.tiles_spectra + (task * spectra + spectrum) * complex_size<T>;
      for (int64_t kx = 0; kx < size; ++kx) copy_complex(to + kx * stride, result + kx * complex_size<T>, 1);
    }
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
  const int64_t size = a.spectral.size_y, frequencies = a.spectral.frequencies_y(),
                map_size = a.sizes.height * a.sizes.width;
  const int64_t last_x = least(a.sizes.width, a.x + a.tiles * a.spectral.core_x);
  const T scale = T(1) / T(2 * size * a.spectral.size_x);  // 2: the factor of columns_to_spectra
  for (int64_t index = begin; index < end; ++index) {
    const ColumnTask task = column_task(a, index);
    const int64_t x = a.x - a.margin_x() + task.column;
    for (int64_t block = 0; block * lanes<T> < frequencies; ++block) {
      PairSpectra<T> spectra;
      const T* from = a.columns + ((block * a.sequences() + task.first_sequence) * a.columns_per_sequence + task.column) *
                                      complex_size<T>;
      for (int64_t sequence = 0; sequence < 2; ++sequence, from += a.columns_per_sequence * complex_size<T>)
        for (int64_t column = 0; column < lanes<T>; ++column) {
          const Complex<T> value = sequence <= task.second ? load_complex(from + column * complex_size<T>) : Complex<T>{};
          spectra[2 * sequence][column] = value.re;
          spectra[2 * sequence + 1][column] = value.im;
        }
      join_pair(spectra, size, block * lanes<T>, scratch);
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

#define ASNET_INSTANTIATE(T)                                                                     \
  template int64_t register_lanes<T>();                                                          \
  template int64_t column_tasks<T>(const SpectralArguments<T>&);                                 \
  template void columns_to_spectra<T>(const SpectralArguments<T>&, T*, int64_t, int64_t);        \
  template void spectra_to_columns<T>(const SpectralArguments<T>&, T*, int64_t, int64_t);        \
  template void tiles_to_spectra<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t); \
  template void spectra_to_tiles<T>(const SpectralArguments<T>&, int64_t, T*, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
