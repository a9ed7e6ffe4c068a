#include "gather_images/cpu/gather_images_kernels.h"

#include "common/cpu/vector_elements.h"

namespace asnet::ASNET_ISA {
namespace {

// Position within an image that is mirrored as often as needed, its edge pixels repeated.
inline int64_t mirrored(int64_t position, int64_t length) {
  position %= 2 * length;
  return position < length ? position : 2 * length - 1 - position;
}

// `count` pixels of a row from `first` on: the row itself, or a copy that continues beyond its end.
inline const float* pixels(const float* row, int64_t first, int64_t count, int64_t width, float* copy) {
  if (first + count <= width) return row + first;
  for (int64_t x = 0; x < count; ++x) copy[x] = row[mirrored(first + x, width)];
  return copy;
}

// to = scale * (from - (other or offset)).
template <typename T>
inline void scaled_differences(const float* from, const float* other, float offset, float scale, int64_t count, T* to) {
  constexpr int64_t step = wide_lanes<T>;
  const auto value = [&](Vector<float> x, Vector<float> y) { return (x - y) * scale; };
  const Vector<float> constant = broadcast(offset);
  int64_t x = 0;
  for (; x + step <= count; x += step) store_elements(to + x, value(load(from + x), other ? load(other + x) : constant));
  if (const int64_t left = count - x; left > 0)
    store_elements(to + x, value(load_elements(from + x, left), other ? load_elements(other + x, left) : constant), left);
}

// [row][column * factor + x] to [column][row * factor + x]
template <typename T, int64_t constant_factor>
inline void interleave(const T* from, int64_t rows, int64_t columns, int64_t run_time_factor, T* to) {
  const int64_t factor = constant_factor ? constant_factor : run_time_factor, stride = gathered_columns * factor;
  for (int64_t column = 0; column < columns; ++column)
    for (int64_t row = 0; row < rows; ++row, to += factor)
      __builtin_memcpy(to, from + row * stride + column * factor, factor * sizeof(T));
}

}  // namespace

template <typename T>
void gather_rows(const GatherArguments<T>& a, float* scratch, int64_t begin, int64_t end) {
  const int64_t lines = a.count * a.channels * a.factor, stride = gathered_columns * a.factor;
  float *const copy = scratch, *const other_copy = scratch + stride;
  T* const staged = reinterpret_cast<T*>(scratch + 2 * stride);
  for (int64_t row = begin; row < end; ++row)
    for (int64_t column = 0; column < a.columns; column += gathered_columns) {
      const int64_t left = a.columns - column, columns = left < gathered_columns ? left : gathered_columns;
      const int64_t first = column * a.factor, count = columns * a.factor;
      T* to = staged;
      for (int64_t image = 0; image < a.count; ++image)
        for (int64_t channel = 0; channel < a.channels; ++channel)
          for (int64_t dy = 0; dy < a.factor; ++dy, to += stride) {
            const int64_t y = mirrored(row * a.factor + dy, a.height);
            const auto line = [&](const ImagePlanes& planes, float* buffer) {
              const float* const pixels_of = planes.data + channel * planes.channel_stride + y * planes.row_stride;
              return pixels(pixels_of, first, count, a.width, buffer);
            };
            const bool differs = a.mean && image > 0;
            scaled_differences(line(a.images[image], copy), differs ? line(a.images[0], other_copy) : nullptr,
                               a.mean && image == 0 ? a.mean[channel] : 0.0f,
                               differs ? a.scale * a.difference_scale : a.scale, count, to);
          }
      T* const out = a.gathered + (row * a.columns + column) * lines * a.factor;
      if (a.factor == 2)
        interleave<T, 2>(staged, lines, columns, 2, out);
      else
        interleave<T, 0>(staged, lines, columns, a.factor, out);
    }
}

template void gather_rows<float>(const GatherArguments<float>&, float*, int64_t, int64_t);
template void gather_rows<BFloat16>(const GatherArguments<BFloat16>&, float*, int64_t, int64_t);

}  // namespace asnet::ASNET_ISA
