// CPU kernels of the latent image with few gradients: one step of half-quadratic splitting,
//
//   g = grad x where |grad x|^2 >= threshold, else 0
//   X = (conj(K) Y + beta conj(D) G) / (|K|^2 + beta |D|^2)
//
// or, on an even ground,
//
//   u = x where (x - ground)^2 >= threshold, else ground
//   X = (conj(K) Y + beta (conj(D) G + U)) / (|K|^2 + beta (|D|^2 + 1))
//
// and, where the photograph y is clipped, y is raised to k * x.
//
// Images are periodic. They are first transformed along columns, a register of columns at a time, to `frequencies_y`
// vertical frequencies; then along rows, with a register of vertical frequencies.
#pragma once

#include "common/cpu/fft_plan.h"
#include "common/cpu/isa.h"

#include <cstdint>
#include <optional>

namespace asnet {

// A plane is an image in tiles of two registers of columns: [tile][row][two registers]. Columns beyond the width continue it
// periodically. There are `lanes` values more in memory before and after it.
//
// Spectra are those of cpu/fft_pairs.h, with pixels or horizontal frequencies along a row. All but that of the kernel are
// twice the true spectrum.
template <typename T>
struct LatentArguments {
  int64_t height, width;
  int64_t tiles;
  int64_t block;
  Fft<T> fft_y, fft_x;
  const T *prior_y, *prior_x;  // sum: |D|^2, with a ground + 1; prior_y is padded with 1 to whole blocks
  std::optional<T> ground;

  T* image;                   // plane: the latent image
  const T *lowest, *highest;  // planes: limits of y; null if nothing is clipped
  const bool* limited;        // [tile][row]: whether the limits of any pixel differ
  T* transfer;                // spectra of k
  T* gradients;               // spectra of conj(D) g + u, then of x
  T* observed;                // spectra of y, or of conj(K) Y if y never changes
};

// What latent_spectra reads from `observed`, and what it writes there.
enum class Observed {
  image_to_matched,    // reads y, transformed along columns only; writes conj(K) Y
  matched,             // reads conj(K) Y, which stays
  image_to_predicted,  // reads y, transformed along columns only; writes k * x, also along columns only
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Number of values in a register; sizes of the buffers depend on it.
    template <typename T> int64_t latent_lanes();

    // Tasks along columns: tiles. Scratch: 4 * height * lanes values.
    template <typename T>
    void image_to_columns(const LatentArguments<T>& arguments, T* spectra, T* scratch, int64_t begin, int64_t end);
    template <typename T>
    void divergence_to_columns(const LatentArguments<T>& arguments, T threshold, T* scratch, int64_t begin, int64_t end);
    template <typename T>
    void columns_to_image(const LatentArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);
    // From k * x to y: its transform along columns or, at the end, y itself in place of the image.
    template <typename T> void predicted_to_observed(const LatentArguments<T>& arguments, bool at_the_end, T* scratch,
                                                     int64_t begin, int64_t end);

    // Tasks along rows: blocks. Scratch: 4 * width * lanes values.
    template <typename T>
    void transfer_spectra(const LatentArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);
    template <typename T> void latent_spectra(const LatentArguments<T>& arguments, T beta, Observed observed, T* scratch,
                                              int64_t begin, int64_t end);)
