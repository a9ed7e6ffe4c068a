#include "shrunk_divergence/cpu/shrunk_divergence_kernels.h"

namespace asnet::ASNET_ISA {
namespace {

// The smallest mean square of differences that is divided by.
template <typename T>
inline constexpr T smallest_energy = T(1e-12);

inline float square_root(float value) { return __builtin_sqrtf(value); }
inline double square_root(double value) { return __builtin_sqrt(value); }

// Shrunk differences of a row y of all channels, both [channel][width + 1]: `across` from index 1 on, with that of the last
// column at index 0 as well, and `down` from index 0 on.
template <typename T>
void shrink_row(const DivergenceArguments<T>& a, int64_t y, T* __restrict across, T* __restrict down, T* __restrict kept) {
  const int64_t plane = a.height * a.width, stride = a.width + 1, below = y + 1 < a.height ? a.width : -y * a.width;
  for (int64_t x = 0; x < a.width; ++x) kept[x] = 0;
  for (int64_t channel = 0; channel < a.channels; ++channel) {
    const T* const row = a.image + channel * plane + y * a.width;
    T *const to_across = across + channel * stride + 1, *const to_down = down + channel * stride;
    for (int64_t x = 0; x < a.width - 1; ++x) to_across[x] = row[x + 1] - row[x];
    to_across[a.width - 1] = row[0] - row[a.width - 1];
    for (int64_t x = 0; x < a.width; ++x) {
      to_down[x] = row[x + below] - row[x];
      kept[x] += to_across[x] * to_across[x] + to_down[x] * to_down[x];
    }
  }
  const T share = T(1) / T(a.channels);
  for (int64_t x = 0; x < a.width; ++x) {
    const T energy = kept[x] * share;
    const T factor = 1 - a.threshold / square_root(energy > smallest_energy<T> ? energy : smallest_energy<T>);
    kept[x] = factor > 0 ? factor : 0;
  }
  for (int64_t channel = 0; channel < a.channels; ++channel) {
    T *const to_across = across + channel * stride, *const to_down = down + channel * stride;
    for (int64_t x = 0; x < a.width; ++x) {
      to_across[x + 1] *= kept[x];
      to_down[x] *= kept[x];
    }
    to_across[0] = to_across[a.width];
  }
}

}  // namespace

template <typename T>
void shrunk_divergence_rows(const DivergenceArguments<T>& a, T* scratch, int64_t begin, int64_t end) {
  const int64_t stride = a.width + 1, rows = a.channels * stride;
  T *const across = scratch, *const kept = scratch + 3 * rows;
  T *above = scratch + rows, *down = scratch + 2 * rows;
  shrink_row(a, begin > 0 ? begin - 1 : a.height - 1, across, above, kept);
  for (int64_t y = begin; y < end; ++y) {
    shrink_row(a, y, across, down, kept);
    for (int64_t channel = 0; channel < a.channels; ++channel) {
      T* __restrict const to = a.divergence + (channel * a.height + y) * a.width;
      const T *const left = across + channel * stride, *const here = down + channel * stride;
      const T* const before = above + channel * stride;
      for (int64_t x = 0; x < a.width; ++x) to[x] = left[x] - left[x + 1] + before[x] - here[x];
    }
    T* const next = above;
    above = down;
    down = next;
  }
}

template void shrunk_divergence_rows<float>(const DivergenceArguments<float>&, float*, int64_t, int64_t);
template void shrunk_divergence_rows<double>(const DivergenceArguments<double>&, double*, int64_t, int64_t);

}  // namespace asnet::ASNET_ISA
