// The parameters of a guided convolution as its kernels take them.
#pragma once

#include "bindings/arrays.h"
#include "common/cuda/guided_modulation_formula.cuh"

namespace asnet::bindings {

// multiplier, shift: (N, C) or (1, C), bias: (C,), or None.
template <typename A>
cuda::guided_modulation::ParameterTables<A> parameter_tables(const py::object& multiplier, const py::object& shift,
                                                             const py::object& bias) {
  cuda::guided_modulation::ParameterTables<A> tables;
  const auto strides_of = [](const py::object& table, int64_t (&strides)[2]) {
    if (table.is_none()) return;
    const auto array = py::cast<py::array>(table);
    strides[0] = array.shape(0) == 1 ? 0 : array.shape(1);
    strides[1] = 1;
  };
  tables.multiplier = optional_pointer<const A>(multiplier);
  tables.shift = optional_pointer<const A>(shift);
  tables.conv_bias = optional_pointer<const A>(bias);
  strides_of(multiplier, tables.multiplier_strides);
  strides_of(shift, tables.shift_strides);
  tables.conv_bias_strides[0] = 1;
  return tables;
}

}  // namespace asnet::bindings
