#include "bindings/arrays.h"
#include "sparse_latent/cuda/sparse_latent_kernels.cuh"

#include <optional>

namespace {

using namespace asnet::bindings;
namespace latent = asnet::cuda::sparse_latent;

// Of images (N, H, W).
latent::Rows latent_rows(const py::array& images) {
  return {images.shape(0), static_cast<int>(images.shape(1)), static_cast<int>(images.shape(2))};
}

// float32 and float64 alone; spectra are arrays of one dimension more, (re, im).
template <typename Function>
void dispatch_latent(const py::array& images, Function function) {
  if (images.dtype().equal(element_type<double>()))
    function.template operator()<double>();
  else
    function.template operator()<float>();
}

}  // namespace

ASNET_BINDINGS(module) {
  module.def("latent_place_kernel", [](const py::array& kernel, const py::array& image) {
    dispatch_latent(image, [&]<typename T>() {
      latent::place_kernel(latent_rows(image), pointer<const T>(kernel), static_cast<int>(kernel.shape(1)),
                           pointer<T>(image), nullptr);
    });
  });
  module.def("latent_prior", [](const py::array& image, bool has_ground, const py::array& prior) {
    dispatch_latent(image,
                    [&]<typename T>() { latent::fill_prior(latent_rows(image), has_ground, pointer<T>(prior), nullptr); });
  });
  module.def("latent_match", [](const py::array& image, const py::array& transfer, const py::array& spectrum) {
    dispatch_latent(image, [&]<typename T>() {
      latent::match(latent_rows(image), pointer<const T>(transfer), pointer<T>(spectrum), nullptr);
    });
  });
  module.def("latent_divergence",
             [](const py::array& image, double threshold, std::optional<double> ground, const py::array& out) {
               dispatch_latent(image, [&]<typename T>() {
                 latent::divergence<T>(latent_rows(image), pointer<const T>(image), static_cast<T>(threshold), ground,
                                       pointer<T>(out), nullptr);
               });
             });
  module.def("latent_solve", [](const py::array& image, const py::array& transfer, const py::array& matched,
                                const py::array& prior, const py::array& spectrum, const py::object& predicted, double beta,
                                double scale) {
    dispatch_latent(image, [&]<typename T>() {
      latent::solve<T>(latent_rows(image),
                       {pointer<const T>(transfer), pointer<const T>(matched), pointer<const T>(prior),
                        pointer<T>(spectrum), optional_pointer<T>(predicted), static_cast<T>(beta), static_cast<T>(scale)},
                       nullptr);
    });
  });
  module.def("latent_raise", [](const py::array& predicted, const py::array& padded, const py::array& clipped,
                                double brightest, const py::array& observed) {
    dispatch_latent(padded, [&]<typename T>() {
      latent::raise(latent_rows(padded), pointer<const T>(predicted), pointer<const T>(padded),
                    pointer<const bool>(clipped), static_cast<T>(brightest), pointer<T>(observed), nullptr);
    });
  });
}
