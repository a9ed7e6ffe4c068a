// The epilogue of a guided convolution, act((x + c) * (1 + m) + b), and its gradients, each in one pass over memory.
//
// Two memory layouts, one for each kind of kernel:
//   planes  contiguous [N, C, H, W]: m, b and c are constants of a plane
//   pixels  channels-last: a thread keeps to the channels of one pack and walks from pixel to pixel
// Whatever is read or written is read or written in packs of 16 bytes, but for the few elements before and after the
// packs of a plane that does not start or end on a multiple of 16 bytes, and for memory that allows none: pixels of an
// odd number of channels, and tensors whose first elements lie differently within 16 bytes. These go one by one.
//
// The backward pass sums over whole planes. Where several blocks share a plane (or the channels of an image), each leaves
// its sums in a workspace, and the one that comes last adds them in the order of the blocks: no second launch, and the
// same bits every time.
//
// Floors on an H100 (3.35 TB/s), 128 maps of 768x1024 in bfloat16, 201 MB: forward 2 x 201 MB, 0.120 ms; backward, which
// reads the gradient and the saved map and writes a gradient, 3 x 201 MB, 0.180 ms. Eight operations an element are a
// tenth of what the float units do in that time.
#pragma once

#include "cuda/device.cuh"

namespace asnet::cuda::guided_modulation {

constexpr int kThreads = 256, kWarp = 32;

// Packs that a thread has on their way at once. Memory answers after about 600 ns: 3.35 TB/s need 15 KB under way on each
// of 132 multiprocessors, twice that under load; three blocks of 256 threads with two packs of two maps have 49 KB.
constexpr int kForwardBatch = 4, kBackwardBatch = 2;

// Rounds of a block: how many packs each of its threads has in turn. Few, where there is too little work for
// kBlocksEach blocks on each multiprocessor. At most so many that in the forward pass the blocks still end together
// (pixels have the parameters of their channels to fetch first and so get more), and that in the backward pass the sums
// of a thread, added up in float32, stay short.
constexpr int kBlocksEach = 8;
struct Rounds {
  int least, most;
};
constexpr Rounds kForwardPlaneRounds = {1, 8}, kForwardPixelRounds = {1, 16}, kBackwardRounds = {2, 64};

// A plane of at most this many packs is left to a warp: a block would have nothing to do for most of its threads.
constexpr int kPacksForWarp = 4 * kWarp;

// Packs of one pixel that a block walks along, at most. Forward: any number makes whole sectors, and 33 to 64 leave few
// threads without a pixel. Backward: 64 bytes, two sectors, so that many blocks share the channels and the last of each
// has little to add up.
constexpr int kForwardColumns = 64;
constexpr int kBackwardColumnBytes = 64, kSectorBytes = 32;

template <typename T>
constexpr int kFullPack = 16 / sizeof(T);

// ---------------------------------------------------------------------------------------------------------------------
// 1. The formula

template <typename T>
__device__ __forceinline__ Accumulation<T> widen(T x) {
  if constexpr (std::is_same_v<T, double>)
    return x;
  else
    return to_float(x);
}

template <typename T>
__device__ __forceinline__ T narrow(Accumulation<T> x) {
  if constexpr (std::is_same_v<T, double>)
    return x;
  else
    return from_float<T>(x);
}

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

template <typename A>
struct Parameters {
  A c, s, b;  // s = 1 + m
};

// m, b: [N, C], c: [C], any of them absent; views with strides, so one blur kernel expanded to a batch is no copy.
template <typename A>
struct ParameterTables {
  const A *multiplier = nullptr, *shift = nullptr, *conv_bias = nullptr;
  int64_t multiplier_strides[2] = {}, shift_strides[2] = {}, conv_bias_strides[1] = {};

