#include "bindings/guided_tables.h"
#include "guided_pointwise_conv2d/cuda/guided_pointwise_conv2d_kernels.cuh"

namespace {

using namespace asnet::bindings;
using namespace asnet::cuda::guided_conv;

// Maps of one image in one row of memory: (N, C, pixels) or, channels-last, (N, pixels, C).
template <typename T>
void run(const py::array& x1, const py::array& x2, const py::array& weight, const py::object& multiplier,
         const py::object& shift, const py::object& bias, bool relu, bool channels_last, int multiprocessors,
         const py::array& out) {
  const int channel_axis = channels_last ? 2 : 1, pixel_axis = 3 - channel_axis;
  const PointwiseProblem<T> problem = {
      pointer<const T>(x1),
      pointer<const T>(x2),
      pointer<const T>(weight),
      pointer<T>(out),
      x1.shape(0),
      x1.shape(pixel_axis),
      static_cast<int>(x1.shape(channel_axis)),
      static_cast<int>(x2.shape(channel_axis)),
      static_cast<int>(weight.shape(0)),
      parameter_tables<asnet::cuda::Accumulation<T>>(multiplier, shift, bias),
      relu,
  };
  if (channels_last)
    guided_pointwise_conv2d<T, true>(problem, multiprocessors, nullptr);
  else
    guided_pointwise_conv2d<T, false>(problem, multiprocessors, nullptr);
}

}  // namespace

ASNET_BINDINGS(module) {
  module.def("guided_pointwise_conv2d", [](const py::array& x1, const py::array& x2, const py::array& weight,
                                           const py::object& multiplier, const py::object& shift, const py::object& bias,
                                           bool relu, bool channels_last, int multiprocessors, const py::array& out) {
    dispatch(x1, [&]<typename T>() {
      run<T>(x1, x2, weight, multiplier, shift, bias, relu, channels_last, multiprocessors, out);
    });
  });
}
