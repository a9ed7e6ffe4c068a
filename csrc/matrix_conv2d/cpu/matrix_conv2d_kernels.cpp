// Convolution of bfloat16 as matrix products on the matrix units of x86 (AMX): rows of the left matrix are 16 pixels,
// columns of the right one 16 output channels, and the depth of a product is 32 numbers. Sums are in float32.
//
// Rows of the input are copied into the core's second-level cache, with the zeros of the border. The pixels of a tap form a
// matrix there without further copies, its rows as many pixels apart as the stride. With few channels per pixel, the whole
// window of each output pixel is copied instead, one after the other ("unfolded").
#include "matrix_conv2d/cpu/matrix_conv2d_kernels.h"

#include "common/cpu/vector_elements.h"
#include "common/integers.h"

#if defined(ASNET_COMPILER_KNOWS_AMX) && defined(__AVX512F__)
#include <immintrin.h>
#define ASNET_HAS_AMX 1
#endif

namespace asnet::ASNET_ISA {

inline constexpr int64_t kPixels = 16, kDepth = 32, kChannels = 16;
// Size of the sums in matrix units: two matrices of pixels times two of channels.
inline constexpr int64_t kBlockPixels = 2 * kPixels, kPanel = 2 * kChannels;
// Numbers of one matrix of weights; each of its rows holds two neighbours of the depth for every channel.
inline constexpr int64_t kWeights = kDepth * kChannels;

// Windows are unfolded up to this many input channels.
inline constexpr int64_t kFewChannels = 16;

// How the depth of all products is divided: `steps` of kDepth for each of taps x taps, in rows of numbers in which a pixel,
// and the distance between neighbouring taps, takes `pixel` numbers.
struct DepthLayout {
  bool unfolded;
  int64_t taps, pixel, steps, stride, row_pixels;

