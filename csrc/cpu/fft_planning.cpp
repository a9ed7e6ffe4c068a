#include "cpu/fft_planning.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace asnet {

int64_t next_fft_size(int64_t least) {
  for (int64_t size = std::max<int64_t>(least, 1);; ++size) {
    int64_t rest = size;
    for (const int64_t factor : {2, 3, 5})
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return size;
  }
}

template <typename T>
FftPlan<T>::FftPlan(int64_t size) : fft_{size, 0, {}, nullptr} {
  int64_t rest = size;
  for (const int32_t radix : {8, 5, 4, 3, 2})
    for (; rest % radix == 0; rest /= radix) {
      fft_.radix[fft_.stages++] = radix;
      const int64_t butterflies = rest / radix;
      for (int64_t p = 0; p < butterflies; ++p)
        for (int64_t k = 1; k < radix; ++k) {
          const double angle = -2 * std::numbers::pi * static_cast<double>(p * k % rest) / static_cast<double>(rest);
          twiddles_.push_back(static_cast<T>(std::cos(angle)));
          twiddles_.push_back(static_cast<T>(std::sin(angle)));
        }
    }
  fft_.twiddles = twiddles_.data();
}

template class FftPlan<float>;
template class FftPlan<double>;

}  // namespace asnet
