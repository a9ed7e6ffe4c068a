// CPU kernels that solve (A + w I) k = b by conjugate gradients. k is an image of s x s pixels and A its correlation with
// lags: a product with A is a circular correlation of `fft.size` >= 2 s - 1 pixels.
#pragma once

#include "common/cpu/fft_plan.h"
#include "common/cpu/isa.h"

#include <cstdint>

namespace asnet {

// Images are planes of s rows, `row` values apart and zero beyond their s columns; row is a multiple of two registers.
template <typename T>
struct ToeplitzArguments {
  int64_t size;  // s
  int64_t row;
  int64_t block;  // of the spectra of cpu/fft_pairs.h
  Fft<T> fft;
  T weight;
  int64_t steps;

  const T* lags;           // A as [2 s - 1][2 s - 1]
  const T* allowed;        // plane: 1 where k may differ from 0, else 0
  T* solution;             // plane
  T* residual;             // plane: initially b
  T *direction, *product;  // planes
  T* spectra;
  T* response;  // [block][horizontal frequency][lane]: the real spectrum of A, scaled for the transforms
  T* scratch;   // 4 * fft.size * lanes values
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Number of values in a register; sizes of the buffers depend on it.
    template <typename T> int64_t toeplitz_lanes();
    template <typename T> void toeplitz_solve(const ToeplitzArguments<T>& arguments);)
