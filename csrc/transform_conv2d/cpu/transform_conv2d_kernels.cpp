// Convolution by transforms. Tiles of the input and the kernels are transformed; the convolution is then a matrix product
// over channels at each point of the transform, and the products are transformed back to tiles of the output.
//
// The products are most of the work and run at the speed of matrix products. A block of tiles stays in the second-level
// cache. Everything is computed in float32.
#include "transform_conv2d/cpu/transform_conv2d_kernels.h"

#include "common/cpu/vector_elements.h"
#include "common/integers.h"
#include "transform_conv2d/cpu/transform_conv2d_fourier.h"
#include "transform_conv2d/cpu/transform_conv2d_winograd.h"

namespace asnet::ASNET_ISA {

// ---------------------------------------------------------------------------------------------------------------------
// 1. Products

// A block of sums in registers: tiles x registers of output channels.
inline constexpr int kTiles = 6;
inline constexpr int kRegisters = many_registers ? 4 : 2;
inline constexpr int64_t kPanel = kRegisters * lanes<float>;

// sums[tile][channel out] = the sum over input channels of spectra[tile][channel in] times weights[channel in][channel
// out]. Sums may overwrite spectra: everything is read before anything is written.
template <int tiles, int registers>
void multiply(const float* spectra, int64_t tile_stride, int64_t channels_in, const float* weights, float* sums,
              int64_t sums_stride) {
  Vector<float> sum[tiles][registers] = {};
  for (int64_t channel = 0; channel < channels_in; ++channel, weights += kPanel) {
    Vector<float> weight[registers];
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) weight[r] = load(weights + r * lanes<float>);
#pragma GCC unroll 6
    for (int tile = 0; tile < tiles; ++tile) {
      const Vector<float> value = broadcast(spectra[tile * tile_stride + channel]);
#pragma GCC unroll 4
      for (int r = 0; r < registers; ++r) sum[tile][r] += value * weight[r];
    }
  }
#pragma GCC unroll 6
  for (int tile = 0; tile < tiles; ++tile)
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) store(sums + tile * sums_stride + r * lanes<float>, sum[tile][r]);
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. A block

// Layout of a block's workspace. Spectra: [point][tile][channel in, padded]; sums: [point][tile][panel], in place of the
// spectra if there is one panel.
struct BlockLayout {
  int64_t tile_stride, point_stride, sums_tile_stride, sums_point_stride, sums_offset, size;

  explicit BlockLayout(const TransformShape& shape) {
    const bool in_place = shape.channels_out <= kPanel;
    const int64_t tiles = shape.block_rows * shape.block_columns;
    tile_stride = ceil_divide(shape.channels_in, lanes<float>) * lanes<float>;
    if (in_place && tile_stride < kPanel) tile_stride = kPanel;
    sums_tile_stride = in_place ? tile_stride : kPanel;
    // Points are an odd number of cache lines apart, because a transform writes to all of them.
    point_stride = tiles * tile_stride + 16;
    sums_point_stride = tiles * sums_tile_stride + 16;
    sums_offset = in_place ? 0 : shape.method.points * point_stride;
    size = sums_offset + shape.method.points * sums_point_stride;
  }
};

int64_t panel_channels() { return kPanel; }
int64_t packed_size(const TransformShape& shape) {
  return ceil_divide(shape.channels_out, kPanel) * shape.method.points * shape.channels_in * kPanel;
}
int64_t workspace_size(const TransformShape& shape) { return BlockLayout(shape).size; }

template <typename Transform, typename T>
void transform_inputs(const TransformShape& shape, const BlockLayout& layout, const T* x, int64_t row, int64_t column,
                      float* spectra) {
  const int64_t step = shape.method.tile * shape.stride, inputs = shape.method.inputs;
  for (int64_t tile = 0; tile < shape.block_rows * shape.block_columns; ++tile) {
    const int64_t top = (row + tile / shape.block_columns) * step - shape.top;
    const int64_t left = (column + tile % shape.block_columns) * step - shape.left;
    const bool inside = top >= 0 && left >= 0 && top + inputs <= shape.height && left + inputs <= shape.width;
    for (int64_t channel = 0; channel < shape.channels_in; channel += lanes<float>) {
      float* to = spectra + tile * layout.tile_stride + channel;
      const T* const from = x + (top * shape.width + left) * shape.channels_in + channel;
      const auto transform = [&](auto... count) {
        const auto pixel = [&](int64_t i, int64_t j) {
          return load_elements(from + (i * shape.width + j) * shape.channels_in, count...);
        };
        const auto pixel_or_zero = [&](int64_t i, int64_t j) {
          const int64_t y = top + i, xx = left + j;
          return y >= 0 && y < shape.height && xx >= 0 && xx < shape.width ? pixel(i, j) : Vector<float>{};
        };
        const auto put = [&](int64_t point, Vector<float> value) { store(to + point * layout.point_stride, value); };
        if (inside)
          Transform::transform_input(pixel, put);
        else
          Transform::transform_input(pixel_or_zero, put);
      };
      if (channel + lanes<float> <= shape.channels_in)
        transform();
      else
        transform(shape.channels_in - channel);
    }
  }
}

