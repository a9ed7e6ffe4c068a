#include "toeplitz_solve/cpu/toeplitz_solve_kernels.h"

#include "common/cpu/fft_pairs.h"
#include "common/cpu/vector.h"
#include "toeplitz_solve/toeplitz_solve_quotient.h"

namespace asnet::ASNET_ISA {
namespace {

template <typename T>
void clear(T* to, int64_t count) {
  __builtin_memset(to, 0, count * sizeof(T));
}

template <typename T>
int64_t blocks(const ToeplitzArguments<T>& a) {
  return (a.fft.size / 2 + lanes<T>) / lanes<T>;
}

template <typename T>
void place_lags(const ToeplitzArguments<T>& a) {
  const int64_t length = a.fft.size, side = 2 * a.size - 1;
  for (int64_t x = 0; x < length; x += 2 * lanes<T>) {
    clear(a.scratch, length * complex_size<T>);
    for (int64_t y = 0; y < side; ++y)
      for (int64_t lane = 0; lane < 2 * lanes<T> && x + lane < length; ++lane) {
        // Lag 0 is in the middle of `lags`, but at the origin here.
        const int64_t column = (x + lane + a.size - 1) % length;
        if (column < side)
          a.scratch[(y + length + 1 - a.size) % length * complex_size<T> + lane] = a.lags[y * side + column];
      }
    columns_to_spectra(a.fft, a.scratch, a.spectra + x * complex_size<T>, a.block);
  }
  // 1/4: both functions of cpu/fft_pairs.h return twice the spectrum.
  const T scale = T(1) / T(4 * length * length);
  for (int64_t block = 0; block < blocks(a); ++block) {
    const T* spectrum = fft<T, false>(a.fft, a.spectra + block * a.block, a.scratch);
    T* to = a.response + block * length * lanes<T>;
    for (int64_t kx = 0; kx < length; ++kx) store(to + kx * lanes<T>, load(spectrum + kx * complex_size<T>) * scale);
  }
}

// product = allowed * (A + w I) image
template <typename T>
void apply(const ToeplitzArguments<T>& a, const T* image, T* product) {
  const int64_t length = a.fft.size;
  for (int64_t x = 0; x < a.row; x += 2 * lanes<T>) {
    for (int64_t y = 0; y < a.size; ++y) {
      const T* from = image + y * a.row + x;
      store_complex(a.scratch + y * complex_size<T>, Complex<T>{load(from), load(from + lanes<T>)});
    }
    clear(a.scratch + a.size * complex_size<T>, (length - a.size) * complex_size<T>);
    columns_to_spectra(a.fft, a.scratch, a.spectra + x * complex_size<T>, a.block);
  }
  for (int64_t block = 0; block < blocks(a); ++block) {
    T* const home = a.spectra + block * a.block;
    if (a.row < length) clear(home + a.row * complex_size<T>, (length - a.row) * complex_size<T>);
    T* const spectrum = fft<T, false>(a.fft, home, a.scratch);
    const T* response = a.response + block * length * lanes<T>;
    for (int64_t kx = 0; kx < length; ++kx) {
      const Vector<T> factor = load(response + kx * lanes<T>);
      T* const value = spectrum + kx * complex_size<T>;
      const Complex<T> z = load_complex(value);
      store_complex(value, Complex<T>{z.re * factor, z.im * factor});
    }
    // The same number of stages as before, so the result is back in its block.
    fft<T, true>(a.fft, spectrum, spectrum == home ? a.scratch : home);
  }
  for (int64_t x = 0; x < a.row; x += 2 * lanes<T>) {
    const T* columns = spectra_to_columns(a.fft, a.spectra + x * complex_size<T>, a.block, a.scratch);
    for (int64_t y = 0; y < a.size; ++y)
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t at = y * a.row + x + half * lanes<T>;
        const Vector<T> sum = load(columns + y * complex_size<T> + half * lanes<T>) + load(image + at) * a.weight;
        store(product + at, sum * load(a.allowed + at));
      }
  }
}

template <typename T>
double dot(const ToeplitzArguments<T>& a, const T* first, const T* second) {
  double sum = 0;
  for (int64_t y = 0; y < a.size; ++y) {
    Vector<T> of_row{};
    for (int64_t x = y * a.row; x < (y + 1) * a.row; x += lanes<T>) of_row += load(first + x) * load(second + x);
    sum += sum_of_lanes<T>(of_row);
  }
  return sum;
}

// to = one + factor * other
template <typename T>
void combine(const ToeplitzArguments<T>& a, const T* one, T factor, const T* other, T* to) {
  for (int64_t at = 0; at < a.size * a.row; at += lanes<T>) store(to + at, load(one + at) + load(other + at) * factor);
}

}  // namespace

template <typename T>
int64_t toeplitz_lanes() {
  return lanes<T>;
}

template <typename T>
void toeplitz_solve(const ToeplitzArguments<T>& a) {
  place_lags(a);
  const double pixels = dot(a, a.allowed, a.allowed);
  clear(a.solution, a.size * a.row);
  combine(a, a.solution, static_cast<T>(1 / (pixels > 1 ? pixels : 1)), a.allowed, a.solution);
  apply(a, a.solution, a.product);
  for (int64_t at = 0; at < a.size * a.row; at += lanes<T>)
    store(a.residual + at, load(a.residual + at) * load(a.allowed + at) - load(a.product + at));
  __builtin_memcpy(a.direction, a.residual, a.size * a.row * sizeof(T));
  double energy = dot(a, a.residual, a.residual);
  for (int64_t number = 0; number < a.steps; ++number) {
    apply(a, a.direction, a.product);
    const T step = quotient_of_sums<T>(energy, dot(a, a.direction, a.product));
    combine(a, a.solution, step, a.direction, a.solution);
    combine(a, a.residual, -step, a.product, a.residual);
    const double left = dot(a, a.residual, a.residual);
    combine(a, a.residual, quotient_of_sums<T>(left, energy), a.direction, a.direction);
    energy = left;
  }
}

#define ASNET_INSTANTIATE(T)            \
  template int64_t toeplitz_lanes<T>(); \
  template void toeplitz_solve<T>(const ToeplitzArguments<T>&);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(double)

}  // namespace asnet::ASNET_ISA
