// Schemas of every operator of asnet; the implementations register themselves for their device.
#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"

namespace {

std::string build_information() { return ASNET_BUILD_INFORMATION; }
std::string instruction_set() { return asnet::instruction_set_name(); }

}  // namespace

STABLE_TORCH_LIBRARY(asnet, m) {
  m.def("build_information() -> str");
  m.def("instruction_set() -> str");
  m.def("cross_correlation(Tensor features, int lag_y, int lag_x, bool circular, str method) -> Tensor");
  m.def(
      "cross_correlation_backward(Tensor grad, Tensor features, int lag_y, int lag_x, bool circular, str method) -> "
      "Tensor");
  m.def("guided_modulation(Tensor x, Tensor? multiplier, Tensor? shift, Tensor? conv_bias, bool relu) -> Tensor");
  m.def("guided_modulation_(Tensor(a!) x, Tensor? multiplier, Tensor? shift, Tensor? conv_bias, bool relu) -> ()");
  m.def(
      "guided_modulation_backward(Tensor grad, Tensor? x, Tensor? output, Tensor? multiplier, Tensor? shift, "
      "Tensor? conv_bias, bool relu) -> (Tensor, Tensor, Tensor)");
  m.def("winograd_conv2d(Tensor x, Tensor weight, Tensor? bias, Tensor? addend, int padding, bool relu) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(asnet, CompositeExplicitAutograd, m) {
  m.impl("build_information", TORCH_BOX(&build_information));
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}
