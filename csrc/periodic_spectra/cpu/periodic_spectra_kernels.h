// CPU kernels of the Fourier transform of real periodic images, and of its inverse.
//
// Images are transformed along columns, two registers of columns at a time, then along rows, with a register of vertical
// frequencies; back in the opposite order.
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
    // Columns of a tile: those that are transformed together.
    template <typename T> int64_t spectra_tile();

    // From tiles of an image to spectra along columns, which are multiplied by 2. Scratch: 2 * tile * height values.
    template <typename T> void transform_columns(const SpectraArguments<T>& arguments, const T* image, T* spectra,
                                                 T* scratch, int64_t begin, int64_t end);
    // From these to spectra along both axes, in place: blocks. Scratch: 2 * tile * width values.
    template <typename T>
    void transform_rows(const SpectraArguments<T>& arguments, T* spectra, T* scratch, int64_t begin, int64_t end);

    // From blocks of spectra, multiplied by `factor` [block][horizontal frequency][vertical frequency] unless it is null, to
    // spectra along columns. Scratch: 2 * tile * width values.
    template <typename T> void transform_rows_back(const SpectraArguments<T>& arguments, const T* spectra, const T* factor,
                                                   T* columns, T* scratch, int64_t begin, int64_t end);
    // From these to tiles of an image. Scratch: 2 * tile * height values.
    template <typename T> void transform_columns_back(const SpectraArguments<T>& arguments, const T* columns, T* image,
                                                      T* scratch, int64_t begin, int64_t end);)
