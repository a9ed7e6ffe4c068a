// Complex Fourier transforms of `lanes<T>` sequences at a time. Every value of a sequence is a pair of registers, so the
// code reads like that of one sequence and needs no shuffles. Stockham, decimation in frequency: no bit reversal.
// For *_kernels.cpp files only.
#pragma once

#include "common/cpu/fft_plan.h"
#include "common/cpu/vector.h"

namespace asnet::ASNET_ISA {

// One value of `lanes<T>` sequences. In memory: lanes<T> real parts, then lanes<T> imaginary parts.
template <typename T>
struct Complex {
  Vector<T> re, im;
};

template <typename T>
inline constexpr int64_t complex_size = 2 * lanes<T>;

template <typename T>
inline Complex<T> load_complex(const T* from) {
  return {load(from), load(from + lanes<T>)};
}

template <typename T>
inline void store_complex(T* to, Complex<T> value) {
  store(to, value.re);
  store(to + lanes<T>, value.im);
}

template <typename T>
inline Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}

template <typename T>
inline Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}

template <typename T>
inline Complex<T> operator*(Complex<T> a, T factor) {
  return {a.re * factor, a.im * factor};
}

template <typename T>
inline Complex<T> add_minus_i_times(Complex<T> a, Complex<T> b) {
  return {a.re + b.im, a.im - b.re};
}

template <typename T>
inline Complex<T> add_i_times(Complex<T> a, Complex<T> b) {
  return {a.re - b.im, a.im + b.re};
}

template <typename T>
inline void butterfly(Complex<T> (&x)[2]) {
  const Complex<T> sum = x[0] + x[1];
  x[1] = x[0] - x[1];
  x[0] = sum;
}

template <typename T>
inline void butterfly(Complex<T> (&x)[3]) {
  constexpr T half = 0.5, sine = 0.86602540378443864676;
  const Complex<T> sum = x[1] + x[2], difference = (x[1] - x[2]) * sine, middle = x[0] - sum * half;
  x[0] = x[0] + sum;
  x[1] = add_minus_i_times(middle, difference);
  x[2] = add_i_times(middle, difference);
}

template <typename T>
inline void butterfly(Complex<T> (&x)[4]) {
  const Complex<T> a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = x[1] - x[3];
  x[0] = a + c;
  x[1] = add_minus_i_times(b, d);
  x[2] = a - c;
  x[3] = add_i_times(b, d);
}

template <typename T>
inline void butterfly(Complex<T> (&x)[5]) {
  constexpr T cos1 = 0.30901699437494742410, cos2 = -0.80901699437494742410;
  constexpr T sin1 = 0.95105651629515357212, sin2 = 0.58778525229247312917;
  const Complex<T> a = x[1] + x[4], b = x[2] + x[3], c = x[1] - x[4], d = x[2] - x[3];
  const Complex<T> even1 = x[0] + a * cos1 + b * cos2, even2 = x[0] + a * cos2 + b * cos1;
  const Complex<T> odd1 = c * sin1 + d * sin2, odd2 = c * sin2 - d * sin1;
  x[0] = x[0] + a + b;
  x[1] = add_minus_i_times(even1, odd1);
  x[2] = add_minus_i_times(even2, odd2);
  x[3] = add_i_times(even2, odd2);
  x[4] = add_i_times(even1, odd1);
}

// 6 = 2 * 3: value 3 a + 2 b and frequency k take no factors between the transforms over a and b, as
// (3 a + 2 b) k / 6 = a k / 2 + b k / 3.
template <typename T>
inline void butterfly(Complex<T> (&x)[6]) {
  Complex<T> even[3] = {x[0] + x[3], x[2] + x[5], x[4] + x[1]}, odd[3] = {x[0] - x[3], x[2] - x[5], x[4] - x[1]};
  butterfly(even);
  butterfly(odd);
  x[0] = even[0];
  x[4] = even[1];
  x[2] = even[2];
  x[3] = odd[0];
  x[1] = odd[1];
  x[5] = odd[2];
}

template <typename T>
inline void butterfly(Complex<T> (&x)[8]) {
  constexpr T root = 0.70710678118654752440;
  Complex<T> even[4] = {x[0], x[2], x[4], x[6]}, odd[4] = {x[1], x[3], x[5], x[7]};
  butterfly(even);
  butterfly(odd);
  const Complex<T> first = Complex<T>{odd[1].re + odd[1].im, odd[1].im - odd[1].re} * root;
  const Complex<T> third = Complex<T>{odd[3].im - odd[3].re, Vector<T>{} - odd[3].re - odd[3].im} * root;
  x[0] = even[0] + odd[0];
  x[4] = even[0] - odd[0];
  x[1] = even[1] + first;
  x[5] = even[1] - first;
  x[2] = add_minus_i_times(even[2], odd[2]);
  x[6] = add_i_times(even[2], odd[2]);
  x[3] = even[3] + third;
  x[7] = even[3] - third;
}

