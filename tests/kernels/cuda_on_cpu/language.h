// The CUDA keywords that kernels use.
#pragma once

#include "launch.h"

#include <atomic>
#include <cmath>
#include <numbers>

namespace asnet::cuda_on_cpu {

inline void barrier(const char* operation, Location at) {
  Thread& thread = *current;
  char* mark = nullptr;
  {
    const Unseen unseen;
    thread.operation = operation;
    thread.at = at;
    thread.state = State::at_barrier;
    // Two marks in turn, so that a thread late at one barrier does not synchronise with what another did before the next.
    mark = &thread.block->mark[thread.block->barriers & 1];
  }
  release(mark);
  wait_for_scheduler();
  acquire(mark);
}

inline int count_votes(bool vote, const char* operation, Location at) {
  {
    const Unseen unseen;
    current->block->votes += vote;
  }
  barrier(operation, at);
  const Unseen unseen;
  return current->block->vote_result;
}

inline Meeting& meeting_of(Warp& warp, uint32_t mask) {
  for (const auto& meeting : warp.meetings)
    if (meeting->mask == mask) return *meeting;
  return *warp.meetings.emplace_back(std::make_unique<Meeting>(mask));
}

// Waits for the lanes of `mask`, each of which provides `bytes` of a value; returns the values of all lanes, valid until
// this lane's next meeting with the same mask. Orders memory only if `ordering`.
inline const unsigned char (*meet(uint32_t mask, const void* value, size_t bytes, bool ordering, const char* operation,
                                  Location at)) [Meeting::value_bytes] {
  Thread& thread = *current;
  Meeting* meeting = nullptr;
  char* mark = nullptr;
  unsigned generation = 0;
  bool last = false;
  {
    const Unseen unseen;
    Warp& warp = *thread.warp;
    thread.operation = operation;
    thread.at = at;
    const std::string here = std::string(operation) + " at " + place(at);
    mask &= warp.lanes;
    if ((mask >> thread.lane & 1) == 0) fail(here + " with a mask that lacks the calling lane");
    if ((mask & warp.returned) != 0) fail(here + " with a mask that names a lane which has returned");
    meeting = &meeting_of(warp, mask);
    if (meeting->arrived == 0) {
      meeting->operation = operation;
      meeting->at = at;
    } else if (!same_place(operation, at, meeting->operation, meeting->at)) {
      fail(here + " meets lanes of its mask in " + meeting->operation + " at " + place(meeting->at));
    }
    generation = meeting->generation;
    mark = &meeting->mark[generation & 1];
    if (bytes > 0) std::memcpy(meeting->value[generation & 1][thread.lane], value, bytes);
    meeting->arrived |= uint32_t{1} << thread.lane;
    last = meeting->arrived == mask;
    if (last) {
      meeting->arrived = 0;
      ++meeting->generation;
    } else {
      thread.meeting = meeting;
      thread.awaited_generation = generation;
      thread.state = State::at_meeting;
    }
  }
  if (ordering) release(mark);
  if (!last) wait_for_scheduler();
  if (ordering) acquire(mark);
  return meeting->value[generation & 1];
}

template <typename T>
class Exchanged {
 public:
  Exchanged(uint32_t mask, const T& value, const char* operation, Location at) {
    static_assert(sizeof(T) <= Meeting::value_bytes && std::is_trivially_copyable_v<T>);
    values = meet(mask, &value, sizeof(T), false, operation, at);
  }
  T of(unsigned lane) const {
    const Unseen unseen;
    T value;
    std::memcpy(&value, values[lane], sizeof(T));
    return value;
  }

