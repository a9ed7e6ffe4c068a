// Latent images with few gradients, for given blur kernels. The formula is in sparse_latent_kernels.h.
//
// All steps of an image are fused here, so that every value is touched once between transforms. Tasks are independent and
// their size depends only on the shape, so the bits of the result do not depend on the number of threads.
#include "common/cpu/fft_planning.h"
#include "common/cpu/tasks.h"
#include "common/cpu/workspace.h"
#include "common/integers.h"
#include "sparse_latent/cpu/sparse_latent_kernels.h"
#include "sparse_latent/sparse_latent_arguments.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <tuple>
#include <vector>

namespace asnet::sparse_latent {
namespace {

// Power response of the first difference along an axis, 4 sin^2(pi f), more by `added`, and padded with 1 to whole blocks.
template <typename T>
std::vector<T> difference_power(int64_t length, int64_t frequencies, int64_t size, double added = 0) {
  std::vector<T> power(size, T(1));
  for (int64_t k = 0; k < frequencies; ++k) {
    const double sine = std::sin(std::numbers::pi * static_cast<double>(k) / static_cast<double>(length));
    power[k] = static_cast<T>(4 * sine * sine + added);
  }
  return power;
}

// Data of one image of a batch, or null if the batch has none.
template <typename T>
struct Image {
  const T *padded, *observed, *kernel;
  const bool* clipped;
  T *latent, *raised;
};

// Memory for one image at a time, and what depends only on its size.
template <typename T>
class Steps {
 public:
  Steps(int64_t height, int64_t width, int64_t kernel_size, bool clips, const Splitting& splitting)
      : splitting_(splitting),
        kernel_size_(kernel_size),
        lanes_(ASNET_DISPATCH(latent_lanes<T>())),
        frequencies_(height / 2 + 1),
        blocks_(ceil_divide(frequencies_, lanes_)),
        tiles_(ceil_divide(width, 2 * lanes_)),
        fft_y_(height),
        fft_x_(width),
        prior_y_(difference_power<T>(height, frequencies_, blocks_ * lanes_, splitting.ground ? 1 : 0)),
        prior_x_(difference_power<T>(width, width, width)),
        limited_(clips ? tiles_ * height : 0),
        memory_((clips ? 3 : 1) * plane(height) + 3 * spectra()) {
    // One block of memory, because only large blocks use large pages.
    T* const transfer = memory_.data();
    image_ = transfer + 3 * spectra() + lanes_;
    lowest_ = clips ? image_ + plane(height) : nullptr;
    highest_ = clips ? lowest_ + plane(height) : nullptr;
    a_ = {height,
          width,
          tiles_,
          spectra() / blocks_,
          fft_y_.fft(),
          fft_x_.fft(),
          prior_y_.data(),
          prior_x_.data(),
          splitting.ground,
          image_,
          lowest_,
          highest_,
          limited_.data(),
          transfer,
          transfer + spectra(),
          transfer + 2 * spectra()};
  }

  void run(const Image<T>& image) {
    place_kernel(image.kernel);
    to_columns(a_.transfer);
    along_rows(
        [&](T* scratch, int64_t begin, int64_t end) { ASNET_DISPATCH(transfer_spectra<T>(a_, scratch, begin, end)); });
    if (image.clipped) place_limits(image);
    place(image_, image.observed);
    to_columns(a_.observed);

    double beta = splitting_.beta;
    for (int64_t step = 0; step < splitting_.steps; ++step, beta *= splitting_.growth) {
      const T threshold = static_cast<T>(splitting_.strength / beta), weight = static_cast<T>(beta);
      const Observed observed = image.clipped ? Observed::image_to_predicted
                                : step == 0   ? Observed::image_to_matched
                                              : Observed::matched;
      along_columns([&](T* scratch, int64_t begin, int64_t end) {
        ASNET_DISPATCH(divergence_to_columns<T>(a_, threshold, scratch, begin, end));
      });
      along_rows([&](T* scratch, int64_t begin, int64_t end) {
        ASNET_DISPATCH(latent_spectra<T>(a_, weight, observed, scratch, begin, end));
      });
      along_columns(
          [&](T* scratch, int64_t begin, int64_t end) { ASNET_DISPATCH(columns_to_image<T>(a_, scratch, begin, end)); });
      if (step + 1 == splitting_.steps) break;
      continue_plane(image_);
      if (image.clipped) raise_observed(false);
    }
    copy_image(image.latent);
    if (image.clipped) {
      raise_observed(true);
      copy_image(image.raised);
    }
  }

 private:
  // Calls function(scratch, begin, end).
  template <typename Function>
  void with_scratch(int64_t tasks, int64_t length, const Function& function) const {
    parallel_with_scratch<T>(tasks, 4 * length * lanes_, function);
  }
  template <typename Function>
  void along_columns(const Function& function) const {
    with_scratch(tiles_, a_.height, function);
  }
  template <typename Function>
  void along_rows(const Function& function) const {
    with_scratch(blocks_, a_.width, function);
  }

  // Sizes in memory.
  int64_t plane(int64_t height) const { return (tiles_ * height + 1) * 2 * lanes_; }
  int64_t spectra() const { return blocks_ * tiles_ * 4 * lanes_ * lanes_; }

  int64_t tile_columns(int64_t tile) const { return std::min(2 * lanes_, a_.width - tile * 2 * lanes_); }
  int64_t position(int64_t y, int64_t x) const {
    return (x / (2 * lanes_) * a_.height + y) * 2 * lanes_ + x % (2 * lanes_);
  }

