#include "bindings/arrays.h"
#include "example_kernels.cuh"

ASNET_BINDINGS(module) {
  module.def("reverse_rows", [](const py::array& from, const py::array& to) {
    asnet::bindings::dispatch(from, [&]<typename T>() {
      asnet::cuda::reverse_rows(asnet::bindings::pointer<const T>(from), asnet::bindings::pointer<T>(to), from.shape(0),
                                from.shape(1), nullptr);
    });
  });
}
