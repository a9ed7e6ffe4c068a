// Kernels as nvcc emits them: PTX translated to C++ by ptx/translate.py, in libraries that are opened one at a time. They
// are launched in place of the kernels compiled by g++.
#pragma once

#include "../ptx/machine.h"
#include "block.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <map>
#include <string>

namespace asnet::cuda_on_cpu {

struct Translated {
  const ptx::Kernel* kernel;
  int launches = 0;
};
inline std::map<std::string, Translated>& translated_kernels() {
  static std::map<std::string, Translated> kernels;
  return kernels;
}

// Opens a library and forgets the one before.
inline void use_translated(const std::string& path) {
  translated_kernels().clear();
  if (path.empty()) return;
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error(dlerror());
  auto* kernel = static_cast<const ptx::Kernel*>(dlsym(library, "asnet_ptx_kernels"));
  if (kernel == nullptr) throw Error(path + " holds no translated kernels");
  for (; kernel->name != nullptr; ++kernel) translated_kernels()[kernel->name] = {kernel};
}

// Of a kernel compiled by g++, which has the same name there.
inline Translated* find_translated(const void* kernel) {
  if (translated_kernels().empty()) return nullptr;
  Dl_info info{};
  if (dladdr(kernel, &info) == 0 || info.dli_sname == nullptr || info.dli_saddr != kernel) return nullptr;
  char* const demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr);
  if (demangled == nullptr) return nullptr;
  std::string name(demangled);
  std::free(demangled);
  name = name.substr(0, name.find('('));
  if (name.starts_with("void ")) name = name.substr(5);
  const auto found = translated_kernels().find(name);
  return found == translated_kernels().end() ? nullptr : &found->second;
}

// A kernel's body for the thread that runs (run_translated.h).
void run_translated(const ptx::Kernel& kernel, const void* const* parameters);

}  // namespace asnet::cuda_on_cpu
