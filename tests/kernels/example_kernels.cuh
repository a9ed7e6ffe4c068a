// The example of README.md: every row of an image reversed, through shared memory.
#pragma once

#include "common/cuda/device.cuh"

namespace asnet::cuda {

constexpr int reverse_block = 64;

// One block a row; rows of any length in pieces of reverse_block.
// ptxas limits: registers 32, shared 256
template <typename T>
__global__ void __launch_bounds__(reverse_block) reverse_rows_kernel(const T* from, T* to, int64_t width) {
  ASNET_SHARED(T, piece, [reverse_block]);
  from += blockIdx.x * width;
  to += blockIdx.x * width;
  for (int64_t begin = 0; begin < width; begin += reverse_block) {
    const int64_t count = min(width - begin, int64_t{reverse_block});
    if (threadIdx.x < count) piece[threadIdx.x] = from[begin + threadIdx.x];
    __syncthreads();
    if (threadIdx.x < count) to[width - begin - count + threadIdx.x] = piece[count - 1 - threadIdx.x];
    __syncthreads();
  }
}

template <typename T>
void reverse_rows(const T* from, T* to, int64_t rows, int64_t width, cudaStream_t stream) {
  ASNET_LAUNCH(reverse_rows_kernel<T>, static_cast<unsigned>(rows), reverse_block, 0, stream, from, to, width);
}

}  // namespace asnet::cuda
