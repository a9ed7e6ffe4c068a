// Build information for `asnet info`.
#include "common/cpu/isa.h"

#include <torch/csrc/stable/library.h>

#include <string>

namespace {

std::string build_information() { return ASNET_BUILD_INFORMATION; }
bool has_matrix_units() { return asnet::has_matrix_units(); }
std::string instruction_set() { return asnet::instruction_set_name(); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(asnet, m) {
  m.def("build_information() -> str");
  m.def("instruction_set() -> str");
  m.def("has_matrix_units() -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(asnet, CompositeExplicitAutograd, m) {
  m.impl("build_information", TORCH_BOX(&build_information));
  m.impl("has_matrix_units", TORCH_BOX(&has_matrix_units));
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}