  __device__ Parameters<A> of(int64_t n, int64_t channel) const {
    return {conv_bias ? conv_bias[channel * conv_bias_strides[0]] : A(0),
            multiplier ? A(1) + multiplier[n * multiplier_strides[0] + channel * multiplier_strides[1]] : A(1),
            shift ? shift[n * shift_strides[0] + channel * shift_strides[1]] : A(0)};
  }
};

// The comparison with zero is false for NaN, which therefore passes through, as in torch.relu.
template <typename T>
__device__ __forceinline__ T modulate(T x, const Parameters<Accumulation<T>>& p, bool relu) {
  const Accumulation<T> z = multiply_add(widen(x) + p.c, p.s, p.b);
  return narrow<T>(relu && z <= 0 ? 0 : z);
}

// Of g, the gradient behind the activation (the gradient of b), and of g (x + c) (the gradient of m).
template <typename A>
struct Sums {
  A g, gx;

  __device__ Sums& operator+=(const Sums& other) {
    g += other.g;
    gx += other.gx;
    return *this;
  }
};

// `kept` is x where that was saved; otherwise the output, whose sign is the mask of the ReLU, and sums.gx stays as it is.
template <bool saved_input, typename T>
__device__ __forceinline__ T differentiate(T grad, T kept, const Parameters<Accumulation<T>>& p, bool relu,
                                           Sums<Accumulation<T>>& sums) {
  using A = Accumulation<T>;
  A g = widen(grad);
  if constexpr (saved_input) {
    const A shifted = widen(kept) + p.c;
    if (relu && multiply_add(shifted, p.s, p.b) <= 0) g = 0;
    sums.gx = multiply_add(g, shifted, sums.gx);
  } else {
    if (relu && widen(kept) <= 0) g = 0;
  }
  sums.g += g;
  return narrow<T>(g * p.s);
}

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

// ---------------------------------------------------------------------------------------------------------------------
// 2. Sums over a block, and over blocks

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

// ---------------------------------------------------------------------------------------------------------------------
// 3. Planes

struct PlaneWork {
  int64_t pixels;
  int planes, channels;
  int team;           // threads for one piece of a plane: a warp or a block
  int pieces;         // of a plane; a plane for a warp is one piece
  int64_t per_piece;  // packs
};

// The piece of the plane that this thread works on. Packs start on multiples of their size; `head` elements lie before
// them and fewer than a pack behind them, the edge, which belongs to the first piece.
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