  DepthLayout(const Conv2dShape& shape, int64_t columns) {
    unfolded = shape.channels_in <= kFewChannels;
    taps = unfolded ? 1 : shape.kernel;
    stride = unfolded ? 1 : shape.stride;
    pixel = ceil_divide(unfolded ? shape.kernel * shape.kernel * shape.channels_in : shape.channels_in, kDepth) * kDepth;
    steps = pixel / kDepth;
    row_pixels = (ceil_divide(columns, kBlockPixels) * kBlockPixels - 1) * stride + taps;
  }
  // Copying and clearing chunks may write beyond the end.
  int64_t row() const { return row_pixels * pixel + kDepth; }
};

int64_t matrix_panel_channels() { return kPanel; }
int64_t matrix_panel_size(const Conv2dShape& shape) {
  const DepthLayout layout(shape, 1);
  return layout.steps * layout.taps * layout.taps * 2 * kWeights;
}
int64_t matrix_workspace_size(const Conv2dShape& shape, int64_t columns) {
  const DepthLayout layout(shape, columns);
  return layout.taps * layout.row();
}

// In order of use: [step][tap][first, second half of the panel][two neighbours of the depth][channel][neighbour].
void pack_matrix_weights(const Conv2dShape& shape, const float* weight, int64_t panel, BFloat16* packed) {
  const DepthLayout layout(shape, 1);
  const int64_t numbers = layout.unfolded ? shape.kernel * shape.kernel * shape.channels_in : shape.channels_in;
  for (int64_t step = 0; step < layout.steps; ++step)
    for (int64_t tap = 0; tap < layout.taps * layout.taps; ++tap)
      for (int64_t half = 0; half < 2; ++half)
        for (int64_t i = 0; i < kDepth; i += 2) {
          const int64_t channel = panel * kPanel + half * kChannels;
          const int64_t channels = least(kChannels, shape.channels_out - channel);
          BFloat16 rows[2][kChannels] = {};
          for (int64_t neighbour = 0; neighbour < 2; ++neighbour) {
            const int64_t number = step * kDepth + i + neighbour;
            if (number >= numbers) break;
            const float* from = weight + (tap * numbers + number) * shape.channels_out + channel;
            for (int64_t o = 0; o < channels; o += lanes<float>)
              store_elements(rows[neighbour] + o, load_elements(from + o, least(lanes<float>, channels - o)));
          }
          for (int64_t o = 0; o < kChannels; ++o)
            for (int64_t neighbour = 0; neighbour < 2; ++neighbour) *packed++ = rows[neighbour][o];
        }
}

// The factors of one panel of weights and a block of pixels: `rows` of the copied input, one for each row of taps.
struct Factors {
  const BFloat16* rows[largest_matrix_kernel];
  const BFloat16* weights;
};

// sums[pixel][channel of the panel]
using Sums = float[kBlockPixels][kPanel];

#ifdef ASNET_HAS_AMX
#define ASNET_AMX __attribute__((target("amx-tile,amx-bf16")))

// All eight registers: 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
ASNET_AMX void open_units() {
  // Static, because g++ 12 believes that the instruction reads 8 bytes and stores no more of one on the stack.
  static constexpr TileConfiguration configuration;
  _tile_loadconfig(&configuration);
}
ASNET_AMX void close_units() { _tile_release(); }

// m x n matrices of sums. The loop over steps is outermost: what their taps read of the rows stays in the first-level
// cache.
template <int m, int n>
ASNET_AMX void multiply_on_units(const DepthLayout& layout, const Factors& factors, Sums& sums) {
  const int64_t pixel_bytes = layout.stride * layout.pixel * sizeof(BFloat16);
  const int64_t next = kPixels * layout.stride * layout.pixel;
  const BFloat16* weights = factors.weights;
  _tile_zero(0);
  if constexpr (n == 2) _tile_zero(1);
  if constexpr (m == 2) _tile_zero(2);
  if constexpr (m == 2 && n == 2) _tile_zero(3);
  for (int64_t step = 0; step < layout.steps; ++step)
    for (int64_t y = 0; y < layout.taps; ++y) {
      const BFloat16* pixels = factors.rows[y] + step * kDepth;
      for (int64_t x = 0; x < layout.taps; ++x, pixels += layout.pixel, weights += 2 * kWeights) {
        _tile_loadd(4, pixels, pixel_bytes);
        _tile_loadd(6, weights, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (n == 2) {
          _tile_loadd(7, weights + kWeights, 64);
          _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (m == 2) {
          _tile_loadd(5, pixels + next, pixel_bytes);
          _tile_dpbf16ps(2, 5, 6);
        }
        if constexpr (m == 2 && n == 2) _tile_dpbf16ps(3, 5, 7);
      }
    }
  constexpr int64_t row_bytes = sizeof(sums[0]);
  _tile_stored(0, &sums[0][0], row_bytes);
  if constexpr (n == 2) _tile_stored(1, &sums[0][kChannels], row_bytes);
  if constexpr (m == 2) _tile_stored(2, &sums[kPixels][0], row_bytes);
  if constexpr (m == 2 && n == 2) _tile_stored(3, &sums[kPixels][kChannels], row_bytes);
}
#endif

// The same for processors without matrix units.
void multiply_on_vectors(const DepthLayout& layout, const Factors& factors, Sums& sums) {
  for (int64_t pixel = 0; pixel < kBlockPixels; ++pixel)
    for (int64_t channel = 0; channel < kPanel; channel += lanes<float>) {
      Vector<float> sum{};
      const BFloat16* weights = factors.weights + channel / kChannels * kWeights + channel % kChannels * 2;
      for (int64_t step = 0; step < layout.steps; ++step)
        for (int64_t tap = 0; tap < layout.taps * layout.taps; ++tap, weights += 2 * kWeights) {
          const BFloat16* numbers =
              factors.rows[tap / layout.taps] + (pixel * layout.stride + tap % layout.taps) * layout.pixel + step * kDepth;
          for (int64_t i = 0; i < kDepth; i += 2) {
            // A register of pairs: the first of a pair is the lower half of 32 bits.
            WideBits pairs, value;
            __builtin_memcpy(&pairs, weights + i * kChannels, sizeof(pairs));
            __builtin_memset(&value, 0, sizeof(value));
            sum += (Vector<float>)(pairs << 16) * (Vector<float>)(value + (uint32_t{numbers[i].bits} << 16));
            sum += (Vector<float>)(pairs & 0xffff0000) * (Vector<float>)(value + (uint32_t{numbers[i + 1].bits} << 16));
          }
        }
      store(&sums[pixel][channel], sum);
    }
}

void multiply_block(const DepthLayout& layout, const Factors& factors, int64_t pixels, int64_t channels, bool units,
                    Sums& sums) {
#ifdef ASNET_HAS_AMX
  if (units) {
    const bool two_rows = pixels > kPixels, two_columns = channels > kChannels;
    if (two_rows)
      return two_columns ? multiply_on_units<2, 2>(layout, factors, sums) : multiply_on_units<2, 1>(layout, factors, sums);
    return two_columns ? multiply_on_units<1, 2>(layout, factors, sums) : multiply_on_units<1, 1>(layout, factors, sums);
  }
#endif
  (void)units, (void)pixels, (void)channels;
  multiply_on_vectors(layout, factors, sums);
}

inline void copy_numbers(BFloat16* to, const BFloat16* from, int64_t count) {
  if (count > 0) __builtin_memcpy(to, from, count * sizeof(BFloat16));
}
inline void clear_numbers(BFloat16* to, int64_t count) {
  if (count > 0) __builtin_memset(to, 0, count * sizeof(BFloat16));
}

// Copies are in whole chunks: up to kChunk - 1 numbers beyond the count are read, and written where later ones belong.
inline constexpr int64_t kChunk = 16;
inline void copy_chunks(BFloat16* to, const BFloat16* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kChunk) __builtin_memcpy(to + i, from + i, kChunk * sizeof(BFloat16));
}
// Clears the numbers missing to kDepth, and up to as many more.
inline void clear_chunk(BFloat16* to) { __builtin_memset(to, 0, kDepth * sizeof(BFloat16)); }
// Whether at least kChunk numbers follow row y of the input.
inline bool has_more_behind(const Conv2dShape& shape, int64_t y) {
  return y < shape.height - 1 && shape.width * shape.channels_in >= kChunk;
}

// `count` pixels of one row of the input from column `first` on, zero outside it, `pixel` numbers each.
void copy_row(const Conv2dShape& shape, const BFloat16* x, int64_t y, int64_t first, int64_t count, int64_t pixel,
              BFloat16* to) {
  const int64_t channels = shape.channels_in;
  const bool outside = y < 0 || y >= shape.height;
  const int64_t begin = outside ? count : least(first < 0 ? -first : 0, count);
  const int64_t rest = shape.width - first, end = outside || rest < begin ? begin : least(rest, count);
  clear_numbers(to, begin * pixel);
  const BFloat16* from = x + (y * shape.width + first + begin) * channels;
  if (pixel == channels) {
    copy_numbers(to + begin * pixel, from, (end - begin) * channels);
  } else {
    const bool chunks = has_more_behind(shape, y);
    for (int64_t i = begin; i < end; ++i, from += channels) {
      if (chunks)
        copy_chunks(to + i * pixel, from, channels);
      else
        copy_numbers(to + i * pixel, from, channels);
      clear_chunk(to + i * pixel + channels);
    }
  }
  clear_numbers(to + end * pixel, (count - end) * pixel);
}

// The windows of `count` output pixels of one row from column `first` on.
void unfold_row(const Conv2dShape& shape, const BFloat16* x, int64_t row, int64_t first, int64_t count, int64_t pixel,
                BFloat16* to) {
  const int64_t numbers = shape.kernel * shape.channels_in, top = row * shape.stride - shape.top;
  const bool rows_inside = top >= 0 && has_more_behind(shape, top + shape.kernel - 1);
  for (int64_t i = 0; i < count; ++i, to += pixel) {
    const int64_t left = (first + i) * shape.stride - shape.left;
    const bool inside = rows_inside && left >= 0 && left + shape.kernel <= shape.width;
    const BFloat16* from = x + (top * shape.width + left) * shape.channels_in;
    for (int64_t tap = 0; tap < shape.kernel; ++tap, from += shape.width * shape.channels_in)
      if (inside)
        copy_chunks(to + tap * numbers, from, numbers);
      else
        copy_row(shape, x, top + tap, left, shape.kernel, shape.channels_in, to + tap * numbers);
    clear_chunk(to + shape.kernel * numbers);
  }
}

void finish_block(const Conv2dShape& shape, const Sums& sums, const Conv2dEpilogue& epilogue, int64_t row, int64_t column,
                  int64_t pixels, int64_t first_channel, BFloat16* out) {
  const int64_t channels = least(kPanel, shape.channels_out - first_channel);
  const int64_t step = shape.channels_out / epilogue.interleave;
  for (int64_t in_panel = 0; in_panel < channels; in_panel += lanes<float>) {
    const int64_t channel = first_channel + in_panel;
    BFloat16* to = out + output_position(shape, epilogue.interleave, row, column, channel);
    const auto finish = [&](auto... count) {
      const Vector<float> bias = epilogue.bias ? load_elements(epilogue.bias + channel, count...) : Vector<float>{};
      for (int64_t pixel = 0; pixel < pixels; ++pixel, to += step) {
        Vector<float> y = load(&sums[pixel][in_panel]) + bias;
        if (epilogue.accumulate) y += load_elements(to, count...);
        // NaN fails the comparison and passes through, as in torch.relu.
        if (epilogue.relu) y = y <= 0 ? Vector<float>{} : y;
        store_elements(to, y, count...);
      }
    };
    if (in_panel + lanes<float> <= channels)
      finish();
    else
      finish(channels - in_panel);
  }
}

void convolve_matrix_block(const Conv2dShape& shape, const BFloat16* x, const BFloat16* packed,
                           const Conv2dEpilogue& epilogue, const MatrixBlock& block, bool units, BFloat16* workspace,
                           BFloat16* out) {
  const DepthLayout layout(shape, block.columns);
  const int64_t panel_size = matrix_panel_size(shape), left = block.column * shape.stride - shape.left;
  const int64_t used = (block.columns - 1) * layout.stride + layout.taps;
#ifdef ASNET_HAS_AMX
  if (units) open_units();
#endif
  // Rows of the input, counted from the block's first: row i is stored in place i % taps.
  for (int64_t row = 0, copied = 0; row < block.rows; ++row) {
    if (layout.unfolded)
      unfold_row(shape, x, block.row + row, block.column, block.columns, layout.pixel, workspace);
    else
      for (copied = copied < row * shape.stride ? row * shape.stride : copied; copied < row * shape.stride + layout.taps;
           ++copied)
        copy_row(shape, x, block.row * shape.stride - shape.top + copied, left, used, layout.pixel,
                 workspace + copied % layout.taps * layout.row());
    for (int64_t channel = 0; channel < shape.channels_out; channel += kPanel)
      for (int64_t column = 0; column < block.columns; column += kBlockPixels) {
        Factors factors{{}, packed + channel / kPanel * panel_size};
        for (int64_t tap = 0; tap < layout.taps; ++tap)
          factors.rows[tap] = workspace + (row * (layout.unfolded ? 0 : shape.stride) + tap) % layout.taps * layout.row() +
                              column * layout.stride * layout.pixel;
        const int64_t pixels = least(kBlockPixels, block.columns - column);
        Sums sums;
        multiply_block(layout, factors, pixels, shape.channels_out - channel, units, sums);
        finish_block(shape, sums, epilogue, block.row + row, block.column + column, pixels, channel, out);
      }
  }
#ifdef ASNET_HAS_AMX
  if (units) close_units();
#endif
}

}  // namespace asnet::ASNET_ISA
