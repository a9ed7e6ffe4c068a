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

// A register of pixels, and of their neighbours on the left and on the right.
template <typename T>
struct Pixels {
  Vector<T> here, left, right;
};

// The first and the second register of a row of a tile. In memory, the last column of the tile on the left and the first of
// the tile on the right are elsewhere.
template <typename T>
inline void load_row(const T* from, T left, T right, Pixels<T> (&row)[2]) {
  typedef decltype(Vector<T>{} < Vector<T>{}) Mask;
  Mask first{}, last{};
  first[0] = -1;
  last[lanes<T> - 1] = -1;
  row[0] = {load(from), first ? broadcast(left) : load(from - 1), load(from + 1)};
  row[1] = {load(from + lanes<T>), load(from + lanes<T> - 1), last ? broadcast(right) : load(from + lanes<T> + 1)};
}

// conj(D) g of a tile, or conj(D) g + u on a ground; returns false if all of it is 0.
template <typename T, bool has_ground>
bool divergence(const LatentArguments<T>& a, Vector<T> threshold, int64_t tile, T* to) {
  const int64_t size = a.height * complex_size<T>, first = tile * complex_size<T>, end = first + complex_size<T>;
  const auto column = [&](int64_t x) { return a.image + x / complex_size<T> * size + x % complex_size<T>; };
  const T* const image = column(first);
  const T* const left = column(first > 0 ? first - 1 : a.width - 1);
  const T* const right = column(end < a.width ? end : end % a.width);
  const auto row = [&](int64_t y, Pixels<T>(&pixels)[2]) {
    const int64_t at = y * complex_size<T>;
    load_row(image + at, left[at], right[at], pixels);
  };
  Pixels<T> here[2], below[2];
  Vector<T> kept_above[2];
  decltype(Vector<T>{} != Vector<T>{}) any{};
  row(a.height - 1, below);
  row(0, here);
  for (int half = 0; half < 2; ++half)
    kept_above[half] = KeptGradient<T>(below[half].here, below[half].right, here[half].here, threshold).vertical;
  for (int64_t y = 0; y < a.height; ++y, to += complex_size<T>) {
    row(y + 1 < a.height ? y + 1 : 0, below);
    for (int half = 0; half < 2; ++half) {
      const KeptGradient<T> kept(here[half].here, here[half].right, below[half].here, threshold);
      const KeptGradient<T> kept_left(here[half].left, here[half].here, below[half].left, threshold);
      Vector<T> sum = kept_left.horizontal - kept.horizontal + kept_above[half] - kept.vertical;
      if constexpr (has_ground) {
        const Vector<T> difference = here[half].here - *a.ground;
        sum += difference * difference >= threshold ? here[half].here : broadcast(*a.ground);
      }
      store(to + half * lanes<T>, sum);
      any |= sum != Vector<T>{};
      kept_above[half] = kept.vertical;
      here[half] = below[half];
    }
  }
  for (int64_t lane = 0; lane < lanes<T>; ++lane)
    if (any[lane]) return true;
  return false;
}

}  // namespace

template <typename T>
int64_t latent_lanes() {
  return lanes<T>;
}

template <typename T>
void image_to_columns(const LatentArguments<T>& a, T* spectra, T* scratch, int64_t begin, int64_t end) {
  const int64_t size = a.height * complex_size<T>;
  for (int64_t tile = begin; tile < end; ++tile) {
    __builtin_memcpy(scratch, a.image + tile * size, size * sizeof(T));
    columns_to_spectra(a.fft_y, scratch, spectra + tile * 2 * lanes<T> * complex_size<T>, a.block);
  }
}

template <typename T>
void divergence_to_columns(const LatentArguments<T>& a, T threshold, T* scratch, int64_t begin, int64_t end) {
  for (int64_t tile = begin; tile < end; ++tile) {
    T* const to = a.gradients + tile * 2 * lanes<T> * complex_size<T>;
    // Few gradients are kept in the first steps.
    if (a.ground ? divergence<T, true>(a, broadcast(threshold), tile, scratch)
                 : divergence<T, false>(a, broadcast(threshold), tile, scratch))
      columns_to_spectra(a.fft_y, scratch, to, a.block);
    else
      for (int64_t first = 0, at = 0; first <= a.height / 2; first += lanes<T>, at += a.block)
        __builtin_memset(to + at, 0, 2 * lanes<T> * complex_size<T> * sizeof(T));
  }
}

template <typename T>
void columns_to_image(const LatentArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const T scale = inverse_scale(a);
  const int64_t size = a.height * complex_size<T>;
  for (int64_t tile = begin; tile < end; ++tile) {
    const T* z = spectra_to_columns(a.fft_y, a.gradients + tile * 2 * lanes<T> * complex_size<T>, a.block, scratch);
    T* const to = a.image + tile * size;
    for (int64_t at = 0; at < size; at += lanes<T>) store(to + at, load(z + at) * scale);
  }
}

template <typename T>
void predicted_to_observed(const LatentArguments<T>& a, bool at_the_end, T* scratch, int64_t begin, int64_t end) {
  const T scale = inverse_scale(a);
  const int64_t size = a.height * complex_size<T>;
  for (int64_t tile = begin; tile < end; ++tile) {
    T* const spectra = a.observed + tile * 2 * lanes<T> * complex_size<T>;
    const T* z = spectra_to_columns(a.fft_y, spectra, a.block, scratch);
    const T *lowest = a.lowest + tile * size, *highest = a.highest + tile * size;
    const bool* limited = a.limited + tile * a.height;
    T* const to = at_the_end ? a.image + tile * size : scratch;
    for (int64_t y = 0; y < a.height; ++y)
      for (int64_t at = y * complex_size<T>; at < (y + 1) * complex_size<T>; at += lanes<T>) {
        Vector<T> pixels = load(lowest + at);
        if (limited[y]) pixels = larger<T>(smaller<T>(load(z + at) * scale, load(highest + at)), pixels);
        store(to + at, pixels);
      }
    if (!at_the_end) columns_to_spectra(a.fft_y, scratch, spectra, a.block);
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

#define ASNET_INSTANTIATE(T)                                                                     \
  template int64_t latent_lanes<T>();                                                            \
  template void image_to_columns<T>(const LatentArguments<T>&, T*, T*, int64_t, int64_t);        \
  template void divergence_to_columns<T>(const LatentArguments<T>&, T, T*, int64_t, int64_t);    \
  template void columns_to_image<T>(const LatentArguments<T>&, T*, int64_t, int64_t);            \
  template void predicted_to_observed<T>(const LatentArguments<T>&, bool, T*, int64_t, int64_t); \
  template void transfer_spectra<T>(const LatentArguments<T>&, T*, int64_t, int64_t);            \
  template void latent_spectra<T>(const LatentArguments<T>&, T, Observed, T*, int64_t, int64_t);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
