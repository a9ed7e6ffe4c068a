// Tasks that threads take in turn. Cores are rarely equally fast: they share caches, power and matrix units with other work.
// With equal shares, the slowest core would determine the time.
#pragma once

#include "common/cpu/workspace.h"
#include "common/integers.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace asnet {

// Ranges of tasks for each thread, so that the last ones to finish are hardly behind.
inline constexpr int64_t task_ranges = 32;

// Calls function(scratch, begin, end) for ranges of tasks 0 to count - 1; every thread has scratch memory of its own. What a
// task computes must not depend on the thread or the range.
template <typename T, typename Function>
void parallel_with_scratch(int64_t count, int64_t scratch_size, const Function& function) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t length = std::max<int64_t>(count / (task_ranges * threads), 1);
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, std::min(threads, ceil_divide(count, length)), 1, [&](int64_t, int64_t) {
    Workspace<T> scratch(scratch_size);
    for (int64_t begin; (begin = next.fetch_add(length, std::memory_order_relaxed)) < count;)
      function(scratch.data(), begin, std::min(begin + length, count));
  });
}

// The same without scratch memory: function(begin, end).
template <typename Function>
void parallel_tasks(int64_t count, const Function& function) {
  parallel_with_scratch<char>(count, 0, [&](char*, int64_t begin, int64_t end) { function(begin, end); });
}

}  // namespace asnet
