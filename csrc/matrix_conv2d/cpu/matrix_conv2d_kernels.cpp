// Convolution of bfloat16 as matrix products on the matrix units of x86 (AMX): rows of the left matrix are 16 pixels,
// columns of the right one 16 output channels, and the depth of a product is 32 numbers. Sums are in float32.
//
// Rows of the input are copied into the core's second-level cache, with the zeros of the border, in planes of kDepth channels.
// The pixels of a tap form a matrix there without further copies; with stride 1 its rows are adjacent. With few channels per
// pixel, the whole window of each output pixel is copied instead, one after the other ("unfolded").
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

// How the depth of all products is divided: `steps` of kDepth for each of taps x taps. In a row of numbers, neighbouring taps
// are `pixel` apart and steps `plane`.
struct DepthLayout {
  bool unfolded;
  int64_t taps, steps, stride, row_pixels, pixel, plane;

  DepthLayout(const Conv2dShape& shape, int64_t columns) {
    unfolded = shape.channels_in <= kFewChannels;
    taps = unfolded ? 1 : shape.kernel;
    stride = unfolded ? 1 : shape.stride;
    steps = ceil_divide(unfolded ? shape.kernel * shape.kernel * shape.channels_in : shape.channels_in, kDepth);
    row_pixels = (ceil_divide(columns, kBlockPixels) * kBlockPixels - 1) * stride + taps;
    pixel = unfolded ? steps * kDepth : kDepth;
    plane = unfolded ? kDepth : row_pixels * kDepth;
  }
  // Copying and clearing chunks may write beyond the end.
  int64_t row() const { return row_pixels * steps * kDepth + kDepth; }
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
      const BFloat16* pixels = factors.rows[y] + step * layout.plane;
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
          const BFloat16* numbers = factors.rows[tap / layout.taps] +
                                    (pixel * layout.stride + tap % layout.taps) * layout.pixel + step * layout.plane;
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

// Which of `count` pixels of row y from column `first` on lie inside the input, and where; the others are zero.
struct InsidePixels {
  int64_t begin, end;
  const BFloat16* from;

