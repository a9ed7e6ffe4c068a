// Fourier transform of tiles of 16x16 pixels for transform_conv2d_kernels.cpp.
//
// The spectrum of a real tile is four real numbers and 126 complex ones, whose products take three multiplications each:
// 382 for the (17 - K) x (17 - K) valid outputs of a circular correlation with a K x K kernel. For 7x7 that is 3.82 per
// pixel and pair of channels instead of 49. Each value here is a register of channels.
#pragma once

#include "common/cpu/vector.h"

namespace asnet::ASNET_ISA {

struct Fourier {
  static constexpr int size = 16, complex_points = 126, points = 3 * complex_points + 4;

  // Points of the transform: (a, b, a + b) of each complex number a + ib, then the real numbers.
  // `load(i, j)` returns a pixel, `store(point, value)` stores a point.
  template <typename Load, typename Store>
  static void transform_input(const Load& load, const Store& store) {
    forward(
        load,
        [&](int point, Complex value) {
          store(3 * point, value.real);
          store(3 * point + 1, value.imaginary);
          store(3 * point + 2, value.real + value.imaginary);
        },
        store);
  }

  // For correlation: the conjugate of the kernel's spectrum, including the scale of the inverse transform.
  template <typename Load, typename Store>
  static void transform_weight(const Load& load, const Store& store) {
    constexpr float scale = 1.0f / (size * size);
    forward(
        load,
        [&](int point, Complex value) {
          store(3 * point, value.real * scale);
          store(3 * point + 1, value.imaginary * -scale);
          store(3 * point + 2, (value.real - value.imaginary) * scale);
        },
        [&](int point, Vector<float> value) { store(point, value * scale); });
  }

  // The first tile x tile pixels. `load(point)` returns a point, `store(i, j, value)` stores a pixel.
  template <typename Load, typename Store>
  static void transform_output(int64_t tile, const Load& load, const Store& store) {
    // ac, bd and (a + b)(c + d) of (a + ib)(c + id).
    const auto product = [&](int point) -> Complex {
      const Vector<float> real = load(3 * point), imaginary = load(3 * point + 1);
      return {real - imaginary, load(3 * point + 2) - real - imaginary};
    };
    Vector<float> real[half][size], imaginary[half][size];
    // Columns 0 and 8 of the spectrum belong to real columns, which share one complex transform.
    real[0][0] = load(3 * complex_points);
    imaginary[0][0] = load(3 * complex_points + 1);
    real[0][half] = load(3 * complex_points + 2);
    imaginary[0][half] = load(3 * complex_points + 3);
    for (int f = 1; f < half; ++f) {
      const Complex first = product(2 * (f - 1)), last = product(2 * (f - 1) + 1);
      real[0][f] = first.real - last.imaginary;
      imaginary[0][f] = first.imaginary + last.real;
      real[0][size - f] = first.real + last.imaginary;
      imaginary[0][size - f] = last.real - first.imaginary;
    }
    for (int k = 1; k < half; ++k)
      for (int f = 0; f < size; ++f) {
        const Complex value = product(2 * (half - 1) + (k - 1) * size + f);
        real[k][f] = value.real;
        imaginary[k][f] = value.imaginary;
      }
    for (int k = 0; k < half; ++k) inverse(real[k], imaginary[k]);
    // Two real rows are the parts of one complex row.
    for (int row = 0; row < tile; row += 2) {
      Vector<float> x[size], y[size];
      x[0] = real[0][row];
      y[0] = real[0][row + 1];
      x[half] = imaginary[0][row];
      y[half] = imaginary[0][row + 1];
#pragma GCC unroll 8
      for (int k = 1; k < half; ++k) {
        x[k] = real[k][row] - imaginary[k][row + 1];
        y[k] = imaginary[k][row] + real[k][row + 1];
        x[size - k] = real[k][row] + imaginary[k][row + 1];
        y[size - k] = real[k][row + 1] - imaginary[k][row];
      }
      inverse(x, y);
      for (int column = 0; column < tile; ++column) store(row, column, x[column]);
      if (row + 1 < tile)
        for (int column = 0; column < tile; ++column) store(row + 1, column, y[column]);
    }
  }

 private:
  static constexpr int half = size / 2;

  struct Complex {
    Vector<float> real, imaginary;
  };

