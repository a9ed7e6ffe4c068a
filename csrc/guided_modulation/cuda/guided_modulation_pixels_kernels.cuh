// Kernels of guided modulation for channels-last pixels: a thread has the channels of one pack and goes from pixel to
// pixel.
#pragma once

#include "guided_modulation/cuda/guided_modulation_blocks.cuh"

namespace asnet::cuda::guided_modulation {

// Limit of the packs of one pixel that a block processes. Forward: any number gives whole sectors, and 33 to 64 leave few
// threads idle. Backward: 64 bytes, two sectors, so that many blocks share the channels and the last block of each has few
// sums to add.
constexpr int kForwardColumns = 64;
constexpr int kBackwardColumnBytes = 64, kSectorBytes = 32;

struct PixelWork {
  int64_t pixels;
  int channels;
  int columns, tiles;  // packs of a pixel that one block processes, and tiles of this many packs in a pixel
  int pieces;          // of the pixels of an image
  int64_t per_piece;   // pixels
};

// The pack of channels of this thread and the pixels that it processes: first, first + rows, .. before last; none if the
// thread has no pack.
template <int width>
struct PixelPiece {
  int64_t n, first, last;
  int tile, piece, rows, column, channel;

  __device__ explicit PixelPiece(const PixelWork& work) {
    tile = blockIdx.x % work.tiles;
    piece = blockIdx.x / work.tiles % work.pieces;
    n = blockIdx.x / work.tiles / work.pieces;
    rows = kThreads / work.columns;
    column = threadIdx.x % work.columns;
    channel = (tile * work.columns + column) * width;
    const int row = threadIdx.x / work.columns;
    first = piece * work.per_piece + row;
    last = row < rows && channel < work.channels ? min((piece + 1) * work.per_piece, work.pixels) : 0;
  }
};

// Fetches the parameters of a tile into shared memory: each row of threads needs the same.
template <int width, int most_columns, typename A>
__device__ __forceinline__ void load_parameters(const PixelWork& work, const ParameterTables<A>& tables,
                                                const PixelPiece<width>& piece, Parameters<A> (&p)[width]) {
  ASNET_SHARED(A, staged, [3][most_columns * width]);
  const int first = piece.tile * work.columns * width, count = min(work.columns * width, work.channels - first);
#pragma unroll 1
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const Parameters<A> one = tables.of(piece.n, first + i);
    staged[0][i] = one.c;
    staged[1][i] = one.s;
    staged[2][i] = one.b;
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < width; ++j) {
    const int i = piece.column * width + j;
    p[j] = {staged[0][i], staged[1][i], staged[2][i]};
  }
}

// ptxas limits: registers 80, shared 6144
template <typename T, int width>
__global__ void __launch_bounds__(kThreads, 3)
    modulate_pixels(PixelWork work, ParameterTables<Accumulation<T>> tables, bool relu, const T* x, T* out) {
  const PixelPiece<width> piece(work);
  const int64_t stride = static_cast<int64_t>(piece.rows) * work.channels;
  int64_t pixel = piece.first, at = (piece.n * work.pixels + piece.first) * work.channels + piece.channel;
  Pack<T, width> packs[kForwardBatch];
  const auto load = [&] {
#pragma unroll
    for (int i = 0; i < kForwardBatch; ++i)
      if (pixel + i * piece.rows < piece.last) packs[i] = load_pack<T, width>(x + at + i * stride);
  };
  load();
  Parameters<Accumulation<T>> p[width];
  load_parameters<width, kForwardColumns>(work, tables, piece, p);
  for (; pixel < piece.last; pixel += kForwardBatch * piece.rows, at += kForwardBatch * stride, load()) {
#pragma unroll
    for (int i = 0; i < kForwardBatch; ++i) {
      if (pixel + i * piece.rows >= piece.last) break;
#pragma unroll
      for (int j = 0; j < width; ++j) packs[i].element[j] = modulate(packs[i].element[j], p[j], relu);
      store_pack_to_global(out + at + i * stride, packs[i]);
    }
  }
}

template <typename T, int width>
constexpr int kBackwardColumns = kBackwardColumnBytes / (width * sizeof(T));

