// CPU kernels of the cross-correlation. The formula is in cross_correlation_sizes.h.
#pragma once

#include "common/cpu/fft_plan.h"
#include "common/cpu/isa.h"
#include "cross_correlation/cross_correlation_sizes.h"

#include <cstdint>

namespace asnet {

// Direct sums. `padded` holds the maps with a margin of the largest lag on every side (zeros, or the opposite side):
// [channel][height + 2 lag_y][row], row = width rounded up to registers + 2 lag_x.
template <typename T>
struct DirectArguments {
  CrossCorrelationSizes sizes;
  int64_t row;
  const T* padded;
  const T* weights;  // gradient: K as [b][t][s][a]
  T* out;            // forward: [pair][t][s]; gradient: [channel][height][width]
};

// Spectral method. The image is cut into strips of rows, and strips into tiles of columns. `core` is the strip or tile
// itself, `halo` the core with the largest lag on either side; both are transformed with size_y x size_x values. If one
// strip (tile) covers the whole image, zero-padded by the lag or with the period of a circular image, the core is its own
// halo (`whole`).
struct SpectralSizes {
  int64_t size_y, core_y;  // of the transform along columns, of a strip
  int64_t size_x, core_x;  // of the transform along rows, of a tile
  bool whole_y, whole_x;
  int64_t group;  // tiles whose column spectra are held at once

  int64_t frequencies_y() const { return size_y / 2 + 1; }
};

template <typename T>
struct SpectralArguments {
  CrossCorrelationSizes sizes;
  SpectralSizes spectral;
  Fft<T> fft_y, fft_x;
  bool gradient;  // only halos are transformed

  // The strip begins at row y and has `rows` rows; the group begins at column x and has `tiles` tiles.
  int64_t y, rows, x, tiles;

  const T* features;  // [channel][height][width]
  T* image;           // gradient with respect to features
  // Spectra of all columns, in blocks of `lanes` vertical frequencies: [block][sequence][column][re, im][lane]. A sequence
  // is the core or the halo of a channel.
  T* columns;
  int64_t columns_per_sequence;  // a multiple of lanes
  // Spectra of the tiles for one block: [horizontal frequency][tile][channel][core, halo][re, im][lane].
  T* tiles_spectra;
  // Spectra of the pairs for one block; forward: [pair][horizontal frequency], gradient: [horizontal frequency][pair].
  T* pairs_spectra;
  // Even and odd part of the correlation in t: [pair][s][even, odd][t = 0 .. lag_y, padded to lanes].
  T* window;
  int64_t window_row;  // lag_y + 1 rounded up to lanes
  // cos and sin of 2 pi ky t / size_y. Forward: [ky][cos, sin][t], including the weights of the inverse transform;
  // gradient: [block][t][cos, sin][lane].
  const T* waves;

  int64_t sequences() const { return spectral.whole_y || gradient ? sizes.channels : 2 * sizes.channels; }
  int64_t spectra_per_channel() const { return gradient || (spectral.whole_y && spectral.whole_x) ? 1 : 2; }
  int64_t margin_x() const { return spectral.whole_x ? 0 : sizes.lag_x; }
  int64_t margin_y() const { return spectral.whole_y ? 0 : sizes.lag_y; }
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Number of values in a register; sizes of the buffers depend on it.
    template <typename T> int64_t register_lanes();

    // Tasks: (block of j, lag t).
    template <typename T> int64_t direct_tasks(const CrossCorrelationSizes& sizes);
    template <typename T> void direct_forward(const DirectArguments<T>& arguments, int64_t begin, int64_t end);
    // Tasks: (block of channels, row).
    template <typename T> int64_t direct_gradient_tasks(const CrossCorrelationSizes& sizes);
    template <typename T> void direct_gradient(const DirectArguments<T>& arguments, int64_t begin, int64_t end);

    // Tasks: (pair of sequences, register of columns). Scratch: 4 * size_y * lanes values.
    template <typename T> int64_t column_tasks(const SpectralArguments<T>& arguments);
    // Transforms of the strips along their columns, and back.
    template <typename T>
    void columns_to_spectra(const SpectralArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);
    template <typename T>
    void spectra_to_columns(const SpectralArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);
    // Tasks: (tile, channel). Scratch: 4 * size_x * lanes values, here and for the next two.
    template <typename T>
    void tiles_to_spectra(const SpectralArguments<T>& arguments, int64_t block, T* scratch, int64_t begin, int64_t end);
    template <typename T>
    void spectra_to_tiles(const SpectralArguments<T>& arguments, int64_t block, T* scratch, int64_t begin, int64_t end);
    // Tasks: pairs.
    template <typename T>
    void pairs_to_lags(const SpectralArguments<T>& arguments, int64_t block, T* scratch, int64_t begin, int64_t end);
    template <typename T>
    void lags_to_pairs(const SpectralArguments<T>& arguments, int64_t block, T* scratch, int64_t begin, int64_t end);
    // Tasks: horizontal frequencies. Scratch of the gradient: 2 * lanes * channels * (tiles + 4) values.
    template <typename T> void pair_products(const SpectralArguments<T>& arguments, int64_t begin, int64_t end);
    template <typename T>
    void pair_products_gradient(const SpectralArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);)

namespace asnet {

// Distances in values. One extra register keeps successive rows out of the same cache sets.
template <typename T>
int64_t tiles_spectra_stride(const SpectralArguments<T>& a, int64_t lanes) {
  return (a.tiles * a.sizes.channels * a.spectra_per_channel() + 1) * 2 * lanes;
}

template <typename T>
int64_t pairs_spectra_stride(const SpectralArguments<T>& a, int64_t lanes) {
  return ((a.gradient ? a.sizes.pairs() : a.spectral.size_x) + 1) * 2 * lanes;
}

}  // namespace asnet
