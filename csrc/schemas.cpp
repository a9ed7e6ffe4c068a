// Schemas of all operators of asnet. The implementations register themselves for their device.
#include <torch/csrc/stable/library.h>

// The tests define the same operators in a second library, whose CUDA entries run on the CPU.
#ifndef ASNET_LIBRARY
#define ASNET_LIBRARY asnet
#endif
#define ASNET_SCHEMAS(library, m) STABLE_TORCH_LIBRARY(library, m)

ASNET_SCHEMAS(ASNET_LIBRARY, m) {
  m.def("cross_correlation(Tensor features, int lag_y, int lag_x, bool circular, str method) -> Tensor");
  m.def(
      "cross_correlation_backward(Tensor grad, Tensor features, int lag_y, int lag_x, bool circular, str method) -> "
      "Tensor");
  m.def("guided_modulation(Tensor x, Tensor? multiplier, Tensor? shift, Tensor? conv_bias, bool relu) -> Tensor");
  m.def("guided_modulation_(Tensor(a!) x, Tensor? multiplier, Tensor? shift, Tensor? conv_bias, bool relu) -> ()");
  m.def(
      "guided_modulation_backward(Tensor grad, Tensor? x, Tensor? output, Tensor? multiplier, Tensor? shift, "
      "Tensor? conv_bias, bool relu) -> (Tensor, Tensor, Tensor)");
  m.def(
      "guided_pointwise_conv2d(Tensor x1, Tensor x2, Tensor weight, Tensor? multiplier, Tensor? shift, Tensor? conv_bias, "
      "bool relu) -> Tensor");
  m.def(
      "transform_conv2d(Tensor x, Tensor weight, Tensor? bias, int top, int left, SymInt rows, SymInt columns, int stride, "
      "int interleave, bool relu) -> Tensor");
  m.def(
      "transform_conv2d_add_(Tensor(a!) sum, Tensor x, Tensor weight, Tensor? bias, int top, int left, int stride, "
      "bool relu) -> ()");
  m.def(
      "matrix_conv2d(Tensor x, Tensor weight, Tensor? bias, int top, int left, SymInt rows, SymInt columns, int stride, "
      "int interleave, bool relu) -> Tensor");
  m.def(
      "matrix_conv2d_add_(Tensor(a!) sum, Tensor x, Tensor weight, Tensor? bias, int top, int left, int stride, "
      "bool relu) -> ()");
  m.def(
      "sparse_latent(Tensor padded, Tensor observed, Tensor? clipped, Tensor kernel, float strength, float beta, "
      "float growth, int steps, float brightest, float? ground=None) -> (Tensor, Tensor)");
  m.def("periodic_spectra(Tensor images) -> Tensor");
  m.def("periodic_images(Tensor spectra, Tensor? factor, SymInt height) -> Tensor");
  m.def("shrunk_divergence(Tensor images, Tensor threshold) -> Tensor");
  m.def(
      "gather_images(Tensor[] images, Tensor? mean, float scale, float difference_scale, int factor, SymInt rows, "
      "SymInt columns, bool to_bfloat16) -> Tensor");
  m.def("label_parts(Tensor mask) -> Tensor");
  m.def("toeplitz_solve(Tensor lags, Tensor right, Tensor? support, float weight, int steps) -> Tensor");
  m.def("open_reused_memory() -> ()");
  m.def("close_reused_memory() -> ()");
  m.def("empty_maps(Tensor like, int[] size) -> Tensor");
}
