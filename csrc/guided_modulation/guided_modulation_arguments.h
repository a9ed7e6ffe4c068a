// Shared by the host entries of guided modulation on all devices: checks, memory layouts, results.
#pragma once

#include "common/tensor_pointers.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>

namespace asnet::guided_modulation {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

struct MapShape {
  int64_t N, C, pixels;
};

// ---------------------------------------------------------------------------------------------------------------------
// Memory layouts

// Dimensions of size 1 may have any stride, as in torch.
inline bool is_channels_last(const Tensor& t) {
  int64_t stride = 1;
  for (const int64_t dim : {1, 3, 2, 0}) {
    if (t.size(dim) != 1 && t.stride(dim) != stride) return false;
    stride *= t.size(dim);
  }
  return true;
}

// `t` itself if it is dense in one of the two layouts, else a contiguous copy.
inline Tensor dense(const Tensor& t) { return t.is_contiguous() || is_channels_last(t) ? t : torch::stable::contiguous(t); }

// `t` in the layout of the dense tensor `like`.
inline Tensor in_layout_of(const Tensor& like, const Tensor& t) {
  if (like.is_contiguous() ? t.is_contiguous() : is_channels_last(t)) return t;
  Tensor copy = torch::stable::empty_like(like);
  torch::stable::copy_(copy, t);
  return copy;
}

inline MapShape map_shape(const Tensor& x) { return {x.size(0), x.size(1), x.size(2) * x.size(3)}; }

// Maps of one pixel fit both layouts; rows of channels are longer than planes of one element.
inline bool walk_pixels(const Tensor& x) { return !x.is_contiguous() || x.size(2) * x.size(3) == 1; }

// ---------------------------------------------------------------------------------------------------------------------
// Checks

inline std::string device_name(const Tensor& t) {
  return t.is_cpu() ? "cpu" : t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : "another device";
}

inline void check_device(const char* op, const char* name, const Tensor& t, const char* other_name, const Tensor& other) {
  STD_TORCH_CHECK(device_name(t) == device_name(other), op, ": ", name, " is on ", device_name(t), ", ", other_name, " on ",
                  device_name(other));
}

inline void check_maps(const char* op, const char* name, const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 4, op, ": ", name, " must have 4 dimensions (N, C, H, W), got ", t.dim());
}

inline void check_like_grad(const char* op, const char* name, const Tensor& t, const Tensor& grad) {
  check_maps(op, name, t);
  check_device(op, name, t, "grad", grad);
  STD_TORCH_CHECK(t.scalar_type() == grad.scalar_type(), op, ": ", name, " must have the dtype of grad");
  for (int64_t dim = 0; dim < 4; ++dim)
    STD_TORCH_CHECK(t.size(dim) == grad.size(dim), op, ": ", name, " has size ", t.size(dim), " in dimension ", dim,
                    ", grad has ", grad.size(dim));
}

// Checks a parameter whose last dimensions are the first of x: sizes (N, C) or (C,).
template <typename A>
const A* parameter(const char* op, const char* name, const OptionalTensor& t, const Tensor& x, int64_t dims,
                   int64_t* strides) {
  if (!t) return nullptr;
  constexpr bool is_double = std::is_same_v<A, double>;
  check_device(op, name, *t, "the feature maps", x);
  STD_TORCH_CHECK(t->scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float), op, ": ", name,
                  " must have dtype ", is_double ? "float64" : "float32");
  STD_TORCH_CHECK(t->dim() == dims, op, ": ", name, " must have ", dims, " dimensions, got ", t->dim());
  for (int64_t dim = 0; dim < dims; ++dim) {
    const int64_t expected = x.size(dim + 2 - dims);
    STD_TORCH_CHECK(t->size(dim) == expected, op, ": ", name, " has size ", t->size(dim), " in dimension ", dim,
                    ", x asks for ", expected);
    strides[dim] = t->stride(dim);
  }
  return t->const_data_ptr<A>();
}

