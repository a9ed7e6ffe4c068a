#include "common/cpu/fft_planning.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <numbers>
#include <utility>

namespace asnet {
namespace {

struct Radix {
  int32_t radix;
  double cost;  // registers operated on per value, loads and stores included
};
constexpr Radix kRadices[] = {{8, 14}, {9, 16}, {6, 13}, {5, 12}, {4, 9}, {3, 9}, {2, 9}};

// The cheapest stages of a transform with radices from index `first` on.
FftStages best_stages(int64_t size, std::size_t first) {
  if (size == 1) return {{}, 0};
  FftStages best{{}, std::numeric_limits<double>::infinity()};
  for (std::size_t i = first; i < std::size(kRadices); ++i) {
    const auto [radix, cost] = kRadices[i];
    if (size % radix != 0) continue;
    FftStages rest = best_stages(size / radix, i);
    if (rest.cost + cost >= best.cost) continue;
    rest.radices.insert(rest.radices.begin(), radix);
    best = {std::move(rest.radices), rest.cost + cost};
  }
  return best;
}

}  // namespace

int64_t next_fft_size(int64_t least) {
  for (int64_t size = std::max<int64_t>(least, 1);; ++size) {
    int64_t rest = size;
    for (const int64_t factor : {2, 3, 5})
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return size;
  }
}

FftStages fft_stages(int64_t size) { return best_stages(size, 0); }

template <typename T>
FftPlan<T>::FftPlan(int64_t size) : fft_{size, 0, {}, nullptr} {
  int64_t rest = size;
  for (const int32_t radix : fft_stages(size).radices) {
    fft_.radix[fft_.stages++] = radix;
    const int64_t butterflies = rest / radix;
    for (int64_t p = 0; p < butterflies; ++p)
      for (int64_t k = 1; k < radix; ++k) {
        const double angle = -2 * std::numbers::pi * static_cast<double>(p * k % rest) / static_cast<double>(rest);
        twiddles_.push_back(static_cast<T>(std::cos(angle)));
        twiddles_.push_back(static_cast<T>(std::sin(angle)));
      }
    rest = butterflies;
  }
  fft_.twiddles = twiddles_.data();
}

template class FftPlan<float>;
template class FftPlan<double>;

}  // namespace asnet
