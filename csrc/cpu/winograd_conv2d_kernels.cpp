// Winograd's convolution: tiles of the input and the kernels are transformed so that a convolution becomes, at each point
// of the transform, a product of matrices over channels; the products are transformed back to tiles of the output.
//
// Multiplications per output pixel and pair of channels: F(4x4, 3x3) 36/16 = 2.25 instead of 9, four parts of
// F(4x4, 4x4) 4 * 49/16 = 12.25 instead of 25 or 49. The products are most of the work and run at the speed of matrix
// products; the transforms take two multiplications by small constant matrices. All of a block of tiles stays in the
// second-level cache. Everything is computed in float32.
#include "cpu/winograd_conv2d_kernels.h"

#include "cpu/vector_elements.h"

namespace asnet::ASNET_ISA {

// ---------------------------------------------------------------------------------------------------------------------
// 1. Transforms

// Polynomials of degree n - 1 are multiplied through their values at n - 1 points and their leading coefficients. These
// points cost about twice the rounding error of direct summation (0, +-1, +-2 cost seven times).
template <int R>
struct Points;
template <>
struct Points<3> {
  static constexpr double at[] = {0, 0.75, -0.75, 1.5, -1.5};
};
template <>
struct Points<4> {
  static constexpr double at[] = {0, 0.5, -0.5, 1, -1, 2};
};

// y = out ((weights g) * (in d)) for M outputs, R weights, n = M + R - 1 inputs.
template <int M, int R>
struct Matrices {
  static constexpr int n = M + R - 1;
  float in[n][n] = {}, weights[n][R] = {}, out[M][n] = {};

  constexpr Matrices() {
    double all[n] = {1};  // coefficients of the product of all (x - p), lowest first
    for (int i = 0; i < n - 1; ++i) {
      const double point = Points<R>::at[i];
      double others[n] = {1}, scale = 1, power = 1;
      int degree = 0;
      for (int j = 0; j < n - 1; ++j) {
        if (j == i) continue;
        scale *= point - Points<R>::at[j];
        multiply(others, degree++, Points<R>::at[j]);
      }
      multiply(all, i, point);
      for (int k = 0; k < n; ++k, power *= point) {
        in[i][k] = static_cast<float>(others[k]);
        if (k < R) weights[i][k] = static_cast<float>(power / scale);
        if (k < M) out[k][i] = static_cast<float>(power);
      }
    }
    for (int k = 0; k < n; ++k) in[n - 1][k] = static_cast<float>(all[k]);
    weights[n - 1][R - 1] = out[M - 1][n - 1] = 1;
  }

  // polynomial *= x - point
  static constexpr void multiply(double* polynomial, int degree, double point) {
    for (int k = degree + 1; k >= 0; --k) polynomial[k] = (k ? polynomial[k - 1] : 0) - point * (k <= degree ? polynomial[k] : 0);
  }
};
template <int M, int R>
inline constexpr Matrices<M, R> matrices{};

// to[i] = the sum over j of matrix[i][j] from[j]; both loops unroll, and zeros and ones cost nothing.
template <int rows, int columns>
inline __attribute__((always_inline)) void apply(const float (&matrix)[rows][columns], const Vector<float>* from,
                                                 int64_t from_step, Vector<float>* to, int64_t to_step) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    Vector<float> sum{};
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) {
      if (matrix[i][j] == 1)
        sum += from[j * from_step];
      else if (matrix[i][j] != 0)
        sum += from[j * from_step] * matrix[i][j];
    }
    to[i * to_step] = sum;
  }
}

