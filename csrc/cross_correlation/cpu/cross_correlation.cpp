// Host entries of asnet::cross_correlation and asnet::cross_correlation_backward for the CPU.
#include "common/cpu/fft_planning.h"
#include "common/cpu/tasks.h"
#include "common/cpu/workspace.h"
#include "common/integers.h"
#include "cross_correlation/cpu/cross_correlation_kernels.h"
#include "cross_correlation/cpu/cross_correlation_plan.h"
#include "cross_correlation/cross_correlation_arguments.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Copies the maps [channels][height][width] with margins of the largest lags: zeros, or the opposite side if circular.
template <typename T>
void pad_maps(const CrossCorrelationSizes& sizes, const T* features, int64_t row, T* padded) {
  const int64_t rows = sizes.height + 2 * sizes.lag_y;
  torch::stable::parallel_for(0, sizes.channels * rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      T* to = padded + index * row;
      std::fill(to, to + row, T(0));
      int64_t y = index % rows - sizes.lag_y;
      if (sizes.circular) y = (y + sizes.height) % sizes.height;
      if (y < 0 || y >= sizes.height) continue;
      const T* from = features + (index / rows * sizes.height + y) * sizes.width;
      std::copy(from, from + sizes.width, to + sizes.lag_x);
      if (sizes.circular) {
        std::copy(from + sizes.width - sizes.lag_x, from + sizes.width, to);
        std::copy(from, from + sizes.lag_x, to + sizes.lag_x + sizes.width);
      }
    }
  });
}

template <typename T>
void direct(const CrossCorrelationSizes& sizes, const T* features, T* out) {
  const int64_t row = round_up(sizes.width, ASNET_DISPATCH(register_lanes<T>())) + 2 * sizes.lag_x;
  const int64_t map_size = sizes.height * sizes.width, window_size = sizes.lags_y() * sizes.lags_x();
  Workspace<T> padded(sizes.channels * (sizes.height + 2 * sizes.lag_y) * row);
  for (int64_t n = 0; n < sizes.count; ++n) {
    pad_maps(sizes, features + n * sizes.channels * map_size, row, padded.data());
    const DirectArguments<T> arguments{sizes, row, padded.data(), nullptr, out + n * sizes.pairs() * window_size};
    parallel_tasks(ASNET_DISPATCH(direct_tasks<T>(sizes)),
                   [&](int64_t begin, int64_t end) { ASNET_DISPATCH(direct_forward<T>(arguments, begin, end)); });
  }
}

// K of cross_correlation_sizes.h as [b][t][s][a], from the gradient of one correlation.
template <typename T>
void expand_weights(const CrossCorrelationSizes& sizes, const T* gradient, T* weights) {
  const int64_t channels = sizes.channels, window = sizes.lags_y() * sizes.lags_x();
  for (int64_t b = 0; b < channels; ++b)
    for (int64_t lag = 0; lag < window; ++lag)
      for (int64_t a = 0; a < channels; ++a) {
        T sum = 0;
        if (b <= a) sum += gradient[pair_index(b, a, channels) * window + lag];
        if (b >= a) sum += gradient[pair_index(a, b, channels) * window + window - 1 - lag];
        weights[(b * window + lag) * channels + a] = sum;
      }
}

template <typename T>
void direct_backward(const CrossCorrelationSizes& sizes, const T* gradient, const T* features, T* out) {
  const int64_t row = round_up(sizes.width, ASNET_DISPATCH(register_lanes<T>())) + 2 * sizes.lag_x;
  const int64_t maps_size = sizes.channels * sizes.height * sizes.width, window_size = sizes.lags_y() * sizes.lags_x();
  Workspace<T> padded(sizes.channels * (sizes.height + 2 * sizes.lag_y) * row);
  Workspace<T> weights(sizes.channels * sizes.channels * window_size);
  for (int64_t n = 0; n < sizes.count; ++n) {
    pad_maps(sizes, features + n * maps_size, row, padded.data());
    expand_weights(sizes, gradient + n * sizes.pairs() * window_size, weights.data());
    const DirectArguments<T> arguments{sizes, row, padded.data(), weights.data(), out + n * maps_size};
    parallel_tasks(ASNET_DISPATCH(direct_gradient_tasks<T>(sizes)),
                   [&](int64_t begin, int64_t end) { ASNET_DISPATCH(direct_gradient<T>(arguments, begin, end)); });
  }
}

