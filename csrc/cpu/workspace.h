// Memory of an operator for the time of one call.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace asnet {

template <typename T>
class Workspace {
 public:
  explicit Workspace(int64_t size) : size_(size) {
    // Large pages where they pay: the first touch of a page costs more than computing on what it holds.
    constexpr std::size_t large_page = std::size_t{2} << 20;
    const std::size_t needed = static_cast<std::size_t>(size) * sizeof(T), alignment = needed < 4 * large_page ? 64 : large_page;
    const std::size_t bytes = (needed + alignment - 1) / alignment * alignment;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, bytes ? bytes : alignment));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == large_page) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
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
