// torch's unscaled Fourier transforms for host entries. torch caches the plans; on a GPU they run in cuFFT on the current
// stream.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <vector>

namespace asnet::cuda {

namespace detail {

template <typename Last>
torch::stable::Tensor transform(const char* name, const torch::stable::Tensor& values,
                                const std::vector<int64_t>& dimensions, Last last) {
  constexpr int64_t without_factor = 0;
  std::array<StableIValue, 4> stack{torch::stable::detail::from(values), torch::stable::detail::from(dimensions),
                                    torch::stable::detail::from(without_factor), torch::stable::detail::from(last)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<torch::stable::Tensor>(stack[0]);
}

}  // namespace detail

// Along the given dimensions; the last one is halved.
inline torch::stable::Tensor transform_real(const torch::stable::Tensor& values, const std::vector<int64_t>& dimensions) {
  return detail::transform("aten::_fft_r2c", values, dimensions, /*onesided=*/true);
}

// `size`: of the last dimension.
inline torch::stable::Tensor transform_to_real(const torch::stable::Tensor& values, const std::vector<int64_t>& dimensions,
                                               int64_t size) {
  return detail::transform("aten::_fft_c2r", values, dimensions, size);
}

inline torch::stable::Tensor transform_complex(const torch::stable::Tensor& values, const std::vector<int64_t>& dimensions,
                                               bool forward) {
  return detail::transform("aten::_fft_c2c", values, dimensions, forward);
}

}  // namespace asnet::cuda
