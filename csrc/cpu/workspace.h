// Memory of an operator: for the time of one call, and the pages of its result.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace asnet {

inline constexpr std::size_t large_page = std::size_t{2} << 20;

// Asks for large pages for memory that was not touched yet, where they pay: the first touch of a page costs more than
// computing on what it holds.
inline void advise_large_pages(void* data, std::size_t bytes) {
#if defined(__linux__)
  if (bytes < 4 * large_page) return;
  const auto first = (reinterpret_cast<std::uintptr_t>(data) + large_page - 1) / large_page * large_page;
  const auto last = (reinterpret_cast<std::uintptr_t>(data) + bytes) / large_page * large_page;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

template <typename T>
class Workspace {
 public:
  explicit Workspace(int64_t size) : size_(size) {
    const std::size_t needed = static_cast<std::size_t>(size) * sizeof(T), alignment = needed < 4 * large_page ? 64 : large_page;
    const std::size_t bytes = (needed + alignment - 1) / alignment * alignment;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, bytes ? bytes : alignment));
    if (!data_) throw std::bad_alloc();
    advise_large_pages(data_, bytes);
  }
  ~Workspace() { std::free(data_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  T* data_;
  int64_t size_;
};

}  // namespace asnet
