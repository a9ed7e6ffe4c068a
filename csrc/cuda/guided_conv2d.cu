// Host entry of the guided 3x3 convolution for CUDA; see guided_conv2d_kernels.cuh.
#include <limits>

#include "cuda/guided_conv2d_kernels.cuh"
#include "cuda/host.h"
#include "guided_modulation_arguments.h"

namespace asnet::guided_conv {
namespace {

using namespace guided_modulation;
namespace kernels = asnet::cuda::guided_conv;
using torch::headeronly::MemoryFormat;

// Channels-last and, where a view begins inside of 16 bytes, moved to where chunks of 16 bytes can be read.
Tensor chunked(const Tensor& t) {
  const Tensor dense = torch::stable::contiguous(t, MemoryFormat::ChannelsLast);
  const bool aligned = reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % kernels::kChunkBytes == 0;
  return aligned ? dense : torch::stable::clone(dense);
}

Tensor guided_conv3x3(const Tensor& x_, const Tensor& weight_, const OptionalTensor& multiplier,
                      const OptionalTensor& shift, const OptionalTensor& conv_bias, int64_t stride, bool relu) {
  constexpr const char* op = "guided_conv3x3";
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  check_maps(op, "x", x_);
  check_maps(op, "weight", weight_);
  check_device(op, "weight", weight_, "x", x_);
  const ScalarType type = x_.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Half, op, ": x must be bfloat16 or float16");
  STD_TORCH_CHECK(weight_.scalar_type() == type, op, ": weight must have the dtype of x");
  const int64_t N = x_.size(0), C = x_.size(1), H = x_.size(2), W = x_.size(3), out_channels = weight_.size(0);
  STD_TORCH_CHECK(C > 0 && C % kernels::kConvChannelMultiple == 0, op, ": x must have a multiple of ",
                  kernels::kConvChannelMultiple, " channels, got ", C);
  STD_TORCH_CHECK(weight_.size(1) == C && weight_.size(2) == 3 && weight_.size(3) == 3, op,
                  ": weight must have the shape (C_out, ", C, ", 3, 3), got (", out_channels, ", ", weight_.size(1), ", ",
                  weight_.size(2), ", ", weight_.size(3), ")");
  STD_TORCH_CHECK(stride == 1 || stride == 2, op, ": stride must be 1 or 2, got ", stride);
  STD_TORCH_CHECK(H > 0 && W > 0, op, ": x must have pixels, got the size ", H, " x ", W);
  STD_TORCH_CHECK(weight_.numel() <= kMost && H * W <= kMost, op, ": at most ", kMost, " weights and pixels, got ",
                  weight_.numel(), " and ", H * W);

  const cuda::DeviceGuard guard(x_);
  const Tensor x = chunked(x_), weight = chunked(weight_);
  const int64_t out_H = (H - 1) / stride + 1, out_W = (W - 1) / stride + 1;
  const Tensor out = torch::stable::empty({N, out_channels, out_H, out_W}, type, std::nullopt, x.device(), std::nullopt,
                                          MemoryFormat::ChannelsLast);

  const auto run = [&](auto element) {
    using T = decltype(element);
    const kernels::Conv3x3Problem<T> problem = {
        const_pointer<T>(x),
        const_pointer<T>(weight),
        pointer<T>(out),
        N,
        static_cast<int>(C),
        static_cast<int>(H),
        static_cast<int>(W),
        static_cast<int>(out_channels),
        static_cast<int>(out_H),
        static_cast<int>(out_W),
        parameter_tables<kernels::ParameterTables<float>>(op, out, multiplier, shift, conv_bias),
        relu,
    };
    if (out.numel() == 0) return;
    kernels::guided_conv3x3(problem, static_cast<int>(stride), cuda::multiprocessors(), cuda::current_stream(x));
  };
  type == ScalarType::Half ? run(cuda::float16()) : run(cuda::bfloat16());
  cuda::check_launch(op);
  return out;
}

}  // namespace
}  // namespace asnet::guided_conv

ASNET_CUDA_LIBRARY(m) { m.impl("guided_conv3x3", TORCH_BOX(&asnet::guided_conv::guided_conv3x3)); }