// to = matrix from matrix^T, squares stored by rows.
template <int rows, int columns>
inline __attribute__((always_inline)) void apply_both(const float (&matrix)[rows][columns], const Vector<float>* from,
                                                      Vector<float>* to) {
  Vector<float> half[rows * columns];
#pragma GCC unroll 8
  for (int j = 0; j < columns; ++j) apply(matrix, from + j, columns, half + j, columns);
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) apply(matrix, half + i * columns, 1, to + i * rows, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. Products

// A block of sums in registers: tiles x registers of output channels.
inline constexpr int kTiles = 6;
inline constexpr int kRegisters = many_registers ? 4 : 2;
inline constexpr int64_t kPanel = kRegisters * lanes<float>;

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// sums[tile][channel out] = the sum over parts and channels in of spectra[tile + part][channel in] times
// weights[part][channel in][channel out]; `part_offset` says where a part's tiles begin.
template <int tiles, int registers>
void multiply(const float* spectra, int64_t tile_stride, const int64_t* part_offset, int64_t parts, int64_t channels_in,
              const float* weights, float* sums) {
  Vector<float> sum[tiles][registers] = {};
  for (int64_t part = 0; part < parts; ++part) {
    const float* from = spectra + part_offset[part];
    for (int64_t channel = 0; channel < channels_in; ++channel, weights += kPanel) {
      Vector<float> weight[registers];
#pragma GCC unroll 4
      for (int r = 0; r < registers; ++r) weight[r] = load(weights + r * lanes<float>);
#pragma GCC unroll 6
      for (int tile = 0; tile < tiles; ++tile) {
        const Vector<float> value = broadcast(from[tile * tile_stride + channel]);
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) sum[tile][r] += value * weight[r];
      }
    }
  }
#pragma GCC unroll 6
  for (int tile = 0; tile < tiles; ++tile)
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) store(sums + tile * kPanel + r * lanes<float>, sum[tile][r]);
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. A block

// Where the parts of a block's workspace lie. Spectra: [point][tile row][tile column][channel in, padded], with the tiles
// that the parts of large kernels reach; sums: [point][tile row][tile column][panel].
struct BlockLayout {
  int64_t rows, columns, channels;
  int64_t tile_stride, row_stride, point_stride, sums_point_stride, sums_offset;

  explicit BlockLayout(const WinogradShape& shape) {
    const WinogradMethod method = winograd_method(shape.kernel);
    rows = shape.block_rows + method.parts - 1;
    columns = shape.block_columns + method.parts - 1;
    channels = ceil_divide(shape.channels_in, lanes<float>) * lanes<float>;
    tile_stride = channels;
    row_stride = columns * tile_stride;
    // Points an odd number of cache lines apart: a transform writes to all of them.
    point_stride = rows * row_stride + 16;
    sums_point_stride = shape.block_rows * shape.block_columns * kPanel + 16;
    sums_offset = method.points * point_stride;
  }
  int64_t size(const WinogradShape& shape) const {
    return sums_offset + winograd_method(shape.kernel).points * sums_point_stride;
  }
};

int64_t panel_channels() { return kPanel; }
int64_t packed_size(const WinogradShape& shape) {
  const WinogradMethod method = winograd_method(shape.kernel);
  return ceil_divide(shape.channels_out, kPanel) * method.points * method.parts * method.parts * shape.channels_in * kPanel;
}
int64_t workspace_size(const WinogradShape& shape) { return BlockLayout(shape).size(shape); }

// One register of channels of one tile of the input; `count` channels where fewer are left.
template <typename T, int M, int R, typename... Count>
inline void transform_tile(const WinogradShape& shape, const T* x, int64_t top, int64_t left, float* to, int64_t stride,
                           Count... count) {
  constexpr int n = M + R - 1;
  Vector<float> pixels[n * n], spectrum[n * n];
  const bool inside = top >= 0 && left >= 0 && top + n <= shape.height && left + n <= shape.width;
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      const int64_t y = top + i, xx = left + j;
      const bool there = inside || (y >= 0 && y < shape.height && xx >= 0 && xx < shape.width);
      pixels[i * n + j] =
          there ? load_elements(x + (y * shape.width + xx) * shape.channels_in, count...) : Vector<float>{};
    }
  apply_both(matrices<M, R>.in, pixels, spectrum);
