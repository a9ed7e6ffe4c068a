// Pages kept between blocks. A block that fits into a run of kept pages uses them in place; otherwise pages from several
// runs are moved to new addresses without copying (mremap). The memory held therefore never exceeds the peak of the blocks
// in use at one time.
#include "common/cpu/reused_memory.h"

#include "common/cpu/workspace.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <unordered_map>
#include <vector>

namespace asnet {
namespace {

using torch::stable::Tensor;

// Within one mapping: mremap moves no more than that.
struct Pages {
  char* begin;
  std::size_t bytes;
};

class KeptPages {
 public:
  KeptPages() { pthread_atfork(&before_fork, &after_fork, &after_fork_in_child); }

  void open() {
    const std::lock_guard lock(mutex_);
    ++open_;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    if (open_ > 0 && --open_ == 0) free_kept();
  }

  bool is_open() {
    const std::lock_guard lock(mutex_);
    return open_ > 0;
  }

  void* acquire(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = (bytes + large_page - 1) / large_page * large_page;
    std::vector<Pages> parts;
    char* block = nullptr;
    std::size_t filled = 0;
    while (filled < size && !kept_.empty()) {
      const Pages part = take(size - filled);
      if (part.bytes == size) {
        block = part.begin;
      } else {
        if (!block) block = reserve(size);
        void* const moved = mremap(part.begin, part.bytes, part.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, block + filled);
        if (moved == MAP_FAILED) {  // too many mappings
          munmap(part.begin, part.bytes);
          continue;
        }
      }
      parts.push_back({block + filled, part.bytes});
      filled += part.bytes;
    }
    if (filled < size) {
      if (!block) block = reserve(size);
      char* const rest = block + filled;
      if (mprotect(rest, size - filled, PROT_READ | PROT_WRITE) != 0) {
        munmap(block, size);
        throw std::bad_alloc();
      }
      madvise(rest, size - filled, MADV_HUGEPAGE);
      parts.push_back({rest, size - filled});
    }
    blocks_.emplace(block, std::move(parts));
    return block;
  }

  void release(void* block) {
    const std::lock_guard lock(mutex_);
    const auto parts = blocks_.extract(block);
    for (const Pages& part : parts.mapped()) {
      if (open_ > 0)
        kept_.push_back(part);
      else
        munmap(part.begin, part.bytes);
    }
  }

 private:
  // At most `wanted` bytes of kept pages: from the smallest run that suffices, or else the largest run.
  Pages take(std::size_t wanted) {
    const auto found = std::min_element(kept_.begin(), kept_.end(), [&](const Pages& a, const Pages& b) {
      const bool a_is_enough = a.bytes >= wanted, b_is_enough = b.bytes >= wanted;
      if (a_is_enough != b_is_enough) return a_is_enough;
      return a_is_enough ? a.bytes < b.bytes : a.bytes > b.bytes;
    });
    const Pages part{found->begin, std::min(found->bytes, wanted)};
    found->begin += part.bytes;
    found->bytes -= part.bytes;
    if (found->bytes == 0) kept_.erase(found);
    return part;
  }

  // Reserves addresses without memory.
  static char* reserve(std::size_t size) {
    void* const mapped = mmap(nullptr, size + large_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    char* const begin = static_cast<char*>(mapped);
    const std::size_t front = -reinterpret_cast<std::uintptr_t>(begin) % large_page;
    if (front > 0) munmap(begin, front);
    munmap(begin + front + size, large_page - front);
    return begin + front;
  }

  void free_kept() {
    for (const Pages& part : kept_) munmap(part.begin, part.bytes);
    kept_.clear();
  }

  // Other threads do not exist in a child process, so their inference would never close what it has opened.
  static void before_fork();
  static void after_fork();
  static void after_fork_in_child();

  std::mutex mutex_;
  int64_t open_ = 0;
  std::vector<Pages> kept_;
  std::unordered_map<void*, std::vector<Pages>> blocks_;
};

KeptPages& kept_pages() {
  static KeptPages& pages = *new KeptPages;  // never destroyed: tensors may outlive static objects
  return pages;
}

void KeptPages::before_fork() { kept_pages().mutex_.lock(); }
void KeptPages::after_fork() { kept_pages().mutex_.unlock(); }
void KeptPages::after_fork_in_child() {
  kept_pages().open_ = 0;
  kept_pages().free_kept();
  kept_pages().mutex_.unlock();
}

}  // namespace

void open_reused_memory() { kept_pages().open(); }
void close_reused_memory() { kept_pages().close(); }

void* acquire_large_block(std::size_t bytes) { return kept_pages().acquire(bytes); }
void release_large_block(void* block) { kept_pages().release(block); }

Tensor empty_maps(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t elements = 1;
  for (std::size_t dim = sizes.size(); dim-- > 0; elements *= sizes[dim]) strides[dim] = elements;
  const std::size_t bytes = static_cast<std::size_t>(elements) * like.element_size();
  if (like.is_cpu() && bytes >= smallest_large_block && kept_pages().is_open())
    return torch::stable::from_blob(acquire_large_block(bytes), sizes, strides, like.device(), like.scalar_type(),
                                    &release_large_block);
  Tensor out = torch::stable::new_empty(like, sizes);
  if (like.is_cpu()) advise_large_pages(out.mutable_data_ptr(), bytes);
  return out;
}

}  // namespace asnet

// Registered for every device: the first two take no tensor, and the third uses torch's allocator except on the CPU.
STABLE_TORCH_LIBRARY_IMPL(asnet, CompositeExplicitAutograd, m) {
  m.impl("open_reused_memory", TORCH_BOX(&asnet::open_reused_memory));
  m.impl("close_reused_memory", TORCH_BOX(&asnet::close_reused_memory));
  m.impl("empty_maps", TORCH_BOX(&asnet::empty_maps));
}
