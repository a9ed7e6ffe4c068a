// Winograd transforms of tiles for transform_conv2d_kernels.cpp.
//
// Multiplications per output pixel and pair of channels: F(4x4, 3x3) 36/16 = 2.25 and F(8x8, 3x3) 100/64 = 1.56 instead of
// 9; stride 2 81/16 = 5.06 instead of 9. Each value here is a register of channels.
#pragma once

#include "common/cpu/vector.h"

namespace asnet::ASNET_ISA {

template <int r, int c>
struct Matrix {
  static constexpr int rows = r, columns = c;
  float at[r][c] = {};
};

// y = out ((weights g) * (in d)) for m outputs y, r weights g and n inputs d; * is element-wise.
template <int n, int m, int r>
struct Bilinear {
  Matrix<n, n> in;
  Matrix<n, r> weights;
  Matrix<m, n> out;
};

// polynomial *= x - point, coefficients lowest first
constexpr void multiply_by_root(double* polynomial, int degree, double point) {
  for (int k = degree + 1; k >= 0; --k)
    polynomial[k] = (k ? polynomial[k - 1] : 0) - point * (k <= degree ? polynomial[k] : 0);
}

// Polynomials of degree n - 1 are multiplied by their values at n - 1 points and their leading coefficients.
template <int m, int r, int n = m + r - 1>
constexpr Bilinear<n, m, r> winograd(const double (&points)[n - 1]) {
  Bilinear<n, m, r> made;
  double all[n] = {1};
  for (int i = 0; i < n - 1; ++i) {
    double others[n] = {1}, scale = 1, power = 1;
    int degree = 0;
    for (int j = 0; j < n - 1; ++j) {
      if (j == i) continue;
      scale *= points[i] - points[j];
      multiply_by_root(others, degree++, points[j]);
    }
    multiply_by_root(all, i, points[i]);
    for (int k = 0; k < n; ++k, power *= points[i]) {
      made.in.at[i][k] = static_cast<float>(others[k]);
      if (k < r) made.weights.at[i][k] = static_cast<float>(power / scale);
      if (k < m) made.out.at[k][i] = static_cast<float>(power);
    }
  }
  for (int k = 0; k < n; ++k) made.in.at[n - 1][k] = static_cast<float>(all[k]);
  made.weights.at[n - 1][r - 1] = made.out.at[m - 1][n - 1] = 1;
  return made;
}

// Stride 2 with three taps: the outer two act on the even inputs, as a kernel of two, the middle one on the odd inputs.
template <int m, int n = m + 1>
constexpr Bilinear<n + m, m, 3> winograd_of_stride_two(const double (&points)[n - 1]) {
  const Bilinear<n, m, 2> outer = winograd<m, 2>(points);
  Bilinear<n + m, m, 3> made;
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < n; ++k) made.in.at[i][2 * k] = outer.in.at[i][k];
    for (int k = 0; k < 2; ++k) made.weights.at[i][2 * k] = outer.weights.at[i][k];
    for (int k = 0; k < m; ++k) made.out.at[k][i] = outer.out.at[k][i];
  }
  for (int k = 0; k < m; ++k) made.in.at[n + k][2 * k + 1] = made.weights.at[n + k][1] = made.out.at[k][n + k] = 1;
  return made;
}

// Points with small rounding error: 4x4 has twice that of direct summation (0, +-1, +-2 has seven times), 8x8 thirty times.
inline constexpr auto winograd_4 = winograd<4, 3>({0, 0.625, -0.625, 1.5, -1.5});
inline constexpr auto winograd_8 = winograd<8, 3>({0, 0.5, -0.5, 0.75, -0.75, 1.25, -1.25, 2, -2});
inline constexpr auto winograd_stride = winograd_of_stride_two<4>({0, 1, -1, 0.5});

// Neighbouring points p and -p share half of the multiplications: their rows of `in` and `weights`, and their columns of
// `out`, differ in the sign of every second element.
template <const auto& matrix>
struct Pairs {
  static constexpr int rows = matrix.rows, columns = matrix.columns;
  bool row[rows + 1] = {}, column[columns + 1] = {};  // whether a pair begins there

