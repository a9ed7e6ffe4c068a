// One kernel per function of device.cuh, to compare its CPU counterpart with NumPy (test_cpu_counterparts.py).
#pragma once

#include "common/cuda/device.cuh"

namespace asnet::cuda {

// d = a b by the layouts that device.cuh describes, element by element: a 16x16, b 16x8, d 16x8, row-major.
template <typename T>
__global__ void multiply_16x16x8(const T* a, const T* b, float* d) {
  const unsigned row = threadIdx.x / 4, column = threadIdx.x % 4 * 2;
  const auto pair = [](T low, T high) {
    uint16_t bits[2];
    memcpy(bits, &low, 2);
    memcpy(bits + 1, &high, 2);
    return bits[0] | uint32_t{bits[1]} << 16;
  };
  const auto of_a = [&](unsigned i, unsigned k) { return pair(a[16 * i + k], a[16 * i + k + 1]); };
  const auto of_b = [&](unsigned k) { return pair(b[8 * k + row], b[8 * (k + 1) + row]); };
  float sum[4] = {};
  mma_m16n8k16<T>(sum, {of_a(row, column), of_a(row + 8, column), of_a(row, column + 8), of_a(row + 8, column + 8)},
                  {of_b(column), of_b(column + 8)});
  for (unsigned i = 0; i < 4; ++i) d[8 * (row + i / 2 * 8) + column + i % 2] = sum[i];
}

// The same for a 16x8, b 8x8.
__global__ void multiply_16x8x8(const float* a, const float* b, float* d) {
  const unsigned row = threadIdx.x / 4, column = threadIdx.x % 4;
  const auto of_a = [&](unsigned i, unsigned k) { return to_tf32(same_bits<uint32_t>(a[8 * i + k])); };
  const auto of_b = [&](unsigned k) { return to_tf32(same_bits<uint32_t>(b[8 * k + row])); };
  float sum[4] = {};
  mma_m16n8k8_tf32(sum, {of_a(row, column), of_a(row + 8, column), of_a(row, column + 4), of_a(row + 8, column + 4)},
                   {of_b(column), of_b(column + 4)});
  for (unsigned i = 0; i < 4; ++i) d[8 * (row + i / 2 * 8) + 2 * column + i % 2] = sum[i];
}

// Four 8x8 matrices through shared memory and load_matrices; result[matrix][row][column].
template <bool transposed>
__global__ void exchange_matrices(const uint16_t* from, uint16_t* result) {
  ASNET_SHARED(uint16_t, matrices, [4 * 64]);
  for (unsigned i = threadIdx.x; i < 4 * 64; i += 32) matrices[i] = from[i];
  __syncthreads();
  uint32_t r[4];
  load_matrices<transposed>(r, matrices + threadIdx.x * 8);
  for (unsigned i = 0; i < 4; ++i) {
    uint16_t* const to = result + 64 * i + threadIdx.x / 4 * 8 + threadIdx.x % 4 * 2;
    to[0] = static_cast<uint16_t>(r[i]);
    to[1] = static_cast<uint16_t>(r[i] >> 16);
  }
}

template <typename T>
__global__ void round_elements(const float* from, T* to) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] = from_float<T>(from[i]);
}
template <typename T>
__global__ void widen_elements(const T* from, float* to) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] = to_float(from[i]);
}

// result[k][thread] for each collective; a block of 48 threads, whose second warp has 16 lanes.
__global__ void collectives(int* result) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  const unsigned warp = i < 32 ? 0xffffffffu : 0xffffu;
  int k = 0;
  const auto put = [&](int value) { result[48 * k++ + i] = value; };
  put(__shfl_sync(warp, i, 3));
  put(__shfl_up_sync(warp, i, 2));
  put(__shfl_down_sync(warp, i, 2, 8));
  put(__shfl_xor_sync(warp, i, 5, 8));
  put(static_cast<int>(__ballot_sync(warp, lane % 3 == 0)));
  put(__syncthreads_count(i % 5 == 0));
  put(__syncthreads_or(i == 47));
  put(__syncthreads_and(i != 47));
  // Halves of a warp that meet by themselves, one of them twice as often.
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  int sum = __shfl_xor_sync(half, i, 1);
  if (lane < 16) sum += __shfl_xor_sync(half, i, 2);
  put(sum);
  put(__shfl_sync(warp, sum, 7));
}

// Three stages of copies, of which the last is beyond the end and so zero.
__global__ void copy_stages(const float* from, float* result) {
  ASNET_SHARED(float, stage, [3][32]);
  for (int i = 0; i < 3; ++i) {
    copy_in_background<4>(&stage[i][threadIdx.x], from + 32 * i + threadIdx.x, i < 2);
    group_copies();
  }
  wait_for_copies<1>();
  result[threadIdx.x] = stage[0][threadIdx.x];
  result[32 + threadIdx.x] = stage[1][threadIdx.x];
  result[96 + threadIdx.x] = stage[2][threadIdx.x];
  wait_for_copies<0>();
  result[64 + threadIdx.x] = stage[2][threadIdx.x];
}

__global__ void add_atomically(int* integer, float* single, double* real) {
  atomicAdd(integer, static_cast<int>(threadIdx.x));
  atomicAdd(single, 0.5f);
  atomicAdd(real, 0.25);
}

// Place of every thread of a grid, each counted by itself.
__global__ void count_threads(int* result) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  result[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1;
}

}  // namespace asnet::cuda
