// CPU kernels of the divergence of shrunk differences; the formula is in asnet/ops/reference.py.
#pragma once

#include "common/cpu/isa.h"

#include <cstdint>

namespace asnet {

// One image of a batch: its channels, contiguous, and the threshold.
template <typename T>
struct DivergenceArguments {
  int64_t channels, height, width;
  T threshold;
  const T* image;
  T* divergence;
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Rows begin to end - 1. Scratch: (3 * channels + 1) * (width + 1) values.
    template <typename T>
    void shrunk_divergence_rows(const DivergenceArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);)