// Tables: pointers to m, b [N, C] and c [C], null where absent, and their strides.
template <typename Tables>
Tables parameter_tables(const char* op, const Tensor& x, const OptionalTensor& multiplier, const OptionalTensor& shift,
                        const OptionalTensor& conv_bias) {
  using A = std::remove_const_t<std::remove_pointer_t<decltype(Tables::multiplier)>>;
  Tables tables;
  tables.multiplier = parameter<A>(op, "multiplier", multiplier, x, 2, tables.multiplier_strides);
  tables.shift = parameter<A>(op, "shift", shift, x, 2, tables.shift_strides);
  tables.conv_bias = parameter<A>(op, "conv_bias", conv_bias, x, 1, tables.conv_bias_strides);
  return tables;
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward and backward pass, except for their kernels

// Calls body(T()) with the C++ type of the maps.
template <typename BFloat16, typename Float16, typename Body>
void dispatch_type(const char* op, const Tensor& x, const Body& body) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return body(float());
    case ScalarType::Double: return body(double());
    case ScalarType::BFloat16: return body(BFloat16());
    case ScalarType::Half: return body(Float16());
    default: STD_TORCH_CHECK(false, op, ": feature maps must be float32, float64, bfloat16 or float16");
  }
}

// modulate(name of the operator, x, multiplier, shift, conv_bias, relu, out) checks the parameters
// and writes `out`, which may be x.
template <auto modulate>
Tensor forward(const Tensor& x_, const OptionalTensor& multiplier, const OptionalTensor& shift,
               const OptionalTensor& conv_bias, bool relu) {
  constexpr const char* op = "guided_modulation";
  check_maps(op, "x", x_);
  const Tensor x = dense(x_);
  Tensor out = torch::stable::empty_like(x);
  modulate(op, x, multiplier, shift, conv_bias, relu, out);
  return out;
}

template <auto modulate>
void forward_in_place(Tensor x, const OptionalTensor& multiplier, const OptionalTensor& shift,
                      const OptionalTensor& conv_bias, bool relu) {
  constexpr const char* op = "guided_modulation_";
  check_maps(op, "x", x);
  STD_TORCH_CHECK(x.is_contiguous() || is_channels_last(x), op, ": x must be contiguous or channels-last");
  modulate(op, x, multiplier, shift, conv_bias, relu, x);
}

// The tensors of the backward pass, dense and in one layout.
struct BackwardTensors {
  Tensor grad, kept;  // kept: the saved input or output; if neither is needed, grad as a placeholder that is not read
  bool saved_input, reads_kept;
  Tensor grad_x, grad_multiplier, grad_shift;
};

// Gradients of x, m and b. That of m is computed if x is given, and is empty, (0, C), otherwise. The gradient of c follows
// from that of b: sum_n (1 + m) db. differentiate(name of the operator, tensors, multiplier, shift, conv_bias, relu) checks
// the parameters and writes the results.
template <auto differentiate>
std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const OptionalTensor& x, const OptionalTensor& output,
                                            const OptionalTensor& multiplier, const OptionalTensor& shift,
                                            const OptionalTensor& conv_bias, bool relu) {
  constexpr const char* op = "guided_modulation_backward";
  check_maps(op, "grad", grad);
  if (x) check_like_grad(op, "x", *x, grad);
  if (output) check_like_grad(op, "output", *output, grad);
  STD_TORCH_CHECK(x || output || !relu, op, ": the ReLU needs x or output");
  BackwardTensors tensors;
  tensors.saved_input = x.has_value();
  tensors.reads_kept = x || relu;
  tensors.kept = dense(x ? *x : relu ? *output : grad);
  tensors.grad = in_layout_of(tensors.kept, grad);

  const ScalarType table_type = grad.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const int64_t N = grad.size(0), C = grad.size(1);
  tensors.grad_x = torch::stable::empty_like(tensors.kept);
  tensors.grad_multiplier = torch::stable::new_empty(grad, {x ? N : 0, C}, table_type);
  tensors.grad_shift = torch::stable::new_empty(grad, {N, C}, table_type);
  if (grad.numel() == 0) {
    torch::stable::zero_(tensors.grad_multiplier);
    torch::stable::zero_(tensors.grad_shift);
  } else {
    differentiate(op, tensors, multiplier, shift, conv_bias, relu);
  }
  return {tensors.grad_x, tensors.grad_multiplier, tensors.grad_shift};
}

}  // namespace asnet::guided_modulation