  // Fills the columns of the last tile beyond the width.
  void continue_plane(T* plane) const {
    for (int64_t x = a_.width; x < tiles_ * 2 * lanes_; ++x)
      for (int64_t y = 0; y < a_.height; ++y) plane[position(y, x)] = plane[position(y, x % a_.width)];
  }

  // Calls function(row of a plane, offset in the image, number of pixels) for the rows of all tiles.
  template <typename Function>
  void for_rows_of_tiles(const Function& function) const {
    parallel_tasks(tiles_, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        for (int64_t y = 0, x = tile * 2 * lanes_; y < a_.height; ++y)
          function(position(y, x), y * a_.width + x, tile_columns(tile));
    });
  }

  void place(T* plane, const T* image) const {
    for_rows_of_tiles([&](int64_t to, int64_t from, int64_t count) { std::copy_n(image + from, count, plane + to); });
    continue_plane(plane);
  }

  // The kernel as an image with its centre at the origin.
  void place_kernel(const T* kernel) {
    std::fill_n(image_, tiles_ * a_.height * 2 * lanes_, T(0));
    const int64_t centre = kernel_size_ / 2;
    for (int64_t y = 0; y < kernel_size_; ++y)
      for (int64_t x = 0; x < kernel_size_; ++x)
        image_[position((y - centre + a_.height) % a_.height, (x - centre + a_.width) % a_.width)] =
            kernel[y * kernel_size_ + x];
    continue_plane(image_);
  }

  void place_limits(const Image<T>& image) {
    const T brightest = static_cast<T>(splitting_.brightest);
    place(lowest_, image.padded);
    for_rows_of_tiles([&](int64_t to, int64_t from, int64_t count) {
      bool limited = false;
      for (int64_t x = 0; x < count; ++x) {
        limited |= image.clipped[from + x];
        highest_[to + x] = image.clipped[from + x] ? brightest : image.padded[from + x];
      }
      limited_.data()[to / (2 * lanes_)] = limited;
    });
    continue_plane(highest_);
  }

  void to_columns(T* spectra) {
    along_columns([&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(image_to_columns<T>(a_, spectra, scratch, begin, end));
    });
  }

  void raise_observed(bool at_the_end) {
    along_columns([&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(predicted_to_observed<T>(a_, at_the_end, scratch, begin, end));
    });
  }

  void copy_image(T* image) const {
    for_rows_of_tiles([&](int64_t from, int64_t to, int64_t count) { std::copy_n(image_ + from, count, image + to); });
  }

  Splitting splitting_;
  int64_t kernel_size_, lanes_, frequencies_, blocks_, tiles_;
  FftPlan<T> fft_y_, fft_x_;
  std::vector<T> prior_y_, prior_x_;
  Workspace<bool> limited_;
  Workspace<T> memory_;
  T *image_, *lowest_, *highest_;
  LatentArguments<T> a_;
};

template <typename T>
void run(const Tensors& tensors, const Splitting& splitting, const Tensor& latent) {
  const int64_t count = tensors.padded.size(0), height = tensors.padded.size(2), width = tensors.padded.size(3);
  const int64_t size = tensors.kernel.size(1), pixels = height * width;
  const auto images = [&](int64_t first, int64_t last) {
    Steps<T> steps(height, width, size, tensors.clipped.has_value(), splitting);
    for (int64_t n = first; n < last; ++n)
      steps.run({const_pointer<T>(tensors.padded) + n * pixels, const_pointer<T>(tensors.observed) + n * pixels,
                 const_pointer<T>(tensors.kernel) + n * size * size,
                 tensors.clipped ? const_pointer<bool>(*tensors.clipped) + n * pixels : nullptr,
                 pointer<T>(latent) + n * pixels, tensors.clipped ? pointer<T>(tensors.raised) + n * pixels : nullptr});
  };
  // Threads that share an image wait for each other after each transform; threads with images of their own do not.
  if (count >= static_cast<int64_t>(torch::stable::get_num_threads()))
    torch::stable::parallel_for(0, count, 1, images);
  else
    images(0, count);
}

std::tuple<Tensor, Tensor> sparse_latent(const Tensor& padded, const Tensor& observed, const OptionalTensor& clipped,
                                         const Tensor& kernel, double strength, double beta, double growth, int64_t steps,
                                         double brightest, std::optional<double> ground) {
  const Splitting splitting{strength, beta, growth, steps, brightest, ground};
  check(padded, observed, clipped, kernel, splitting);
  for (const int64_t dim : {2, 3})
    STD_TORCH_CHECK(next_fft_size(padded.size(dim)) == padded.size(dim), kName, ": padded has ", padded.size(2), " x ",
                    padded.size(3), " pixels, expected products of 2, 3 and 5");
  const Tensors tensors = dense(padded, observed, clipped, kernel);
  const Tensor latent = empty_images(padded);
  if (padded.numel() > 0)
    padded.scalar_type() == ScalarType::Double ? run<double>(tensors, splitting, latent)
                                               : run<float>(tensors, splitting, latent);
  return {latent, tensors.raised};
}

}  // namespace
}  // namespace asnet::sparse_latent

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) { m.impl("sparse_latent", TORCH_BOX(&asnet::sparse_latent::sparse_latent)); }
