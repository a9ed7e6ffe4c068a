// Host entries of asnet::cross_correlation and asnet::cross_correlation_backward for CUDA.
#include "common/cuda/host.h"
#include "common/cuda/transforms.h"
#include "common/tensor_pointers.h"
#include "cross_correlation/cross_correlation_arguments.h"
#include "cross_correlation/cuda/cross_correlation_direct_kernels.cuh"
#include "cross_correlation/cuda/cross_correlation_plan.h"
#include "cross_correlation/cuda/cross_correlation_spectral_kernels.cuh"

#include <array>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace asnet::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Along the last dimension.
Tensor transform_real(const Tensor& values) { return cuda::transform_real(values, {values.dim() - 1}); }
Tensor transform_to_real(const Tensor& values, int64_t size) {
  return cuda::transform_to_real(values, {values.dim() - 1}, size);
}
Tensor transform_complex(const Tensor& values, bool forward) {
  return cuda::transform_complex(values, {values.dim() - 1}, forward);
}

// The spectral method for features of elements E, computed in T.
template <typename E, typename T>
class Spectral {
 public:
  Spectral(const CrossCorrelationSizes& sizes, const SpectralPlan& plan, const Tensor& features, bool gradient,
           cudaStream_t stream)
      : sizes_(sizes), plan_(plan), features_(features), stream_(stream) {
    group_.channels = static_cast<int>(sizes.channels);
    group_.height = static_cast<int>(sizes.height);
    group_.width = static_cast<int>(sizes.width);
    group_.lag_y = static_cast<int>(sizes.lag_y);
    group_.lag_x = static_cast<int>(sizes.lag_x);
    group_.circular = sizes.circular;
    group_.size_y = static_cast<int>(plan_.size_y);
    group_.size_x = static_cast<int>(plan_.size_x);
    group_.margin_y = plan_.whole_y ? 0 : group_.lag_y;
    group_.margin_x = plan_.whole_x ? 0 : group_.lag_x;
    group_.parts_y = plan_.whole_y || gradient ? 1 : 2;
    group_.parts = (plan_.whole_y && plan_.whole_x) || gradient ? 1 : 2;
    group_.core_x = static_cast<int>(plan_.core_x);
    waves_.emplace(empty({plan_.frequencies_y(), 2 * row_of_waves(group_.lag_y)}, real_type));
    fill_waves(group_, !gradient, gradient ? 1 : scale(), pointer<T>(*waves_), stream_);
  }

  // Writes the windows of lags to `out`, of type T.
  void forward(const Tensor& out) {
    for_each_group([&](int64_t first_image, bool first_of_images) {
      T* const window = pointer<T>(out) + first_image * sizes_.pairs() * sizes_.window();
      transform_columns(first_image);
      for_each_block([&](FrequencyBlock block) {
        const Tensor lags = transform_complex(products(block), false);
        pairs_to_lags(group_, block, const_pointer<T>(lags), const_pointer<T>(*waves_), first_of_images && block.begin == 0,
                      window, stream_);
      });
    });
  }

  // Writes the gradient of the features to `out`, of type E.
  void backward(const Tensor& gradient, const Tensor& out) {
    for_each_group([&](int64_t first_image, bool) {
      transform_columns(first_image);
      for_each_block([&](FrequencyBlock block) {
        const Tensor tiles = transform_complex(gradient_products(block, filters(gradient, first_image, block)), false);
        scatter_tiles(group_, block, const_pointer<T>(tiles), column_spectra(), stream_);
      });
      transform_columns_back(first_image, out);
    });
  }

 private:
  static constexpr ScalarType real_type = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;
  static constexpr ScalarType complex_type = sizeof(T) == 8 ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;

  Tensor empty(const std::vector<int64_t>& shape, ScalarType type) const {
    return torch::stable::new_empty(features_, shape, type);
  }
  Tensor empty_block(FrequencyBlock block, int64_t of_image) const {
    return empty({block.count * group_.images * of_image, plan_.size_x}, complex_type);
  }
  // Factor of the inverse transforms.
  double scale() const { return 1.0 / (static_cast<double>(plan_.size_y) * static_cast<double>(plan_.size_x)); }

  // Calls function(first image, whether this is the first group of these images).
  template <typename Function>
  void for_each_group(const Function& function) {
    for (int64_t image = 0; image < sizes_.count; image += plan_.images) {
      group_.images = static_cast<int>(std::min(plan_.images, sizes_.count - image));
      for (int64_t y = 0; y < sizes_.height; y += plan_.core_y) {
        group_.y = static_cast<int>(y);
        group_.rows = static_cast<int>(std::min(plan_.core_y, sizes_.height - y));
        for (int64_t x = 0; x < sizes_.width; x += plan_.tiles * plan_.core_x) {
          group_.x = static_cast<int>(x);
          group_.tiles = static_cast<int>(std::min(plan_.tiles, ceil_divide(sizes_.width - x, plan_.core_x)));
          choose_columns();
          function(image, y == 0 && x == 0);
        }
      }
    }
  }

