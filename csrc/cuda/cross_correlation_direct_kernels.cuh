// The direct sums of the cross-correlation and of its gradient: launchers.
//
// All pointers are to contiguous memory of the device: features and grad_features (N, C, H, W), out and gradient
// (N, C (C + 1) / 2, 2 R_y + 1, 2 R_x + 1), in the same element type T: float, double, bfloat16 or float16. Sums are made in
// Accumulation<T>. The bits of a result depend on the arguments alone, `multiprocessors` among them. N may be 0.
#pragma once

#include "cuda/cross_correlation_sizes.h"

namespace asnet::cuda {

// Bytes that the launchers need, aligned to 256; bounded by the size of one image, its windows and a constant.
template <typename T>
int64_t cross_correlation_direct_workspace(const CorrelationSizes& sizes, int multiprocessors);
template <typename T>
int64_t cross_correlation_direct_backward_workspace(const CorrelationSizes& sizes, int multiprocessors);

template <typename T>
void cross_correlation_direct(const CorrelationSizes& sizes, const T* features, T* out, void* workspace, int multiprocessors,
                              cudaStream_t stream);
template <typename T>
void cross_correlation_direct_backward(const CorrelationSizes& sizes, const T* gradient, const T* features, T* grad_features,
                                       void* workspace, int multiprocessors, cudaStream_t stream);

// Work in multiply-adds of float32, as many as an H100 would make in the same time, for a comparison with other methods.
template <typename T>
double cross_correlation_direct_cost(const CorrelationSizes& sizes, bool backward);

}  // namespace asnet::cuda