#pragma GCC unroll 49
  for (int point = 0; point < n * n; ++point) store(to + point * stride, spectrum[point]);
}

template <typename T, int M, int R>
void transform_inputs(const WinogradShape& shape, const BlockLayout& layout, const T* x, int64_t row, int64_t column,
                      float* spectra) {
  for (int64_t i = 0; i < layout.rows; ++i)
    for (int64_t j = 0; j < layout.columns; ++j) {
      const int64_t top = (row + i) * M - shape.padding, left = (column + j) * M - shape.padding;
      float* to = spectra + i * layout.row_stride + j * layout.tile_stride;
      for (int64_t channel = 0; channel < shape.channels_in; channel += lanes<float>) {
        const auto transform = [&](auto... count) {
          transform_tile<T, M, R>(shape, x + channel, top, left, to + channel, layout.point_stride, count...);
        };
        if (channel + lanes<float> <= shape.channels_in)
          transform();
        else
          transform(shape.channels_in - channel);
      }
    }
}

// One register of channels of one tile of the output, cut off at the border.
template <typename T, int M, int R, typename... Count>
inline void finish_tile(const WinogradShape& shape, const float* sums, int64_t stride, const WinogradEpilogue<T>& epilogue,
                        int64_t channel, int64_t top, int64_t left, T* out, Count... count) {
  constexpr int n = M + R - 1;
  Vector<float> spectrum[n * n], pixels[M * M];
#pragma GCC unroll 49
  for (int point = 0; point < n * n; ++point) spectrum[point] = load(sums + point * stride);
  apply_both(matrices<M, R>.out, spectrum, pixels);
  const Vector<float> bias = epilogue.bias ? load_elements(epilogue.bias + channel, count...) : Vector<float>{};
  const int64_t rows = smaller(M, shape.height_out - top), columns = smaller(M, shape.width_out - left);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = ((top + i) * shape.width_out + left + j) * shape.channels_out + channel;
      Vector<float> y = pixels[i * M + j] + bias;
      if (epilogue.addend) y += load_elements(epilogue.addend + at, count...);
      // False for NaN, which passes through, as in torch.relu.
      if (epilogue.relu) y = y <= 0 ? Vector<float>{} : y;
      store_elements(out + at, y, count...);
    }
}

template <typename T, int M, int R>
void finish_panel(const WinogradShape& shape, const BlockLayout& layout, const float* sums,
                  const WinogradEpilogue<T>& epilogue, int64_t row, int64_t column, int64_t first_channel, T* out) {
  const int64_t channels = smaller(kPanel, shape.channels_out - first_channel);
  for (int64_t i = 0; i < shape.block_rows && (row + i) * M < shape.height_out; ++i)
    for (int64_t j = 0; j < shape.block_columns && (column + j) * M < shape.width_out; ++j)
      for (int64_t channel = 0; channel < channels; channel += lanes<float>) {
        const auto finish = [&](auto... count) {
          finish_tile<T, M, R>(shape, sums + (i * shape.block_columns + j) * kPanel + channel, layout.sums_point_stride,
                               epilogue, first_channel + channel, (row + i) * M, (column + j) * M, out, count...);
        };
        if (channel + lanes<float> <= channels)
          finish();
        else
          finish(channels - channel);
      }
}