  // `store_complex` stores the complex points, `store_real` those without an imaginary part.
  template <typename Load, typename StoreComplex, typename StoreReal>
  static inline __attribute__((always_inline)) void forward(const Load& load, const StoreComplex& store_complex,
                                                            const StoreReal& store_real) {
    Vector<float> real[half][size], imaginary[half][size];
    for (int row = 0; row < size; row += 2) {
      Vector<float> x[size], y[size];
      for (int column = 0; column < size; ++column) {
        x[column] = load(row, column);
        y[column] = load(row + 1, column);
      }
      transform(x, y);
      real[0][row] = x[0];
      real[0][row + 1] = y[0];
      imaginary[0][row] = x[half];
      imaginary[0][row + 1] = y[half];
#pragma GCC unroll 8
      for (int k = 1; k < half; ++k) {
        real[k][row] = (x[k] + x[size - k]) * 0.5f;
        imaginary[k][row] = (y[k] - y[size - k]) * 0.5f;
        real[k][row + 1] = (y[k] + y[size - k]) * 0.5f;
        imaginary[k][row + 1] = (x[size - k] - x[k]) * 0.5f;
      }
    }
    for (int k = 0; k < half; ++k) transform(real[k], imaginary[k]);
    store_real(3 * complex_points, real[0][0]);
    store_real(3 * complex_points + 1, imaginary[0][0]);
    store_real(3 * complex_points + 2, real[0][half]);
    store_real(3 * complex_points + 3, imaginary[0][half]);
    for (int f = 1; f < half; ++f) {
      store_complex(2 * (f - 1),
                    Complex{(real[0][f] + real[0][size - f]) * 0.5f, (imaginary[0][f] - imaginary[0][size - f]) * 0.5f});
      store_complex(2 * (f - 1) + 1,
                    Complex{(imaginary[0][f] + imaginary[0][size - f]) * 0.5f, (real[0][size - f] - real[0][f]) * 0.5f});
    }
    for (int k = 1; k < half; ++k)
      for (int f = 0; f < size; ++f)
        store_complex(2 * (half - 1) + (k - 1) * size + f, Complex{real[k][f], imaginary[k][f]});
  }

  // Replaces x0 to x3 by their sums with weights (-i)^(jk).
  static inline __attribute__((always_inline)) void four(Complex& x0, Complex& x1, Complex& x2, Complex& x3) {
    const Complex even_sum{x0.real + x2.real, x0.imaginary + x2.imaginary};
    const Complex even_difference{x0.real - x2.real, x0.imaginary - x2.imaginary};
    const Complex odd_sum{x1.real + x3.real, x1.imaginary + x3.imaginary};
    const Complex odd_difference{x1.real - x3.real, x1.imaginary - x3.imaginary};
    x0 = {even_sum.real + odd_sum.real, even_sum.imaginary + odd_sum.imaginary};
    x2 = {even_sum.real - odd_sum.real, even_sum.imaginary - odd_sum.imaginary};
    x1 = {even_difference.real + odd_difference.imaginary, even_difference.imaginary - odd_difference.real};
    x3 = {even_difference.real - odd_difference.imaginary, even_difference.imaginary + odd_difference.real};
  }

  // In-place discrete Fourier transform of 16 complex numbers, as 4 x 4, not scaled.
  static inline __attribute__((always_inline)) void transform(Vector<float>* real, Vector<float>* imaginary) {
    // cos(2 pi m / 16) for m = 0 to 9; the sine is the cosine four steps back.
    constexpr float cosine[] = {1,  0.92387953251f,  0.70710678119f,  0.38268343237f,
                                0,  -0.38268343237f, -0.70710678119f, -0.92387953251f,
                                -1, -0.92387953251f};
    constexpr float sine[] = {0, 0.38268343237f, 0.70710678119f, 0.92387953251f,
                              1, 0.92387953251f, 0.70710678119f, 0.38268343237f,
                              0, -0.38268343237f};
    Complex x[4][4];
#pragma GCC unroll 4
    for (int second = 0; second < 4; ++second) {
#pragma GCC unroll 4
      for (int first = 0; first < 4; ++first) x[second][first] = {real[4 * first + second], imaginary[4 * first + second]};
      four(x[second][0], x[second][1], x[second][2], x[second][3]);
#pragma GCC unroll 4
      for (int k = 1; k < 4; ++k) {
        const int m = second * k;
        if (m == 0) continue;
        const Complex value = x[second][k];
        if (m == 4)
          x[second][k] = {value.imaginary, -value.real};
        else
          x[second][k] = {value.real * cosine[m] + value.imaginary * sine[m],
                          value.imaginary * cosine[m] - value.real * sine[m]};
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      four(x[0][k], x[1][k], x[2][k], x[3][k]);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        real[k + 4 * j] = x[j][k].real;
        imaginary[k + 4 * j] = x[j][k].imaginary;
      }
    }
  }

  // Swapping the parts before and after conjugates the transform.
  static inline __attribute__((always_inline)) void inverse(Vector<float>* real, Vector<float>* imaginary) {
    transform(imaginary, real);
  }
};

}  // namespace asnet::ASNET_ISA
