// The formula of guided modulation, act((x + c) * (1 + m) + b), and its derivative, element by element.
#pragma once

#include "common/cuda/device.cuh"

namespace asnet::cuda::guided_modulation {

template <typename T>
__device__ __forceinline__ Accumulation<T> widen(T x) {
  if constexpr (std::is_same_v<T, double>)
    return x;
  else
    return to_float(x);
}

template <typename T>
__device__ __forceinline__ T narrow(Accumulation<T> x) {
  if constexpr (std::is_same_v<T, double>)
    return x;
  else
    return from_float<T>(x);
}

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

template <typename A>
struct Parameters {
  A c, s, b;  // s = 1 + m
};

// m, b: [N, C], c: [C]; any may be absent. Strided, so one blur kernel expanded to a batch is not copied.
template <typename A>
struct ParameterTables {
  const A *multiplier = nullptr, *shift = nullptr, *conv_bias = nullptr;
  int64_t multiplier_strides[2] = {}, shift_strides[2] = {}, conv_bias_strides[1] = {};

  __device__ Parameters<A> of(int64_t n, int64_t channel) const {
    return {conv_bias ? conv_bias[channel * conv_bias_strides[0]] : A(0),
            multiplier ? A(1) + multiplier[n * multiplier_strides[0] + channel * multiplier_strides[1]] : A(1),
            shift ? shift[n * shift_strides[0] + channel * shift_strides[1]] : A(0)};
  }
};

// NaN fails the comparison with zero and passes through, as in torch.relu.
template <typename T>
__device__ __forceinline__ T modulate(T x, const Parameters<Accumulation<T>>& p, bool relu) {
  const Accumulation<T> z = multiply_add(widen(x) + p.c, p.s, p.b);
  return narrow<T>(relu && z <= 0 ? 0 : z);
}

// Sums of g, the gradient before the activation (the gradient of b), and of g (x + c) (the gradient of m).
template <typename A>
struct Sums {
  A g, gx;

  __device__ Sums& operator+=(const Sums& other) {
    g += other.g;
    gx += other.gx;
    return *this;
  }
};

// `kept` is x if it was saved. Otherwise it is the output, whose sign is the mask of the ReLU, and sums.gx is unchanged.
template <bool saved_input, typename T>
__device__ __forceinline__ T differentiate(T grad, T kept, const Parameters<Accumulation<T>>& p, bool relu,
                                           Sums<Accumulation<T>>& sums) {
  using A = Accumulation<T>;
  A g = widen(grad);
  if constexpr (saved_input) {
    const A shifted = widen(kept) + p.c;
    if (relu && multiply_add(shifted, p.s, p.b) <= 0) g = 0;
    sums.gx = multiply_add(g, shifted, sums.gx);
  } else {
    if (relu && widen(kept) <= 0) g = 0;
  }
  sums.g += g;
  return narrow<T>(g * p.s);
}

}  // namespace asnet::cuda::guided_modulation
