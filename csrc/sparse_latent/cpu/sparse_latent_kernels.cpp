#include "sparse_latent/cpu/sparse_latent_kernels.h"

#include "common/cpu/fft_pairs.h"
#include "common/cpu/vector.h"

namespace asnet::ASNET_ISA {
namespace {

// ---------------------------------------------------------------------------------------------------------------------
// Along columns

// Scale of both transforms of an image, and of the factor 2 of columns_to_spectra.
template <typename T>
T inverse_scale(const LatentArguments<T>& a) {
  return T(1) / T(2 * a.height * a.width);
}

template <typename T>
inline Vector<T> smaller(Vector<T> a, Vector<T> b) {
  return a < b ? a : b;
}

template <typename T>
inline Vector<T> larger(Vector<T> a, Vector<T> b) {
  return a > b ? a : b;
}

// Forward differences of a register of pixels; 0 where the sum of their squares is below the threshold.
template <typename T>
struct KeptGradient {
  Vector<T> horizontal, vertical;

  KeptGradient(Vector<T> here, Vector<T> right, Vector<T> below, Vector<T> threshold) {
    const Vector<T> across = right - here, down = below - here;
    const auto kept = across * across + down * down >= threshold;
    horizontal = kept ? across : Vector<T>{};
    vertical = kept ? down : Vector<T>{};
  }
};

// conj(D) g of columns x .. x + lanes, as one part (real or imaginary) of the values at `to`.
template <typename T>
void divergence(const LatentArguments<T>& a, Vector<T> threshold, int64_t x, T* to) {
  const T* row = a.image + x;
  const T* above = row + (a.height - 1) * a.row;
  Vector<T> here = load(row), left = load(row - 1);
  Vector<T> kept_above = KeptGradient<T>(load(above), load(above + 1), here, threshold).vertical;
  for (int64_t y = 0; y < a.height; ++y, to += complex_size<T>) {
    const T* below_row = y + 1 < a.height ? row + a.row : a.image + x;
    const Vector<T> below = load(below_row), below_left = load(below_row - 1);
    const KeptGradient<T> kept(here, load(row + 1), below, threshold), kept_left(left, here, below_left, threshold);
    store(to, kept_left.horizontal - kept.horizontal + kept_above - kept.vertical);
    kept_above = kept.vertical;
    here = below;
    left = below_left;
    row = below_row;
  }
}

}  // namespace

template <typename T>
int64_t latent_lanes() {
  return lanes<T>;
}

template <typename T>
void plane_to_columns(const LatentArguments<T>& a, const T* plane, T* spectra, T* scratch, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t x = task * 2 * lanes<T>;
    for (int64_t y = 0; y < a.height; ++y) {
      const T* from = plane + y * a.row + x;
      store_complex(scratch + y * complex_size<T>, Complex<T>{load(from), load(from + lanes<T>)});
    }
    columns_to_spectra(a.fft_y, scratch, spectra + x * complex_size<T>, a.block);
  }
}

template <typename T>
void divergence_to_columns(const LatentArguments<T>& a, T threshold, T* scratch, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t x = task * 2 * lanes<T>;
    divergence(a, broadcast(threshold), x, scratch);
    divergence(a, broadcast(threshold), x + lanes<T>, scratch + lanes<T>);
    columns_to_spectra(a.fft_y, scratch, a.gradients + x * complex_size<T>, a.block);
  }
}

template <typename T>
void columns_to_image(const LatentArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const T scale = inverse_scale(a);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t x = task * 2 * lanes<T>;
    const T* z = spectra_to_columns(a.fft_y, a.gradients + x * complex_size<T>, a.block, scratch);
    for (int64_t y = 0; y < a.height; ++y) {
      const Complex<T> pixels = load_complex(z + y * complex_size<T>) * scale;
      T* to = a.image + y * a.row + x;
      store(to, pixels.re);
      store(to + lanes<T>, pixels.im);
    }
  }
}

template <typename T>
void predicted_to_observed(const LatentArguments<T>& a, bool at_the_end, T* scratch, int64_t begin, int64_t end) {
  const T scale = inverse_scale(a);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t x = task * 2 * lanes<T>;
    const T* z = spectra_to_columns(a.fft_y, a.observed + x * complex_size<T>, a.block, scratch);
    for (int64_t y = 0; y < a.height; ++y) {
      const int64_t at = y * a.row + x;
      const Complex<T> predicted = load_complex(z + y * complex_size<T>) * scale;
      Vector<T> parts[2] = {predicted.re, predicted.im};
      for (int64_t part = 0; part < 2; ++part)
        parts[part] = larger<T>(smaller<T>(parts[part], load(a.highest + at + part * lanes<T>)),
                                load(a.lowest + at + part * lanes<T>));
      T* to = at_the_end ? a.image + at : scratch + y * complex_size<T>;
      store(to, parts[0]);
      store(to + lanes<T>, parts[1]);
    }
    if (!at_the_end) columns_to_spectra(a.fft_y, scratch, a.observed + x * complex_size<T>, a.block);
  }
}

