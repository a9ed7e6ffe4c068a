#include "common/cpu/isa.h"

#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef ASNET_COMPILER_KNOWS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace asnet {
namespace {

#if defined(__x86_64__)
// g++ 10 does not know f16c in __builtin_cpu_supports.
bool supports_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

// Checks every feature that the flags in setup.py enable.
InstructionSet offered_by_processor() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supports_f16c() &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return avx512 ? InstructionSet::avx512 : avx2 ? InstructionSet::avx2 : InstructionSet::baseline;
#else
  return InstructionSet::baseline;
#endif
}

InstructionSet choose() {
  const InstructionSet offered = offered_by_processor();
  const char* variable = std::getenv("ASNET_ISA");
  const std::string_view wanted = variable ? variable : "";
  if (wanted == "baseline") return InstructionSet::baseline;
  if (wanted == "avx2" && offered != InstructionSet::baseline) return InstructionSet::avx2;
  return offered;
}

bool find_matrix_units() {
#ifdef ASNET_COMPILER_KNOWS_AMX
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  if (instruction_set() != InstructionSet::avx512 || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 ||
      (edx & amx_bf16) == 0 || (edx & amx_tile) == 0)
    return false;
  // On Linux a process must request the state of the units; the call fails where the system does not support it.
  constexpr long ask_for_state = 0x1023, state_of_units = 18;
  return syscall(SYS_arch_prctl, ask_for_state, state_of_units) == 0;
#else
  return false;
#endif
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

bool has_matrix_units() {
  static const bool found = find_matrix_units();
  return found;
}

const char* instruction_set_name() {
  switch (instruction_set()) {
    case InstructionSet::avx512: return "avx512";
    case InstructionSet::avx2: return "avx2";
    default: return "baseline";
  }
}

}  // namespace asnet