// Plan and memory of the spectral method, shared by all images of the batch.
template <typename T>
class Spectral {
 public:
  Spectral(const CrossCorrelationSizes& sizes, const SpectralSizes& spectral, bool gradient)
      : sizes_(sizes),
        lanes_(ASNET_DISPATCH(register_lanes<T>())),
        fft_y_(spectral.size_y),
        fft_x_(spectral.size_x),
        blocks_(ceil_divide(spectral.frequencies_y(), lanes_)),
        arguments_{sizes,   spectral, fft_y_.fft(), fft_x_.fft(), gradient, 0, 0,      0, 0, nullptr, nullptr,
                   nullptr, 0,        nullptr,      nullptr,      nullptr,  0, nullptr} {
    SpectralArguments<T>& a = arguments_;
    a.tiles = spectral.group;
    a.columns_per_sequence = round_up(spectral.group * spectral.core_x + 2 * a.margin_x(), lanes_);
    a.window_row = round_up(sizes.lag_y + 1, lanes_);
    columns_.emplace(blocks_ * a.sequences() * a.columns_per_sequence * 2 * lanes_);
    tiles_.emplace(spectral.size_x * tiles_spectra_stride(a, lanes_));
    pairs_.emplace((gradient ? spectral.size_x : sizes.pairs()) * pairs_spectra_stride(a, lanes_));
    window_.emplace(sizes.pairs() * sizes.lags_x() * 2 * a.window_row);
    waves_.emplace(blocks_ * lanes_ * 2 * a.window_row);
    a.columns = columns_->data();
    a.tiles_spectra = tiles_->data();
    a.pairs_spectra = pairs_->data();
    a.window = window_->data();
    a.waves = waves_->data();
    gradient ? fill_gradient_waves() : fill_forward_waves();
  }

  void forward(const T* features, T* out) {
    std::fill_n(window_->data(), window_->size(), T(0));
    arguments_.features = features;
    for_each_group([&] {
      transform_columns();
      for (int64_t block = 0; block < blocks_; ++block) {
        transform_tiles(block);
        parallel_tasks(arguments_.spectral.size_x,
                       [&](int64_t begin, int64_t end) { ASNET_DISPATCH(pair_products<T>(arguments_, begin, end)); });
        parallel_with_scratch<T>(sizes_.pairs(), scratch_x(), [&](T* scratch, int64_t begin, int64_t end) {
          ASNET_DISPATCH(pairs_to_lags<T>(arguments_, block, scratch, begin, end));
        });
      }
    });
    join_parities(out);
  }

  void backward(const T* gradient, const T* features, T* out) {
    split_parities(gradient);
    arguments_.features = features;
    arguments_.image = out;
    for_each_group([&] {
      transform_columns();
      for (int64_t block = 0; block < blocks_; ++block) {
        transform_tiles(block);
        parallel_with_scratch<T>(sizes_.pairs(), scratch_x(), [&](T* scratch, int64_t begin, int64_t end) {
          ASNET_DISPATCH(lags_to_pairs<T>(arguments_, block, scratch, begin, end));
        });
        const int64_t scratch_products = 2 * lanes_ * sizes_.channels * (arguments_.tiles + 4);
        parallel_with_scratch<T>(arguments_.spectral.size_x, scratch_products, [&](T* scratch, int64_t begin, int64_t end) {
          ASNET_DISPATCH(pair_products_gradient<T>(arguments_, scratch, begin, end));
        });
        parallel_with_scratch<T>(arguments_.tiles * sizes_.channels, scratch_x(),
                                 [&](T* scratch, int64_t begin, int64_t end) {
                                   ASNET_DISPATCH(spectra_to_tiles<T>(arguments_, block, scratch, begin, end));
                                 });
      }
      parallel_with_scratch<T>(ASNET_DISPATCH(column_tasks<T>(arguments_)), scratch_y(),
                               [&](T* scratch, int64_t begin, int64_t end) {
                                 ASNET_DISPATCH(spectra_to_columns<T>(arguments_, scratch, begin, end));
                               });
    });
  }

 private:
  int64_t scratch_y() const { return 4 * arguments_.spectral.size_y * lanes_; }
  int64_t scratch_x() const { return 4 * arguments_.spectral.size_x * lanes_; }

