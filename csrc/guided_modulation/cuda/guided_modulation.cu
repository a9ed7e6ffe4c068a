// Host entries of guided modulation for CUDA; see guided_modulation_kernels.cuh.
#include "common/cuda/host.h"
#include "guided_modulation/cuda/guided_modulation_kernels.cuh"
#include "guided_modulation/guided_modulation_arguments.h"

namespace asnet::guided_modulation {
namespace {

namespace kernels = asnet::cuda::guided_modulation;
using cuda::bfloat16, cuda::float16;

kernels::MapShape kernel_shape(const char* op, const Tensor& x) {
  const MapShape shape = map_shape(x);
  STD_TORCH_CHECK(shape.N * shape.C <= kernels::kMostPlanes, op, ": N * C is at most ", kernels::kMostPlanes, ", got ",
                  shape.N * shape.C);
  return {shape.N, shape.C, shape.pixels};
}

void modulate(const char* op, const Tensor& x, const OptionalTensor& multiplier, const OptionalTensor& shift,
              const OptionalTensor& conv_bias, bool relu, const Tensor& out) {
  const kernels::MapShape shape = kernel_shape(op, x);
  dispatch_type<bfloat16, float16>(op, x, [&](auto element) {
    using T = decltype(element);
    using A = cuda::Accumulation<T>;
    const auto tables = parameter_tables<kernels::ParameterTables<A>>(op, x, multiplier, shift, conv_bias);
    const cuda::DeviceGuard guard(x);
    if (x.numel() == 0) return;
    kernels::launch_forward<T>(shape, walk_pixels(x), tables, relu, const_pointer<T>(x), pointer<T>(out),
                               cuda::multiprocessors(), cuda::current_stream(x));
  });
}

void differentiate(const char* op, const BackwardTensors& tensors, const OptionalTensor& multiplier,
                   const OptionalTensor& shift, const OptionalTensor& conv_bias, bool relu) {
  const Tensor& grad = tensors.grad;
  const kernels::MapShape shape = kernel_shape(op, grad);
  dispatch_type<bfloat16, float16>(op, grad, [&](auto element) {
    using T = decltype(element);
    using A = cuda::Accumulation<T>;
    const auto tables = parameter_tables<kernels::ParameterTables<A>>(op, grad, multiplier, shift, conv_bias);
    const cuda::DeviceGuard guard(grad);
    const bool pixels = walk_pixels(tensors.kept);
    const kernels::Gradients<T> to = {const_pointer<T>(grad), tensors.reads_kept ? const_pointer<T>(tensors.kept) : nullptr,
                                      pointer<T>(tensors.grad_x), pointer<A>(tensors.grad_multiplier),
                                      pointer<A>(tensors.grad_shift)};
    const int multiprocessors = cuda::multiprocessors();

    const kernels::WorkspaceSize size = kernels::backward_workspace(shape, pixels, to, multiprocessors);
    std::optional<Tensor> sums, arrived;
    kernels::Workspace<A> workspace = {};
    if (size.counters > 0) {
      sums = torch::stable::new_empty(grad, {size.sums}, tensors.grad_shift.scalar_type());
      arrived = torch::stable::new_empty(grad, {size.counters}, ScalarType::Int);
      torch::stable::zero_(*arrived);
      workspace = {pointer<A>(*sums), pointer<int>(*arrived)};
    }
    kernels::launch_backward(shape, pixels, tables, relu, tensors.saved_input, to, workspace, multiprocessors,
                             cuda::current_stream(grad));
  });
}

}  // namespace
}  // namespace asnet::guided_modulation

ASNET_CUDA_LIBRARY(m) {
  namespace op = asnet::guided_modulation;
  m.impl("guided_modulation", TORCH_BOX(&op::forward<op::modulate>));
  m.impl("guided_modulation_", TORCH_BOX(&op::forward_in_place<op::modulate>));
  m.impl("guided_modulation_backward", TORCH_BOX(&op::backward<op::differentiate>));
}
