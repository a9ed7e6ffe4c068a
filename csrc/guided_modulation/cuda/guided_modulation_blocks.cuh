// Shared by the kernels of guided modulation: threads of a block, packs in flight, and the sums of the backward pass.
//
// Sums cover whole planes. If several blocks share a plane (or the channels of an image), each writes its sums to a
// workspace, and the last block to finish adds them in the order of the blocks. This needs no second launch and is
// bit-reproducible.
#pragma once

#include "common/cuda/guided_modulation_formula.cuh"
#include "common/cuda/last_block.cuh"

namespace asnet::cuda::guided_modulation {

constexpr int kThreads = 256, kWarp = 32;

// Packs that a thread has in flight. At a memory latency of about 600 ns, 3.35 TB/s need 15 KB in flight on each of 132
// multiprocessors, twice that under load; three blocks of 256 threads with two packs of two maps have 49 KB.
constexpr int kForwardBatch = 4, kBackwardBatch = 2;

// Pointers of the backward pass. `kept` is the saved input or output, null if neither is needed: no ReLU, no gradient of m.
template <typename T>
struct Gradients {
  const T *grad, *kept;
  T* grad_x;
  Accumulation<T>*grad_multiplier, *grad_shift;  // [N, C]; the first only if the input was saved
};

// Memory for blocks that share sums: `sums` uninitialised, `arrived` zeros.
template <typename A>
struct Workspace {
  A* sums;
  int* arrived;
};

// The sum over all threads, in every thread. `of_warp` has one element per warp. Callers need a barrier between two sums.
template <typename A>
__device__ Sums<A> block_sum(const Sums<A>& sums, Sums<A>* of_warp) {
  const Sums<A> mine = {warp_sum(sums.g), warp_sum(sums.gx)};
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Sums<A> total = {};
  for (int warp = 0; warp < kThreads / kWarp; ++warp) total += of_warp[warp];
  return total;
}

// The sum of value(first), value(first + step), .. up to `count`, in eight chains, which round less and hide the latency of
// additions.
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