  constexpr Pairs() {
    bool any = false;
    for (int i = 0; i + 1 < rows; ++i) {
      bool equal = !(i && row[i - 1]);
      for (int k = 0; k < columns; ++k) equal &= matrix.at[i + 1][k] == (k % 2 ? -1 : 1) * matrix.at[i][k];
      row[i] = equal;
      any |= equal;
    }
    for (int i = 0; i + 1 < columns && !any; ++i) {
      bool equal = !(i && column[i - 1]);
      for (int k = 0; k < rows; ++k) equal &= matrix.at[k][i + 1] == (k % 2 ? -1 : 1) * matrix.at[k][i];
      column[i] = equal;
    }
  }
};
template <const auto& matrix>
inline constexpr Pairs<matrix> pairs{};

// sum += factor * value; zeros and ones cost nothing once the surrounding loops are unrolled.
inline __attribute__((always_inline)) void add_product(Vector<float>& sum, float factor, Vector<float> value) {
  if (factor == 1)
    sum += value;
  else if (factor != 0)
    sum += value * factor;
}

// to[i] = the sum over k of matrix[i][k] from[k].
template <const auto& matrix>
inline __attribute__((always_inline)) void apply(const Vector<float>* from, int64_t from_step, Vector<float>* to,
                                                 int64_t to_step) {
  constexpr int rows = matrix.rows, columns = matrix.columns;
  Vector<float> sums[columns], differences[columns];
#pragma GCC unroll 16
  for (int k = 0; k < columns; ++k)
    if (pairs<matrix>.column[k]) {
      sums[k] = from[k * from_step] + from[(k + 1) * from_step];
      differences[k] = from[k * from_step] - from[(k + 1) * from_step];
    }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    if (i && pairs<matrix>.row[i - 1]) continue;
    Vector<float> even{}, odd{};
#pragma GCC unroll 16
    for (int k = 0; k < columns; ++k) {
      const float factor = matrix.at[i][k];
      if (k && pairs<matrix>.column[k - 1]) continue;
      if (pairs<matrix>.column[k])
        add_product(even, factor, i % 2 ? differences[k] : sums[k]);
      else
        add_product(pairs<matrix>.row[i] && k % 2 ? odd : even, factor, from[k * from_step]);
    }
    if (pairs<matrix>.row[i]) {
      to[i * to_step] = even + odd;
      to[(i + 1) * to_step] = even - odd;
    } else {
      to[i * to_step] = even;
    }
  }
}

// to = matrix from matrix^T. `load(i, j)` returns an element of from, `store(i, j, value)` stores one of to. The outer
// loops are not unrolled, so that the code fits into the instruction cache.
template <const auto& matrix, typename Load, typename Store>
inline __attribute__((always_inline)) void apply_both(const Load& load, const Store& store) {
  constexpr int rows = matrix.rows, columns = matrix.columns;
  Vector<float> half[rows * columns];
#pragma GCC unroll 1
  for (int k = 0; k < columns; ++k) {
    Vector<float> column[columns];
#pragma GCC unroll 16
    for (int i = 0; i < columns; ++i) column[i] = load(i, k);
    apply<matrix>(column, 1, half + k, columns);
  }
#pragma GCC unroll 1
  for (int i = 0; i < rows; ++i) {
    Vector<float> row[rows];
    apply<matrix>(half + i * columns, 1, row, 1);
#pragma GCC unroll 16
    for (int k = 0; k < rows; ++k) store(i, k, row[k]);
  }
}

// `load(i, j)` returns a pixel of a tile, `store(point, value)` stores a point of its transform, or the other way round.
template <const auto& bilinear>
struct Winograd {
  static constexpr int inputs = bilinear.in.rows, points = inputs * inputs, tile = bilinear.out.rows;
  static constexpr auto in = bilinear.in;
  static constexpr auto weights = bilinear.weights;
  static constexpr auto out = bilinear.out;

  template <typename Load, typename Store>
  static void transform_input(const Load& load, const Store& store) {
    apply_both<in>(load, [&](int i, int j, Vector<float> value) { store(i * inputs + j, value); });
  }
  template <typename Load, typename Store>
  static void transform_weight(const Load& load, const Store& store) {
    apply_both<weights>(load, [&](int i, int j, Vector<float> value) { store(i * inputs + j, value); });
  }
  template <typename Load, typename Store>
  static void transform_output(int64_t, const Load& load, const Store& store) {
    apply_both<out>([&](int i, int j) { return load(i * inputs + j); }, store);
  }
};

}  // namespace asnet::ASNET_ISA