template <typename T, int M, int R>
void convolve_block(const WinogradShape& shape, const T* x, const float* packed, const WinogradEpilogue<T>& epilogue,
                    int64_t row, int64_t column, float* workspace, T* out) {
  const BlockLayout layout(shape);
  const WinogradMethod method = winograd_method(shape.kernel);
  float *const spectra = workspace, *const sums = workspace + layout.sums_offset;
  transform_inputs<T, M, R>(shape, layout, x, row, column, spectra);

  const int64_t parts = method.parts * method.parts;
  int64_t part_offset[4];
  for (int64_t part = 0; part < parts; ++part)
    part_offset[part] = part / method.parts * layout.row_stride + part % method.parts * layout.tile_stride;
  const int64_t rows = smaller(shape.block_rows, ceil_divide(shape.height_out, M) - row);
  const int64_t columns = smaller(shape.block_columns, ceil_divide(shape.width_out, M) - column);
  const int64_t point_weights = parts * shape.channels_in * kPanel;
  for (int64_t first = 0; first < shape.channels_out; first += kPanel) {
    const int64_t registers = ceil_divide(smaller(kPanel, shape.channels_out - first), lanes<float>);
    for (int64_t point = 0; point < method.points; ++point, packed += point_weights)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; j += kTiles) {
          const float* from = spectra + point * layout.point_stride + i * layout.row_stride + j * layout.tile_stride;
          float* to = sums + point * layout.sums_point_stride + (i * shape.block_columns + j) * kPanel;
          with_constant<kTiles>(columns - j, [&]<int tiles>() {
            with_constant<kRegisters>(registers, [&]<int used>() {
              multiply<tiles, used>(from, layout.tile_stride, part_offset, parts, shape.channels_in, packed, to);
            });
          });
        }
    finish_panel<T, M, R>(shape, layout, sums, epilogue, row, column, first, out);
  }
}

template <typename T>
void convolve_block(const WinogradShape& shape, const T* x, const float* packed, const WinogradEpilogue<T>& epilogue,
                    int64_t row, int64_t column, float* workspace, T* out) {
  const auto run = winograd_method(shape.kernel).parts == 1 ? convolve_block<T, 4, 3> : convolve_block<T, 4, 4>;
  run(shape, x, packed, epilogue, row, column, workspace, out);
}

// ---------------------------------------------------------------------------------------------------------------------
// 4. Weights

// packed: [panel][point][part][channel in][channel out of the panel], zero beyond C_out.
template <int M, int R>
void transform_weights(const WinogradShape& shape, const float* weight, int64_t panel, float* packed) {
  constexpr int n = M + R - 1;
  const int64_t parts = winograd_method(shape.kernel).parts, first = panel * kPanel;
  const int64_t part_stride = shape.channels_in * kPanel, point_stride = parts * parts * part_stride;
  packed += panel * n * n * point_stride;
  for (int64_t part = 0; part < parts * parts; ++part)
    for (int64_t in = 0; in < shape.channels_in; ++in)
      for (int64_t channel = 0; channel < kPanel; channel += lanes<float>) {
        const int64_t there = smaller(lanes<float>, shape.channels_out - first - channel);
        Vector<float> kernel[R * R] = {}, spectrum[n * n];
        for (int64_t i = 0; i < R; ++i)
          for (int64_t j = 0; j < R; ++j) {
            const int64_t y = part / parts * R + i, x = part % parts * R + j;
            if (there <= 0 || y >= shape.kernel || x >= shape.kernel) continue;
            const float* from = weight + ((y * shape.kernel + x) * shape.channels_in + in) * shape.channels_out + first + channel;
            kernel[i * R + j] = there == lanes<float> ? load(from) : load_elements(from, there);
          }
        apply_both(matrices<M, R>.weights, kernel, spectrum);
        for (int64_t point = 0; point < n * n; ++point)
          store(packed + point * point_stride + part * part_stride + in * kPanel + channel, spectrum[point]);
      }
}

void transform_weights(const WinogradShape& shape, const float* weight, int64_t panel, float* packed) {
  const auto run = winograd_method(shape.kernel).parts == 1 ? transform_weights<4, 3> : transform_weights<4, 4>;
  run(shape, weight, panel, packed);
}

#define ASNET_INSTANTIATE(T)                                                                                          \
  template void convolve_block<T>(const WinogradShape&, const T*, const float*, const WinogradEpilogue<T>&, int64_t, \
                                  int64_t, float*, T*);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(BFloat16)
ASNET_INSTANTIATE(Float16)
#undef ASNET_INSTANTIATE

}  // namespace asnet::ASNET_ISA
