// Instruction sets. A file named *_kernels.cpp is compiled once for each of them, with all of its content in namespace
// asnet::ASNET_ISA (baseline, avx2 or avx512). ASNET_DISPATCH calls the variant for this processor.
//
// A *_kernels.cpp must not include torch headers or standard headers with inline functions: the linker keeps one copy of
// an inline function, and one compiled for AVX-512 would then run on every processor.
#pragma once

namespace asnet {

enum class InstructionSet { baseline, avx2, avx512 };

// Chosen once. The environment variable ASNET_ISA=baseline or avx2 selects less than the processor offers.
InstructionSet instruction_set();
const char* instruction_set_name();

// Whether the avx512 variant may use AMX in bfloat16: compiler, processor and system support it.
bool has_matrix_units();

}  // namespace asnet

// g++ 11 or later, clang 12 or later.
#if defined(__x86_64__) && defined(__linux__) && (__has_include(<amxbf16intrin.h>) || __has_include(<amxintrin.h>))
#define ASNET_COMPILER_KNOWS_AMX 1
#endif

#if defined(__x86_64__)
// Declares functions in the namespace of every instruction set.
#define ASNET_DECLARE_KERNELS(...) \
  namespace asnet::baseline {      \
  __VA_ARGS__                      \
  }                                \
  namespace asnet::avx2 {          \
  __VA_ARGS__                      \
  }                                \
  namespace asnet::avx512 {        \
  __VA_ARGS__                      \
  }
// ASNET_DISPATCH(kernel<float>(a, b)) calls the kernel for this processor and returns what it returns.
#define ASNET_DISPATCH(...)                                                      \
  [&] {                                                                          \
    switch (::asnet::instruction_set()) {                                        \
      case ::asnet::InstructionSet::avx512: return ::asnet::avx512::__VA_ARGS__; \
      case ::asnet::InstructionSet::avx2: return ::asnet::avx2::__VA_ARGS__;     \
      default: return ::asnet::baseline::__VA_ARGS__;                            \
    }                                                                            \
  }()
#else
#define ASNET_DECLARE_KERNELS(...) \
  namespace asnet::baseline {      \
  __VA_ARGS__                      \
  }
#define ASNET_DISPATCH(...) ::asnet::baseline::__VA_ARGS__
#endif
