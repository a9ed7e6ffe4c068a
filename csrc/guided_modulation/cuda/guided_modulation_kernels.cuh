// The epilogue of a guided convolution, act((x + c) * (1 + m) + b), and its gradients, each in one pass over memory:
// launchers.
//
// Two memory layouts, each with its own kernels:
//   planes  contiguous [N, C, H, W]: guided_modulation_planes_kernels.cuh
//   pixels  channels-last: guided_modulation_pixels_kernels.cuh
// Reads and writes are in packs of 16 bytes. Single elements are used before and after the packs of a plane that does not
// start or end on a multiple of 16 bytes, for pixels that are not whole packs (an odd number of channels), and for tensors
// whose offsets within 16 bytes differ.
//
// Floors on an H100 (3.35 TB/s), 128 maps of 768x1024 in bfloat16, 201 MB: forward 2 x 201 MB, 0.120 ms; backward, which
// reads the gradient and the saved map and writes a gradient, 3 x 201 MB, 0.180 ms. Eight operations per element are a
// tenth of what the float units do in that time.
#pragma once

#include "guided_modulation/cuda/guided_modulation_pixels_kernels.cuh"
#include "guided_modulation/cuda/guided_modulation_planes_kernels.cuh"

namespace asnet::cuda::guided_modulation {

// Rounds of a block, that is, packs that each of its threads processes in turn. Fewer if there is too little work for
// kBlocksEach blocks per multiprocessor. The limit makes the blocks of the forward pass finish together (pixels first fetch
// the parameters of their channels and get more rounds) and keeps the float32 sums of a thread short in the backward pass.
constexpr int kBlocksEach = 8;
struct Rounds {
  int least, most;
};
constexpr Rounds kForwardPlaneRounds = {1, 8}, kForwardPixelRounds = {1, 16}, kBackwardRounds = {2, 64};

template <typename T>
constexpr int kFullPack = 16 / sizeof(T);

struct MapShape {
  int64_t N, C, pixels;
};

// Limit of what the kernels count in 32 bits: planes (N C) of a batch.
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
  // Equal pieces, in whole rounds.
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
  if (columns < of_pixel) columns = ceil_divide(columns, sector_columns) * sector_columns;  // no two tiles share a sector
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

// Whether all of `pointers` can be accessed in packs of 16 bytes: planes need equal offsets, pixels must be whole packs.
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

// out = act((x + c) * (1 + m) + b); `pixels` selects the layout. out may be x. No size is zero.
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

// The workspace of launch_backward with the same arguments; both sizes are zero if no sum is shared.
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

// Gradients of x, b and, with saved_input (`to.kept` is x), m. No size is zero.
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
