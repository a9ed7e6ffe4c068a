// The direct sums of the cross-correlation and of its gradient: launchers.
//
// All pointers are to contiguous memory of the device: features and grad_features (N, C, H, W), out and gradient
// (N, C (C + 1) / 2, 2 R_y + 1, 2 R_x + 1), in the same element type T: float, double, bfloat16 or float16. Sums are in
// float (double for double). The bits of a result depend only on the arguments, including `multiprocessors`. N may be 0.
//
// Two kinds of kernels in each direction: tensor cores (16-bit types, and float32 in three TF32 products) and plain
// multiply-adds (float64, and few maps, which would leave most of a tensor core's tile empty).
#pragma once

#include "cross_correlation/cuda/cross_correlation_direct_backward_plain_kernels.cuh"
#include "cross_correlation/cuda/cross_correlation_direct_backward_tensor_kernels.cuh"
#include "cross_correlation/cuda/cross_correlation_direct_forward_plain_kernels.cuh"
#include "cross_correlation/cuda/cross_correlation_direct_forward_tensor_kernels.cuh"

#include <algorithm>

namespace asnet::cuda {
namespace direct {

// Blocks wanted per multiprocessor, of which two run at a time.
constexpr int64_t kBlocksEach = 4;

// Limit of the workspace, unless a single image with its sums in one part needs more.
constexpr int64_t kWorkspaceBytes = int64_t{128} << 20;

constexpr int64_t kMostImages = 65535;  // of a launch, the limit of gridDim.z

constexpr int64_t aligned_bytes(int64_t bytes) { return round_up(bytes, 256); }

// The number of images processed together, and the number of parts of their sums.
struct Division {
  int64_t images, parts;
};

// fixed: bytes of an image; part: bytes of the sums of one part of an image; blocks: of one part of an image;
// most_parts: more would have too little to do. A single part needs its bytes only if `always`.
inline Division divide(int64_t count, int64_t fixed, int64_t part, bool always, int64_t blocks, int64_t most_parts,
                       int multiprocessors) {
  const int64_t least = std::max<int64_t>(fixed + (always ? part : 0), 1);
  Division division{};
  division.images = std::clamp<int64_t>(kWorkspaceBytes / least, 1, std::clamp<int64_t>(count, 1, kMostImages));
  const int64_t wanted = ceil_divide(kBlocksEach * multiprocessors, blocks * division.images);
  const int64_t affordable = (kWorkspaceBytes / division.images - fixed) / part;
  division.parts = std::max<int64_t>(std::min({wanted, most_parts, affordable}), 1);
  return division;
}

struct ForwardPlan {
  bool tensor_cores;
  PlainBlock block;    // of plain multiply-adds
  int maps;            // i, j of a plain thread, or of a block on tensor cores
  int64_t row;         // channels, padded to whole blocks
  int64_t grid;        // blocks of one part of an image
  int64_t maps_bytes;  // channels last, of an image
  int64_t part_bytes;  // sums of one part of an image
  double products;     // of an image
  Division division;

