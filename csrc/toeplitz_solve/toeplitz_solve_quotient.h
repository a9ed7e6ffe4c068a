// The quotients of conjugate gradients, for the kernels of every device.
#pragma once

#include "common/integers.h"

namespace asnet {

// Numerator and denominator of steps are not negative; where there is nothing left to divide, the quotient is that of zeros.
template <typename T>
ASNET_EVERYWHERE T quotient_of_sums(double numerator, double denominator) {
  constexpr double tiny = sizeof(T) == 4 ? 0x1p-126 : 0x1p-1022;
  return static_cast<T>(numerator / (denominator > tiny ? denominator : tiny));
}

}  // namespace asnet
