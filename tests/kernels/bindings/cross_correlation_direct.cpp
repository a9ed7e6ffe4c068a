#include "bindings/arrays.h"
#include "cross_correlation/cuda/cross_correlation_direct_kernels.cuh"

namespace {

asnet::CrossCorrelationSizes sizes_of(const py::array& features, int64_t lag_y, int64_t lag_x, bool circular) {
  return {features.shape(0), features.shape(1), features.shape(2), features.shape(3), lag_y, lag_x, circular};
}

}  // namespace

// `workspace` is an array of bytes, at least as many as cross_correlation_direct_workspace says.
ASNET_BINDINGS(module) {
  module.def("cross_correlation_direct_workspace", [](const py::array& features, int64_t lag_y, int64_t lag_x,
                                                      bool circular, bool backward, int multiprocessors) {
    const auto sizes = sizes_of(features, lag_y, lag_x, circular);
    int64_t bytes = 0;
    asnet::bindings::dispatch(features, [&]<typename T>() {
      bytes = backward ? asnet::cuda::cross_correlation_direct_backward_workspace<T>(sizes, multiprocessors)
                       : asnet::cuda::cross_correlation_direct_workspace<T>(sizes, multiprocessors);
    });
    return bytes;
  });
  module.def("cross_correlation_direct", [](const py::array& features, const py::array& out, const py::array& workspace,
                                            int64_t lag_y, int64_t lag_x, bool circular, int multiprocessors) {
    const auto sizes = sizes_of(features, lag_y, lag_x, circular);
    asnet::bindings::dispatch(features, [&]<typename T>() {
      asnet::cuda::cross_correlation_direct<T>(sizes, asnet::bindings::pointer<const T>(features),
                                               asnet::bindings::pointer<T>(out),
                                               asnet::bindings::pointer<uint8_t>(workspace), multiprocessors, nullptr);
    });
  });
  module.def("cross_correlation_direct_backward",
             [](const py::array& gradient, const py::array& features, const py::array& grad_features,
                const py::array& workspace, int64_t lag_y, int64_t lag_x, bool circular, int multiprocessors) {
               const auto sizes = sizes_of(features, lag_y, lag_x, circular);
               asnet::bindings::dispatch(features, [&]<typename T>() {
                 asnet::cuda::cross_correlation_direct_backward<T>(
                     sizes, asnet::bindings::pointer<const T>(gradient), asnet::bindings::pointer<const T>(features),
                     asnet::bindings::pointer<T>(grad_features), asnet::bindings::pointer<uint8_t>(workspace),
                     multiprocessors, nullptr);
               });
             });
  module.def("cross_correlation_direct_cost",
             [](const py::array& features, int64_t lag_y, int64_t lag_x, bool circular, bool backward) {
               const auto sizes = sizes_of(features, lag_y, lag_x, circular);
               double cost = 0;
               asnet::bindings::dispatch(
                   features, [&]<typename T>() { cost = asnet::cuda::cross_correlation_direct_cost<T>(sizes, backward); });
               return cost;
             });
}