  int64_t workspace() const { return division.images * (maps_bytes + division.parts * part_bytes); }
};

template <typename T>
ForwardPlan forward_plan(const CrossCorrelationSizes& sizes, int multiprocessors) {
  ForwardPlan plan{};
  plan.tensor_cores = on_tensor_cores<T>(sizes.channels);
  int64_t lag_blocks = 0, most_parts = 0;
  double lags = 0;
  if (plan.tensor_cores) {
    if constexpr (sizeof(T) <= 4) {
      plan.maps = kMaps;
      const int64_t groups = ceil_divide(sizes.lags_x(), kGroupLags<T>);
      lag_blocks = (sizes.lag_y + 1) * groups;
      lags = static_cast<double>(lag_blocks * kGroupLags<T>);
      // At least 8 segments: with fewer, filling the pipeline and adding the parts would dominate.
      most_parts = (sizes.height - (sizes.circular ? 0 : sizes.lag_y)) * ceil_divide(sizes.width, kSegment<T>) / 8;
    }
  } else {
    plan.maps = sizes.channels == 1 || sizes.channels == 3 ? 1 : 2;
    plan.block = plain_block<T>(sizes);
    lag_blocks =
        ceil_divide(sizes.lag_y + 1, plan.block.lags_y) * ceil_divide(runs_of_lags<T>(sizes.lag_x), plan.block.runs);
    lags = static_cast<double>(lag_blocks * plan.block.lags_y * plan.block.runs * kRun<T>);
    most_parts = ceil_divide(sizes.height, plan.block.rows) * ceil_divide(sizes.width, kPlainSegment<T>) / 4;
  }
  const int64_t channel_blocks = ceil_divide(sizes.channels, plan.maps);
  plan.row = channel_blocks * plan.maps;
  plan.grid = lag_blocks * channel_blocks * channel_blocks;
  plan.maps_bytes = plan.tensor_cores ? aligned_bytes(sizes.pixels() * plan.row * static_cast<int64_t>(sizeof(T))) : 0;
  plan.part_bytes = aligned_bytes(half_lags(sizes) * plan.row * plan.row * static_cast<int64_t>(sizeof(Accumulation<T>)));
  plan.products = lags * static_cast<double>(plan.row * plan.row) * static_cast<double>(sizes.pixels());
  plan.division = divide(sizes.count, plan.maps_bytes, plan.part_bytes, true, plan.grid, most_parts, multiprocessors);
  return plan;
}

template <typename T, int maps>
void correlate_plain(const CrossCorrelationSizes& sizes, const ForwardPlan& plan, dim3 grid, const T* features,
                     Accumulation<T>* products, cudaStream_t stream) {
  ASNET_LAUNCH((correlate_plain_kernel<T, maps>), grid, static_cast<unsigned>(plan.block.threads()),
               static_cast<size_t>(plain_shared_bytes<T, maps>(plan.block)), stream, sizes, plan.block,
               has_aligned_rows(sizes, features), features, products);
}

// maps: the maps with channels last, for tensor cores.
template <typename T>
void correlate(const CrossCorrelationSizes& sizes, const ForwardPlan& plan, int64_t images, const T* features, void* maps,
               Accumulation<T>* products, T* out, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(plan.grid), static_cast<unsigned>(plan.division.parts),
                  static_cast<unsigned>(images));
  if (plan.tensor_cores) {
    if constexpr (sizeof(T) <= 4) {
      channels_last(sizes, images, features, static_cast<T*>(maps), stream);
      ASNET_LAUNCH((correlate_maps_kernel<T>), grid, kThreads, 0, stream, sizes, static_cast<const T*>(maps), products);
    }
  } else if (plan.maps == 1) {
    correlate_plain<T, 1>(sizes, plan, grid, features, products, stream);
  } else {
    correlate_plain<T, 2>(sizes, plan, grid, features, products, stream);
  }
  const int64_t tiles = ceil_divide(sizes.channels * plan.row, kWindowTile) * ceil_divide(half_lags(sizes), kWindowTile);
  ASNET_LAUNCH((add_products_kernel<T>), dim3(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(images)), kThreads, 0,
               stream, sizes, static_cast<int>(plan.row), static_cast<int>(plan.division.parts),
               static_cast<const Accumulation<T>*>(products), out);
}

struct BackwardPlan {
  bool tensor_cores;
  int maps;            // a of a plain thread, or of a block on tensor cores
  int64_t grid;        // blocks of one part of an image
  int64_t maps_bytes;  // channels last, of an image
  int64_t weights;     // of an image, words or elements
  int64_t weights_bytes;
  int64_t part_bytes;  // gradient of one part of an image
  double products;     // of an image
  Division division;

