// The 16-bit element types of feature maps, and the accumulation type of every element type. Includes no torch header.
#pragma once

#include <cstdint>

namespace asnet {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <typename T>
struct AccumulationType {
  using type = float;
};
template <>
struct AccumulationType<double> {
  using type = double;
};
template <typename T>
using Accumulation = typename AccumulationType<T>::type;

}  // namespace asnet