  InsidePixels(const Conv2dShape& shape, const BFloat16* x, int64_t y, int64_t first, int64_t count) {
    const bool outside = y < 0 || y >= shape.height;
    begin = outside ? count : least(first < 0 ? -first : 0, count);
    const int64_t rest = shape.width - first;
    end = outside || rest < begin ? begin : least(rest, count);
    from = x + (y * shape.width + first + begin) * shape.channels_in;
  }
};

// `count` pixels of one row of the input from column `first` on, in planes.
void copy_row(const Conv2dShape& shape, const BFloat16* x, int64_t y, int64_t first, int64_t count,
              const DepthLayout& layout, BFloat16* to) {
  const InsidePixels inside(shape, x, y, first, count);
  const int64_t whole = shape.channels_in / kDepth, rest = shape.channels_in % kDepth;
  const bool chunks = has_more_behind(shape, y);
  for (int64_t step = 0; step < layout.steps; ++step) clear_numbers(to + step * layout.plane, inside.begin * kDepth);
  const BFloat16* from = inside.from;
  for (int64_t i = inside.begin; i < inside.end; ++i, from += shape.channels_in) {
    BFloat16* pixel = to + i * kDepth;
    for (int64_t step = 0; step < whole; ++step, pixel += layout.plane)
      __builtin_memcpy(pixel, from + step * kDepth, kDepth * sizeof(BFloat16));
    if (rest == 0) continue;
    if (chunks)
      copy_chunks(pixel, from + whole * kDepth, rest);
    else
      __builtin_memcpy(pixel, from + whole * kDepth, rest * sizeof(BFloat16));
    clear_chunk(pixel + rest);
  }
  for (int64_t step = 0; step < layout.steps; ++step)
    clear_numbers(to + step * layout.plane + inside.end * kDepth, (count - inside.end) * kDepth);
}

// The windows of `count` output pixels of one row from column `first` on.
void unfold_row(const Conv2dShape& shape, const BFloat16* x, int64_t row, int64_t first, int64_t count,
                const DepthLayout& layout, BFloat16* to) {
  const int64_t channels = shape.channels_in, numbers = shape.kernel * channels, top = row * shape.stride - shape.top;
  const bool rows_inside = top >= 0 && has_more_behind(shape, top + shape.kernel - 1);
  for (int64_t i = 0; i < count; ++i, to += layout.pixel) {
    const int64_t left = (first + i) * shape.stride - shape.left;
    if (rows_inside && left >= 0 && left + shape.kernel <= shape.width) {
      const BFloat16* from = x + (top * shape.width + left) * channels;
      for (int64_t tap = 0; tap < shape.kernel; ++tap, from += shape.width * channels)
        copy_chunks(to + tap * numbers, from, numbers);
    } else {
      clear_numbers(to, shape.kernel * numbers);
      for (int64_t tap = 0; tap < shape.kernel; ++tap) {
        const InsidePixels inside(shape, x, top + tap, left, shape.kernel);
        if (inside.end > inside.begin)
          __builtin_memcpy(to + tap * numbers + inside.begin * channels, inside.from,
                           (inside.end - inside.begin) * channels * sizeof(BFloat16));
      }
    }
    clear_chunk(to + shape.kernel * numbers);
  }
}

// Prefetches part `part` of `parts` of the pixels that the next row of outputs needs and that are not copied yet, while matrices
// are multiplied.
inline void prefetch_rows(const Conv2dShape& shape, const BFloat16* x, int64_t y, int64_t first, int64_t count,
                          int64_t part, int64_t parts) {
  constexpr int64_t line = 64 / sizeof(BFloat16);
  for (int64_t row = y; row < y + shape.stride; ++row) {
    const InsidePixels inside(shape, x, row, first, count);
    const int64_t lines = ceil_divide((inside.end - inside.begin) * shape.channels_in, line);
    for (int64_t i = lines * part / parts; i < lines * (part + 1) / parts; ++i)
      __builtin_prefetch(inside.from + i * line, 0, 2);
  }
}

// Results of at least this many numbers leave the caches before the next layer reads them.
inline constexpr int64_t kLargeResult = int64_t{1} << 22;

// Whether results bypass the caches, which would otherwise read each line before it is written. Whole lines only.
bool streams(const Conv2dShape& shape, const Conv2dEpilogue& epilogue, const BFloat16* out) {
  const int64_t neighbours = shape.channels_out / (epilogue.interleave * epilogue.interleave);
  return !epilogue.accumulate && shape.height_out * shape.width_out * shape.channels_out >= kLargeResult &&
         neighbours % kPanel == 0 && reinterpret_cast<uintptr_t>(out) % (kPanel * sizeof(BFloat16)) == 0;
}
inline void stream_elements(BFloat16* to, Vector<float> value) {
#ifdef ASNET_HAS_AMX
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)narrow(to, value));
#else
  store_elements(to, value);
#endif
}

