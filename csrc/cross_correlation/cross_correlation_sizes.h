// Sizes of the cross-correlation of all pairs of feature maps, for all devices.
//
//   out[p, Ry + t, Rx + s] = sum over y, x of f_i(y - t, x - s) f_j(y, x),   p = pair (i, j), i <= j, row-major
//
// and of its gradient
//
//   grad_a(y, x) = sum over b, t, s of K_ab(t, s) f_b(y - t, x - s),   K_ab(t, s) = G_ba(t, s) for b < a,
//                  G_ab(-t, -s) for b > a, and the sum of both for b = a, G the gradient of out.
#pragma once

#include "common/integers.h"

namespace asnet {

struct CrossCorrelationSizes {
  int64_t count, channels, height, width;  // of the features (N, C, H, W)
  int64_t lag_y, lag_x;                    // the largest lags, less than height and width
  bool circular;

  ASNET_EVERYWHERE int64_t pairs() const { return channels * (channels + 1) / 2; }
  ASNET_EVERYWHERE int64_t lags_y() const { return 2 * lag_y + 1; }
  ASNET_EVERYWHERE int64_t lags_x() const { return 2 * lag_x + 1; }
  ASNET_EVERYWHERE int64_t window() const { return lags_y() * lags_x(); }
  ASNET_EVERYWHERE int64_t pixels() const { return height * width; }
};

// Index of the pair (i, j), i <= j.
ASNET_EVERYWHERE int64_t pair_index(int64_t i, int64_t j, int64_t channels) {
  return i * channels - i * (i - 1) / 2 + j - i;
}

}  // namespace asnet
