// The spectral kernels of the cross-correlation. Complex arrays are complex64 or complex128.
#include "bindings/arrays.h"
#include "cross_correlation/cuda/cross_correlation_plan.h"
#include "cross_correlation/cuda/cross_correlation_spectral_kernels.cuh"

#include <complex>
#include <pybind11/complex.h>

namespace {

using asnet::CrossCorrelationSizes;
using asnet::bindings::pointer;
using asnet::cuda::ColumnSpectra;
using asnet::cuda::FrequencyBlock;
using asnet::cuda::SpectralGroup;
using asnet::cuda::SpectralPlan;
using asnet::cuda::SpectralPlanner;

template <typename T>
T* complex_pointer(const py::array& array) {
  using Value = std::remove_const_t<T>;
  using Element = std::conditional_t<std::is_const_v<T>, const std::complex<Value>, std::complex<Value>>;
  return reinterpret_cast<T*>(pointer<Element>(array));
}

// function.operator()<T>() for complex64 and complex128.
template <typename Function>
void dispatch_complex(const py::array& array, Function function) {
  array.dtype().itemsize() == 16 ? function.template operator()<double>() : function.template operator()<float>();
}

// function.operator()<E, T>() for the element type and the one that is computed with.
template <typename Function>
void dispatch_elements(const py::array& array, Function function) {
  asnet::bindings::dispatch(array, [&]<typename E>() {
    function.template operator()<E, std::conditional_t<std::is_same_v<E, double>, double, float>>();
  });
}

// What is kept of the columns, in two pieces.
template <typename T>
ColumnSpectra<T> columns_of(const py::array& first, const py::array& second) {
  return {complex_pointer<T>(first), complex_pointer<T>(second), first.shape(0)};
}

}  // namespace

ASNET_BINDINGS(module) {
  py::class_<SpectralGroup>(module, "SpectralGroup")
      .def(py::init<>())
#define FIELD(name) .def_readwrite(#name, &SpectralGroup::name)
          FIELD(channels) FIELD(height) FIELD(width) FIELD(lag_y) FIELD(lag_x) FIELD(circular) FIELD(size_y) FIELD(size_x)
              FIELD(margin_y) FIELD(margin_x) FIELD(parts_y) FIELD(parts) FIELD(core_x) FIELD(images) FIELD(y) FIELD(rows)
                  FIELD(x) FIELD(tiles) FIELD(first_column) FIELD(columns);
#undef FIELD

  module.def("row_of_waves", &asnet::cuda::row_of_waves);
  module.def("fill_waves", [](const SpectralGroup& group, bool inverse, double scale, const py::array& waves) {
    dispatch_complex(
        waves, [&]<typename T>() { asnet::cuda::fill_waves(group, inverse, scale, complex_pointer<T>(waves), nullptr); });
  });
  // Strides in elements.
  module.def("gather_columns", [](const SpectralGroup& group, const py::array& features,
                                  const std::array<int64_t, 4>& strides, int64_t first_sequence, const py::array& columns) {
    dispatch_elements(features, [&]<typename E, typename T>() {
      asnet::cuda::gather_columns(group, pointer<const E>(features), {strides[0], strides[1], strides[2], strides[3]},
                                  first_sequence, columns.shape(0), pointer<T>(columns), nullptr);
    });
  });
  module.def("scatter_columns", [](const SpectralGroup& group, const py::array& columns, int64_t first_sequence,
                                   double scale, const py::array& gradient) {
    dispatch_elements(gradient, [&]<typename E, typename T>() {
      asnet::cuda::scatter_columns(group, pointer<const T>(columns), first_sequence, columns.shape(0), scale,
                                   pointer<E>(gradient), nullptr);
    });
  });
  module.def("gather_tiles", [](const SpectralGroup& group, int begin, const py::array& first, const py::array& second,
                                const py::array& tiles) {
    dispatch_complex(tiles, [&]<typename T>() {
      asnet::cuda::gather_tiles(group, FrequencyBlock{begin, static_cast<int>(tiles.shape(0))},
                                columns_of<T>(first, second), complex_pointer<T>(tiles), nullptr);
    });
  });
  module.def("scatter_tiles", [](const SpectralGroup& group, int begin, const py::array& tiles, const py::array& first,
                                 const py::array& second) {
    dispatch_complex(tiles, [&]<typename T>() {
      asnet::cuda::scatter_tiles(group, FrequencyBlock{begin, static_cast<int>(tiles.shape(0))},
                                 complex_pointer<const T>(tiles), columns_of<T>(first, second), nullptr);
    });
  });
  module.def("pair_products", [](const SpectralGroup& group, const py::array& tiles, const py::array& pairs) {
    dispatch_complex(tiles, [&]<typename T>() {
      asnet::cuda::pair_products(group, FrequencyBlock{0, static_cast<int>(tiles.shape(0))},
                                 complex_pointer<const T>(tiles), complex_pointer<T>(pairs), nullptr);
    });
  });
  module.def("gradient_products",
             [](const SpectralGroup& group, const py::array& pairs, const py::array& tiles, const py::array& gradients) {
               dispatch_complex(tiles, [&]<typename T>() {
                 asnet::cuda::gradient_products(group, FrequencyBlock{0, static_cast<int>(tiles.shape(0))},
                                                complex_pointer<const T>(pairs), complex_pointer<const T>(tiles),
                                                complex_pointer<T>(gradients), nullptr);
               });
             });
  module.def("pairs_to_lags", [](const SpectralGroup& group, int begin, const py::array& pairs, const py::array& waves,
                                 bool first, const py::array& window) {
    dispatch_complex(pairs, [&]<typename T>() {
      asnet::cuda::pairs_to_lags(group, FrequencyBlock{begin, static_cast<int>(pairs.shape(0))},
                                 complex_pointer<const T>(pairs), complex_pointer<const T>(waves), first,
                                 pointer<T>(window), nullptr);
    });
  });
  module.def("lags_to_pairs", [](const SpectralGroup& group, int begin, const py::array& window, const py::array& waves,
                                 const py::array& pairs) {
    dispatch_elements(window, [&]<typename E, typename T>() {
      asnet::cuda::lags_to_pairs(group, FrequencyBlock{begin, static_cast<int>(pairs.shape(0))}, pointer<const E>(window),
                                 complex_pointer<const T>(waves), complex_pointer<T>(pairs), nullptr);
    });
  });

  module.attr("most_spectral_bytes") = asnet::cuda::most_spectral_bytes;
  // The plan as a dictionary, with the most bytes that it uses at a time.
  module.def("plan_spectral", [](const std::array<int64_t, 4>& shape, int64_t lag_y, int64_t lag_x, bool circular,
                                 bool gradient, double most_bytes) {
    const SpectralPlanner planner(CrossCorrelationSizes{shape[0], shape[1], shape[2], shape[3], lag_y, lag_x, circular},
                                  gradient, 4, most_bytes);
    const SpectralPlan plan = planner.best();
    using namespace pybind11::literals;
    return py::dict("size_y"_a = plan.size_y, "core_y"_a = plan.core_y, "whole_y"_a = plan.whole_y,
                    "size_x"_a = plan.size_x, "core_x"_a = plan.core_x, "whole_x"_a = plan.whole_x,
                    "images"_a = plan.images, "tiles"_a = plan.tiles, "frequencies"_a = plan.frequencies,
                    "columns_in_two"_a = plan.columns_in_two, "seconds"_a = plan.seconds,
                    "peak_bytes"_a = planner.peak_bytes(plan));
  });
}
