// The state of the block that runs: its threads, its warps, its shared memory.
#pragma once

#include "fiber.h"
#include "types.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

namespace asnet::cuda_on_cpu {

using Location = std::source_location;

// A kernel did what a GPU forbids or leaves undefined.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Order in which runnable threads run: 0 ascending, -1 descending, otherwise the seed of a shuffle.
inline int read_thread_order() {
  const char* order = std::getenv("ASNET_THREAD_ORDER");
  if (order == nullptr || std::strcmp(order, "ascending") == 0) return 0;
  if (std::strcmp(order, "descending") == 0) return -1;
  char* end = nullptr;
  const long seed = std::strtol(order, &end, 10);
  if (*order == 0 || *end != 0 || seed < 1)
    throw Error("ASNET_THREAD_ORDER is '" + std::string(order) + "'; expected ascending, descending or a seed from 1.");
  return static_cast<int>(seed);
}
inline int& thread_order() {
  static int order = read_thread_order();
  return order;
}

// A copy to shared memory that has been begun.
struct Copy {
  void* to;
  const void* from;  // nullptr: zeros
  size_t bytes;
  unsigned group;
};

// Lanes of a warp with the same mask. Two generations of values, because a lane may start the next exchange while others
// still read the values of the last.
struct Meeting {
  static constexpr size_t value_bytes = 64;
  explicit Meeting(uint32_t mask) : mask(mask) {}
  uint32_t mask;
  uint32_t arrived = 0;
  unsigned generation = 0;
  const char* operation = nullptr;  // of the lane that came first
  Location at;
  char mark[2] = {};  // addresses for ThreadSanitizer
  alignas(16) unsigned char value[2][32][value_bytes];
};

struct Warp {
  uint32_t lanes = 0;     // those that exist
  uint32_t returned = 0;  // those that have left the kernel
  std::vector<std::unique_ptr<Meeting>> meetings;
};

struct Block;

enum class State { ready, at_barrier, at_meeting, returned };

struct Thread {
  uint3 thread_index, block_index;
  dim3 block_size, grid_size;
  unsigned lane = 0;
  Warp* warp = nullptr;
  Block* block = nullptr;

  State state = State::ready;
  const char* operation = nullptr;  // the operation in which it waits, and its position
  Location at;
  Meeting* meeting = nullptr;
  unsigned awaited_generation = 0;

  std::vector<Copy> copies;    // not yet arrived
  unsigned groups = 0;         // made so far
  bool fenced = false;         // __threadfence was called: later atomics publish
  std::vector<void*> atomics;  // accessed since the last fence

  Fiber fiber;
};

struct SharedArray {
  const void* key;  // one for each declaration
  unsigned char* memory;
  size_t bytes;
};

// Addresses for ThreadSanitizer.
struct LaunchMarks {
  char begin, end;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<SharedArray> shared;
  size_t dynamic_shared_bytes = 0;
  char mark[2] = {};  // of its barriers, in turn
  unsigned barriers = 0;
  int votes = 0, vote_result = 0;
  std::exception_ptr error;
  Fiber scheduler;
  void (*body)(const void*) = nullptr;
  const void* arguments = nullptr;
  LaunchMarks* launch = nullptr;

  Block() = default;
  Block(const Block&) = delete;
  ~Block() {
    for (const SharedArray& array : shared) std::free(array.memory);
  }
};

// The thread that runs.
inline constinit thread_local Thread* current = nullptr;

inline std::string place(const Location& at) { return std::string(at.file_name()) + ":" + std::to_string(at.line()); }

inline std::string triple(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
}

inline std::string name(const Thread& thread) {
  const uint3 t = thread.thread_index, b = thread.block_index;
  return "thread " + triple(t.x, t.y, t.z) + " of block " + triple(b.x, b.y, b.z);
}

// "thread (3, 0, 0) of block (0, 0, 0) in __syncthreads at file:line"
inline std::string whereabouts(const Thread& thread) {
  if (thread.state == State::returned) return name(thread) + ", which has returned";
  return name(thread) + " in " + thread.operation + " at " + place(thread.at);
}

// Called by the running thread.
[[noreturn]] inline void fail(const std::string& sentence) { throw Error(name(*current) + ": " + sentence); }

inline bool same_place(const char* operation, const Location& at, const char* other_operation, const Location& other) {
  return at.line() == other.line() && std::strcmp(operation, other_operation) == 0 &&
         std::strcmp(at.file_name(), other.file_name()) == 0;
}

// Not inlined: g++ 12 warns of an overflow in the string concatenation when it is inlined in a kernel.
[[noreturn, gnu::noinline, gnu::cold]] inline void fail_misaligned(size_t bytes, const char* what) {
  fail(std::string(what) + " of " + std::to_string(bytes) + " bytes at an address that is no multiple of its size");
}

inline void expect_multiple(const void* address, size_t bytes, const char* what) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) fail_misaligned(bytes, what);
}

// Limits of all supported architectures: 99 KiB on sm_86, sm_89 and sm_120.
inline constexpr size_t static_shared_limit = 48 << 10, shared_limit = 99 << 10;

// Shared memory of the block for one declaration: exactly this many bytes, all of them 255 (NaN) at first.
inline void* shared_memory(const void* key, size_t bytes, bool dynamic) {
  const Unseen unseen;
  Block& block = *current->block;
  size_t total = block.dynamic_shared_bytes, total_static = 0;
  for (const SharedArray& array : block.shared) {
    if (array.key == key) return array.memory;
    if (array.key != &block) total_static += array.bytes;
  }
  if (!dynamic) total_static += bytes;
  total += total_static;
  if (total_static > static_shared_limit)
    fail(std::to_string(total_static) + " bytes of static shared memory, the limit is " +
         std::to_string(static_shared_limit));
  if (total > shared_limit)
    fail(std::to_string(total) + " bytes of shared memory, a block has at most " + std::to_string(shared_limit));
  auto* memory = static_cast<unsigned char*>(std::malloc(bytes == 0 ? 1 : bytes));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0xff, bytes);
  block.shared.push_back({key, memory, bytes});
  return memory;
}
inline void* dynamic_shared_memory() { return shared_memory(current->block, current->block->dynamic_shared_bytes, true); }

}  // namespace asnet::cuda_on_cpu
