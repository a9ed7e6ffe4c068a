// Fibers: each has a stack; a switch keeps the callee-saved registers.
#pragma once

#include "sanitizers.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <vector>

extern "C" void asnet_switch_stack(void** save_stack_pointer, void* stack_pointer);

#if defined(__x86_64__)
asm(R"(
.text
.weak asnet_switch_stack
.type asnet_switch_stack,@function
asnet_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size asnet_switch_stack,.-asnet_switch_stack
)");
#elif defined(__aarch64__)
asm(R"(
.text
.weak asnet_switch_stack
.type asnet_switch_stack,%function
asnet_switch_stack:
  sub sp,sp,#160
  stp x19,x20,[sp]
  stp x21,x22,[sp,#16]
  stp x23,x24,[sp,#32]
  stp x25,x26,[sp,#48]
  stp x27,x28,[sp,#64]
  stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96]
  stp d10,d11,[sp,#112]
  stp d12,d13,[sp,#128]
  stp d14,d15,[sp,#144]
  mov x9,sp
  str x9,[x0]
  mov sp,x1
  ldp x19,x20,[sp]
  ldp x21,x22,[sp,#16]
  ldp x23,x24,[sp,#32]
  ldp x25,x26,[sp,#48]
  ldp x27,x28,[sp,#64]
  ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96]
  ldp d10,d11,[sp,#112]
  ldp d12,d13,[sp,#128]
  ldp d14,d15,[sp,#144]
  add sp,sp,#160
  ret
.size asnet_switch_stack,.-asnet_switch_stack
)");
#else
#error "fibers are written for x86-64 and aarch64"
#endif

namespace asnet::cuda_on_cpu {

struct Fiber {
  void* stack_pointer = nullptr;
  const void* stack = nullptr;  // lowest address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tracked = nullptr;     // ThreadSanitizer's
};

// Runs `to` until something switches back; a fiber that `ends` is never resumed.
ASNET_UNTRACKED inline void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool ends = false) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.tracked, 1);  // 1: the switch implies no order
#endif
  asnet_switch_stack(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// Must run first on a new fiber, which was entered from `caller`.
ASNET_UNTRACKED inline void entered([[maybe_unused]] Fiber& caller) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &caller.stack, &caller.stack_bytes);
#endif
}

// Stacks are reused across blocks and launches, except under ThreadSanitizer: only fresh memory from malloc has no history
// of accesses there.
class Stacks {
 public:
  static constexpr size_t bytes = 256 << 10, guard = 4 << 10;

  char* take() {
    if (thread_sanitizer) return static_cast<char*>(std::malloc(bytes_tracked));
    if (unused.empty()) {
      void* stack = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (stack == MAP_FAILED || mprotect(stack, guard, PROT_NONE) != 0) throw std::bad_alloc();
      return static_cast<char*>(stack);
    }
    char* stack = unused.back();
    unused.pop_back();
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack + guard, bytes - guard);
#endif
    return stack;
  }
  void give_back(char* stack) {
    if (thread_sanitizer)
      std::free(stack);
    else
      unused.push_back(stack);
  }
  ~Stacks() {
    for (char* stack : unused) munmap(stack, bytes);
  }

  static constexpr size_t bytes_tracked = 64 << 10;  // its shadow is cleared for every fiber
  static constexpr size_t size = thread_sanitizer ? bytes_tracked : bytes;

 private:
  std::vector<char*> unused;
};

inline Stacks& stacks() {
  static thread_local Stacks stacks;
  return stacks;
}

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer's fibers, which are slow to create, kept across launches. Within a launch each CUDA thread has its own,
// so that races between blocks are detected. Beyond `limit` threads fibers are reused, and races with their earlier use are
// missed. Destroying fibers would not help, because their numbers are reused at once.
class TrackedFibers {
 public:
  static constexpr size_t limit = 1024;

  void begin_launch() { next = 0; }
  void* take() {
    if (next == limit) next = 0;
    if (next == fibers.size()) fibers.push_back(__tsan_create_fiber(0));
    return fibers[next++];
  }
  // After a failure, when fibers have stopped inside functions.
  void destroy() {
    for (void* fiber : fibers) __tsan_destroy_fiber(fiber);
    fibers.clear();
    next = 0;
  }

 private:
  std::vector<void*> fibers;
  size_t next = 0;
};

inline TrackedFibers& tracked_fibers() {
  static thread_local TrackedFibers fibers;
  return fibers;
}
#endif

// Prepares `fiber` to run `entry`, which must not return.
inline void prepare(Fiber& fiber, char* stack, void (*entry)()) {
  auto* top = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(stack + Stacks::size) & ~uintptr_t{63}) - 8;
  fiber.stack = stack;
  fiber.stack_bytes = Stacks::size;
#if defined(__x86_64__)
  // As if `entry` had been called: its return address (none) is at 16 n + 8.
  top -= 1;
  *top = 0;
  *--top = reinterpret_cast<uintptr_t>(entry);
  std::fill(top - 6, top, 0);
  top -= 6;
#else
  top -= 20;
  std::fill(top, top + 20, 0);
  top[11] = reinterpret_cast<uintptr_t>(entry);  // x30
#endif
  fiber.stack_pointer = top;
}

}  // namespace asnet::cuda_on_cpu
