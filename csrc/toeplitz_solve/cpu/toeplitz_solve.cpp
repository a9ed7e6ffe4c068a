// Solves the normal equations of blur kernels by conjugate gradients; see toeplitz_solve_kernels.h.
#include "common/cpu/fft_planning.h"
#include "common/cpu/workspace.h"
#include "common/integers.h"
#include "common/tensor_pointers.h"
#include "toeplitz_solve/cpu/toeplitz_solve_kernels.h"
#include "toeplitz_solve/toeplitz_solve_arguments.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace asnet::toeplitz_solve {
namespace {

template <typename T>
void solve(const Tensor& lags, const Tensor& right, const OptionalTensor& support, double weight, int64_t steps,
           const Tensor& out) {
  const int64_t size = right.size(1), side = 2 * size - 1, lanes = ASNET_DISPATCH(toeplitz_lanes<T>());
  const FftPlan<T> plan(next_fft_size(side));
  const int64_t length = plan.fft().size, blocks = ceil_divide(length / 2 + 1, lanes);
  const int64_t row = ceil_divide(size, 2 * lanes) * 2 * lanes, block = ceil_divide(length, 2 * lanes) * 4 * lanes * lanes;
  torch::stable::parallel_for(0, right.size(0), 1, [&](int64_t first, int64_t last) {
    const int64_t plane = size * row;
    Workspace<T> planes(5 * plane), spectra(blocks * block), response(blocks * length * lanes), scratch(4 * length * lanes);
    T* const at = planes.data();
    for (int64_t n = first; n < last; ++n) {
      std::fill_n(at, 2 * plane, T(0));
      const T* from = const_pointer<T>(right) + n * size * size;
      const bool* inside = support ? const_pointer<bool>(*support) + n * size * size : nullptr;
      for (int64_t y = 0; y < size; ++y)
        for (int64_t x = 0; x < size; ++x) {
          at[y * row + x] = !inside || inside[y * size + x] ? T(1) : T(0);
          at[plane + y * row + x] = from[y * size + x];
        }
      const ToeplitzArguments<T> arguments{size,
                                           row,
                                           block,
                                           plan.fft(),
                                           static_cast<T>(weight),
                                           steps,
                                           const_pointer<T>(lags) + n * side * side,
                                           at,
                                           at + 2 * plane,
                                           at + plane,
                                           at + 3 * plane,
                                           at + 4 * plane,
                                           spectra.data(),
                                           response.data(),
                                           scratch.data()};
      ASNET_DISPATCH(toeplitz_solve<T>(arguments));
      for (int64_t y = 0; y < size; ++y)
        std::copy_n(arguments.solution + y * row, size, pointer<T>(out) + (n * size + y) * size);
    }
  });
}

Tensor toeplitz_solve(const Tensor& lags, const Tensor& right, const OptionalTensor& support, double weight,
                      int64_t steps) {
  check(lags, right, support, steps);
  const Tensor out = torch::stable::new_empty(right, {right.size(0), right.size(1), right.size(2)});
  if (out.numel() == 0) return out;
  const Tensor dense_lags = torch::stable::contiguous(lags), dense_right = torch::stable::contiguous(right);
  OptionalTensor dense_support;
  if (support) dense_support = torch::stable::contiguous(*support);
  if (right.scalar_type() == ScalarType::Double)
    solve<double>(dense_lags, dense_right, dense_support, weight, steps, out);
  else
    solve<float>(dense_lags, dense_right, dense_support, weight, steps, out);
  return out;
}

}  // namespace
}  // namespace asnet::toeplitz_solve

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) { m.impl("toeplitz_solve", TORCH_BOX(&asnet::toeplitz_solve::toeplitz_solve)); }
