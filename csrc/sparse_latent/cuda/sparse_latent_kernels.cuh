// Kernels and launchers of a step of half-quadratic splitting (formula in cpu/sparse_latent_kernels.h) between torch's
// transforms, each in one pass over memory. Images are [N, H, W], spectra [N, H, W / 2 + 1] pairs (re, im).
//
// A thread has one value of a row, a block kThreads of them. The grid is one-dimensional, because a batch may have more
// rows than the other dimensions allow. Floors on an H100 (3.35 TB/s) are for a float32 image of 864x1080, 3.7 MB, and its
// spectrum.
#pragma once

#include "common/cuda/device.cuh"
#include "common/integers.h"

#include <optional>

namespace asnet::cuda::sparse_latent {

struct Rows {
  int64_t count;  // images
  int height, width;

  __host__ __device__ int frequencies() const { return width / 2 + 1; }
};

// The spectra of a step.
template <typename T>
struct Spectra {
  const T *transfer, *matched;  // K, conj(K) Y
  const T* prior;               // from fill_prior
  T* latent;                    // in: conj(D) G, out: X
  T* predicted;                 // out: K X, or null
  T beta, scale;                // scale: of the inverse transform, included in X and K X
};

namespace detail {

constexpr int kThreads = 128;

template <typename T>
using Complex = Pack<T, 2>;

// The value of a row that this thread works on.
struct Place {
  int64_t row;  // of all images
  int y, x;
  bool inside;

  __device__ Place(int height, int length) {
    const int blocks = static_cast<int>(ceil_divide(length, kThreads));
    row = blockIdx.x / blocks;
    y = static_cast<int>(row % height);
    x = static_cast<int>(blockIdx.x % blocks) * kThreads + threadIdx.x;
    inside = x < length;
  }
};

inline dim3 grid(const Rows& rows, int length) {
  return dim3(static_cast<unsigned>(rows.count * rows.height * ceil_divide(length, kThreads)));
}

// Floor: 3.7 MB written, 0.001 ms.
// ptxas limits: registers 32, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads) place_kernel(Rows rows, const T* kernel, int size, T* image) {
  const Place at(rows.height, rows.width);
  if (!at.inside) return;
  const int centre = size / 2, y = (at.y + centre) % rows.height, x = (at.x + centre) % rows.width;
  const int64_t n = at.row / rows.height;
  image[at.row * rows.width + at.x] = y < size && x < size ? kernel[(n * size + y) * size + x] : T(0);
}

// prior[ky] + prior[height + kx] = |D|^2, with a ground |D|^2 + 1.
// Floor: negligible, 1,500 values.
// ptxas limits: registers 64, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads) fill_prior(Rows rows, bool has_ground, T* prior) {
  const int index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= rows.height + rows.frequencies()) return;
  const bool vertical = index < rows.height;
  double sine = 0, cosine = 0;
  sincospi(static_cast<double>(vertical ? index : index - rows.height) / (vertical ? rows.height : rows.width), &sine,
           &cosine);
  prior[index] = static_cast<T>(4 * sine * sine + (vertical && has_ground ? 1 : 0));
}

// spectrum = conj(transfer) spectrum
// Floor: 11 MB, 0.003 ms.
// ptxas limits: registers 32, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads) match(Rows rows, const T* transfer, T* spectrum) {
  const Place place(rows.height, rows.frequencies());
  if (!place.inside) return;
  const int64_t at = 2 * (place.row * rows.frequencies() + place.x);
  const Complex<T> k = load_pack<T, 2>(transfer + at), y = load_pack<T, 2>(spectrum + at);
  store_pack<T, 2>(spectrum + at, {{k.element[0] * y.element[0] + k.element[1] * y.element[1],
                                    k.element[0] * y.element[1] - k.element[1] * y.element[0]}});
}

// Forward differences of a pixel; 0 where the sum of their squares is below the threshold.
template <typename T>
struct KeptGradient {
  T horizontal, vertical;

  __device__ KeptGradient(T here, T right, T below, T threshold) : horizontal(right - here), vertical(below - here) {
    if (!(horizontal * horizontal + vertical * vertical >= threshold)) horizontal = vertical = 0;
  }
};

// out = conj(D) g, or conj(D) g + u on a ground. The six pixels that a thread reads come mostly from the caches.
// Floor: 7.5 MB, 0.002 ms.
// ptxas limits: registers 40, shared 0
template <typename T, bool has_ground>
__global__ void __launch_bounds__(kThreads) divergence(Rows rows, const T* image, T threshold, T ground, T* out) {
  const Place at(rows.height, rows.width);
  if (!at.inside) return;
  const T* const row = image + at.row * rows.width;
  const T* const above = row + (at.y > 0 ? -rows.width : (rows.height - 1) * int64_t{rows.width});
  const T* const below = row + (at.y + 1 < rows.height ? rows.width : -(rows.height - 1) * int64_t{rows.width});
  const int left = at.x > 0 ? at.x - 1 : rows.width - 1, right = at.x + 1 < rows.width ? at.x + 1 : 0;
  const T here = row[at.x];
  const KeptGradient<T> kept(here, row[right], below[at.x], threshold);
  const KeptGradient<T> kept_left(row[left], here, below[left], threshold);
  const KeptGradient<T> kept_above(above[at.x], above[right], here, threshold);
  T sum = kept_left.horizontal - kept.horizontal + kept_above.vertical - kept.vertical;
  if constexpr (has_ground) sum += (here - ground) * (here - ground) >= threshold ? here : ground;
  out[at.row * rows.width + at.x] = sum;
}

