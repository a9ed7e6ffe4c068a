// Large blocks of memory that one inference hands from layer to layer.
//
// The system fills the pages of a new block with zeros at their first touch, which takes as long as a layer takes to write
// them, and every feature map of a large image is such a block. Between `open_reused_memory` and `close_reused_memory` the
// pages of blocks that are given back are kept, whatever the size of the block, and the next block is made of them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstddef>

namespace asnet {

inline constexpr std::size_t large_page = std::size_t{2} << 20;

// What is smaller belongs to the ordinary allocator, which keeps such blocks by itself.
inline constexpr std::size_t smallest_large_block = 4 * large_page;

// Calls may be nested and come from several threads: pages are kept while there were more calls of the first than of the
// second, and all of them go back to the system when there are not.
void open_reused_memory();
void close_reused_memory();

// A block aligned to large pages and advised for them, of any content; throws std::bad_alloc. It outlives the closing of the
// memory, as long as it is not given back.
void* acquire_large_block(std::size_t bytes);
void release_large_block(void* block);

// An uninitialised contiguous tensor of the dtype and the device of `like`: on a large block where it is large, on the CPU,
// and reused memory is open; otherwise from torch's allocator.
torch::stable::Tensor empty_maps(const torch::stable::Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes);

}  // namespace asnet