  int64_t parts_stored() const { return division.parts > 1 ? division.parts : 0; }
  int64_t workspace() const { return division.images * (maps_bytes + weights_bytes + parts_stored() * part_bytes); }
};

template <typename T, int maps>
void plan_plain(const CrossCorrelationSizes& sizes, BackwardPlan& plan, int64_t& steps) {
  const PlainSteps counts = plain_steps<T, maps>(sizes);
  plan.maps = maps;
  plan.weights = plain_weights<T, maps>(sizes);
  plan.weights_bytes = aligned_bytes(plan.weights * static_cast<int64_t>(sizeof(Accumulation<T>)));
  const int64_t tiles = ceil_divide(sizes.height, kPlainTileRows) * ceil_divide(sizes.width, kPlainTileColumns<T>);
  plan.grid = tiles * counts.blocks;
  plan.products = static_cast<double>(tiles * kPlainTileRows * kPlainTileColumns<T>) * counts.blocks * maps *
                  static_cast<double>(sizes.channels * sizes.lags_y() * counts.runs * kRun<T>);
  steps = counts.steps() / 4;
}

template <typename T>
BackwardPlan backward_plan(const CrossCorrelationSizes& sizes, int multiprocessors) {
  BackwardPlan plan{};
  plan.tensor_cores = on_tensor_cores<T>(sizes.channels);
  int64_t most_parts = 0;
  if (plan.tensor_cores) {
    if constexpr (sizeof(T) <= 4) {
      const TapCounts counts = tap_counts<T>(sizes);
      plan.maps = kMaps;
      plan.maps_bytes = aligned_bytes(sizes.pixels() * counts.blocks * kMaps * static_cast<int64_t>(sizeof(T)));
      plan.weights = fragment_words<T>(sizes);
      plan.weights_bytes = aligned_bytes(4 * plan.weights);
      const int64_t tiles = ceil_divide(sizes.height, kTileRows) * ceil_divide(sizes.width, kTileColumns);
      plan.grid = tiles * counts.blocks;
      plan.products = static_cast<double>(tiles * kTileRows * kTileColumns * counts.blocks * kMaps) *
                      static_cast<double>(counts.rows()) * kTaps * kSlab<T>;
      most_parts = counts.rows() / 4;  // loading the rows of a tile for each part costs about one row of taps
    }
  } else if (sizes.channels == 1) {
    plan_plain<T, 1>(sizes, plan, most_parts);
  } else if (sizes.channels == 2 || sizeof(T) == 8) {
    plan_plain<T, 2>(sizes, plan, most_parts);
  } else if constexpr (sizeof(T) <= 4) {
    plan_plain<T, 4>(sizes, plan, most_parts);
  }
  plan.part_bytes = aligned_bytes(sizes.channels * sizes.pixels() * static_cast<int64_t>(sizeof(Accumulation<T>)));
  plan.division = divide(sizes.count, plan.maps_bytes + plan.weights_bytes, plan.part_bytes, false, plan.grid, most_parts,
                         multiprocessors);
  return plan;
}

template <typename T, int maps>
void convolve_plain(const CrossCorrelationSizes& sizes, const BackwardPlan& plan, dim3 grid, const T* gradient,
                    const T* features, Accumulation<T>* weights, const GatheredPixels<T>& result, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(ceil_divide(plan.weights, kThreads)), 1, grid.z);
  ASNET_LAUNCH((prepare_weights_kernel<T, maps>), blocks, kThreads, 0, stream, sizes, gradient, weights);
  ASNET_LAUNCH((convolve_plain_kernel<T, maps>), grid, kThreads, 0, stream, sizes, has_aligned_rows(sizes, features),
               features, static_cast<const Accumulation<T>*>(weights), result);
}