// Workspace, if images have several pieces: sums [N][tiles][pieces][kinds * width][columns], and a counter for each tile of
// an image. kinds: g and, if the input was saved, g (x + c).
// ptxas limits: registers 128, shared 17152
template <typename T, int width, bool saved_input>
__global__ void __launch_bounds__(kThreads, 2)
    differentiate_pixels(PixelWork work, ParameterTables<Accumulation<T>> tables, bool relu, Gradients<T> to,
                         Workspace<Accumulation<T>> workspace) {
  using A = Accumulation<T>;
  constexpr int kinds = saved_input ? 2 : 1, most_columns = kBackwardColumns<T, width>;
  const PixelPiece<width> piece(work);
  const bool reads_kept = saved_input || relu;
  const int64_t stride = static_cast<int64_t>(piece.rows) * work.channels;
  int64_t pixel = piece.first, at = (piece.n * work.pixels + piece.first) * work.channels + piece.channel;
  Pack<T, width> grads[kBackwardBatch], kepts[kBackwardBatch];
  const auto load = [&] {
#pragma unroll
    for (int i = 0; i < kBackwardBatch; ++i) {
      if (pixel + i * piece.rows >= piece.last) break;
      grads[i] = load_pack<T, width>(to.grad + at + i * stride);
      if (reads_kept) kepts[i] = load_pack<T, width>(to.kept + at + i * stride);
    }
  };
  load();
  Parameters<A> p[width];
  load_parameters<width, most_columns>(work, tables, piece, p);
  Sums<A> sums[width] = {};
  for (; pixel < piece.last; pixel += kBackwardBatch * piece.rows, at += kBackwardBatch * stride, load()) {
#pragma unroll
    for (int i = 0; i < kBackwardBatch; ++i) {
      if (pixel + i * piece.rows >= piece.last) break;
#pragma unroll
      for (int j = 0; j < width; ++j)
        grads[i].element[j] = differentiate<saved_input>(grads[i].element[j], kepts[i].element[j], p[j], relu, sums[j]);
      store_pack_to_global(to.grad_x + at + i * stride, grads[i]);
    }
  }

  // Sums over the rows of threads. Rows of `exchange` are one column longer than the block, so that neighbouring sums,
  // which run through columns first and rows of `exchange` next, are in neighbouring banks.
  ASNET_SHARED(A, exchange, [kinds * width * (kThreads + most_columns)]);
  const int length = kThreads + work.columns, count = kinds * width * work.columns;
#pragma unroll
  for (int j = 0; j < width; ++j) {
    exchange[j * length + threadIdx.x] = sums[j].g;
    if constexpr (saved_input) exchange[(width + j) * length + threadIdx.x] = sums[j].gx;
  }
  __syncthreads();
  const int column = threadIdx.x % work.columns, element = threadIdx.x / work.columns;  // of a sum, if below count
  A sum = 0;
  if (threadIdx.x < count)
    sum =
        sum_in_chains(0, piece.rows, 1, [&](int row) { return exchange[element * length + row * work.columns + column]; });

  if (work.pieces > 1) {
    const int64_t group = piece.n * work.tiles + piece.tile;
    A* const of_pieces = workspace.sums + group * work.pieces * count;
    if (threadIdx.x < count) of_pieces[static_cast<int64_t>(piece.piece) * count + threadIdx.x] = sum;
    if (!arrives_last(workspace.arrived + group, work.pieces)) return;
    // Several threads share the pieces of one sum, every shares-th piece each; their sums are then added in order.
    const int shares = kThreads / count, share = threadIdx.x / count;
    A part = 0;
    if (share < shares)
      part = sum_in_chains(share, work.pieces, shares,
                           [&](int i) { return of_pieces[static_cast<int64_t>(i) * count + threadIdx.x % count]; });
    exchange[threadIdx.x] = part;
    __syncthreads();
    sum = 0;
    if (threadIdx.x < count)
      for (int i = 0; i < shares; ++i) sum += exchange[i * count + threadIdx.x];
  }

  const int channel = (piece.tile * work.columns + column) * width + element % width;
  if (threadIdx.x >= count || channel >= work.channels) return;
  A* const gradient = element < width ? to.grad_shift : to.grad_multiplier;
  gradient[piece.n * work.channels + channel] = sum;
}

}  // namespace asnet::cuda::guided_modulation
