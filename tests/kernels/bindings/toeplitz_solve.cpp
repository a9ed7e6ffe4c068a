#include "bindings/arrays.h"
#include "toeplitz_solve/cuda/toeplitz_solve_kernels.cuh"

#include <algorithm>
#include <limits>
#include <memory>

namespace {

using namespace asnet::bindings;
namespace toeplitz = asnet::cuda::toeplitz_solve;

template <typename T>
toeplitz::Images<T> toeplitz_images(const py::array& images) {
  return {pointer<const T>(images), images.shape(1) * images.shape(2), images.shape(2), 1};
}

// Of exactly `count` elements, to whose bounds sanitizers hold the kernels; NaN, or the largest integers.
template <typename T>
std::unique_ptr<T[]> poisoned_memory(int64_t count) {
  std::unique_ptr<T[]> memory(new T[count]);
  using Limits = std::numeric_limits<T>;
  std::fill_n(memory.get(), count, Limits::has_quiet_NaN ? Limits::quiet_NaN() : Limits::max());
  return memory;
}

template <typename T>
void toeplitz_solve(const py::array& lags, const py::array& right, const py::object& support, double weight, int64_t steps,
                    const py::array& out) {
  const int64_t count = right.shape(0);
  const int size = static_cast<int>(right.shape(1));
  const toeplitz::WorkspaceSize sizes = toeplitz::workspace_size<T>(count, size);
  const auto values = poisoned_memory<T>(sizes.values);
  const auto sums = poisoned_memory<double>(sizes.sums);
  const auto numbers = poisoned_memory<int>(sizes.numbers);
  toeplitz::solve<T>(
      {count, size, static_cast<T>(weight), steps, toeplitz_images<T>(lags), toeplitz_images<T>(right),
       support.is_none() ? toeplitz::Images<bool>{} : toeplitz_images<bool>(py::cast<py::array>(support)), pointer<T>(out)},
      {values.get(), sums.get(), numbers.get()}, nullptr);
}

}  // namespace

ASNET_BINDINGS(module) {
  module.def("toeplitz_solve", [](const py::array& lags, const py::array& right, const py::object& support, double weight,
                                  int64_t steps, const py::array& out) {
    right.dtype().equal(element_type<double>()) ? toeplitz_solve<double>(lags, right, support, weight, steps, out)
                                                : toeplitz_solve<float>(lags, right, support, weight, steps, out);
  });
  // Whether all steps of a system of this size are one launch.
  module.def("toeplitz_fits_block", [](int size, bool in_float64) {
    return in_float64 ? toeplitz::detail::fits_block<double>(size) : toeplitz::detail::fits_block<float>(size);
  });
}
