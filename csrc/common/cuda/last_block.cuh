// For blocks that share one result: each leaves its part in memory, and the one that comes last finishes, in the order of the
// blocks. No second launch, and the same bits every time.
#pragma once

#include "common/cuda/device.cuh"

namespace asnet::cuda {

// Whether this block is the last of `count`; what all of them wrote before is then there for each of its threads. The
// fences of one thread speak for its block, as barriers stand before and after them.
__device__ __forceinline__ bool arrives_last(int* arrived, int count) {
  ASNET_SHARED(int, before, [1]);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    before[0] = atomicAdd(arrived, 1);
    __threadfence();
  }
  __syncthreads();
  return before[0] == count - 1;
}

}  // namespace asnet::cuda