template <typename T>
void convolve(const CrossCorrelationSizes& sizes, const BackwardPlan& plan, int64_t images, const T* gradient,
              const T* features, void* maps, void* weights, Accumulation<T>* parts, T* grad_features, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(plan.grid), static_cast<unsigned>(plan.division.parts),
                  static_cast<unsigned>(images));
  const GatheredPixels<T> result{grad_features, plan.parts_stored() > 0 ? parts : nullptr};
  if (plan.tensor_cores) {
    if constexpr (sizeof(T) <= 4) {
      channels_last(sizes, images, features, static_cast<T*>(maps), stream);
      const dim3 blocks(static_cast<unsigned>(ceil_divide(plan.weights / kParts<T>, kThreads)), 1, grid.z);
      ASNET_LAUNCH((prepare_fragments_kernel<T>), blocks, kThreads, 0, stream, sizes, gradient,
                   static_cast<uint32_t*>(weights));
      ASNET_LAUNCH((convolve_maps_kernel<T>), grid, kThreads, 0, stream, sizes, static_cast<const T*>(maps),
                   static_cast<const uint32_t*>(weights), result);
    }
  } else {
    Accumulation<T>* const elements = static_cast<Accumulation<T>*>(weights);
    if (plan.maps == 1)
      convolve_plain<T, 1>(sizes, plan, grid, gradient, features, elements, result, stream);
    else if (plan.maps == 2)
      convolve_plain<T, 2>(sizes, plan, grid, gradient, features, elements, result, stream);
    else if constexpr (sizeof(T) <= 4)
      convolve_plain<T, 4>(sizes, plan, grid, gradient, features, elements, result, stream);
  }
  if (plan.parts_stored() > 0) {
    const int64_t size = images * sizes.channels * sizes.pixels();
    ASNET_LAUNCH((add_parts_kernel<T>), static_cast<unsigned>(ceil_divide(size, kThreads)), kThreads, 0, stream, size,
                 static_cast<int>(plan.division.parts), static_cast<const Accumulation<T>*>(parts), grad_features);
  }
}

}  // namespace direct

// Bytes that the launchers need, aligned to 256: at most 128 MiB or, if more, one image with channels last and its windows
// for all ordered pairs (for the gradient: all of its taps).
template <typename T>
int64_t cross_correlation_direct_workspace(const CrossCorrelationSizes& sizes, int multiprocessors) {
  return direct::forward_plan<T>(sizes, multiprocessors).workspace();
}
template <typename T>
int64_t cross_correlation_direct_backward_workspace(const CrossCorrelationSizes& sizes, int multiprocessors) {
  return direct::backward_plan<T>(sizes, multiprocessors).workspace();
}

template <typename T>
void cross_correlation_direct(const CrossCorrelationSizes& sizes, const T* features, T* out, void* workspace,
                              int multiprocessors, cudaStream_t stream) {
  const direct::ForwardPlan plan = direct::forward_plan<T>(sizes, multiprocessors);
  char* const maps = static_cast<char*>(workspace);
  auto* const products = reinterpret_cast<Accumulation<T>*>(maps + plan.division.images * plan.maps_bytes);
  for (int64_t n = 0; n < sizes.count; n += plan.division.images)
    direct::correlate(sizes, plan, std::min(plan.division.images, sizes.count - n),
                      features + n * sizes.channels * sizes.pixels(), maps, products,
                      out + n * sizes.pairs() * sizes.window(), stream);
}

template <typename T>
void cross_correlation_direct_backward(const CrossCorrelationSizes& sizes, const T* gradient, const T* features,
                                       T* grad_features, void* workspace, int multiprocessors, cudaStream_t stream) {
  const direct::BackwardPlan plan = direct::backward_plan<T>(sizes, multiprocessors);
  char* const maps = static_cast<char*>(workspace);
  char* const weights = maps + plan.division.images * plan.maps_bytes;
  auto* const parts = reinterpret_cast<Accumulation<T>*>(weights + plan.division.images * plan.weights_bytes);
  for (int64_t n = 0; n < sizes.count; n += plan.division.images)
    direct::convolve(sizes, plan, std::min(plan.division.images, sizes.count - n),
                     gradient + n * sizes.pairs() * sizes.window(), features + n * sizes.channels * sizes.pixels(), maps,
                     weights, parts, grad_features + n * sizes.channels * sizes.pixels(), stream);
}

// Cost as the number of float32 multiply-adds that an H100 does in the same time, for comparison with other methods.
template <typename T>
double cross_correlation_direct_cost(const CrossCorrelationSizes& sizes, bool backward) {
  double products = 0;
  if (backward)
    products = direct::backward_plan<T>(sizes, 1).products;
  else
    products = direct::forward_plan<T>(sizes, 1).products;
  const bool tensor_cores = direct::on_tensor_cores<T>(sizes.channels);
  return static_cast<double>(sizes.count) * products / (tensor_cores ? direct::kTensorSpeed<T> : direct::kPlainSpeed<T>);
}

}  // namespace asnet::cuda