void finish_block(const Conv2dShape& shape, const Sums& sums, const Conv2dEpilogue& epilogue, int64_t row, int64_t column,
                  int64_t pixels, int64_t first_channel, bool stream, BFloat16* out) {
  constexpr int64_t vectors = kPanel / lanes<float>;
  const int64_t channels = shape.channels_out - first_channel, step = shape.channels_out / epilogue.interleave;
  BFloat16* to[vectors];
  for (int64_t i = 0; i < vectors; ++i)
    to[i] = out + output_position(shape, epilogue.interleave, row, column, first_channel + i * lanes<float>);
  const auto finish = [&](const float* sum, Vector<float> bias, const BFloat16* there, auto... count) {
    Vector<float> y = load(sum) + bias;
    if (epilogue.accumulate) y += load_elements(there, count...);
    // NaN fails the comparison and passes through, as in torch.relu.
    return epilogue.relu ? (y <= 0 ? Vector<float>{} : y) : y;
  };
  const auto bias = [&](int64_t in_panel, auto... count) {
    return epilogue.bias ? load_elements(epilogue.bias + first_channel + in_panel, count...) : Vector<float>{};
  };
  if (channels >= kPanel) {
    Vector<float> biases[vectors];
    for (int64_t i = 0; i < vectors; ++i) biases[i] = bias(i * lanes<float>);
    // All channels of a pixel together, so that streamed lines are whole.
    for (int64_t pixel = 0; pixel < pixels; ++pixel)
      for (int64_t i = 0; i < vectors; ++i, to[i - 1] += step) {
        const Vector<float> y = finish(&sums[pixel][i * lanes<float>], biases[i], to[i]);
        stream ? stream_elements(to[i], y) : store_elements(to[i], y);
      }
    return;
  }
  const auto finish_channels = [&](int64_t i, auto... count) {
    const Vector<float> some = bias(i * lanes<float>, count...);
    for (int64_t pixel = 0; pixel < pixels; ++pixel, to[i] += step)
      store_elements(to[i], finish(&sums[pixel][i * lanes<float>], some, to[i], count...), count...);
  };
  const int64_t whole = channels / lanes<float>;
  for (int64_t i = 0; i < whole; ++i) finish_channels(i);
  if (whole * lanes<float> < channels) finish_channels(whole, channels - whole * lanes<float>);
}

void convolve_matrix_block(const Conv2dShape& shape, const BFloat16* x, const BFloat16* packed,
                           const Conv2dEpilogue& epilogue, const MatrixBlock& block, bool units, BFloat16* workspace,
                           BFloat16* out) {
  const DepthLayout layout(shape, block.columns);
  const int64_t panel_size = matrix_panel_size(shape), left = block.column * shape.stride - shape.left;
  const int64_t top = block.row * shape.stride - shape.top, used = (block.columns - 1) * layout.stride + layout.taps;
  const int64_t across = ceil_divide(block.columns, kBlockPixels),
                products = ceil_divide(shape.channels_out, kPanel) * across;
  const bool stream = streams(shape, epilogue, out);
#ifdef ASNET_HAS_AMX
  if (units) open_units();
#endif
  // Rows of the input, counted from the block's first: row i is stored in place i % taps.
  for (int64_t row = 0, copied = 0; row < block.rows; ++row) {
    if (layout.unfolded)
      unfold_row(shape, x, block.row + row, block.column, block.columns, layout, workspace);
    else
      for (copied = copied < row * shape.stride ? row * shape.stride : copied; copied < row * shape.stride + layout.taps;
           ++copied)
        copy_row(shape, x, top + copied, left, used, layout, workspace + copied % layout.taps * layout.row());
    for (int64_t product = 0; product < products; ++product) {
      const int64_t panel = product / across, column = product % across * kBlockPixels;
      Factors factors{{}, packed + panel * panel_size};
      for (int64_t tap = 0; tap < layout.taps; ++tap)
        factors.rows[tap] = workspace + (row * (layout.unfolded ? 0 : shape.stride) + tap) % layout.taps * layout.row() +
                            column * layout.stride * layout.pixel;
      if (!layout.unfolded && row + 1 < block.rows) prefetch_rows(shape, x, top + copied, left, used, product, products);
      const int64_t pixels = least(kBlockPixels, block.columns - column), channel = panel * kPanel;
      // Aligned, so that each row of a tile is one cache line.
      alignas(64) Sums sums;
      multiply_block(layout, factors, pixels, shape.channels_out - channel, units, sums);
      finish_block(shape, sums, epilogue, block.row + row, block.column + column, pixels, channel, stream, out);
    }
  }
#ifdef ASNET_HAS_AMX
  // Streaming stores are not ordered with the stores that signal other threads.
  if (stream) _mm_sfence();
  if (units) close_units();
#endif
}

}  // namespace asnet::ASNET_ISA