  void choose_columns() {
    const bool all = group_.core_columns() == group_.width;
    int begin = all ? 0 : group_.x - group_.margin_x;
    int end = all ? group_.width : group_.x + group_.core_columns() + group_.margin_x;
    if (!sizes_.circular) {
      begin = std::max(begin, 0);
      end = std::min(end, group_.width);
    }
    group_.first_column = begin;
    group_.columns = end - begin;
  }

  template <typename Function>
  void for_each_block(const Function& function) const {
    for (int64_t begin = 0; begin < plan_.frequencies_y(); begin += plan_.frequencies)
      function(FrequencyBlock{static_cast<int>(begin),
                              static_cast<int>(std::min(plan_.frequencies, plan_.frequencies_y() - begin))});
  }

  void transform_columns(int64_t first_image) {
    columns_.clear();
    const int64_t sequences = group_.sequences();
    sequences_of_piece_ = plan_.columns_in_two ? ceil_divide(sequences, 2) : sequences;
    const E* const maps = const_pointer<E>(features_) + first_image * features_.stride(0);
    const FeatureStrides strides{features_.stride(0), features_.stride(1), features_.stride(2), features_.stride(3)};
    for (int64_t first = 0; first < sequences; first += sequences_of_piece_) {
      const int64_t count = std::min(sequences_of_piece_, sequences - first);
      const Tensor rows = empty({count * group_.columns, plan_.size_y}, real_type);
      gather_columns(group_, maps, strides, first, count, pointer<T>(rows), stream_);
      columns_.push_back(transform_real(rows));
    }
  }

  ColumnSpectra<T> column_spectra() const {
    return {pointer<T>(columns_.front()), pointer<T>(columns_.back()), sequences_of_piece_};
  }

  Tensor tile_spectra(FrequencyBlock block) const {
    const Tensor tiles = empty_block(block, group_.tiles * group_.parts * sizes_.channels);
    gather_tiles(group_, block, column_spectra(), pointer<T>(tiles), stream_);
    return transform_complex(tiles, true);
  }

  Tensor products(FrequencyBlock block) const {
    const Tensor tiles = tile_spectra(block);
    Tensor pairs = empty_block(block, sizes_.pairs());
    pair_products(group_, block, const_pointer<T>(tiles), pointer<T>(pairs), stream_);
    return pairs;
  }

  // The spectra of all pairs' gradients.
  Tensor filters(const Tensor& gradient, int64_t first_image, FrequencyBlock block) const {
    const Tensor pairs = empty_block(block, sizes_.pairs());
    const E* const window = const_pointer<E>(gradient) + first_image * sizes_.pairs() * sizes_.window();
    lags_to_pairs(group_, block, window, const_pointer<T>(*waves_), pointer<T>(pairs), stream_);
    return transform_complex(pairs, true);
  }

  Tensor gradient_products(FrequencyBlock block, const Tensor& filters) const {
    const Tensor tiles = tile_spectra(block);
    Tensor gradients = empty_block(block, group_.tiles * sizes_.channels);
    cuda::gradient_products(group_, block, const_pointer<T>(filters), const_pointer<T>(tiles), pointer<T>(gradients),
                            stream_);
    return gradients;
  }

  // A few sequences at a time, because torch copies the input of its transforms to real values.
  void transform_columns_back(int64_t first_image, const Tensor& out) {
    E* const maps = pointer<E>(out) + first_image * sizes_.channels * sizes_.pixels();
    int64_t first = 0;
    for (Tensor& piece : columns_) {
      const int64_t sequences = piece.size(0) / group_.columns;
      const int64_t at_once = columns_.size() == 1 ? sequences : ceil_divide(sequences, 4);
      for (int64_t begin = 0; begin < sequences; begin += at_once) {
        const int64_t count = std::min(at_once, sequences - begin);
        Tensor some = torch::stable::narrow(piece, 0, begin * group_.columns, count * group_.columns);
        const Tensor rows = transform_to_real(some, plan_.size_y);
        scatter_columns(group_, const_pointer<T>(rows), first + begin, count, scale(), maps, stream_);
      }
      first += sequences;
    }
  }

  CrossCorrelationSizes sizes_;
  SpectralPlan plan_;
  Tensor features_;
  cudaStream_t stream_;
  SpectralGroup group_{};
  std::optional<Tensor> waves_;
  std::vector<Tensor> columns_;  // spectra of the group's columns, in one piece or two
  int64_t sequences_of_piece_ = 0;
};

CrossCorrelationSizes sizes_of(const Tensor& features, int64_t lag_y, int64_t lag_x, bool circular) {
  return {features.size(0), features.size(1), features.size(2), features.size(3), lag_y, lag_x, circular};
}

// Calls function(element, computing value), both zero, for their types.
template <typename Function>
void dispatch(const Tensor& features, const Function& function) {
  switch (features.scalar_type()) {
    case ScalarType::Double: return function(double{}, double{});
    case ScalarType::BFloat16: return function(bfloat16{}, float{});
    case ScalarType::Half: return function(float16{}, float{});
    default: return function(float{}, float{});
  }
}

