#include "cuda/guided_conv2d_kernels.cuh"

#include "bindings/guided_tables.h"

namespace {

using namespace asnet::bindings;
using namespace asnet::cuda::guided_conv;

// x: (N, H, W, C), weight: (C_out, 3, 3, C), out: (N, H_out, W_out, C_out).
template <typename T>
void run(const py::array& x, const py::array& weight, const py::object& multiplier, const py::object& shift,
         const py::object& bias, int stride, bool relu, int multiprocessors, const py::array& out) {
  const auto size = [](const py::array& array, int axis) { return static_cast<int>(array.shape(axis)); };
  const Conv3x3Problem<T> problem = {
      pointer<const T>(x),
      pointer<const T>(weight),
      pointer<T>(out),
      x.shape(0),
      size(x, 3),
      size(x, 1),
      size(x, 2),
      size(weight, 0),
      size(out, 1),
      size(out, 2),
      parameter_tables<float>(multiplier, shift, bias),
      relu,
  };
  guided_conv3x3(problem, stride, multiprocessors, nullptr);
}

}  // namespace

ASNET_BINDINGS(module) {
  module.def("guided_conv3x3",
             [](const py::array& x, const py::array& weight, const py::object& multiplier, const py::object& shift,
                const py::object& bias, int stride, bool relu, int multiprocessors, const py::array& out) {
               if (x.dtype().equal(element_type<asnet::cuda::bfloat16>()))
                 run<asnet::cuda::bfloat16>(x, weight, multiplier, shift, bias, stride, relu, multiprocessors, out);
               else
                 run<asnet::cuda::float16>(x, weight, multiplier, shift, bias, stride, relu, multiprocessors, out);
             });
}
