// Host entry of the solution of Toeplitz systems for CUDA; see toeplitz_solve_kernels.cuh.
#include "common/cuda/host.h"
#include "common/tensor_pointers.h"
#include "toeplitz_solve/cuda/toeplitz_solve_kernels.cuh"
#include "toeplitz_solve/toeplitz_solve_arguments.h"

#include <limits>

namespace asnet::toeplitz_solve {
namespace {

namespace kernels = asnet::cuda::toeplitz_solve;

template <typename T>
kernels::Images<T> images(const Tensor& t) {
  return {const_pointer<T>(t), t.stride(0), t.stride(1), t.stride(2)};
}

template <typename T>
void solve(const Tensor& lags, const Tensor& right, const OptionalTensor& support, double weight, int64_t steps,
           const Tensor& out) {
  const int64_t count = right.size(0);
  const int size = static_cast<int>(right.size(1));
  const kernels::WorkspaceSize sizes = kernels::workspace_size<T>(count, size);
  const Tensor values = torch::stable::new_empty(right, {sizes.values});
  const Tensor sums = torch::stable::new_empty(right, {sizes.sums}, ScalarType::Double);
  const Tensor numbers = torch::stable::new_empty(right, {sizes.numbers}, ScalarType::Int);
  kernels::solve<T>({count, size, static_cast<T>(weight), steps, images<T>(lags), images<T>(right),
                     support ? images<bool>(*support) : kernels::Images<bool>{}, pointer<T>(out)},
                    {pointer<T>(values), pointer<double>(sums), pointer<int>(numbers)}, cuda::current_stream(right));
}

Tensor toeplitz_solve(const Tensor& lags, const Tensor& right, const OptionalTensor& support, double weight,
                      int64_t steps) {
  check(lags, right, support, steps);
  // Blocks are counted in 32 bits, and so are the lags of a system with their padding.
  constexpr int64_t most_systems = 1 << 20, largest = 4096;
  STD_TORCH_CHECK(right.size(0) <= most_systems && right.size(1) <= largest, kName, ": right has the shape (",
                  right.size(0), ", ", right.size(1), ", ", right.size(2), "), expected at most ", most_systems,
                  " systems of at most ", largest, " x ", largest);
  const cuda::DeviceGuard guard(right);
  const Tensor out = torch::stable::new_empty(right, {right.size(0), right.size(1), right.size(2)});
  if (out.numel() == 0) return out;
  if (right.scalar_type() == ScalarType::Double)
    solve<double>(lags, right, support, weight, steps, out);
  else
    solve<float>(lags, right, support, weight, steps, out);
  return out;
}

}  // namespace
}  // namespace asnet::toeplitz_solve

ASNET_CUDA_LIBRARY(m) { m.impl("toeplitz_solve", TORCH_BOX(&asnet::toeplitz_solve::toeplitz_solve)); }
