// Large blocks of memory that one inference hands from layer to layer.
//
// The system zeroes the pages of a new block at their first touch, which takes as long as a layer takes to write them, and
// every feature map of a large image is a new block. Between `open_reused_memory` and `close_reused_memory`, the pages of
// released blocks of any size are kept and make up the next block.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstddef>

namespace asnet {

inline constexpr std::size_t large_page = std::size_t{2} << 20;

// Smaller blocks come from the ordinary allocator, which keeps them itself.
inline constexpr std::size_t smallest_large_block = 4 * large_page;

// Calls may be nested and come from several threads. Pages are kept while more calls have opened than closed, and all of
// them are returned to the system at the last close.
void open_reused_memory();
void close_reused_memory();

// An uninitialised block, aligned to large pages and advised to use them; throws std::bad_alloc. It remains valid after the
// memory is closed, until it is released.
void* acquire_large_block(std::size_t bytes);
void release_large_block(void* block);

// An uninitialised contiguous tensor with the dtype and device of `like`. Large tensors on the CPU get a large block while
// reused memory is open; all others come from torch's allocator.
torch::stable::Tensor empty_maps(const torch::stable::Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes);

}  // namespace asnet
