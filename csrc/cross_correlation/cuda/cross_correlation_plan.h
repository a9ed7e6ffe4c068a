// Sizes of the spectral cross-correlation on CUDA, and its cost: mainly the bytes that its kernels move.
#pragma once

#include "cross_correlation/cross_correlation_sizes.h"
#include "cross_correlation/cuda/cross_correlation_spectral_pairs_kernels.cuh"

#include <algorithm>
#include <cmath>
#include <limits>

namespace asnet::cuda {

// The device for which costs are counted. Comparisons of costs depend on the ratio of its memory speed to its arithmetic
// speed, which hardly differs between devices. benchmarks/cross_correlation.py --crossing shows the resulting choices.
namespace h100 {
// float32 at 60 % of the peak, which kernels reach. Used for both methods; products on tensor cores count by their ratio to
// it (direct::kTensorSpeed).
constexpr double multiply_adds_per_second = 0.6 * 33.5e12;
// Between the rates of memory (3.35e12) and L2 cache: part of one kernel's output is still cached for the next.
constexpr double bytes_per_second = 2.5e12;
// Per kernel launch, torch's transforms included.
constexpr double seconds_per_launch = 2.5e-6;
}  // namespace h100

// Temporary memory. With this limit, 32 maps of 768x1024 with lags up to 42, whose products take 1.7 GB in total, are cut
// only along their rows. In the CPU tests it is so small that small images need several groups, blocks and pieces.
#ifdef __CUDACC__
constexpr double most_spectral_bytes = 170e6;
#else
constexpr double most_spectral_bytes = 100e3;
#endif

constexpr int64_t most_rows = 2048;     // of a transform along columns: cuFFT's limit for one pass
constexpr int64_t most_columns = 2048;  // of a transform along the rows of a tile, unless twice the halo is larger

// The maps of `images` images, cut into strips of core_y rows and tiles of core_x columns (see
// cross_correlation_spectral_layout.cuh). A group has `tiles` tiles of a strip, a block has `frequencies` frequencies.
struct SpectralPlan {
  int64_t size_y = 0, core_y = 0, size_x = 0, core_x = 0;
  bool whole_y = false, whole_x = false;  // the core is its own halo
  int64_t images = 0, tiles = 0, frequencies = 0;
  bool columns_in_two = false;  // transformed in two pieces, because the transform's input stays allocated
  double seconds = std::numeric_limits<double>::infinity();  // on an H100

  int64_t frequencies_y() const { return size_y / 2 + 1; }
};

// Smallest even product of 2, 3, 5 and 7 that is at least `least`.
inline int64_t next_transform_size(int64_t least) {
  for (int64_t size = std::max<int64_t>(least + least % 2, 2);; size += 2) {
    int64_t rest = size;
    for (const int64_t factor : {2, 3, 5, 7})
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return size;
  }
}

// Searches for the cheapest plan whose temporary memory stays below `most_bytes` or, if larger, the result of one image.
// The minimum is one tile and one frequency; with hundreds of maps that may take more.
class SpectralPlanner {
 public:
  SpectralPlanner(const CrossCorrelationSizes& sizes, bool gradient, int64_t value_bytes, double most_bytes)
      : sizes_(sizes),
        gradient_(gradient),
        complex_bytes_(2.0 * value_bytes),
        most_bytes_(std::max(most_bytes, window_bytes())) {}

  SpectralPlan best() const {
    SpectralPlan best, smallest;
    double smallest_bytes = std::numeric_limits<double>::infinity();
    const auto consider = [&](SpectralPlan plan) {
      divide(plan);
      plan.seconds = seconds(plan);
      const double bytes = peak_bytes(plan);
      if (bytes < smallest_bytes) {
        smallest = plan;
        smallest_bytes = bytes;
      }
      if (bytes <= most_bytes_ && plan.seconds < best.seconds) best = plan;
    };
    for_each_size(sizes_.height, sizes_.lag_y, most_rows, 4.0 / 3, [&](int64_t size_y, int64_t core_y, bool whole_y) {
      for_each_size(sizes_.width, sizes_.lag_x, most_columns, 17.0 / 16, [&](int64_t size_x, int64_t core_x, bool whole_x) {
        consider({size_y, core_y, size_x, core_x, whole_y, whole_x});
      });
    });
    return smallest_bytes <= most_bytes_ ? best : smallest;
  }

  // A lower bound for any plan: the launches of one group and one block.
  double least_seconds() const { return launches_of_group(1) * h100::seconds_per_launch; }

  // Peak bytes of the plan, not counting the result and the transforms' own workspace.
  double peak_bytes(const SpectralPlan& plan) const {
    const double columns = column_bytes(plan) * kept_columns(plan) * plan.images;
    return std::max((plan.columns_in_two ? 1.5 : 2.0) * columns,
                    columns + block_bytes(plan) * plan.images * plan.frequencies);
  }

 private:
  // In one dimension: the whole image, or parts that just fit transforms of efficient sizes, in steps of `factor`.
  template <typename Function>
  void for_each_size(int64_t extent, int64_t lag, int64_t most, double factor, const Function& consider) const {
    most = std::max(most, 4 * lag);
    if (sizes_.circular && next_transform_size(extent) == extent && extent <= most)
      consider(extent, extent, true);
    else if (!sizes_.circular && next_transform_size(extent + lag) <= most)
      consider(next_transform_size(extent + lag), extent, true);
    const int64_t last = std::min(next_transform_size(extent + 2 * lag), most);
    for (int64_t size = next_transform_size(2 * lag + 1); size <= last;) {
      // The smallest parts that give the same number of parts.
      const int64_t core = ceil_divide(extent, ceil_divide(extent, size - 2 * lag));
      consider(next_transform_size(core + 2 * lag), core, false);
      size = next_transform_size(static_cast<int64_t>(static_cast<double>(size) * factor) + 1);
    }
  }

