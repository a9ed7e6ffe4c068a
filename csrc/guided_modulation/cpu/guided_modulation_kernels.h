// Kernels of guided modulation on one piece of memory; see guided_modulation_kernels.cpp.
#pragma once

#include "common/cpu/element_types.h"
#include "common/cpu/isa.h"

namespace asnet {

// The parameters of y = act((x + c) * s + b), s = 1 + m: single values (plane) or one for each column (rows).
template <typename T>
struct Modulation {
  const Accumulation<T>*c, *s, *b;
};

// What the forward pass has saved for the backward pass.
enum class Saved {
  nothing,     // no activation, and no gradient of m is wanted
  output,      // its sign is the mask of the ReLU; no gradient of m is wanted
  input,       // no activation
  input_relu,  // the mask is computed again
};

constexpr bool has_input(Saved saved) { return saved == Saved::input || saved == Saved::input_relu; }

// Whole rows of `length` elements and a short one at the end, without gaps.
struct Rows {
  int64_t rows, length, short_length;
};

}  // namespace asnet

// Backward pass: g is the gradient before the activation. `sums_g` receives its sum (the gradient of b), `sums_gx` the sum
// of g (x + c) (the gradient of m, if the input was saved); one value, or one for each column.
ASNET_DECLARE_KERNELS(template <typename T>
                      void modulate_plane(const Modulation<T>& parameters, bool relu, int64_t count, const T* x, T* out);

                      template <typename T>
                      void differentiate_plane(const Modulation<T>& parameters, Saved saved, int64_t count, const T* grad,
                                               const T* kept, T* grad_x, Accumulation<T>* sums_g, Accumulation<T>* sums_gx);

                      template <typename T>
                      void modulate_rows(const Modulation<T>& parameters, bool relu, const Rows& rows, const T* x, T* out);

                      template <typename T>
                      void differentiate_rows(const Modulation<T>& parameters, Saved saved, const Rows& rows, const T* grad,
                                              const T* kept, T* grad_x, Accumulation<T>* sums_g, Accumulation<T>* sums_gx);)
