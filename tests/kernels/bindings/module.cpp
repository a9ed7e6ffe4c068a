// The module `kernels`: the bindings of every operator, and the order of threads.
#include "bindings/arrays.h"

#include <utility>

PYBIND11_MODULE(kernels, module) {
  py::register_exception<asnet::cuda_on_cpu::Error>(module, "KernelError", PyExc_RuntimeError);
  py::register_exception<asnet::bindings::TypeNotBuilt>(module, "TypeNotBuilt", PyExc_RuntimeError);
  // 0: ascending, -1: descending, from 1: seed of a shuffle. Returns the order so far.
  module.def("set_thread_order", [](int order) { return std::exchange(asnet::cuda_on_cpu::thread_order(), order); });
  // Kernel: the most threads and bytes of shared memory that its launches so far have had.
  module.def("largest_launches", [] {
    py::dict launches;
    for (const auto& [kernel, largest] : asnet::cuda_on_cpu::largest_launches())
      launches[py::str(kernel)] = py::make_tuple(largest.threads, largest.shared_bytes);
    return launches;
  });
  for (const auto add : asnet::bindings::all_bindings()) add(module);
}