  template <typename Function>
  void for_each_group(const Function& function) {
    SpectralArguments<T>& a = arguments_;
    const int64_t core_x = a.spectral.core_x, group_width = a.spectral.group * core_x;
    for (a.y = 0; a.y < sizes_.height; a.y += a.spectral.core_y) {
      a.rows = std::min(a.spectral.core_y, sizes_.height - a.y);
      for (a.x = 0; a.x < sizes_.width; a.x += group_width) {
        a.tiles = std::min(a.spectral.group, ceil_divide(sizes_.width - a.x, core_x));
        function();
      }
    }
  }

  void transform_columns() {
    parallel_with_scratch<T>(ASNET_DISPATCH(column_tasks<T>(arguments_)), scratch_y(),
                             [&](T* scratch, int64_t begin, int64_t end) {
                               ASNET_DISPATCH(columns_to_spectra<T>(arguments_, scratch, begin, end));
                             });
  }

  void transform_tiles(int64_t block) {
    parallel_with_scratch<T>(arguments_.tiles * sizes_.channels, scratch_x(), [&](T* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(tiles_to_spectra<T>(arguments_, block, scratch, begin, end));
    });
  }

  double angle(int64_t ky, int64_t t) const {
    const int64_t size = arguments_.spectral.size_y;
    return 2 * std::numbers::pi * static_cast<double>(ky * t % size) / static_cast<double>(size);
  }

  // 1/4: both factors are twice the spectrum of their sequence. Frequencies other than the first and the middle one also
  // represent their conjugates.
  void fill_forward_waves() {
    const SpectralSizes& spectral = arguments_.spectral;
    const int64_t row = arguments_.window_row;
    std::fill_n(waves_->data(), waves_->size(), T(0));
    for (int64_t ky = 0; ky < spectral.frequencies_y(); ++ky) {
      const double weight = (ky == 0 || 2 * ky == spectral.size_y ? 1.0 : 2.0) / (4.0 * spectral.size_y * spectral.size_x);
      for (int64_t t = 0; t <= sizes_.lag_y; ++t) {
        waves_->data()[ky * 2 * row + t] = static_cast<T>(weight * std::cos(angle(ky, t)));
        waves_->data()[(ky * 2 + 1) * row + t] = static_cast<T>(weight * std::sin(angle(ky, t)));
      }
    }
  }

  void fill_gradient_waves() {
    const int64_t row = arguments_.window_row;
    std::fill_n(waves_->data(), waves_->size(), T(0));
    for (int64_t ky = 0; ky < arguments_.spectral.frequencies_y(); ++ky)
      for (int64_t t = 0; t <= sizes_.lag_y; ++t) {
        T* wave = waves_->data() + (ky / lanes_ * row + t) * 2 * lanes_ + ky % lanes_;
        wave[0] = static_cast<T>(std::cos(angle(ky, t)));
        wave[lanes_] = static_cast<T>(std::sin(angle(ky, t)));
      }
  }

  template <typename Function>
  void for_each_window(const Function& function) const {
    torch::stable::parallel_for(0, sizes_.pairs(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t pair = begin; pair < end; ++pair)
        for (int64_t s = 0; s < sizes_.lags_x(); ++s) {
          T* even = arguments_.window + (pair * sizes_.lags_x() + s) * 2 * arguments_.window_row;
          const int64_t middle = (pair * sizes_.lags_y() + sizes_.lag_y) * sizes_.lags_x() + s;
          for (int64_t t = 0; t <= sizes_.lag_y; ++t)
            function(even[t], even[arguments_.window_row + t], middle + t * sizes_.lags_x(), middle - t * sizes_.lags_x());
        }
    });
  }

  void join_parities(T* out) const {
    for_each_window([&](T& even, T& odd, int64_t plus, int64_t minus) {
      out[plus] = even - odd;
      out[minus] = even + odd;
    });
  }

  void split_parities(const T* gradient) const {
    for_each_window([&](T& even, T& odd, int64_t plus, int64_t minus) {
      even = plus == minus ? gradient[plus] : gradient[plus] + gradient[minus];
      odd = gradient[plus] - gradient[minus];
    });
  }

  CrossCorrelationSizes sizes_;
  int64_t lanes_;
  FftPlan<T> fft_y_, fft_x_;
  int64_t blocks_;
  SpectralArguments<T> arguments_;
  std::optional<Workspace<T>> columns_, tiles_, pairs_, window_, waves_;
};