  // An edge is at most 14 elements, so a warp has a lane for each.
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
  load();  // the first packs are on their way while the parameters are fetched
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

// Workspace: Sums of [planes][pieces], and a counter for each plane, where planes have several pieces.
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
      Sums<A> of_pack = {};  // added on its own: a short chain of additions that need not wait for the pack before
#pragma unroll
      for (int j = 0; j < width; ++j)
        grads[i].element[j] =
            differentiate<saved_input>(grads[i].element[j], kepts[i].element[j], p, relu, of_pack);
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

// ---------------------------------------------------------------------------------------------------------------------
// 4. Pixels

struct PixelWork {
  int64_t pixels;
  int channels;
  int columns, tiles;  // packs of a pixel that one block walks along, and how many such tiles make a pixel
  int pieces;          // of the pixels of an image
  int64_t per_piece;   // pixels
};

// The pack of channels that this thread keeps to, and the pixels that it visits: first, first + rows, .. before last;
// none, for a thread that has no pack.
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

// Fetches the parameters of a tile together, as each row of threads needs the same.
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

// Workspace: sums of [N][tiles][pieces][kinds * width][columns], and a counter for each tile of an image, where images
// have several pieces; kinds: g and, where the input was saved, g (x + c).
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
        grads[i].element[j] =
            differentiate<saved_input>(grads[i].element[j], kepts[i].element[j], p[j], relu, sums[j]);
      store_pack_to_global(to.grad_x + at + i * stride, grads[i]);
    }
  }

  // Sums over the rows of threads. Rows of `exchange` are one column longer than the block, so that neighbouring sums,
  // which differ in the column first and the row of `exchange` next, are in neighbouring banks.
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
    sum = sum_in_chains(0, piece.rows, 1,
                        [&](int row) { return exchange[element * length + row * work.columns + column]; });

  if (work.pieces > 1) {
    const int64_t group = piece.n * work.tiles + piece.tile;
    A* const of_pieces = workspace.sums + group * work.pieces * count;
    if (threadIdx.x < count) of_pieces[static_cast<int64_t>(piece.piece) * count + threadIdx.x] = sum;
    if (!arrives_last(workspace.arrived + group, work.pieces)) return;
    // Several threads share the pieces of one sum: every shares-th each, their sums then in order.
    const int shares = kThreads / count, share = threadIdx.x / count;
    A part = 0;
    if (share < shares)
      part = sum_in_chains(share, work.pieces, shares, [&](int i) {
        return of_pieces[static_cast<int64_t>(i) * count + threadIdx.x % count];
      });
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

// ---------------------------------------------------------------------------------------------------------------------
// 5. Launchers

struct MapShape {
  int64_t N, C, pixels;
};

// The most that the kernels count in 32 bits: planes (N C) of a batch.
constexpr int64_t kMostPlanes = (int64_t(1) << 31) - 1;

inline int clamp_rounds(int64_t rounds, const Rounds& limits) {
  return static_cast<int>(rounds < limits.least ? limits.least : rounds > limits.most ? limits.most : rounds);
}

inline PlaneWork cut_planes(const MapShape& shape, int width, const Rounds& limits, int multiprocessors) {
  PlaneWork work = {};
  work.pixels = shape.pixels;
  work.planes = static_cast<int>(shape.N * shape.C);
  work.channels = static_cast<int>(shape.C);
  const int64_t packs = ceil_divide(shape.pixels, width);
  work.team = packs <= kPacksForWarp ? kWarp : kThreads;
  const int64_t of_plane = ceil_divide(packs, kThreads);
  const int rounds = clamp_rounds(work.planes * of_plane / (kBlocksEach * multiprocessors), limits);
  // Pieces alike, in whole rounds.
  const int64_t pieces = work.team == kWarp ? 1 : ceil_divide(of_plane, rounds);
  work.per_piece = ceil_divide(of_plane, pieces) * kThreads;
  work.pieces = static_cast<int>(work.team == kWarp ? 1 : ceil_divide(packs, work.per_piece));
  return work;
}

inline PixelWork cut_pixels(const MapShape& shape, int width, int most_columns, int sector_columns, const Rounds& limits,
                            int multiprocessors) {
  PixelWork work = {};
  work.pixels = shape.pixels;
  work.channels = static_cast<int>(shape.C);
  const int64_t of_pixel = shape.C / width;
  int64_t columns = ceil_divide(of_pixel, ceil_divide(of_pixel, most_columns));
  if (columns < of_pixel) columns = ceil_divide(columns, sector_columns) * sector_columns;  // tiles share no sector
  work.columns = static_cast<int>(columns);
  work.tiles = static_cast<int>(ceil_divide(of_pixel, columns));
  const int64_t rows = kThreads / columns, of_image = ceil_divide(shape.pixels, rows);
  const int rounds = clamp_rounds(shape.N * work.tiles * of_image / (kBlocksEach * multiprocessors), limits);
  const int64_t pieces = ceil_divide(of_image, rounds);
  work.per_piece = ceil_divide(of_image, pieces) * rows;
  work.pieces = static_cast<int>(ceil_divide(shape.pixels, work.per_piece));
  return work;
}

template <typename T>
int behind_pack(const T* pointer) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(pointer) % 16 / sizeof(T));
}

// Whether packs of 16 bytes can be had of all of `pointers`: planes need them to lie alike, pixels to be whole packs.
template <typename T, typename... Pointers>
bool has_packs(const MapShape& shape, bool pixels, const T* to, const Pointers*... from) {
  if (((from && behind_pack(from) != behind_pack(to)) || ...)) return false;
  return !pixels || (shape.C % kFullPack<T> == 0 && behind_pack(to) == 0);
}

// Calls body(std::integral_constant<int, width>()).
template <typename T, typename Body>
auto with_width(bool packs, const Body& body) {
  return packs ? body(std::integral_constant<int, kFullPack<T>>()) : body(std::integral_constant<int, 1>());
}

