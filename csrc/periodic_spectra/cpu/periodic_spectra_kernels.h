// CPU kernels of the spectra of real periodic images, and of the images of spectra.
//
// Images are transformed along columns, two registers of columns at a time, and along rows, with a register of vertical
// frequencies.
#pragma once

#include "common/cpu/fft_plan.h"
#include "common/cpu/isa.h"

#include <cstdint>

namespace asnet {

// Spectra are in blocks of this many vertical frequencies, the same for every instruction set and a multiple of the values
// in any register: [block][re, im][horizontal frequency][vertical frequency]. Those above height / 2 are 0.
inline constexpr int64_t spectra_block = 16;

template <typename T>
struct SpectraArguments {
  int64_t height, width;
  Fft<T> fft_y, fft_x;

  int64_t block_size() const { return 2 * width * spectra_block; }
  // From a real part to the imaginary one.
  int64_t imaginary() const { return width * spectra_block; }
};

}  // namespace asnet

ASNET_DECLARE_KERNELS(
    // Number of columns in a tile, which are transformed together. Scratch memory of a task: 2 * tile * height values along
    // columns, 2 * tile * width along rows.
    template <typename T> int64_t spectra_tile();

    // Tiles of an image to its spectra along columns, multiplied by 2.
    template <typename T> void image_to_columns(const SpectraArguments<T>& arguments, const T* image, T* spectra, T* scratch,
                                                int64_t begin, int64_t end);
    // Blocks of spectra along columns to spectra along both axes, in place.
    template <typename T>
    void columns_to_spectra(const SpectraArguments<T>& arguments, T* spectra, T* scratch, int64_t begin, int64_t end);
    // Blocks of spectra, multiplied by `factor` [block][horizontal frequency][vertical frequency] unless it is null, to
    // spectra along columns.
    template <typename T> void spectra_to_columns(const SpectraArguments<T>& arguments, const T* spectra, const T* factor,
                                                  T* columns, T* scratch, int64_t begin, int64_t end);
    // Spectra along columns to tiles of an image.
    template <typename T> void columns_to_image(const SpectraArguments<T>& arguments, const T* columns, T* image, T* scratch,
                                                int64_t begin, int64_t end);)
