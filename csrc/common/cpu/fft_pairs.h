// Spectra of real sequences by complex transforms: two sequences are the real and the imaginary part of one, Z = A + iB.
// For *_kernels.cpp files only.
#pragma once

#include "common/cpu/fft.h"

namespace asnet::ASNET_ISA {

// Real and imaginary part of A, then of B, at `lanes` frequencies of `lanes` pairs of sequences. Unlike in Z, a register
// holds the frequencies of one sequence.
template <typename T>
using PairSpectra = Vector<T>[4][lanes<T>];

// 2 A and 2 B from Z of `size` values, at the frequencies from `first` to size / 2; 0 beyond.
template <typename T>
inline void split_pair(const T* z, int64_t size, int64_t first, PairSpectra<T>& spectra) {
  for (int64_t lane = 0; lane < lanes<T>; ++lane) {
    const int64_t k = first + lane;
    const bool inside = k <= size / 2;
    const Complex<T> plus = inside ? load_complex(z + k * complex_size<T>) : Complex<T>{};
    const Complex<T> minus = inside ? load_complex(z + (k ? size - k : 0) * complex_size<T>) : Complex<T>{};
    spectra[0][lane] = plus.re + minus.re;
    spectra[1][lane] = plus.im - minus.im;
    spectra[2][lane] = plus.im + minus.im;
    spectra[3][lane] = minus.re - plus.re;
  }
  for (Vector<T>(&part)[lanes<T>] : spectra) transpose<T>(part);
}

// Z from A and B: the inverse of split_pair, except for its factor of 2. Overwrites `spectra`.
template <typename T>
inline void join_pair(PairSpectra<T>& spectra, int64_t size, int64_t first, T* z) {
  for (Vector<T>(&part)[lanes<T>] : spectra) transpose<T>(part);
  for (int64_t lane = 0; lane < lanes<T> && first + lane <= size / 2; ++lane) {
    const int64_t k = first + lane;
    const Complex<T> a{spectra[0][lane], spectra[1][lane]}, b{spectra[2][lane], spectra[3][lane]};
    if (k > 0) {
      const Complex<T> conjugate_a{a.re, Vector<T>{} - a.im}, conjugate_b{b.re, Vector<T>{} - b.im};
      store_complex(z + (size - k) * complex_size<T>, add_i_times(conjugate_a, conjugate_b));
    }
    store_complex(z + k * complex_size<T>, add_i_times(a, b));
  }
}

// The spectra of a plane transformed along its columns are stored in blocks of `lanes` vertical frequencies, `block` values
// apart, each [column][re, im][lane]. The two functions below transform two registers of columns there and back. `scratch`
// has room for these columns as complex values, twice.

// `spectra` points to the first column. The result is twice the spectrum.
template <typename T>
void columns_to_spectra(const Fft<T>& plan, T* scratch, T* spectra, int64_t block) {
  const T* z = fft<T, false>(plan, scratch, scratch + plan.size * complex_size<T>);
  for (int64_t first = 0; first <= plan.size / 2; first += lanes<T>, spectra += block) {
    PairSpectra<T> pair;
    split_pair(z, plan.size, first, pair);
    T* to = spectra;
    for (int64_t part = 0; part < 4; part += 2)
      for (int64_t column = 0; column < lanes<T>; ++column, to += complex_size<T>)
        store_complex(to, Complex<T>{pair[part][column], pair[part + 1][column]});
  }
}

// Returns the columns' position in `scratch`. They are not scaled.
template <typename T>
T* spectra_to_columns(const Fft<T>& plan, const T* spectra, int64_t block, T* scratch) {
  for (int64_t first = 0; first <= plan.size / 2; first += lanes<T>, spectra += block) {
    PairSpectra<T> pair;
    const T* from = spectra;
    for (int64_t part = 0; part < 4; part += 2)
      for (int64_t column = 0; column < lanes<T>; ++column, from += complex_size<T>) {
        pair[part][column] = load(from);
        pair[part + 1][column] = load(from + lanes<T>);
      }
    join_pair(pair, plan.size, first, scratch);
  }
  return fft<T, true>(plan, scratch, scratch + plan.size * complex_size<T>);
}

}  // namespace asnet::ASNET_ISA
