// Memory of an operator: scratch memory for one call, and the pages of its result.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "common/cpu/reused_memory.h"

namespace asnet {

// Requests large pages for untouched memory where they pay off: the first touch of a page costs more than computing on
// its content.
inline void advise_large_pages(void* data, std::size_t bytes) {
#if defined(__linux__)
  if (bytes < smallest_large_block) return;
  const auto first = (reinterpret_cast<std::uintptr_t>(data) + large_page - 1) / large_page * large_page;
  const auto last = (reinterpret_cast<std::uintptr_t>(data) + bytes) / large_page * large_page;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

template <typename T>
class Workspace {
 public:
  explicit Workspace(int64_t size) : size_(size), bytes_(static_cast<std::size_t>(size) * sizeof(T)) {
    if (bytes_ >= smallest_large_block) {
      data_ = static_cast<T*>(acquire_large_block(bytes_));
      return;
    }
    data_ = static_cast<T*>(std::aligned_alloc(alignment, (bytes_ / alignment + 1) * alignment));
    if (!data_) throw std::bad_alloc();
  }
  ~Workspace() {
    if (bytes_ >= smallest_large_block)
      release_large_block(data_);
    else
      std::free(data_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  static constexpr std::size_t alignment = 64;

  T* data_;
  int64_t size_;
  std::size_t bytes_;
};

}  // namespace asnet
