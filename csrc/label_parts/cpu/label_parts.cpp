// Labels the 8-connected parts of masks, each with the largest number among its pixels, which are numbered from 1 in rows.
#include "common/tensor_pointers.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

namespace asnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Until the end, the label of a pixel is the number of one further on in its part; only the last one has its own.
void label(const bool* mask, int64_t height, int64_t width, int64_t* labels) {
  const auto last = [&](int64_t number) {
    while (labels[number - 1] != number) number = labels[number - 1] = labels[labels[number - 1] - 1];
    return number;
  };
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const int64_t at = y * width + x;
      labels[at] = mask[at] ? at + 1 : 0;
      if (!mask[at]) continue;
      if (x > 0 && mask[at - 1]) labels[last(at) - 1] = at + 1;
      for (int64_t other = x - 1; other <= x + 1; ++other)
        if (y > 0 && other >= 0 && other < width && mask[(y - 1) * width + other])
          labels[last((y - 1) * width + other + 1) - 1] = at + 1;
    }
  for (int64_t at = height * width - 1; at >= 0; --at)
    if (mask[at]) labels[at] = labels[labels[at] - 1];
}

Tensor label_parts(const Tensor& mask) {
  STD_TORCH_CHECK(mask.scalar_type() == ScalarType::Bool && mask.dim() == 3,
                  "label_parts: mask must have dtype bool and the shape (N, H, W), got ",
                  torch::headeronly::toString(mask.scalar_type()), " and ", mask.dim(), " dimensions");
  const Tensor dense = torch::stable::contiguous(mask);
  const int64_t height = mask.size(1), width = mask.size(2);
  const Tensor labels = torch::stable::new_empty(mask, {mask.size(0), height, width}, ScalarType::Long);
  if (labels.numel() == 0) return labels;
  torch::stable::parallel_for(0, mask.size(0), 1, [&](int64_t first, int64_t end) {
    for (int64_t n = first; n < end; ++n)
      label(const_pointer<bool>(dense) + n * height * width, height, width, pointer<int64_t>(labels) + n * height * width);
  });
  return labels;
}

}  // namespace
}  // namespace asnet

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) { m.impl("label_parts", TORCH_BOX(&asnet::label_parts)); }