  int64_t parts_y(const SpectralPlan& plan) const { return plan.whole_y || gradient_ ? 1 : 2; }
  int64_t parts(const SpectralPlan& plan) const { return (plan.whole_y && plan.whole_x) || gradient_ ? 1 : 2; }
  int64_t all_tiles(const SpectralPlan& plan) const { return ceil_divide(sizes_.width, plan.core_x); }
  int64_t kept_columns(const SpectralPlan& plan) const {
    return plan.tiles == all_tiles(plan) ? sizes_.width : plan.tiles * plan.core_x + 2 * sizes_.lag_x;
  }
  // Bytes of the spectra of one column of one image.
  double column_bytes(const SpectralPlan& plan) const {
    return complex_bytes_ * plan.frequencies_y() * sizes_.channels * parts_y(plan);
  }
  // Peak bytes of one image and one frequency: spectra of all tiles of the group and of all pairs.
  double tile_bytes(const SpectralPlan& plan) const {
    return complex_bytes_ * plan.tiles * parts(plan) * sizes_.channels * plan.size_x;
  }
  double launches_of_group(double blocks) const { return 4 + blocks * (gradient_ ? 7 : 5); }
  double window_bytes() const { return complex_bytes_ / 2 * sizes_.window() * sizes_.pairs(); }
  double pair_bytes(const SpectralPlan& plan) const { return complex_bytes_ * sizes_.pairs() * plan.size_x; }
  double block_bytes(const SpectralPlan& plan) const {
    const double tiles = tile_bytes(plan), pairs = pair_bytes(plan);
    return std::max(2 * pairs, gradient_ ? pairs + 2 * tiles : std::max(2 * tiles, tiles + pairs));
  }

  // Chooses tiles and images of a group and frequencies of a block. The columns get two thirds of the memory; transforming
  // them needs half as much again.
  void divide(SpectralPlan& plan) const {
    const double most_columns_bytes = most_bytes_ * 2 / 3, most_block_bytes = most_bytes_ / 3;
    const auto at_most = [](double limit, double unit, int64_t count) {
      return static_cast<int64_t>(std::clamp(limit / unit, 1.0, static_cast<double>(count)));
    };
    plan.images = 1;
    plan.tiles = all_tiles(plan);
    const double image_bytes = column_bytes(plan) * sizes_.width;
    if (image_bytes > most_columns_bytes) {
      const double columns = most_columns_bytes / column_bytes(plan) - 2.0 * sizes_.lag_x;
      plan.tiles = at_most(columns, static_cast<double>(plan.core_x), plan.tiles);
    } else {
      plan.images = at_most(most_columns_bytes, image_bytes, std::max<int64_t>(sizes_.count, 1));
      plan.images = at_most(most_block_bytes, 16 * block_bytes(plan), plan.images);
    }
    plan.columns_in_two = 2 * column_bytes(plan) * kept_columns(plan) * plan.images > most_bytes_;
    const int64_t most = at_most(most_block_bytes, block_bytes(plan) * plan.images, plan.frequencies_y());
    // Blocks of equal size; four complex floats are a sector of memory.
    const int64_t even = ceil_divide(plan.frequencies_y(), ceil_divide(plan.frequencies_y(), most));
    plan.frequencies = std::min(most, ceil_divide(even, 4) * 4);
  }

  double seconds(const SpectralPlan& plan) const {
    const double strips = ceil_divide(sizes_.height, plan.core_y);
    const double groups = strips * ceil_divide(all_tiles(plan), plan.tiles);
    const double frequencies = plan.frequencies_y(), blocks = ceil_divide(plan.frequencies_y(), plan.frequencies);
    const double channels = sizes_.channels, pairs = sizes_.pairs();
    // Columns are written, read by the transform, written and read; the gradient's way back costs the same.
    const double columns = groups * kept_columns(plan) * column_bytes(plan) * (gradient_ ? 8 : 4);
    const double tiles = groups * frequencies * tile_bytes(plan) * (gradient_ ? 8 : 4);
    // Forward, only the lags are read at the end; the gradient's products read all values for every few tiles.
    const double of_pairs = gradient_ ? 3.0 + ceil_divide(plan.tiles, gradient_tiles<float>)
                                      : 3.0 + static_cast<double>(sizes_.lags_x()) / plan.size_x;
    const double windows = groups * window_bytes() * (gradient_ ? frequencies / frequency_block<float> : 2 * blocks);
    const double bytes = columns + tiles + groups * frequencies * pair_bytes(plan) * of_pairs + windows;

    const double products =
        strips * all_tiles(plan) * frequencies * plan.size_x * 4 * (gradient_ ? channels * channels : pairs);
    const double lags = groups * frequencies * pairs * sizes_.lags_x() * (sizes_.lag_y + 1) * 2;
    const double processors = complex_bytes_ / 8;  // double runs at half the speed
    const double launches = groups * ceil_divide(sizes_.count, plan.images) * launches_of_group(blocks);
    return sizes_.count *
               (bytes / h100::bytes_per_second + (products + lags) * processors / h100::multiply_adds_per_second) +
           launches * h100::seconds_per_launch;
  }

  CrossCorrelationSizes sizes_;
  bool gradient_;
  double complex_bytes_, most_bytes_;
};

}  // namespace asnet::cuda
