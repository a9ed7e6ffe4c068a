// Instruction sets: a file named *_kernels.cpp is compiled once for each of them, everything in it inside
// namespace asnet::ASNET_ISA (baseline, avx2 or avx512), and ASNET_DISPATCH calls the variant for this processor.
//
// Rules for a *_kernels.cpp: include no torch header and no part of the standard library that brings inline functions
// (an inline function compiled for AVX-512 must never be the copy that the linker keeps for everybody).
#pragma once

namespace asnet {

enum class InstructionSet { baseline, avx2, avx512 };

// Chosen once; the environment variable ASNET_ISA=baseline or avx2 asks for less than the processor offers.
InstructionSet instruction_set();
const char* instruction_set_name();

// Whether the avx512 variant may use AMX in bfloat16: the compiler knew it, processor and system offer it.
bool has_matrix_units();

}  // namespace asnet

// Of g++ 11 and clang 12 on.
#if defined(__x86_64__) && defined(__linux__) && (__has_include(<amxbf16intrin.h>) || __has_include(<amxintrin.h>))
#define ASNET_COMPILER_KNOWS_AMX 1
#endif

#if defined(__x86_64__)
// Declares the same functions in the namespace of every instruction set.
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
