// Kernels of guided modulation for planes, contiguous [N, C, H, W]: m, b and c are constant in a plane.
#pragma once

#include "guided_modulation/cuda/guided_modulation_blocks.cuh"

namespace asnet::cuda::guided_modulation {

// A plane of at most this many packs is processed by a warp: most threads of a block would be idle.
constexpr int kPacksForWarp = 4 * kWarp;

struct PlaneWork {
  int64_t pixels;
  int planes, channels;
  int team;           // threads for one piece of a plane: a warp or a block
  int pieces;         // of a plane; with a warp, the plane is one piece
  int64_t per_piece;  // packs
};

// The piece of the plane that this thread works on. Packs are aligned to their size. The edge, that is, `head` elements
// before the packs and less than a pack after them, belongs to the first piece.
template <typename T, int width>
struct PlanePiece {
  int64_t plane, start, packs, first, last;
  int lane, head, edge;

  __device__ PlanePiece(const PlaneWork& work, const T* to) {
    const bool warps = work.team == kWarp;
    lane = warps ? threadIdx.x % kWarp : threadIdx.x;
    plane = warps ? blockIdx.x * int64_t(kThreads / kWarp) + threadIdx.x / kWarp : blockIdx.x / work.pieces;
    const int piece = warps ? 0 : blockIdx.x % work.pieces;
    start = plane * work.pixels;
    const int behind = static_cast<int>(reinterpret_cast<uintptr_t>(to + start) / sizeof(T) % width);
    head = static_cast<int>(min(static_cast<int64_t>((width - behind) % width), work.pixels));
    packs = (work.pixels - head) / width;
    edge = piece == 0 ? static_cast<int>(work.pixels - packs * width) : 0;
    first = piece * work.per_piece;
    last = min(first + work.per_piece, packs);
  }

  // An edge has at most 14 elements, so a warp has a lane for each.
  __device__ int64_t edge_element() const { return lane < head ? lane : lane + packs * width; }
};

// ptxas limits: registers 80, shared 0
template <typename T, int width>
__global__ void __launch_bounds__(kThreads, 3)
    modulate_planes(PlaneWork work, ParameterTables<Accumulation<T>> tables, bool relu, const T* x, T* out) {
  const PlanePiece<T, width> piece(work, out);
  if (piece.plane >= work.planes) return;
  const T* const from = x + piece.start + piece.head;
  T* const to = out + piece.start + piece.head;
  const int step = kForwardBatch * work.team;
  int64_t at = piece.first + piece.lane;
  Pack<T, width> packs[kForwardBatch];
  const auto load = [&] {
#pragma unroll
    for (int i = 0; i < kForwardBatch; ++i)
      if (at + i * work.team < piece.last) packs[i] = load_pack<T, width>(from + (at + i * work.team) * width);
  };
  load();  // the first packs are in flight while the parameters are fetched
  const auto p = tables.of(static_cast<int>(piece.plane) / work.channels, static_cast<int>(piece.plane) % work.channels);
  for (; at < piece.last; at += step, load()) {
#pragma unroll
    for (int i = 0; i < kForwardBatch; ++i) {
      if (at + i * work.team >= piece.last) break;
#pragma unroll
      for (int j = 0; j < width; ++j) packs[i].element[j] = modulate(packs[i].element[j], p, relu);
      store_pack_to_global(to + (at + i * work.team) * width, packs[i]);
    }
  }
  if (piece.lane < piece.edge) {
    const int64_t i = piece.start + piece.edge_element();
    out[i] = modulate(x[i], p, relu);
  }
}

template <bool saved_input, typename T>
__device__ void store_sums(const Gradients<T>& to, int64_t plane, const Sums<Accumulation<T>>& sums) {
  to.grad_shift[plane] = sums.g;
  if constexpr (saved_input) to.grad_multiplier[plane] = sums.gx;
}

// Workspace, if planes have several pieces: Sums [planes][pieces], and a counter for each plane.
// ptxas limits: registers 80, shared 160
template <typename T, int width, bool saved_input>
__global__ void __launch_bounds__(kThreads, 3)
    differentiate_planes(PlaneWork work, ParameterTables<Accumulation<T>> tables, bool relu, Gradients<T> to,
                         Workspace<Accumulation<T>> workspace) {
  using A = Accumulation<T>;
  const PlanePiece<T, width> piece(work, to.grad_x);
  if (piece.plane >= work.planes) return;
  const bool reads_kept = saved_input || relu;
  const int64_t start = piece.start + piece.head;
  const int step = kBackwardBatch * work.team;
  int64_t at = piece.first + piece.lane;
  Pack<T, width> grads[kBackwardBatch], kepts[kBackwardBatch];
  const auto load = [&] {
#pragma unroll
    for (int i = 0; i < kBackwardBatch; ++i) {
      if (at + i * work.team >= piece.last) break;
      grads[i] = load_pack<T, width>(to.grad + start + (at + i * work.team) * width);
      if (reads_kept) kepts[i] = load_pack<T, width>(to.kept + start + (at + i * work.team) * width);
    }
  };
  load();
  const auto p = tables.of(static_cast<int>(piece.plane) / work.channels, static_cast<int>(piece.plane) % work.channels);
  Sums<A> sums = {};
  for (; at < piece.last; at += step, load()) {
#pragma unroll
    for (int i = 0; i < kBackwardBatch; ++i) {
      if (at + i * work.team >= piece.last) break;
      Sums<A> of_pack = {};  // a short chain of additions, independent of the pack before
#pragma unroll
      for (int j = 0; j < width; ++j)
        grads[i].element[j] = differentiate<saved_input>(grads[i].element[j], kepts[i].element[j], p, relu, of_pack);
      sums += of_pack;
      store_pack_to_global(to.grad_x + start + (at + i * work.team) * width, grads[i]);
    }
  }
  if (piece.lane < piece.edge) {
    const int64_t i = piece.start + piece.edge_element();
    to.grad_x[i] = differentiate<saved_input>(to.grad[i], reads_kept ? to.kept[i] : T(), p, relu, sums);
  }

  if (work.team == kWarp) {
    sums = {warp_sum(sums.g), warp_sum(sums.gx)};
    if (piece.lane == 0) store_sums<saved_input>(to, piece.plane, sums);
    return;
  }
  ASNET_SHARED(Sums<A>, of_warp, [kThreads / kWarp]);
  sums = block_sum(sums, of_warp);
  if (work.pieces > 1) {
    Sums<A>* const of_pieces = reinterpret_cast<Sums<A>*>(workspace.sums) + piece.plane * work.pieces;
    if (threadIdx.x == 0) of_pieces[blockIdx.x % work.pieces] = sums;
    if (!arrives_last(workspace.arrived + piece.plane, work.pieces)) return;
    sums = {};
    for (int i = threadIdx.x; i < work.pieces; i += kThreads) sums += of_pieces[i];
    sums = block_sum(sums, of_warp);
  }
  if (threadIdx.x == 0) store_sums<saved_input>(to, piece.plane, sums);
}

}  // namespace asnet::cuda::guided_modulation
