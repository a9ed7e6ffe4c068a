// Several images as one feature map, pixels moved into channels, and the first subtracted from the others.
#include "common/cpu/reused_memory.h"
#include "common/cpu/tasks.h"
#include "common/devices.h"
#include "common/tensor_pointers.h"
#include "gather_images/cpu/gather_images_kernels.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr const char* kName = "gather_images";

template <typename T>
void run(const std::vector<Tensor>& images, const std::optional<Tensor>& mean, float scale, float difference_scale,
         int64_t factor, const Tensor& gathered) {
  const Tensor& first = images.front();
  const int64_t channels = first.size(1), count = static_cast<int64_t>(images.size());
  const int64_t rows = gathered.size(1), columns = gathered.size(2);
  const int64_t scratch_size = (count * channels * factor + 2) * gathered_columns * factor;
  for (int64_t n = 0; n < first.size(0); ++n) {
    std::vector<ImagePlanes> planes;
    for (const Tensor& image : images)
      planes.push_back({const_pointer<float>(image) + n * image.stride(0), image.stride(1), image.stride(2)});
    const float* const colours = mean ? const_pointer<float>(*mean) + n * channels : nullptr;
    T* const to = pointer<T>(gathered) + n * rows * columns * gathered.size(3);
    const GatherArguments<T> arguments{planes.data(), count,   channels, first.size(2),
                                       first.size(3), colours, scale,    difference_scale,
                                       factor,        rows,    columns,  to};
    parallel_with_scratch<float>(rows, scratch_size, [&](float* scratch, int64_t begin, int64_t end) {
      ASNET_DISPATCH(gather_rows<T>(arguments, scratch, begin, end));
    });
  }
}

Tensor gather_images(std::vector<Tensor> images, const std::optional<Tensor>& mean, double scale, double difference_scale,
                     int64_t factor, int64_t rows, int64_t columns, bool to_bfloat16) {
  STD_TORCH_CHECK(!images.empty(), kName, ": there are no images");
  STD_TORCH_CHECK(factor > 0 && rows >= 0 && columns >= 0, kName, ": factor is ", factor, " and the result has ", rows,
                  " x ", columns, " pixels, expected a factor of at least 1 and no negative size");
  for (Tensor& image : images) {
    STD_TORCH_CHECK(image.scalar_type() == ScalarType::Float && on_same_device(image, images.front()), kName,
                    ": images must have dtype float32 and be on one device");
    STD_TORCH_CHECK(image.dim() == 4, kName, ": an image has ", image.dim(), " dimensions, expected 4 (N, C, H, W)");
    for (int64_t dim = 0; dim < 4; ++dim)
      STD_TORCH_CHECK(image.size(dim) == images.front().size(dim), kName, ": an image has size ", image.size(dim),
                      " in dimension ", dim, ", the first ", images.front().size(dim));
    if (image.stride(3) != 1) image = torch::stable::contiguous(image);
  }
  const Tensor& first = images.front();
  STD_TORCH_CHECK(first.size(2) > 0 && first.size(3) > 0, kName, ": images have ", first.size(2), " x ", first.size(3),
                  " pixels, expected at least 1 x 1");
  std::optional<Tensor> dense_mean;
  if (mean) {
    STD_TORCH_CHECK(mean->scalar_type() == ScalarType::Float && on_same_device(*mean, first) && mean->dim() == 2 &&
                        mean->size(0) == first.size(0) && mean->size(1) == first.size(1),
                    kName, ": mean must have dtype float32 and the shape (", first.size(0), ", ", first.size(1), ")");
    dense_mean = torch::stable::contiguous(*mean);
  }
  const int64_t depth = static_cast<int64_t>(images.size()) * first.size(1) * factor * factor;
  const ScalarType type = to_bfloat16 ? ScalarType::BFloat16 : ScalarType::Float;
  const Tensor gathered = empty_maps(torch::stable::new_empty(first, {0}, type), {first.size(0), rows, columns, depth});
  if (gathered.numel() == 0) return gathered;
  const auto gather = [&]<typename T>(const T*) {
    run<T>(images, dense_mean, static_cast<float>(scale), static_cast<float>(difference_scale), factor, gathered);
  };
  to_bfloat16 ? gather(static_cast<const BFloat16*>(nullptr)) : gather(static_cast<const float*>(nullptr));
  return gathered;
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) { m.impl("gather_images", TORCH_BOX(&asnet::gather_images)); }
