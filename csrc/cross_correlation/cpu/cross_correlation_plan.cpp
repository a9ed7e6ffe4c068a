#include "cross_correlation/cpu/cross_correlation_plan.h"

#include "common/cpu/fft_planning.h"
#include "common/integers.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace asnet {
namespace {

// Limit for the column spectra of a group of tiles. With the two smaller buffers and the windows, the total stays below
// 300 MB for the released topology and images of any size.
constexpr double column_bytes = 128e6;

constexpr int64_t most_rows = 1024;  // of a transform along columns, unless one transform covers the image

double fft_cost(int64_t size) { return fft_stages(size).cost * static_cast<double>(size); }

bool is_fft_size(int64_t size) { return next_fft_size(size) == size; }

// In one dimension: whether zeros for the lags, or a transform of the image's own period, make the core its own halo.
bool whole(int64_t size, int64_t extent, int64_t lag, bool circular) {
  return circular ? size == extent : size >= extent + lag;
}

double spectral_cost(const CrossCorrelationSizes& sizes, const SpectralSizes& spectral, bool gradient, int64_t lanes) {
  const double channels = sizes.channels, pairs = sizes.pairs();
  const double blocks = ceil_divide(spectral.frequencies_y(), lanes);
  const int64_t strips = ceil_divide(sizes.height, spectral.core_y), tiles = ceil_divide(sizes.width, spectral.core_x);
  const double groups = ceil_divide(tiles, spectral.group);
  const double column_sequences = spectral.whole_y || gradient ? channels : 2 * channels;
  const double spectra = gradient || (spectral.whole_y && spectral.whole_x) ? 1 : 2;
  const double columns = sizes.width + (spectral.whole_x ? 0 : 2.0 * sizes.lag_x * groups);
  const double transform_x = fft_cost(spectral.size_x) + 8.0 * spectral.size_x;
  const double window = (sizes.lags_x()) * ceil_divide(sizes.lag_y + 1, lanes) * 2.0 * (lanes + 4);

  const double along_columns =
      column_sequences / 2 * (columns / lanes) * (fft_cost(spectral.size_y) + 16.0 * spectral.size_y);
  const double of_tiles = blocks * tiles * channels * spectra * transform_x;
  const double products = blocks * spectral.size_x * tiles * (gradient ? channels * channels : pairs) * 6;
  const double of_pairs = groups * blocks * pairs * (transform_x + window);
  return strips * ((gradient ? 2 : 1) * (along_columns + of_tiles) + products + of_pairs);
}

// The number of tiles whose column spectra fit into column_bytes.
int64_t tiles_of_group(const CrossCorrelationSizes& sizes, const SpectralSizes& spectral, bool gradient, int64_t lanes,
                       int64_t value_bytes) {
  const double sequences = spectral.whole_y || gradient ? sizes.channels : 2.0 * sizes.channels;
  const double bytes_per_column = ceil_divide(spectral.frequencies_y(), lanes) * lanes * 2.0 * value_bytes * sequences;
  const double columns = column_bytes / bytes_per_column - 2.0 * sizes.lag_x;
  const int64_t tiles = ceil_divide(sizes.width, spectral.core_x);
  return std::clamp<int64_t>(static_cast<int64_t>(columns / spectral.core_x), 1, tiles);
}

}  // namespace

Estimate estimate_costs(const CrossCorrelationSizes& sizes, bool gradient, int64_t lanes, int64_t value_bytes) {
  Estimate best{{}, std::numeric_limits<double>::infinity(), 0};
  const double sums = static_cast<double>(sizes.lags_y()) * sizes.lags_x() * sizes.height * ceil_divide(sizes.width, lanes);
  const double terms = gradient ? static_cast<double>(sizes.channels) * sizes.channels : sizes.pairs();
  best.direct_cost = sums * terms * 1.5;

  // Along columns: one strip if it fits, else strips of at most most_rows rows or twice the halo.
  const int64_t margins_y = 2 * sizes.lag_y, margins_x = 2 * sizes.lag_x;
  const int64_t one_strip = sizes.circular && is_fft_size(sizes.height)
                                ? sizes.height
                                : next_fft_size(sizes.height + (sizes.circular ? margins_y : sizes.lag_y));
  SpectralSizes candidate{};
  if (one_strip <= std::max(most_rows, 2 * margins_y)) {
    candidate.size_y = one_strip;
    candidate.core_y = sizes.height;
  } else {
    const int64_t strips = ceil_divide(sizes.height, std::max(most_rows - margins_y, margins_y));
    candidate.core_y = ceil_divide(sizes.height, strips);
    candidate.size_y = next_fft_size(candidate.core_y + margins_y);
  }
  candidate.whole_y =
      candidate.core_y == sizes.height && whole(candidate.size_y, sizes.height, sizes.lag_y, sizes.circular);

  const auto consider = [&] {
    candidate.group = tiles_of_group(sizes, candidate, gradient, lanes, value_bytes);
    const double cost = spectral_cost(sizes, candidate, gradient, lanes);
    if (cost < best.spectral_cost) {
      best.spectral_cost = cost;
      best.spectral = candidate;
    }
  };
  const int64_t one_tile = sizes.circular && is_fft_size(sizes.width)
                               ? sizes.width
                               : next_fft_size(sizes.width + (sizes.circular ? margins_x : sizes.lag_x));
  if (one_tile <= 4 * margins_x || one_tile <= 2048) {
    candidate.size_x = one_tile;
    candidate.core_x = sizes.width;
    candidate.whole_x = whole(one_tile, sizes.width, sizes.lag_x, sizes.circular);
    consider();
  }
  candidate.whole_x = false;
  for (int64_t size = next_fft_size(margins_x + 1);
       size < sizes.width + margins_x && size <= std::max<int64_t>(1024, 4 * margins_x); size = next_fft_size(size + 1)) {
    // For this number of tiles, the smallest core wastes the least on margins.
    candidate.size_x = size;
    candidate.core_x = std::min(size - margins_x, sizes.width);
    consider();
  }
  return best;
}

}  // namespace asnet
