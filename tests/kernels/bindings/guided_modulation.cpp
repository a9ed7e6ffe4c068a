#include "bindings/guided_tables.h"
#include "guided_modulation/cuda/guided_modulation_kernels.cuh"

#include <limits>

namespace {

using namespace asnet::bindings;
using namespace asnet::cuda::guided_modulation;

// Maps of one image in one row of memory: (N, C, pixels) or, channels-last, (N, pixels, C).
MapShape shape_of(const py::array& maps, bool channels_last) {
  return {maps.shape(0), maps.shape(channels_last ? 2 : 1), maps.shape(channels_last ? 1 : 2)};
}

}  // namespace

ASNET_BINDINGS(module) {
  module.def("guided_modulation",
             [](const py::array& x, const py::object& multiplier, const py::object& shift, const py::object& conv_bias,
                bool relu, bool channels_last, int multiprocessors, const py::array& out) {
               dispatch(x, [&]<typename T>() {
                 launch_forward<T>(shape_of(x, channels_last), channels_last,
                                   parameter_tables<asnet::cuda::Accumulation<T>>(multiplier, shift, conv_bias), relu,
                                   pointer<const T>(x), pointer<T>(out), multiprocessors, nullptr);
               });
             });

  // kept: x where saved_input, the output where only the ReLU needs it, None where nothing does. Returns how many sums
  // blocks have shared.
  module.def("guided_modulation_backward",
             [](const py::array& grad, const py::object& kept, const py::object& multiplier, const py::object& shift,
                const py::object& conv_bias, bool relu, bool saved_input, bool channels_last, int multiprocessors,
                const py::array& grad_x, const py::object& grad_multiplier, const py::array& grad_shift) {
               int64_t shared = 0;
               dispatch(grad, [&]<typename T>() {
                 using A = asnet::cuda::Accumulation<T>;
                 const MapShape shape = shape_of(grad, channels_last);
                 const Gradients<T> to = {pointer<const T>(grad), optional_pointer<const T>(kept), pointer<T>(grad_x),
                                          optional_pointer<A>(grad_multiplier), pointer<A>(grad_shift)};
                 const WorkspaceSize size = backward_workspace(shape, channels_last, to, multiprocessors);
                 std::vector<A> sums(size.sums, std::numeric_limits<A>::quiet_NaN());
                 std::vector<int> arrived(size.counters);
                 launch_backward(shape, channels_last, parameter_tables<A>(multiplier, shift, conv_bias), relu, saved_input,
                                 to, Workspace<A>{sums.data(), arrived.data()}, multiprocessors, nullptr);
                 shared = size.counters;
               });
               return shared;
             });
}
