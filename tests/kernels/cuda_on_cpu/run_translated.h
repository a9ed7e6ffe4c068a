// Operations of translated kernels on their threads, by those of language.h and the CPU counterparts of device.cuh.
#pragma once

#include "device.h"

namespace asnet::cuda_on_cpu {

inline void fail_at(const char* sentence, Location at) { fail(std::string(sentence) + " at " + place(at)); }

inline uint32_t shuffle_xor(uint32_t mask, uint32_t value, uint32_t by, Location at) {
  return __shfl_xor_sync(mask, value, static_cast<int>(by), 32, at);
}

inline void load_matrices(uint32_t (&r)[4], const void* row, bool transposed, Location at) {
  transposed ? cuda::load_matrices<true>(r, row, at) : cuda::load_matrices<false>(r, row, at);
}

inline void copy(void* to, const void* from, int bytes, bool inside) {
  switch (bytes) {
    case 4: return cuda::copy_in_background<4>(to, from, inside);
    case 8: return cuda::copy_in_background<8>(to, from, inside);
    default: return cuda::copy_in_background<16>(to, from, inside);
  }
}

inline void wait_for_copies(int groups) {
  switch (groups) {
    case 0: return cuda::wait_for_copies<0>();
    case 1: return cuda::wait_for_copies<1>();
    case 2: return cuda::wait_for_copies<2>();
    default: fail("waits for all but " + std::to_string(groups) + " groups of copies");
  }
}

inline void run_translated(const ptx::Kernel& kernel, const void* const* parameters) {
  const uint3 thread = threadIdx, block = blockIdx;
  const dim3 threads = blockDim, blocks = gridDim;
  const size_t dynamic_bytes = current->block->dynamic_shared_bytes;
  const ptx::Machine machine = {
      {thread.x, thread.y, thread.z},
      {block.x, block.y, block.z},
      {threads.x, threads.y, threads.z},
      {blocks.x, blocks.y, blocks.z},
      static_cast<unsigned char*>(shared_memory(&kernel, kernel.static_bytes, false)),
      static_cast<unsigned char*>(dynamic_shared_memory()),
      kernel.static_bytes,
      dynamic_bytes,
      fail_at,
      [](Location at) { __syncthreads(at); },
      [](uint32_t mask, Location at) { __syncwarp(mask, at); },
      shuffle_xor,
      [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location at) {
        cuda::mma_m16n8k16<cuda::bfloat16>(d, a, b, at);
      },
      [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location at) {
        cuda::mma_m16n8k16<cuda::float16>(d, a, b, at);
      },
      [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location at) {
        cuda::mma_m16n8k8_tf32(d, a, b, at);
      },
      load_matrices,
      copy,
      cuda::group_copies,
      wait_for_copies,
      __threadfence,
      [](uint32_t* address, uint32_t value) { return atomicAdd(address, value); },
  };
  kernel.run(machine, parameters);
}

}  // namespace asnet::cuda_on_cpu
