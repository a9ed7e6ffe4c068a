// Spectra of real periodic images, and images of spectra; see periodic_spectra_kernels.h for their layout.
//
// Tasks are independent and their size depends only on the shape, so the bits of the result do not depend on the number of
// threads.
#include "common/cpu/fft_planning.h"
#include "common/cpu/reused_memory.h"
#include "common/cpu/tasks.h"
#include "common/cpu/workspace.h"
#include "common/devices.h"
#include "common/integers.h"
#include "common/tensor_pointers.h"
#include "periodic_spectra/cpu/periodic_spectra_kernels.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>

namespace asnet::periodic_spectra {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// What depends only on the size of the images, and the passes over one of them.
template <typename T>
class Transform {
 public:
  Transform(int64_t height, int64_t width)
      : fft_y_(height),
        fft_x_(width),
        a_{height, width, fft_y_.fft(), fft_x_.fft()},
        tile_(ASNET_DISPATCH(spectra_tile<T>())),
        blocks_(ceil_divide(height / 2 + 1, spectra_block)) {}

  // Values in the spectra of an image.
  int64_t size() const { return blocks_ * a_.block_size(); }

  void spectra_of(const T* image, T* spectra) const {
    along_columns([&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(transform_columns<T>(a_, image, spectra, scratch, begin, end));
    });
    along_rows([&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(transform_rows<T>(a_, spectra, scratch, begin, end));
    });
  }

  // `columns` has room for the spectra of one image.
  void image_of(const T* spectra, const T* factor, T* columns, T* image) const {
    along_rows([&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(transform_rows_back<T>(a_, spectra, factor, columns, scratch, begin, end));
    });
    along_columns([&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(transform_columns_back<T>(a_, columns, image, scratch, begin, end));
    });
  }

 private:
  template <typename Function>
  void along_columns(const Function& function) const {
    parallel_with_scratch<T>(ceil_divide(a_.width, tile_), 2 * tile_ * a_.height, function);
  }
  template <typename Function>
  void along_rows(const Function& function) const {
    parallel_with_scratch<T>(blocks_, 2 * tile_ * a_.width, function);
  }

  FftPlan<T> fft_y_, fft_x_;
  SpectraArguments<T> a_;
  int64_t tile_, blocks_;
};

void check_type(const char* name, const char* what, const Tensor& t) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double, name, ": ", what,
                  " has dtype ", torch::headeronly::toString(t.scalar_type()), ", expected float32 or float64");
}

void check_size(const char* name, int64_t height, int64_t width) {
  STD_TORCH_CHECK(height > 0 && width > 0 && next_fft_size(height) == height && next_fft_size(width) == width, name,
                  ": images have ", height, " x ", width, " pixels, expected products of 2, 3 and 5");
}

template <typename T>
void run(const Tensor& images, const Tensor& spectra) {
  const int64_t height = images.size(2), width = images.size(3);
  const Transform<T> transform(height, width);
  for (int64_t n = 0; n < images.size(0) * images.size(1); ++n)
    transform.spectra_of(const_pointer<T>(images) + n * height * width, pointer<T>(spectra) + n * transform.size());
}

Tensor periodic_spectra(const Tensor& images) {
  constexpr const char* name = "periodic_spectra";
  check_type(name, "images", images);
  STD_TORCH_CHECK(images.dim() == 4, name, ": images has ", images.dim(), " dimensions, expected 4 (N, C, H, W)");
  const int64_t height = images.size(2), width = images.size(3);
  check_size(name, height, width);
  const Tensor dense = torch::stable::contiguous(images);
  const Tensor spectra = empty_maps(
      images, {images.size(0), images.size(1), ceil_divide(height / 2 + 1, spectra_block), 2, width, spectra_block});
  if (spectra.numel() == 0) return spectra;
  images.scalar_type() == ScalarType::Double ? run<double>(dense, spectra) : run<float>(dense, spectra);
  return spectra;
}

template <typename T>
void run_back(const Tensor& spectra, const OptionalTensor& factor, const Tensor& images) {
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3);
  const Transform<T> transform(height, width);
  Workspace<T> columns(transform.size());
  for (int64_t n = 0; n < images.size(0) * channels; ++n)
    transform.image_of(const_pointer<T>(spectra) + n * transform.size(),
                       factor ? const_pointer<T>(*factor) + n / channels * (transform.size() / 2) : nullptr, columns.data(),
                       pointer<T>(images) + n * height * width);
}

Tensor periodic_images(const Tensor& spectra, const OptionalTensor& factor, int64_t height) {
  constexpr const char* name = "periodic_images";
  check_type(name, "spectra", spectra);
  STD_TORCH_CHECK(spectra.dim() == 6, name, ": spectra has ", spectra.dim(),
                  " dimensions, expected 6 (N, C, blocks, 2, W, ", spectra_block, ")");
  const int64_t batch = spectra.size(0), blocks = spectra.size(2), width = spectra.size(4);
  STD_TORCH_CHECK(
      blocks == ceil_divide(height / 2 + 1, spectra_block) && spectra.size(3) == 2 && spectra.size(5) == spectra_block,
      name, ": spectra has the shape (N, C, ", blocks, ", ", spectra.size(3), ", W, ", spectra.size(5),
      "), expected (N, C, ", ceil_divide(height / 2 + 1, spectra_block), ", 2, W, ", spectra_block, ")");
  check_size(name, height, width);
  OptionalTensor dense_factor;
  if (factor) {
    STD_TORCH_CHECK(factor->scalar_type() == spectra.scalar_type() && on_same_device(*factor, spectra), name,
                    ": factor must have the dtype and the device of spectra");
    STD_TORCH_CHECK(factor->dim() == 4 && factor->size(0) == batch && factor->size(1) == blocks &&
                        factor->size(2) == width && factor->size(3) == spectra_block,
                    name, ": factor must have the shape (", batch, ", ", blocks, ", ", width, ", ", spectra_block, ")");
    dense_factor = torch::stable::contiguous(*factor);
  }
  const Tensor dense = torch::stable::contiguous(spectra);
  const Tensor images = empty_maps(spectra, {batch, spectra.size(1), height, width});
  if (images.numel() == 0) return images;
  if (spectra.scalar_type() == ScalarType::Double)
    run_back<double>(dense, dense_factor, images);
  else
    run_back<float>(dense, dense_factor, images);
  return images;
}

}  // namespace
}  // namespace asnet::periodic_spectra

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) {
  m.impl("periodic_spectra", TORCH_BOX(&asnet::periodic_spectra::periodic_spectra));
  m.impl("periodic_images", TORCH_BOX(&asnet::periodic_spectra::periodic_images));
}
