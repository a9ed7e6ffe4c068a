// A launch: blocks run one after the other, the threads of a block in turns.
#pragma once

#include "block.h"
#include "translated.h"

#include <map>
#include <numeric>
#include <random>
#include <tuple>
#include <type_traits>

namespace asnet::cuda_on_cpu {

inline void wait_for_scheduler() { switch_fiber(current->fiber, current->block->scheduler); }

// Not tracked, because it never returns; its calls are.
ASNET_UNTRACKED inline void run_thread() {
  Thread& thread = *current;
  Block& block = *thread.block;
  entered(block.scheduler);
  acquire(&block.launch->begin);
  try {
    block.body(block.arguments);
    const Unseen unseen;
    if (!thread.copies.empty()) fail("returns while copies that it began are not waited for");
  } catch (...) {
    const Unseen unseen;
    if (!block.error) block.error = std::current_exception();
  }
  {
    const Unseen unseen;
    thread.warp->returned |= uint32_t{1} << thread.lane;
    thread.state = State::returned;
  }
  release(&block.launch->end);
  switch_fiber(thread.fiber, block.scheduler, true);
  std::abort();
}

inline std::vector<uint32_t> order_of(size_t count, uint64_t salt) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  if (thread_order() < 0) std::reverse(order.begin(), order.end());
  if (thread_order() > 0)
    std::shuffle(order.begin(), order.end(), std::mt19937_64(salt * 1000003 + static_cast<unsigned>(thread_order())));
  return order;
}

// All running threads wait at a barrier of the block: lets them pass if it is the same one.
inline void open_barrier(Block& block) {
  const Thread* first = nullptr;
  const Thread* returned = nullptr;
  for (Thread& thread : block.threads) {
    if (thread.state == State::returned) {
      returned = &thread;
      continue;
    }
    if (first == nullptr) first = &thread;
    if (!same_place(first->operation, first->at, thread.operation, thread.at))
      throw Error("threads of one block meet at different barriers: " + whereabouts(*first) + " and " +
                  whereabouts(thread));
    thread.state = State::ready;
  }
  if (returned != nullptr)
    throw Error("a barrier is not reached by all threads of its block: " + whereabouts(*first) + " waits for " +
                whereabouts(*returned));
  ++block.barriers;
  block.vote_result = block.votes;
  block.votes = 0;
}

[[noreturn]] inline void report_deadlock(const Block& block) {
  for (const Thread& thread : block.threads) {
    if (thread.state != State::at_meeting) continue;
    const uint32_t missing = thread.meeting->mask & ~thread.meeting->arrived;
    for (const Thread& other : block.threads)
      if (other.warp == thread.warp && (missing >> other.lane & 1) != 0)
        throw Error("lanes of a warp collective are missing: " + whereabouts(thread) + " waits for " + whereabouts(other));
  }
  throw Error("deadlock");
}

inline void run_block(Block& block, uint64_t number) {
  const std::vector<uint32_t> order = order_of(block.threads.size(), number + 1);
  for (;;) {
    bool ran = false;
    size_t at_barrier = 0, returned = 0;
    for (const uint32_t i : order) {
      Thread& thread = block.threads[i];
      if (thread.state == State::at_meeting && thread.meeting->generation != thread.awaited_generation)
        thread.state = State::ready;
      if (thread.state == State::ready) {
        ran = true;
        current = &thread;
        switch_fiber(block.scheduler, thread.fiber);
        if (block.error) std::rethrow_exception(block.error);
      }
      at_barrier += thread.state == State::at_barrier;
      returned += thread.state == State::returned;
    }
    if (returned == block.threads.size()) return;
    if (at_barrier > 0 && at_barrier + returned == block.threads.size())
      open_barrier(block);
    else if (!ran)
      report_deadlock(block);
  }
}

inline void enter_block(Block& block) {
  for (Thread& thread : block.threads) {
    prepare(thread.fiber, stacks().take(), &run_thread);
#if defined(__SANITIZE_THREAD__)
    thread.fiber.tracked = tracked_fibers().take();
    __tsan_set_fiber_name(thread.fiber.tracked, name(thread).c_str());
  }
  block.scheduler.tracked = __tsan_get_current_fiber();
#else
  }
#endif
}