// Floor: 15 MB, 0.0045 ms; with K X 19 MB, 0.0055 ms.
// ptxas limits: registers 48, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads) solve(Rows rows, Spectra<T> spectra) {
  const Place place(rows.height, rows.frequencies());
  if (!place.inside) return;
  const int64_t at = 2 * (place.row * rows.frequencies() + place.x);
  const Complex<T> k = load_pack<T, 2>(spectra.transfer + at), matched = load_pack<T, 2>(spectra.matched + at);
  const Complex<T> pull = load_pack<T, 2>(spectra.latent + at);
  const T prior = spectra.prior[place.y] + spectra.prior[rows.height + place.x];
  const T power = k.element[0] * k.element[0] + k.element[1] * k.element[1];
  const T factor = spectra.scale / (power + spectra.beta * prior);
  const Complex<T> x{{(spectra.beta * pull.element[0] + matched.element[0]) * factor,
                      (spectra.beta * pull.element[1] + matched.element[1]) * factor}};
  store_pack<T, 2>(spectra.latent + at, x);
  if (spectra.predicted)
    store_pack<T, 2>(spectra.predicted + at, {{k.element[0] * x.element[0] - k.element[1] * x.element[1],
                                               k.element[0] * x.element[1] + k.element[1] * x.element[0]}});
}

// Floor: 12 MB, 0.0035 ms.
// ptxas limits: registers 32, shared 0
template <typename T>
__global__ void __launch_bounds__(kThreads)
    raise(Rows rows, const T* predicted, const T* padded, const bool* clipped, T brightest, T* observed) {
  const Place place(rows.height, rows.width);
  if (!place.inside) return;
  const int64_t at = place.row * rows.width + place.x;
  const T lowest = padded[at], value = predicted[at] < brightest ? predicted[at] : brightest;
  observed[at] = clipped[at] && value > lowest ? value : lowest;
}

}  // namespace detail

// The kernels (N, size, size) as images with their centres at the origin.
template <typename T>
void place_kernel(const Rows& rows, const T* kernel, int size, T* image, cudaStream_t stream) {
  ASNET_LAUNCH(detail::place_kernel<T>, detail::grid(rows, rows.width), dim3(detail::kThreads), 0, stream, rows, kernel,
               size, image);
}

// Power responses of the first differences: of the rows, then of the frequencies along a row.
template <typename T>
void fill_prior(const Rows& rows, bool has_ground, T* prior, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(ceil_divide(rows.height + rows.frequencies(), detail::kThreads));
  ASNET_LAUNCH(detail::fill_prior<T>, dim3(blocks), dim3(detail::kThreads), 0, stream, rows, has_ground, prior);
}

template <typename T>
void match(const Rows& rows, const T* transfer, T* spectrum, cudaStream_t stream) {
  ASNET_LAUNCH(detail::match<T>, detail::grid(rows, rows.frequencies()), dim3(detail::kThreads), 0, stream, rows, transfer,
               spectrum);
}

template <typename T>
void divergence(const Rows& rows, const T* image, T threshold, std::optional<T> ground, T* out, cudaStream_t stream) {
  const dim3 blocks = detail::grid(rows, rows.width);
  if (ground)
    ASNET_LAUNCH((detail::divergence<T, true>), blocks, dim3(detail::kThreads), 0, stream, rows, image, threshold, *ground,
                 out);
  else
    ASNET_LAUNCH((detail::divergence<T, false>), blocks, dim3(detail::kThreads), 0, stream, rows, image, threshold, T(0),
                 out);
}

template <typename T>
void solve(const Rows& rows, const Spectra<T>& spectra, cudaStream_t stream) {
  ASNET_LAUNCH(detail::solve<T>, detail::grid(rows, rows.frequencies()), dim3(detail::kThreads), 0, stream, rows, spectra);
}

template <typename T>
void raise(const Rows& rows, const T* predicted, const T* padded, const bool* clipped, T brightest, T* observed,
           cudaStream_t stream) {
  ASNET_LAUNCH(detail::raise<T>, detail::grid(rows, rows.width), dim3(detail::kThreads), 0, stream, rows, predicted, padded,
               clipped, brightest, observed);
}

}  // namespace asnet::cuda::sparse_latent