template <typename T>
void wrap_rows(const LatentArguments<T>& a, T* plane, int64_t begin, int64_t end) {
  for (int64_t y = begin; y < end; ++y) {
    T* row = plane + y * a.row;
    row[-1] = row[a.width - 1];
    for (int64_t x = a.width; x <= a.columns; ++x) row[x] = row[x - a.width];
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Along rows. The two buffers of a transform are a block of spectra and scratch memory of the same size. A transform and
// its inverse have the same number of stages, so the result ends in the buffer in which it started.

template <typename T>
void transfer_spectra(const LatentArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; ++block) {
    T* const home = a.transfer + block * a.block;
    const T* spectrum = fft<T, false>(a.fft_x, home, scratch);
    for (int64_t at = 0; at < a.width * complex_size<T>; at += lanes<T>) store(home + at, load(spectrum + at) * T(0.5));
  }
}

template <typename T, Observed observed>
void latent_spectra(const LatentArguments<T>& a, T beta, T* scratch, int64_t begin, int64_t end) {
  T* const other_scratch = scratch + a.width * complex_size<T>;
  for (int64_t block = begin; block < end; ++block) {
    T* const home = a.gradients + block * a.block;
    T* const observed_home = a.observed + block * a.block;
    const T* transfer = a.transfer + block * a.block;
    const Vector<T> prior_y = load(a.prior_y + block * lanes<T>);
    T* const spectrum = fft<T, false>(a.fft_x, home, scratch);
    T* kept = observed_home;
    if constexpr (observed != Observed::matched) kept = fft<T, false>(a.fft_x, observed_home, other_scratch);
    T* const left = observed == Observed::image_to_matched ? observed_home : kept;

    for (int64_t kx = 0; kx < a.width; ++kx) {
      const int64_t at = kx * complex_size<T>;
      const Complex<T> k = load_complex(transfer + at), divergence = load_complex(spectrum + at);
      Complex<T> matched = load_complex(kept + at);
      if constexpr (observed != Observed::matched)
        matched = {k.re * matched.re + k.im * matched.im, k.re * matched.im - k.im * matched.re};
      const Vector<T> damping = k.re * k.re + k.im * k.im + (prior_y + a.prior_x[kx]) * beta;
      const Vector<T> inverse = T(1) / damping;
      const Complex<T> x{(divergence.re * beta + matched.re) * inverse, (divergence.im * beta + matched.im) * inverse};
      store_complex(spectrum + at, x);
      if constexpr (observed == Observed::image_to_matched) store_complex(left + at, matched);
      if constexpr (observed == Observed::image_to_predicted)
        store_complex(left + at, Complex<T>{k.re * x.re - k.im * x.im, k.re * x.im + k.im * x.re});
    }

    fft<T, true>(a.fft_x, spectrum, spectrum == home ? scratch : home);
    if constexpr (observed == Observed::image_to_predicted)
      fft<T, true>(a.fft_x, left, left == observed_home ? other_scratch : observed_home);
  }
}

template <typename T>
void latent_spectra(const LatentArguments<T>& a, T beta, Observed observed, T* scratch, int64_t begin, int64_t end) {
  switch (observed) {
    case Observed::image_to_matched: return latent_spectra<T, Observed::image_to_matched>(a, beta, scratch, begin, end);
    case Observed::matched: return latent_spectra<T, Observed::matched>(a, beta, scratch, begin, end);
    case Observed::image_to_predicted: return latent_spectra<T, Observed::image_to_predicted>(a, beta, scratch, begin, end);
  }
}

#define ASNET_INSTANTIATE(T)                                                                        \
  template int64_t latent_lanes<T>();                                                               \
  template void plane_to_columns<T>(const LatentArguments<T>&, const T*, T*, T*, int64_t, int64_t); \
  template void divergence_to_columns<T>(const LatentArguments<T>&, T, T*, int64_t, int64_t);       \
  template void columns_to_image<T>(const LatentArguments<T>&, T*, int64_t, int64_t);               \
  template void predicted_to_observed<T>(const LatentArguments<T>&, bool, T*, int64_t, int64_t);    \
  template void wrap_rows<T>(const LatentArguments<T>&, T*, int64_t, int64_t);                      \
  template void transfer_spectra<T>(const LatentArguments<T>&, T*, int64_t, int64_t);               \
  template void latent_spectra<T>(const LatentArguments<T>&, T, Observed, T*, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
