// Tasks that threads take in turn. Cores are rarely equally fast: they share caches, power and matrix units with other work.
// With equal shares, the slowest core would determine the time.
#pragma once

#include "common/integers.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace asnet {

// Tasks [begin, end); empty when all are taken.
struct TaskRange {
  int64_t begin, end;
  explicit operator bool() const { return begin < end; }
};

// Tasks 0 to count - 1, handed out in ranges.
class Tasks {
 public:
  Tasks(int64_t count, int64_t threads) : count_(count), length_(std::max<int64_t>(count / (kRanges * threads), 1)) {}
  int64_t ranges() const { return ceil_divide(count_, length_); }
  TaskRange take() {
    const int64_t begin = next_.fetch_add(length_, std::memory_order_relaxed);
    return {begin, std::min(begin + length_, count_)};
  }

 private:
  // For each thread, so that the last ones to finish are hardly behind.
  static constexpr int64_t kRanges = 32;

  const int64_t count_, length_;
  std::atomic<int64_t> next_{0};
};

// Calls worker(tasks) on every thread, which takes tasks until none are left. What a task computes must not depend on the
// thread or the range.
template <typename Worker>
void parallel_tasks(int64_t count, const Worker& worker) {
  const int64_t threads = torch::stable::get_num_threads();
  Tasks tasks(count, threads);
  torch::stable::parallel_for(0, std::min(threads, tasks.ranges()), 1, [&](int64_t, int64_t) { worker(tasks); });
}

}  // namespace asnet