template <typename T>
Estimate estimate(const CrossCorrelationSizes& sizes, bool gradient) {
  return estimate_costs(sizes, gradient, ASNET_DISPATCH(register_lanes<T>()), sizeof(T));
}

bool use_spectral(const std::string& method, const Estimate& estimate) {
  return method == "spectral" || (method == "auto" && estimate.spectral_cost < estimate.direct_cost);
}

template <typename T>
void compute(const CrossCorrelationSizes& sizes, const std::string& method, const T* features, T* out) {
  const Estimate costs = estimate<T>(sizes, false);
  if (!use_spectral(method, costs)) return direct(sizes, features, out);
  Spectral<T> spectral(sizes, costs.spectral, false);
  const int64_t maps_size = sizes.channels * sizes.height * sizes.width;
  const int64_t windows_size = sizes.pairs() * sizes.lags_y() * sizes.lags_x();
  for (int64_t n = 0; n < sizes.count; ++n) spectral.forward(features + n * maps_size, out + n * windows_size);
}

template <typename T>
void compute_backward(const CrossCorrelationSizes& sizes, const std::string& method, const T* gradient, const T* features,
                      T* out) {
  const Estimate costs = estimate<T>(sizes, true);
  if (!use_spectral(method, costs)) return direct_backward(sizes, gradient, features, out);
  Spectral<T> spectral(sizes, costs.spectral, true);
  const int64_t maps_size = sizes.channels * sizes.height * sizes.width;
  const int64_t windows_size = sizes.pairs() * sizes.lags_y() * sizes.lags_x();
  for (int64_t n = 0; n < sizes.count; ++n)
    spectral.backward(gradient + n * windows_size, features + n * maps_size, out + n * maps_size);
}

CrossCorrelationSizes check(const Tensor& features, int64_t lag_y, int64_t lag_x, bool circular,
                            const std::string& method) {
  check_correlation(features, lag_y, lag_x, method);
  return {features.size(0), features.size(1), features.size(2), features.size(3), lag_y, lag_x, circular};
}

Tensor prepare(const Tensor& tensor, ScalarType type) {
  return torch::stable::contiguous(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

Tensor cross_correlation(const Tensor& features, int64_t lag_y, int64_t lag_x, bool circular, const std::string& method) {
  const CrossCorrelationSizes sizes = check(features, lag_y, lag_x, circular, method);
  const ScalarType type = correlation_computing_type(features);
  Tensor out = torch::stable::new_empty(features, {sizes.count, sizes.pairs(), sizes.lags_y(), sizes.lags_x()}, type);
  if (sizes.count > 0) {
    const Tensor maps = prepare(features, type);
    if (type == ScalarType::Double)
      compute(sizes, method, maps.const_data_ptr<double>(), out.mutable_data_ptr<double>());
    else
      compute(sizes, method, maps.const_data_ptr<float>(), out.mutable_data_ptr<float>());
  }
  return features.scalar_type() == type ? out : torch::stable::to(out, features.scalar_type());
}

Tensor cross_correlation_backward(const Tensor& gradient, const Tensor& features, int64_t lag_y, int64_t lag_x,
                                  bool circular, const std::string& method) {
  const CrossCorrelationSizes sizes = check(features, lag_y, lag_x, circular, method);
  check_correlation_gradient(gradient, features, lag_y, lag_x);
  const ScalarType type = correlation_computing_type(features);
  Tensor out = torch::stable::new_empty(features, {sizes.count, sizes.channels, sizes.height, sizes.width}, type);
  if (sizes.count > 0) {
    const Tensor windows = prepare(gradient, type), maps = prepare(features, type);
    if (type == ScalarType::Double)
      compute_backward(sizes, method, windows.const_data_ptr<double>(), maps.const_data_ptr<double>(),
                       out.mutable_data_ptr<double>());
    else
      compute_backward(sizes, method, windows.const_data_ptr<float>(), maps.const_data_ptr<float>(),
                       out.mutable_data_ptr<float>());
  }
  return features.scalar_type() == type ? out : torch::stable::to(out, features.scalar_type());
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) {
  m.impl("cross_correlation", TORCH_BOX(&asnet::cross_correlation));
  m.impl("cross_correlation_backward", TORCH_BOX(&asnet::cross_correlation_backward));
}
