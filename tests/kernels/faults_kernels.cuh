// Kernels with one fault each, and corrected: they show that the checks find these faults (test_faults.py).
#pragma once

#include "common/cuda/device.cuh"

namespace asnet::cuda {

constexpr int faults_block = 64;

// Every kernel writes result[i] = i with its 64 threads, or 64 per block.

template <bool mended>
__global__ void missing_barrier(int* result) {
  ASNET_SHARED(int, reversed, [faults_block]);
  reversed[faults_block - 1 - threadIdx.x] = static_cast<int>(threadIdx.x);
  if constexpr (mended) __syncthreads();
  result[threadIdx.x] = faults_block - 1 - reversed[threadIdx.x];
}

// A lane's neighbours see its store after __syncwarp, not after a shuffle.
template <bool mended>
__global__ void missing_warp_barrier(int* result) {
  ASNET_SHARED(int, exchanged, [faults_block]);
  exchanged[threadIdx.x ^ 1] = static_cast<int>(threadIdx.x);
  if constexpr (mended)
    __syncwarp();
  else
    __shfl_xor_sync(0xffffffffu, 0, 1);
  result[threadIdx.x] = exchanged[threadIdx.x] ^ 1;
}

template <bool mended>
__global__ void read_past_shared_memory(int* result) {
  ASNET_SHARED(int, shared, [faults_block]);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int* const from = shared;
  result[threadIdx.x] = from[threadIdx.x + (mended ? 0 : 1)];
}

template <bool mended>
__global__ void read_past_array(const int* indices, int* result) {
  result[threadIdx.x] = indices[threadIdx.x + (mended ? 0 : 1)];
}

// 16 threads, a pack each; every other one begins in the middle of a pack.
template <bool mended>
__global__ void misaligned_pack(const int* indices, int* result) {
  const int begin = static_cast<int>(threadIdx.x) * (mended ? 4 : 2);
  store_pack(result + threadIdx.x * 4, load_pack<int, 4>(indices + begin));
}

template <bool mended>
__global__ void misaligned_pointer(const int* indices, int* result) {
  const auto* bytes = reinterpret_cast<const char*>(indices) + (mended ? 0 : 2);
  result[threadIdx.x] = reinterpret_cast<const int*>(bytes)[threadIdx.x];
}

template <bool mended>
__global__ void divergent_barrier(int* result) {
  result[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (mended || threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

template <bool mended>
__global__ void barrier_after_return(int* result) {
  result[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (!mended && threadIdx.x == 5) return;
  __syncthreads();
}

template <bool mended>
__global__ void missing_lane(int* result) {
  const int index = static_cast<int>(threadIdx.x);
  result[index] = index;
  if (mended || index % 32 != 7) result[index] = __shfl_sync(0xffffffffu, index, index % 32);
  __syncthreads();
}

// The last element is not written.
template <bool mended>
__global__ void unwritten_output(int* result) {
  if (threadIdx.x < blockDim.x - (mended ? 0 : 1)) result[threadIdx.x] = static_cast<int>(threadIdx.x);
}

// Shared memory has the content of the last block.
template <bool mended>
__global__ void unwritten_shared_memory(int* result) {
  ASNET_DYNAMIC_SHARED(int, zero);
  if constexpr (mended) zero[threadIdx.x] = 0;
  result[threadIdx.x] = static_cast<int>(threadIdx.x) + zero[threadIdx.x];
}

template <bool mended>
__global__ void missing_wait(const int* indices, int* result) {
  ASNET_SHARED(int, copied, [faults_block]);
  copy_in_background<4>(copied + threadIdx.x, indices + threadIdx.x);
  group_copies();
  if constexpr (mended) wait_for_copies<0>();
  result[threadIdx.x] = copied[threadIdx.x];
  wait_for_copies<0>();
}

template <bool mended>
__global__ void copies_outlive_thread(const int* indices, int* result) {
  ASNET_SHARED(int, copied, [faults_block]);
  copy_in_background<4>(copied + threadIdx.x, indices + threadIdx.x);
  group_copies();
  if constexpr (mended) wait_for_copies<0>();
  result[threadIdx.x] = static_cast<int>(threadIdx.x);
}

// A stage is refilled while neighbours may still read it.
template <bool mended>
__global__ void target_still_read(const int* indices, int* result) {
  ASNET_SHARED(int, stage, [faults_block]);
  copy_in_background<4>(stage + threadIdx.x, indices + threadIdx.x);
  group_copies();
  wait_for_copies<0>();
  __syncthreads();
  result[threadIdx.x] = stage[threadIdx.x ^ 1] ^ 1;
  if constexpr (mended) __syncthreads();
  copy_in_background<4>(stage + threadIdx.x, indices + faults_block - 1 - threadIdx.x);
  group_copies();
  wait_for_copies<0>();
}

// The last block adds the results of the others, which its fences make visible.
template <bool mended>
__global__ void last_block(int* partial, int* arrived, int* result) {
  ASNET_SHARED(bool, last, );
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = static_cast<int>(blockIdx.x);
    if constexpr (mended) __threadfence();
    last = atomicAdd(arrived, 1) == static_cast<int>(gridDim.x) - 1;
    if constexpr (mended) __threadfence();
  }
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x), block = i % static_cast<int>(gridDim.x);
  if (last) result[i] = i + partial[block] - block;
}

// Neighbouring blocks write the same element.
template <bool mended>
__global__ void blocks_overlap(int* result) {
  const int begin = static_cast<int>(blockIdx.x) * (faults_block - (mended ? 0 : 1));
  result[begin + static_cast<int>(threadIdx.x)] = begin + static_cast<int>(threadIdx.x);
}

}  // namespace asnet::cuda