// exp(-i angle) x
template <typename T>
inline Complex<T> turned(Complex<T> x, T cosine, T sine) {
  return {x.re * cosine + x.im * sine, x.im * cosine - x.re * sine};
}

template <typename T>
inline void butterfly(Complex<T> (&x)[9]) {
  // Of 40, 80 and 160 degrees.
  constexpr T cos1 = 0.76604444311897803520, cos2 = 0.17364817766693034885, cos4 = -0.93969262078590838405;
  constexpr T sin1 = 0.64278760968653932632, sin2 = 0.98480775301220805937, sin4 = 0.34202014332566873304;
  Complex<T> first[3] = {x[0], x[3], x[6]}, second[3] = {x[1], x[4], x[7]}, third[3] = {x[2], x[5], x[8]};
  butterfly(first);
  butterfly(second);
  butterfly(third);
  Complex<T> sums[3][3] = {{first[0], second[0], third[0]},
                           {first[1], turned<T>(second[1], cos1, sin1), turned<T>(third[1], cos2, sin2)},
                           {first[2], turned<T>(second[2], cos2, sin2), turned<T>(third[2], cos4, sin4)}};
  for (int c = 0; c < 3; ++c) {
    butterfly(sums[c]);
    for (int d = 0; d < 3; ++d) x[c + 3 * d] = sums[c][d];
  }
}

// One butterfly of a stage: inputs are `distance` apart, outputs `stride`. The inverse swaps real and imaginary parts.
template <typename T, int radix, bool inverse, bool twisted>
__attribute__((always_inline)) inline void fft_step(const T* from, T* to, int64_t distance, int64_t stride,
                                                    const T* twiddle) {
  constexpr int64_t re = inverse ? lanes<T> : 0, im = inverse ? 0 : lanes<T>;
  Complex<T> x[radix];
#pragma GCC unroll 9
  for (int k = 0; k < radix; ++k) {
    const T* value = from + k * distance * complex_size<T>;
    x[k] = {load(value + re), load(value + im)};
  }
  butterfly(x);
#pragma GCC unroll 9
  for (int k = 0; k < radix; ++k) {
    T* value = to + k * stride * complex_size<T>;
    if (twisted && k > 0) {
      const T cosine = twiddle[2 * k - 2], sine = twiddle[2 * k - 1];
      x[k] = {x[k].re * cosine - x[k].im * sine, x[k].re * sine + x[k].im * cosine};
    }
    store(value + re, x[k].re);
    store(value + im, x[k].im);
  }
}

template <typename T, int radix, bool inverse>
const T* fft_stage(const T* from, T* to, int64_t butterflies, int64_t stride, const T* twiddles) {
  const int64_t distance = butterflies * stride;
  for (int64_t q = 0; q < stride; ++q)
    fft_step<T, radix, inverse, false>(from + q * complex_size<T>, to + q * complex_size<T>, distance, stride, twiddles);
  for (int64_t p = 1; p < butterflies; ++p) {
    const T* twiddle = twiddles + p * 2 * (radix - 1);
    for (int64_t q = 0; q < stride; ++q)
      fft_step<T, radix, inverse, true>(from + (q + stride * p) * complex_size<T>,
                                        to + (q + stride * radix * p) * complex_size<T>, distance, stride, twiddle);
  }
  return twiddles + butterflies * 2 * (radix - 1);
}

// Transforms plan.size values at `data` and returns the buffer that holds the result. Both buffers have plan.size values.
// Neither direction divides by the size.
template <typename T, bool inverse>
T* fft(const Fft<T>& plan, T* data, T* other) {
  int64_t butterflies = plan.size, stride = 1;
  const T* twiddles = plan.twiddles;
  for (int64_t stage = 0; stage < plan.stages; ++stage) {
    const int32_t radix = plan.radix[stage];
    butterflies /= radix;
    switch (radix) {
      case 2: twiddles = fft_stage<T, 2, inverse>(data, other, butterflies, stride, twiddles); break;
      case 3: twiddles = fft_stage<T, 3, inverse>(data, other, butterflies, stride, twiddles); break;
      case 4: twiddles = fft_stage<T, 4, inverse>(data, other, butterflies, stride, twiddles); break;
      case 5: twiddles = fft_stage<T, 5, inverse>(data, other, butterflies, stride, twiddles); break;
      case 6: twiddles = fft_stage<T, 6, inverse>(data, other, butterflies, stride, twiddles); break;
      case 9: twiddles = fft_stage<T, 9, inverse>(data, other, butterflies, stride, twiddles); break;
      default: twiddles = fft_stage<T, 8, inverse>(data, other, butterflies, stride, twiddles); break;
    }
    stride *= radix;
    T* const result = other;
    other = data;
    data = result;
  }
  return data;
}

}  // namespace asnet::ASNET_ISA
