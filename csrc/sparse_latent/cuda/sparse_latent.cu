// CUDA host entry of the latent image with few gradients; see sparse_latent_kernels.cuh.
#include "common/cuda/host.h"
#include "common/cuda/transforms.h"
#include "sparse_latent/cuda/sparse_latent_kernels.cuh"
#include "sparse_latent/sparse_latent_arguments.h"

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

namespace asnet::sparse_latent {
namespace {

namespace kernels = asnet::cuda::sparse_latent;

const std::vector<int64_t> kImage{2, 3};

// torch may return a transform's result with permuted strides.
Tensor spectrum_of(const Tensor& images) { return torch::stable::contiguous(cuda::transform_real(images, kImage)); }
Tensor images_of(const Tensor& spectrum, int64_t width) {
  return torch::stable::contiguous(cuda::transform_to_real(spectrum, kImage, width));
}

template <typename T>
Tensor run(const Tensors& tensors, const Splitting& splitting) {
  const Tensor& padded = tensors.padded;
  const int64_t count = padded.size(0), height = padded.size(2), width = padded.size(3);
  const kernels::Rows rows{count, static_cast<int>(height), static_cast<int>(width)};
  const cudaStream_t stream = cuda::current_stream(padded);
  const bool clips = tensors.clipped.has_value();

  // Holds the kernels as images first, then conj(D) g + u of each step.
  const Tensor pixels = empty_images(padded), prior = torch::stable::new_empty(padded, {height + rows.frequencies()});
  kernels::place_kernel(rows, const_pointer<T>(tensors.kernel), static_cast<int>(tensors.kernel.size(1)),
                        pointer<T>(pixels), stream);
  kernels::fill_prior(rows, splitting.ground.has_value(), pointer<T>(prior), stream);
  const Tensor transfer = spectrum_of(pixels);
  Tensor latent = tensors.observed, matched;
  const auto match = [&](const Tensor& observed) {
    matched = spectrum_of(observed);
    kernels::match(rows, const_pointer<T>(transfer), pointer<T>(matched), stream);
  };
  match(tensors.observed);
  const std::optional<T> ground = splitting.ground;
  double beta = splitting.beta;
  for (int64_t step = 0; step < splitting.steps; ++step, beta *= splitting.growth) {
    if (clips && step > 0) match(tensors.raised);
    kernels::divergence<T>(rows, const_pointer<T>(latent), static_cast<T>(splitting.strength / beta), ground,
                           pointer<T>(pixels), stream);
    const Tensor spectrum = spectrum_of(pixels);
    OptionalTensor predicted;
    if (clips) predicted = torch::stable::empty_like(spectrum);
    kernels::solve<T>(rows,
                      {const_pointer<T>(transfer), const_pointer<T>(matched), const_pointer<T>(prior), pointer<T>(spectrum),
                       clips ? pointer<T>(*predicted) : nullptr, static_cast<T>(beta),
                       static_cast<T>(1.0 / static_cast<double>(height * width))},
                      stream);
    latent = images_of(spectrum, width);
    if (clips)
      kernels::raise(rows, const_pointer<T>(images_of(*predicted, width)), const_pointer<T>(padded),
                     const_pointer<bool>(*tensors.clipped), static_cast<T>(splitting.brightest), pointer<T>(tensors.raised),
                     stream);
  }
  return latent;
}

std::tuple<Tensor, Tensor> sparse_latent(const Tensor& padded, const Tensor& observed, const OptionalTensor& clipped,
                                         const Tensor& kernel, double strength, double beta, double growth, int64_t steps,
                                         double brightest, std::optional<double> ground) {
  const Splitting splitting{strength, beta, growth, steps, brightest, ground};
  check(padded, observed, clipped, kernel, splitting);
  // Blocks are counted in 32 bits.
  STD_TORCH_CHECK(padded.numel() <= std::numeric_limits<int32_t>::max(), kName, ": padded has ", padded.numel(),
                  " pixels, expected less than 2^31");
  const cuda::DeviceGuard guard(padded);
  const Tensors tensors = dense(padded, observed, clipped, kernel);
  if (padded.numel() == 0) return {empty_images(padded), tensors.raised};
  const Tensor latent =
      padded.scalar_type() == ScalarType::Double ? run<double>(tensors, splitting) : run<float>(tensors, splitting);
  return {latent, tensors.raised};
}

}  // namespace
}  // namespace asnet::sparse_latent

ASNET_CUDA_LIBRARY(m) { m.impl("sparse_latent", TORCH_BOX(&asnet::sparse_latent::sparse_latent)); }