// The tiles of one panel of output channels, cropped at the border.
template <typename Transform, typename T>
void finish_panel(const TransformShape& shape, const BlockLayout& layout, const float* sums, const Conv2dEpilogue& epilogue,
                  int64_t row, int64_t column, int64_t first_channel, T* out) {
  const int64_t channels = least(kPanel, shape.channels_out - first_channel), size = shape.method.tile;
  for (int64_t tile = 0; tile < shape.block_rows * shape.block_columns; ++tile) {
    const int64_t top = (row + tile / shape.block_columns) * size, left = (column + tile % shape.block_columns) * size;
    const int64_t rows = least(size, shape.height_out - top), columns = least(size, shape.width_out - left);
    if (rows <= 0 || columns <= 0) continue;
    for (int64_t in_panel = 0; in_panel < channels; in_panel += lanes<float>) {
      const float* from = sums + tile * layout.sums_tile_stride + in_panel;
      const int64_t channel = first_channel + in_panel;
      const auto finish = [&](auto... count) {
        const Vector<float> bias = epilogue.bias ? load_elements(epilogue.bias + channel, count...) : Vector<float>{};
        const int64_t origin = output_position(shape, epilogue.interleave, top, left, channel);
        const int64_t column_step =
            epilogue.interleave * (shape.channels_out / (epilogue.interleave * epilogue.interleave));
        const int64_t row_step = column_step * epilogue.interleave * shape.width_out;
        Transform::transform_output(
            size, [&](int64_t point) { return load(from + point * layout.sums_point_stride); },
            [&](int64_t i, int64_t j, Vector<float> y) {
              if (i >= rows || j >= columns) return;
              const int64_t at = origin + i * row_step + j * column_step;
              y += bias;
              if (epilogue.accumulate) y += load_elements(out + at, count...);
              // NaN fails the comparison and passes through, as in torch.relu.
              if (epilogue.relu) y = y <= 0 ? Vector<float>{} : y;
              store_elements(out + at, y, count...);
            });
      };
      if (in_panel + lanes<float> <= channels)
        finish();
      else
        finish(channels - in_panel);
    }
  }
}

template <typename Transform, typename T>
void convolve_tiles(const TransformShape& shape, const T* x, const float* packed, const Conv2dEpilogue& epilogue,
                    int64_t row, int64_t column, float* workspace, T* out) {
  const BlockLayout layout(shape);
  float *const spectra = workspace, *const sums = workspace + layout.sums_offset;
  transform_inputs<Transform>(shape, layout, x, row, column, spectra);

  const int64_t rows = least(shape.block_rows, ceil_divide(shape.height_out, shape.method.tile) - row);
  const int64_t columns = least(shape.block_columns, ceil_divide(shape.width_out, shape.method.tile) - column);
  for (int64_t first = 0; first < shape.channels_out; first += kPanel) {
    const int64_t registers = ceil_divide(least(kPanel, shape.channels_out - first), lanes<float>);
    for (int64_t point = 0; point < shape.method.points; ++point, packed += shape.channels_in * kPanel)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; j += kTiles) {
          const int64_t tile = i * shape.block_columns + j;
          const float* from = spectra + point * layout.point_stride + tile * layout.tile_stride;
          float* to = sums + point * layout.sums_point_stride + tile * layout.sums_tile_stride;
          with_constant<kTiles>(columns - j, [&]<int tiles>() {
            with_constant<kRegisters>(registers, [&]<int used>() {
              multiply<tiles, used>(from, layout.tile_stride, shape.channels_in, packed, to, layout.sums_tile_stride);
            });
          });
        }
    finish_panel<Transform>(shape, layout, sums, epilogue, row, column, first, out);
  }
}

// Calls function.operator()<Transform>() with the transforms of a method.
template <typename Function>
inline void with_transform(const TransformShape& shape, const Function& function) {
  switch (shape.method.algorithm) {
    case TransformAlgorithm::winograd_4: return function.template operator()<Winograd<winograd_4>>();
    case TransformAlgorithm::winograd_8: return function.template operator()<Winograd<winograd_8>>();
    case TransformAlgorithm::winograd_stride: return function.template operator()<Winograd<winograd_stride>>();
    case TransformAlgorithm::fourier: return function.template operator()<Fourier>();
  }
}

template <typename T>
void convolve_block(const TransformShape& shape, const T* x, const float* packed, const Conv2dEpilogue& epilogue,
                    int64_t row, int64_t column, float* workspace, T* out) {
  with_transform(shape, [&]<typename Transform>() {
    convolve_tiles<Transform>(shape, x, packed, epilogue, row, column, workspace, out);
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. Weights

// packed: [panel][point][channel in][channel out of the panel], zero beyond C_out.
void transform_weights(const TransformShape& shape, const float* weight, int64_t panel, float* packed) {
  const int64_t first = panel * kPanel, point_stride = shape.channels_in * kPanel;
  packed += panel * shape.method.points * point_stride;
  for (int64_t in = 0; in < shape.channels_in; ++in)
    for (int64_t channel = 0; channel < kPanel; channel += lanes<float>) {
      const int64_t there = least(lanes<float>, shape.channels_out - first - channel);
      with_transform(shape, [&]<typename Transform>() {
        Transform::transform_weight(
            [&](int64_t i, int64_t j) {
              if (there <= 0 || i >= shape.kernel || j >= shape.kernel) return Vector<float>{};
              const int64_t tap = (i * shape.kernel + j) * shape.channels_in + in;
              const float* from = weight + tap * shape.channels_out + first + channel;
              return there == lanes<float> ? load(from) : load_elements(from, there);
            },
            [&](int64_t point, Vector<float> value) {
              store(packed + point * point_stride + in * kPanel + channel, value);
            });
      });
    }
}

#define ASNET_INSTANTIATE(T)                                                                                              \
  template void convolve_block<T>(const TransformShape&, const T*, const float*, const Conv2dEpilogue&, int64_t, int64_t, \
                                  float*, T*);
ASNET_INSTANTIATE(float)
ASNET_INSTANTIATE(BFloat16)
ASNET_INSTANTIATE(Float16)
#undef ASNET_INSTANTIATE

}  // namespace asnet::ASNET_ISA
