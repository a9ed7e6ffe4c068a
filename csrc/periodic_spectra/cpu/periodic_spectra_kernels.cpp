#include "periodic_spectra/cpu/periodic_spectra_kernels.h"

#include "common/cpu/fft_pairs.h"
#include "common/cpu/vector.h"
#include "common/integers.h"

namespace asnet::ASNET_ISA {
namespace {

static_assert(spectra_block % lanes<float> == 0);

// Calls function(position in the spectra, half, column of the half) for the register of vertical frequencies from `first` on,
// real parts, of every column of a tile. Its halves are the two sequences of a pair.
template <typename T, typename Function>
inline void for_columns(const SpectraArguments<T>& a, int64_t tile, int64_t first, const Function& function) {
  const int64_t within = first / spectra_block * a.block_size() + first % spectra_block;
  for (int64_t half = 0; half < 2; ++half)
    for (int64_t column = 0; column < lanes<T>; ++column) {
      const int64_t x = tile * complex_size<T> + half * lanes<T> + column;
      if (x < a.width) function(within + x * spectra_block, half, column);
    }
}

// Columns of a tile that the image has.
template <typename T>
inline int64_t columns_of(const SpectraArguments<T>& a, int64_t tile) {
  return least(a.width - tile * complex_size<T>, complex_size<T>);
}

template <typename T>
inline void clear_imaginary_parts(PairSpectra<T>& pair, int64_t lane) {
  for (int64_t part = 1; part < 4; part += 2)
    for (int64_t column = 0; column < lanes<T>; ++column) pair[part][column][lane] = 0;
}

// Blocks along rows, multiplied by `factor` unless it is null; `to` may be `from`. What is not inverse is halved, since
// transform_columns doubles.
template <typename T, bool inverse>
inline void transform_blocks(const SpectraArguments<T>& a, const T* from, const T* factor, T* to, T* scratch, int64_t begin,
                             int64_t end) {
  for (int64_t block = begin; block < end; ++block)
    for (int64_t first = 0; first < spectra_block; first += lanes<T>) {
      const int64_t start = block * a.block_size() + first;
      const T* const factors = factor ? factor + block * a.block_size() / 2 + first : nullptr;
      for (int64_t x = 0; x < a.width; ++x) {
        const T* const at = from + start + x * spectra_block;
        Complex<T> value{load(at), load(at + a.imaginary())};
        if (factors) {
          const Vector<T> scale = load(factors + x * spectra_block);
          value = {value.re * scale, value.im * scale};
        }
        store_complex(scratch + x * complex_size<T>, value);
      }
      const T* z = fft<T, inverse>(a.fft_x, scratch, scratch + a.width * complex_size<T>);
      for (int64_t x = 0; x < a.width; ++x) {
        Complex<T> value = load_complex(z + x * complex_size<T>);
        if constexpr (!inverse) value = value * T(0.5);
        T* const at = to + start + x * spectra_block;
        store(at, value.re);
        store(at + a.imaginary(), value.im);
      }
    }
}

}  // namespace

template <typename T>
int64_t spectra_tile() {
  return complex_size<T>;
}

template <typename T>
void transform_columns(const SpectraArguments<T>& a, const T* image, T* spectra, T* scratch, int64_t begin, int64_t end) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t columns = columns_of(a, tile);
    const T* from = image + tile * complex_size<T>;
    T* to = scratch;
    if (columns < complex_size<T>) __builtin_memset(scratch, 0, a.height * complex_size<T> * sizeof(T));
    for (int64_t y = 0; y < a.height; ++y, from += a.width, to += complex_size<T>)
      if (columns == complex_size<T>)
        __builtin_memcpy(to, from, complex_size<T> * sizeof(T));
      else
        for (int64_t x = 0; x < columns; ++x) to[x] = from[x];

    const T* z = fft<T, false>(a.fft_y, scratch, scratch + a.height * complex_size<T>);
    for (int64_t first = 0; first < round_up(a.height / 2 + 1, spectra_block); first += lanes<T>) {
      PairSpectra<T> pair;
      split_pair(z, a.height, first, pair);
      for_columns(a, tile, first, [&](int64_t at, int64_t half, int64_t column) {
        store(spectra + at, pair[2 * half][column]);
        store(spectra + at + a.imaginary(), pair[2 * half + 1][column]);
      });
    }
  }
}

template <typename T>
void transform_rows(const SpectraArguments<T>& a, T* spectra, T* scratch, int64_t begin, int64_t end) {
  transform_blocks<T, false>(a, spectra, nullptr, spectra, scratch, begin, end);
}

template <typename T>
void transform_rows_back(const SpectraArguments<T>& a, const T* spectra, const T* factor, T* columns, T* scratch,
                         int64_t begin, int64_t end) {
  transform_blocks<T, true>(a, spectra, factor, columns, scratch, begin, end);
}

template <typename T>
void transform_columns_back(const SpectraArguments<T>& a, const T* columns, T* image, T* scratch, int64_t begin,
                            int64_t end) {
  const T scale = T(1) / T(a.height * a.width);
  for (int64_t tile = begin; tile < end; ++tile) {
    for (int64_t first = 0; first <= a.height / 2; first += lanes<T>) {
      PairSpectra<T> pair{};
      for_columns(a, tile, first, [&](int64_t at, int64_t half, int64_t column) {
        pair[2 * half][column] = load(columns + at);
        pair[2 * half + 1][column] = load(columns + at + a.imaginary());
      });
      // Those of a real column are 0; join_pair would add them to the other column.
      if (first == 0) clear_imaginary_parts<T>(pair, 0);
      if (a.height % 2 == 0 && a.height / 2 < first + lanes<T>) clear_imaginary_parts<T>(pair, a.height / 2 - first);
      join_pair(pair, a.height, first, scratch);
    }
    const T* z = fft<T, true>(a.fft_y, scratch, scratch + a.height * complex_size<T>);
    const int64_t count = columns_of(a, tile);
    T* to = image + tile * complex_size<T>;
    for (int64_t y = 0; y < a.height; ++y, z += complex_size<T>, to += a.width)
      if (count == complex_size<T>) {
        store(to, load(z) * scale);
        store(to + lanes<T>, load(z + lanes<T>) * scale);
      } else {
        for (int64_t x = 0; x < count; ++x) to[x] = z[x] * scale;
      }
  }
}

#define ASNET_INSTANTIATE(T)                                                                                      \
  template int64_t spectra_tile<T>();                                                                             \
  template void transform_columns<T>(const SpectraArguments<T>&, const T*, T*, T*, int64_t, int64_t);             \
  template void transform_rows<T>(const SpectraArguments<T>&, T*, T*, int64_t, int64_t);                          \
  template void transform_rows_back<T>(const SpectraArguments<T>&, const T*, const T*, T*, T*, int64_t, int64_t); \
  template void transform_columns_back<T>(const SpectraArguments<T>&, const T*, T*, T*, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
