// What the kernels of guided modulation have in common: how many threads a block has, how many packs are on their way, and
// the sums of the backward pass.
//
// Sums go over whole planes. Where several blocks share a plane (or the channels of an image), each leaves its sums in a
// workspace, and the one that comes last adds them.
#pragma once

#include "common/cuda/guided_modulation_formula.cuh"
#include "common/cuda/last_block.cuh"

namespace asnet::cuda::guided_modulation {

constexpr int kThreads = 256, kWarp = 32;

// Packs that a thread has on their way at once. Memory answers after about 600 ns: 3.35 TB/s need 15 KB under way on each
// of 132 multiprocessors, twice that under load; three blocks of 256 threads with two packs of two maps have 49 KB.
constexpr int kForwardBatch = 4, kBackwardBatch = 2;

// What the backward pass reads and writes. `kept` is null where neither is needed: no ReLU, no gradient of m.
template <typename T>
struct Gradients {
  const T *grad, *kept;
  T* grad_x;
  Accumulation<T>*grad_multiplier, *grad_shift;  // [N, C]; the first only where the input was saved
};

// Memory for blocks that share sums: `sums` of any content, `arrived` zeros.
template <typename A>
struct Workspace {
  A* sums;
  int* arrived;
};

// The sum over all threads, in every thread; `of_warp` has room for one a warp. Between two sums there is a barrier.
template <typename A>
__device__ Sums<A> block_sum(const Sums<A>& sums, Sums<A>* of_warp) {
  const Sums<A> mine = {warp_sum(sums.g), warp_sum(sums.gx)};
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Sums<A> total = {};
  for (int warp = 0; warp < kThreads / kWarp; ++warp) total += of_warp[warp];
  return total;
}

// The sum of value(first), value(first + step), .. up to `count`, in eight chains: shorter ones round less, and an addition
// need not wait for the one before it.
template <typename Index, typename Value>
__device__ __forceinline__ auto sum_in_chains(Index first, Index count, Index step, const Value& value) {
  constexpr int chains = 8;
  decltype(value(first)) sums[chains] = {};
  for (Index i = first; i < count; i += chains * step) {
#pragma unroll
    for (int chain = 0; chain < chains; ++chain)
      if (i + chain * step < count) sums[chain] += value(i + chain * step);
  }
#pragma unroll
  for (int half = chains / 2; half > 0; half /= 2) {
#pragma unroll
    for (int chain = 0; chain < half; ++chain) sums[chain] += sums[chain + half];
  }
  return sums[0];
}

}  // namespace asnet::cuda::guided_modulation