inline void leave_block(Block& block, [[maybe_unused]] bool failed) {
  current = nullptr;
  for (Thread& thread : block.threads) stacks().give_back(static_cast<char*>(const_cast<void*>(thread.fiber.stack)));
#if defined(__SANITIZE_THREAD__)
  if (failed) tracked_fibers().destroy();
#endif
}

inline void expect_valid(dim3 grid, dim3 block) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads < 1 || threads > 1024 || block.z > 64)
    throw Error("a launch with blocks of " + triple(block.x, block.y, block.z) + " threads; 1 to 1024 are possible");
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    throw Error("a launch with a grid of " + triple(grid.x, grid.y, grid.z) +
                " blocks; 1 to 2147483647, 65535 and 65535 are possible");
}

// Largest launches by kernel name, without namespace and template arguments.
struct LargestLaunch {
  size_t threads = 0, shared_bytes = 0;
};
inline std::map<std::string, LargestLaunch>& largest_launches() {
  static std::map<std::string, LargestLaunch> launches;
  return launches;
}
inline void record(const char* kernel, const Block& block) {
  std::string name(kernel);
  name = name.substr(0, name.find('<'));
  const size_t begin = name.find_last_of("(: ");
  if (begin != std::string::npos) name = name.substr(begin + 1);
  size_t shared = block.dynamic_shared_bytes;
  for (const SharedArray& array : block.shared)
    if (array.key != &block) shared += array.bytes;
  LargestLaunch& largest = largest_launches()[name];
  largest.threads = std::max(largest.threads, block.threads.size());
  largest.shared_bytes = std::max(largest.shared_bytes, shared);
}

inline void launch_body(const char* kernel, dim3 grid, dim3 block_size, size_t dynamic_shared_bytes,
                        void (*body)(const void*), const void* arguments) {
  const Unseen unseen;
  expect_valid(grid, block_size);
  if (current != nullptr) throw Error("a kernel launches a kernel");
  const size_t threads = size_t{block_size.x} * block_size.y * block_size.z;
  const auto marks = std::make_unique<LaunchMarks>();
#if defined(__SANITIZE_THREAD__)
  tracked_fibers().begin_launch();
#endif
  release(&marks->begin);
  // Blocks are not ordered: the threads of a block happen after what precedes the launch and before what follows it.
  for (const uint32_t number : order_of(size_t{grid.x} * grid.y * grid.z, 0)) {
    // On the heap: ThreadSanitizer forgets the marks of a barrier where memory is freed, not where a function returns.
    const auto owner = std::make_unique<Block>();
    Block& block = *owner;
    block.threads = std::vector<Thread>(threads);
    block.warps = std::vector<Warp>((threads + 31) / 32);
    block.dynamic_shared_bytes = dynamic_shared_bytes;
    block.body = body;
    block.arguments = arguments;
    block.launch = marks.get();
    for (unsigned i = 0; i < threads; ++i) {
      Thread& thread = block.threads[i];
      thread.thread_index = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
      thread.block_index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
      thread.block_size = block_size;
      thread.grid_size = grid;
      thread.lane = i % 32;
      thread.warp = &block.warps[i / 32];
      thread.warp->lanes |= uint32_t{1} << thread.lane;
      thread.block = &block;
    }
    enter_block(block);
    try {
      run_block(block, number);
    } catch (...) {
      leave_block(block, true);
      throw;
    }
    leave_block(block, false);
    record(kernel, block);
  }
  acquire(&marks->end);
}

template <typename... Parameters>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared_bytes,
            cudaStream_t, std::type_identity_t<Parameters>... arguments) {
  if (Translated* const translated = find_translated(reinterpret_cast<const void*>(kernel))) {
    struct Call {
      const ptx::Kernel& kernel;
      const void* parameters[sizeof...(Parameters)];
    };
    const std::tuple<Parameters...> values(arguments...);
    const Call call = std::apply([&](const auto&... value) { return Call{*translated->kernel, {&value...}}; }, values);
    const auto body = [](const void* data) {
      const auto* call = static_cast<const Call*>(data);
      run_translated(call->kernel, call->parameters);
    };
    ++translated->launches;
    return launch_body(name, grid, block, dynamic_shared_bytes, body, &call);
  }
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  const Call call{kernel, {arguments...}};
  const auto body = [](const void* data) {
    const auto* call = static_cast<const Call*>(data);
    std::apply(call->kernel, call->arguments);
  };
  launch_body(name, grid, block, dynamic_shared_bytes, body, &call);
}

}  // namespace asnet::cuda_on_cpu