// The plan of the spectral method if it is the faster one.
template <typename E, typename T>
std::optional<SpectralPlan> search(bool is_direct_possible, const CrossCorrelationSizes& sizes, bool gradient) {
  const SpectralPlanner planner(sizes, gradient, sizeof(T), most_spectral_bytes);
  const double direct = is_direct_possible
                            ? cross_correlation_direct_cost<E>(sizes, gradient) / h100::multiply_adds_per_second
                            : std::numeric_limits<double>::infinity();
  // Small sums take less time than the search for a plan.
  if (direct <= planner.least_seconds()) return std::nullopt;
  const SpectralPlan plan = planner.best();
  return plan.seconds < direct ? std::optional(plan) : std::nullopt;
}

// The plan of the spectral method if it is to be used. The search takes 0.1 ms and its results are cached.
template <typename E, typename T>
std::optional<SpectralPlan> choose(const std::string& method, const CrossCorrelationSizes& sizes, bool gradient) {
  if (method == "direct") return std::nullopt;
  static std::mutex mutex;
  using Key = std::array<int64_t, 9>;
  static std::map<Key, std::optional<SpectralPlan>> known;
  constexpr size_t most_known = 4096;  // photographs come in many sizes

  const Key key{sizes.count, sizes.channels, sizes.height,     sizes.width, sizes.lag_y,
                sizes.lag_x, sizes.circular, method == "auto", gradient};
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  if (known.size() == most_known) known.clear();
  return known.emplace(key, search<E, T>(method == "auto", sizes, gradient)).first->second;
}

Tensor cross_correlation(const Tensor& features, int64_t lag_y, int64_t lag_x, bool circular, const std::string& method) {
  check_correlation(features, lag_y, lag_x, method);
  const CrossCorrelationSizes sizes = sizes_of(features, lag_y, lag_x, circular);
  const DeviceGuard guard(features);
  const std::vector<int64_t> shape{sizes.count, sizes.pairs(), sizes.lags_y(), sizes.lags_x()};
  std::optional<Tensor> result;
  dispatch(features, [&]<typename E, typename T>(E, T) {
    const std::optional<SpectralPlan> plan = choose<E, T>(method, sizes, false);
    // The spectral method accumulates into its result, so that has the computing type.
    const Tensor out =
        torch::stable::new_empty(features, shape, plan ? correlation_computing_type(features) : features.scalar_type());
    result.emplace(out);
    if (sizes.count == 0) return;
    const cudaStream_t stream = current_stream(features);
    if (plan) {
      Spectral<E, T>(sizes, *plan, features, false, stream).forward(out);
    } else {
      const Tensor maps = torch::stable::contiguous(features);
      const Tensor workspace = torch::stable::new_empty(
          features, {cross_correlation_direct_workspace<E>(sizes, multiprocessors())}, ScalarType::Byte);
      cross_correlation_direct(sizes, const_pointer<E>(maps), pointer<E>(out), pointer<void>(workspace), multiprocessors(),
                               stream);
    }
  });
  return result->scalar_type() == features.scalar_type() ? *result : torch::stable::to(*result, features.scalar_type());
}

Tensor cross_correlation_backward(const Tensor& gradient, const Tensor& features, int64_t lag_y, int64_t lag_x,
                                  bool circular, const std::string& method) {
  check_correlation(features, lag_y, lag_x, method);
  check_correlation_gradient(gradient, features, lag_y, lag_x);
  const CrossCorrelationSizes sizes = sizes_of(features, lag_y, lag_x, circular);
  const DeviceGuard guard(features);
  Tensor out = torch::stable::new_empty(features, {sizes.count, sizes.channels, sizes.height, sizes.width});
  if (sizes.count == 0) return out;
  const cudaStream_t stream = current_stream(features);
  const ScalarType type = features.scalar_type();
  const Tensor windows =
      torch::stable::contiguous(gradient.scalar_type() == type ? gradient : torch::stable::to(gradient, type));
  dispatch(features, [&]<typename E, typename T>(E, T) {
    if (const std::optional<SpectralPlan> plan = choose<E, T>(method, sizes, true)) {
      Spectral<E, T>(sizes, *plan, features, true, stream).backward(windows, out);
    } else {
      const Tensor maps = torch::stable::contiguous(features);
      const Tensor workspace = torch::stable::new_empty(
          features, {cross_correlation_direct_backward_workspace<E>(sizes, multiprocessors())}, ScalarType::Byte);
      cross_correlation_direct_backward(sizes, const_pointer<E>(windows), const_pointer<E>(maps), pointer<E>(out),
                                        pointer<void>(workspace), multiprocessors(), stream);
    }
  });
  return out;
}

}  // namespace
}  // namespace asnet::cuda

ASNET_CUDA_LIBRARY(m) {
  m.impl("cross_correlation", TORCH_BOX(&asnet::cuda::cross_correlation));
  m.impl("cross_correlation_backward", TORCH_BOX(&asnet::cuda::cross_correlation_backward));
}
