// Annotations of fibers for ThreadSanitizer and AddressSanitizer; empty in builds without them.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_set_fiber_name(void*, const char*);
void __tsan_acquire(void*);
void __tsan_release(void*);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
void __asan_unpoison_memory_region(const volatile void*, size_t);
}
#endif

// For functions that run half on one fiber and half on the next.
#define ASNET_UNTRACKED __attribute__((no_sanitize("thread"), noinline))

namespace asnet::cuda_on_cpu {

#if defined(__SANITIZE_THREAD__)

inline constexpr bool thread_sanitizer = true;

// During its lifetime, accesses and allocations of this fiber belong to the executor and are ignored: the executor runs one
// fiber at a time, which ThreadSanitizer does not consider an order.
struct Unseen {
  Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  }
  Unseen(const Unseen&) = delete;
};
// Operations before a release at an address happen before those after an acquire there.
inline void acquire(void* address) { __tsan_acquire(address); }
inline void release(void* address) { __tsan_release(address); }

#else

inline constexpr bool thread_sanitizer = false;

struct Unseen {
  Unseen() {}
  Unseen(const Unseen&) = delete;
};
inline void acquire(void*) {}
inline void release(void*) {}

#endif

}  // namespace asnet::cuda_on_cpu
