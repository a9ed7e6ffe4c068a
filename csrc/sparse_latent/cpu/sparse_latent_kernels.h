// Kernels of the latent image with few gradients, for every instruction set: one step of half-quadratic splitting,
//
//   g = grad x where |grad x|^2 >= threshold, else 0
//   X = (conj(K) Y + beta conj(D) G) / (|K|^2 + beta |D|^2)
//
// and, where the photograph y is clipped, y raised to k * x.
//
// Images are periodic. They are transformed along their columns first, a register of columns at a time, which leaves
// `frequencies_y` vertical frequencies; along their rows a register holds as many vertical frequencies.
#pragma once

#include <cstdint>

#include "common/cpu/fft_plan.h"
#include "common/cpu/isa.h"

namespace asnet {

// A plane is an image in memory: rows are `row` values apart, and beside its width the opposite side goes on for one column
// to the left and up to one column beyond `columns` to the right.
//
// Spectra are those of cpu/fft_pairs.h, with pixels or horizontal frequencies along a row. They are twice too large, but for
// that of the kernel.
template <typename T>
struct LatentArguments {
  int64_t height, width;
  int64_t columns;  // the width rounded up to pairs of registers
  int64_t row, block;
  Fft<T> fft_y, fft_x;
  const T *prior_y, *prior_x;  // |D|^2 = prior_y[ky] + prior_x[kx]; prior_y goes on to whole blocks with 1

  T* image;                   // plane: the latent image
  const T *lowest, *highest;  // planes: limits of y; null where nothing is clipped
  T* transfer;                // spectra of k
  T* gradients;               // spectra of conj(D) g, then of x
  T* observed;                // spectra of y, or of conj(K) Y where y never changes
};

// What latent_spectra finds in `observed`, and what it leaves there.
enum class Observed {
  image_to_matched,    // y, transformed along columns alone; leaves conj(K) Y
  matched,             // conj(K) Y, which stays
  image_to_predicted,  // y, transformed along columns alone; leaves k * x likewise
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Number of values in a register; sizes of the buffers depend on it.
    template <typename T> int64_t latent_lanes();

    // Tasks along columns: pairs of registers of columns. Scratch: 4 * height * lanes values.
    template <typename T> void plane_to_columns(const LatentArguments<T>& arguments, const T* plane, T* spectra, T* scratch,
                                                int64_t begin, int64_t end);
    template <typename T>
    void divergence_to_columns(const LatentArguments<T>& arguments, T threshold, T* scratch, int64_t begin, int64_t end);
    template <typename T>
    void columns_to_image(const LatentArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);
    // From k * x to y: its transform along columns or, at the end, y itself in the place of the image.
    template <typename T> void predicted_to_observed(const LatentArguments<T>& arguments, bool at_the_end, T* scratch,
                                                     int64_t begin, int64_t end);
    // Tasks: rows. Continues the image beyond its width.
    template <typename T> void wrap_rows(const LatentArguments<T>& arguments, T* plane, int64_t begin, int64_t end);

    // Tasks along rows: blocks. Scratch: 4 * width * lanes values.
    template <typename T>
    void transfer_spectra(const LatentArguments<T>& arguments, T* scratch, int64_t begin, int64_t end);
    template <typename T> void latent_spectra(const LatentArguments<T>& arguments, T beta, Observed observed, T* scratch,
                                              int64_t begin, int64_t end);)