 private:
  const unsigned char (*values)[Meeting::value_bytes];
};

// `source` counts within the caller's group of `width` lanes; a lane whose source lies outside keeps its own value.
template <typename T>
T shuffle(uint32_t mask, T value, int source, int width, const char* operation, Location at) {
  const Exchanged<T> values(mask, value, operation, at);
  if (source < 0 || source >= width) return value;
  const unsigned lane = (current->lane & ~static_cast<unsigned>(width - 1)) + static_cast<unsigned>(source);
  if ((mask & current->warp->lanes & uint32_t{1} << lane) == 0)
    fail(std::string(operation) + " at " + place(at) + " reads a lane outside of its mask");
  return values.of(lane);
}
inline int lane_in_group(int width) { return static_cast<int>(current->lane & static_cast<unsigned>(width - 1)); }

// A fence orders memory between threads through the atomics that they access after and before it.
template <typename T>
T atomic_add(T* address, T value) {
  {
    const Unseen unseen;
    if (thread_sanitizer) current->atomics.push_back(address);
  }
  if (current->fenced) release(address);
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

inline void fence() {
  std::vector<void*> atomics;
  {
    const Unseen unseen;
    atomics.swap(current->atomics);
    current->fenced = true;
  }
  for (void* address : atomics) acquire(address);
}

}  // namespace asnet::cuda_on_cpu

// Visible, so that a launch can ask for its kernel's name (translated.h).
#define __global__ __attribute__((visibility("default")))
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (::asnet::cuda_on_cpu::current->thread_index)
#define blockIdx (::asnet::cuda_on_cpu::current->block_index)
#define blockDim (::asnet::cuda_on_cpu::current->block_size)
#define gridDim (::asnet::cuda_on_cpu::current->grid_size)

#define ASNET_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::asnet::cuda_on_cpu::launch(#kernel, kernel, grid, block, shared_bytes, stream __VA_OPT__(, ) __VA_ARGS__)
#define ASNET_SHARED(type, name, dimensions) \
  using name##_array = type dimensions;      \
  static char name##_key;                    \
  auto& name = *static_cast<name##_array*>(::asnet::cuda_on_cpu::shared_memory(&name##_key, sizeof(name##_array), false))
#define ASNET_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::asnet::cuda_on_cpu::dynamic_shared_memory())

#define ASNET_HERE ::std::source_location at = ::std::source_location::current()

inline void __syncthreads(ASNET_HERE) { ::asnet::cuda_on_cpu::barrier("__syncthreads", at); }
inline int __syncthreads_count(int vote, ASNET_HERE) {
  return ::asnet::cuda_on_cpu::count_votes(vote != 0, "__syncthreads_count", at);
}
inline int __syncthreads_or(int vote, ASNET_HERE) {
  return ::asnet::cuda_on_cpu::count_votes(vote != 0, "__syncthreads_or", at) != 0;
}
inline int __syncthreads_and(int vote, ASNET_HERE) {
  return ::asnet::cuda_on_cpu::count_votes(vote == 0, "__syncthreads_and", at) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, ASNET_HERE) {
  ::asnet::cuda_on_cpu::meet(mask, nullptr, 0, true, "__syncwarp", at);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, ASNET_HERE) {
  return ::asnet::cuda_on_cpu::shuffle(mask, value, source & (width - 1), width, "__shfl_sync", at);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, ASNET_HERE) {
  const int source = ::asnet::cuda_on_cpu::lane_in_group(width) - static_cast<int>(by);
  return ::asnet::cuda_on_cpu::shuffle(mask, value, source, width, "__shfl_up_sync", at);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, ASNET_HERE) {
  const int source = ::asnet::cuda_on_cpu::lane_in_group(width) + static_cast<int>(by);
  return ::asnet::cuda_on_cpu::shuffle(mask, value, source, width, "__shfl_down_sync", at);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32, ASNET_HERE) {
  const int source = ::asnet::cuda_on_cpu::lane_in_group(width) ^ by;
  return ::asnet::cuda_on_cpu::shuffle(mask, value, source, width, "__shfl_xor_sync", at);
}
inline unsigned __ballot_sync(unsigned mask, int vote, ASNET_HERE) {
  const ::asnet::cuda_on_cpu::Exchanged<int> votes(mask, vote, "__ballot_sync", at);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if ((mask & ::asnet::cuda_on_cpu::current->warp->lanes & 1u << lane) != 0 && votes.of(lane) != 0) ballot |= 1u << lane;
  return ballot;
}

inline int atomicAdd(int* address, int value) { return ::asnet::cuda_on_cpu::atomic_add(address, value); }
inline unsigned atomicAdd(unsigned* address, unsigned value) { return ::asnet::cuda_on_cpu::atomic_add(address, value); }
inline float atomicAdd(float* address, float value) { return ::asnet::cuda_on_cpu::atomic_add(address, value); }
inline double atomicAdd(double* address, double value) { return ::asnet::cuda_on_cpu::atomic_add(address, value); }
inline void __threadfence() { ::asnet::cuda_on_cpu::fence(); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline void sincospi(double x, double* sine, double* cosine) {
  *sine = std::sin(std::numbers::pi * x);
  *cosine = std::cos(std::numbers::pi * x);
}
using std::max;
using std::min;
