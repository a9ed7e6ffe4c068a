// NumPy arrays as the pointers that launchers take, and the registration of bindings.
//
//   ASNET_BINDINGS(module) { module.def("scale", [](py::array from, py::array to) { ... pointer<const float>(from) ... }); }
//
// bfloat16 comes as uint16 arrays of its bits (bfloat16.py converts), float16 as NumPy's.
#pragma once

#include "common/cuda/device.cuh"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace py = pybind11;

namespace asnet::bindings {

using Binding = void (*)(py::module_&);
inline std::vector<Binding>& all_bindings() {
  static std::vector<Binding> bindings;
  return bindings;
}
struct Registration {
  explicit Registration(Binding binding) { all_bindings().push_back(binding); }
};

// Numbered, because several files may be compiled as one.
#define ASNET_BINDINGS(module) ASNET_COUNTED_BINDINGS(module, __COUNTER__)
#define ASNET_COUNTED_BINDINGS(module, number) ASNET_NUMBERED_BINDINGS(module, number)
#define ASNET_NUMBERED_BINDINGS(module, number)                                              \
  static void add_bindings_##number(py::module_& module);                                    \
  static const ::asnet::bindings::Registration registration_##number(add_bindings_##number); \
  static void add_bindings_##number([[maybe_unused]] py::module_& module)

template <typename T>
py::dtype element_type() {
  if constexpr (std::is_same_v<T, cuda::bfloat16>)
    return py::dtype::of<uint16_t>();
  else if constexpr (std::is_same_v<T, cuda::float16>)
    return py::dtype("float16");
  else
    return py::dtype::of<T>();
}

// pointer<const T> for reading, pointer<T> also for writing. Nothing is converted: outputs would go to a copy.
template <typename T>
T* pointer(const py::array& array) {
  using Element = std::remove_const_t<T>;
  const py::dtype expected = element_type<Element>();
  if (!array.dtype().is(expected) && !array.dtype().equal(expected))
    throw py::type_error("an array of " + std::string(py::str(array.dtype())) + "; expected " +
                         std::string(py::str(expected)));
  if ((array.flags() & py::array::c_style) == 0) throw py::value_error("an array that is not contiguous");
  if constexpr (std::is_const_v<T>)
    return static_cast<T*>(array.data());
  else
    return static_cast<T*>(const_cast<py::array&>(array).mutable_data());
}

// The same for an argument that may be None.
template <typename T>
T* optional_pointer(const py::object& array) {
  return array.is_none() ? nullptr : pointer<T>(py::cast<py::array>(array));
}

// Types that builds with sanitizers omit: the templates are the same, and they take the most time to compile.
struct TypeNotBuilt : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Calls function.operator()<T>() for the element type of an array: float, double, bfloat16 (uint16) or float16.
template <typename Function>
void dispatch(const py::array& array, Function function) {
  const py::dtype type = array.dtype();
  if (type.equal(element_type<float>()))
    function.template operator()<float>();
  else if (type.equal(element_type<cuda::bfloat16>()))
    function.template operator()<cuda::bfloat16>();
#ifdef ASNET_SANITIZED
  else if (type.equal(element_type<double>()) || type.equal(element_type<cuda::float16>()))
    throw TypeNotBuilt(std::string(py::str(type)) + " is left out of the build with sanitizers");
#else
  else if (type.equal(element_type<double>()))
    function.template operator()<double>();
  else if (type.equal(element_type<cuda::float16>()))
    function.template operator()<cuda::float16>();
#endif
  else
    throw py::type_error("an array of " + std::string(py::str(type)) +
                         "; expected float32, float64, uint16 (bfloat16) or float16");
}

}  // namespace asnet::bindings
