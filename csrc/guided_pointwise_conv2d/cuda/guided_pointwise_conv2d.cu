// Host entry of the guided pointwise convolution for CUDA; see guided_pointwise_conv2d_kernels.cuh.
#include "common/cuda/host.h"
#include "guided_modulation/guided_modulation_arguments.h"
#include "guided_pointwise_conv2d/cuda/guided_pointwise_conv2d_kernels.cuh"

namespace asnet::guided_conv {
namespace {

using namespace guided_modulation;
namespace kernels = asnet::cuda::guided_conv;
using torch::headeronly::MemoryFormat;

Tensor guided_pointwise_conv2d(const Tensor& x1_, const Tensor& x2_, const Tensor& weight_,
                               const OptionalTensor& multiplier, const OptionalTensor& shift,
                               const OptionalTensor& conv_bias, bool relu) {
  constexpr const char* op = "guided_pointwise_conv2d";
  check_maps(op, "x1", x1_);
  check_maps(op, "x2", x2_);
  check_device(op, "x2", x2_, "x1", x1_);
  check_device(op, "weight", weight_, "x1", x1_);
  STD_TORCH_CHECK(x2_.scalar_type() == x1_.scalar_type() && weight_.scalar_type() == x1_.scalar_type(), op,
                  ": x1, x2 and weight must have one dtype");
  for (const int64_t dim : {0, 2, 3})
    STD_TORCH_CHECK(x2_.size(dim) == x1_.size(dim), op, ": x2 has size ", x2_.size(dim), " in dimension ", dim, ", x1 has ",
                    x1_.size(dim));
  const int64_t N = x1_.size(0), H = x1_.size(2), W = x1_.size(3), C1 = x1_.size(1), C2 = x2_.size(1);
  STD_TORCH_CHECK(weight_.dim() == 2 && weight_.size(1) == C1 + C2, op, ": weight must have 2 dimensions (C_out, ", C1 + C2,
                  "), got ", weight_.dim(), weight_.dim() == 2 ? " and size " + std::to_string(weight_.size(1)) : "");

  const cuda::DeviceGuard guard(x1_);
  const Tensor x1 = dense(x1_);
  const MemoryFormat format = x1.is_contiguous() ? MemoryFormat::Contiguous : MemoryFormat::ChannelsLast;
  const Tensor x2 = torch::stable::contiguous(x2_, format), weight = torch::stable::contiguous(weight_);
  const int64_t out_channels = weight.size(0);
  const Tensor out =
      torch::stable::empty({N, out_channels, H, W}, x1.scalar_type(), std::nullopt, x1.device(), std::nullopt, format);

  dispatch_type<cuda::bfloat16, cuda::float16>(op, x1, [&](auto element) {
    using T = decltype(element);
    using Tables = kernels::ParameterTables<cuda::Accumulation<T>>;
    const kernels::PointwiseProblem<T> problem = {
        const_pointer<T>(x1),
        const_pointer<T>(x2),
        const_pointer<T>(weight),
        pointer<T>(out),
        N,
        H * W,
        static_cast<int>(C1),
        static_cast<int>(C2),
        static_cast<int>(out_channels),
        parameter_tables<Tables>(op, out, multiplier, shift, conv_bias),
        relu,
    };
    if (out.numel() == 0) return;
    const auto run = format == MemoryFormat::ChannelsLast ? kernels::guided_pointwise_conv2d<T, true>
                                                          : kernels::guided_pointwise_conv2d<T, false>;
    run(problem, cuda::multiprocessors(), cuda::current_stream(x1));
  });
  return out;
}

}  // namespace
}  // namespace asnet::guided_conv

ASNET_CUDA_LIBRARY(m) { m.impl("guided_pointwise_conv2d", TORCH_BOX(&asnet::guided_conv::guided_pointwise_conv2d)); }
