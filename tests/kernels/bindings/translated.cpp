// Kernels as nvcc emits them in place of those that g++ compiles; see cuda_on_cpu/translated.h.
#include "bindings/arrays.h"

ASNET_BINDINGS(module) {
  // The library whose kernels are launched from now on where it has them; none for "".
  module.def("use_translated", asnet::cuda_on_cpu::use_translated);
  // Kernel: launches since then.
  module.def("translated_launches", [] {
    py::dict launches;
    for (const auto& [name, translated] : asnet::cuda_on_cpu::translated_kernels())
      launches[py::str(name)] = translated.launches;
    return launches;
  });
}