// out = act((x + c) * (1 + m) + b); `pixels`: the layout. out may be x. No size is zero.
template <typename T>
void launch_forward(const MapShape& shape, bool pixels, const ParameterTables<Accumulation<T>>& tables, bool relu,
                    const T* x, T* out, int multiprocessors, cudaStream_t stream) {
  with_width<T>(has_packs(shape, pixels, out, x), [&](auto pack) {
    constexpr int width = decltype(pack)::value;
    if (pixels) {
      const PixelWork work = cut_pixels(shape, width, kForwardColumns, 1, kForwardPixelRounds, multiprocessors);
      const auto blocks = static_cast<unsigned>(shape.N * work.tiles * work.pieces);
      ASNET_LAUNCH((modulate_pixels<T, width>), blocks, kThreads, 0, stream, work, tables, relu, x, out);
    } else {
      const PlaneWork work = cut_planes(shape, width, kForwardPlaneRounds, multiprocessors);
      const auto blocks = static_cast<unsigned>(ceil_divide(int64_t(work.planes) * work.pieces, kThreads / work.team));
      ASNET_LAUNCH((modulate_planes<T, width>), blocks, kThreads, 0, stream, work, tables, relu, x, out);
    }
  });
}

template <typename T, int width>
PixelWork cut_backward_pixels(const MapShape& shape, int multiprocessors) {
  constexpr int sector_columns = kSectorBytes / (width * sizeof(T));
  return cut_pixels(shape, width, kBackwardColumns<T, width>, sector_columns, kBackwardRounds, multiprocessors);
}

struct WorkspaceSize {
  int64_t sums, counters;
};

// What launch_backward asks for with the same arguments; both are zero where no sum is shared.
template <typename T>
WorkspaceSize backward_workspace(const MapShape& shape, bool pixels, const Gradients<T>& to, int multiprocessors) {
  return with_width<T>(has_packs(shape, pixels, to.grad_x, to.grad, to.kept), [&](auto pack) -> WorkspaceSize {
    constexpr int width = decltype(pack)::value;
    if (pixels) {
      const PixelWork work = cut_backward_pixels<T, width>(shape, multiprocessors);
      const int64_t groups = shape.N * work.tiles;
      if (work.pieces == 1) return {0, 0};
      return {groups * work.pieces * 2 * width * work.columns, groups};
    }
    const PlaneWork work = cut_planes(shape, width, kBackwardRounds, multiprocessors);
    if (work.pieces == 1) return {0, 0};
    return {int64_t(work.planes) * work.pieces * 2, work.planes};
  });
}

// Gradients of x, b and, where saved_input says that `to.kept` is x, m. No size is zero.
template <typename T>
void launch_backward(const MapShape& shape, bool pixels, const ParameterTables<Accumulation<T>>& tables, bool relu,
                     bool saved_input, const Gradients<T>& to, const Workspace<Accumulation<T>>& workspace,
                     int multiprocessors, cudaStream_t stream) {
  with_width<T>(has_packs(shape, pixels, to.grad_x, to.grad, to.kept), [&](auto pack) {
    constexpr int width = decltype(pack)::value;
    if (pixels) {
      const PixelWork work = cut_backward_pixels<T, width>(shape, multiprocessors);
      const auto blocks = static_cast<unsigned>(shape.N * work.tiles * work.pieces);
      const auto kernel = saved_input ? differentiate_pixels<T, width, true> : differentiate_pixels<T, width, false>;
      ASNET_LAUNCH(kernel, blocks, kThreads, 0, stream, work, tables, relu, to, workspace);
    } else {
      const PlaneWork work = cut_planes(shape, width, kBackwardRounds, multiprocessors);
      const auto blocks = static_cast<unsigned>(ceil_divide(int64_t(work.planes) * work.pieces, kThreads / work.team));
      const auto kernel = saved_input ? differentiate_planes<T, width, true> : differentiate_planes<T, width, false>;
      ASNET_LAUNCH(kernel, blocks, kThreads, 0, stream, work, tables, relu, to, workspace);
    }
  });
}

}  // namespace asnet::cuda::guided_modulation
