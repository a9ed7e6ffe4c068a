// Conjugate gradients for (A + w I) k = b, where (A k)(t) = sum over s of a(t - s) k(s): kernels and launchers.
//
// The products are direct sums: transforms would take several launches to each, and launches are what small systems cost. A
// thread makes kRows outputs of a column and slides along the columns of k, so that a lag and a value of k, the same for all
// lanes, are loaded for kRows multiply-adds. Rows and columns beyond the support's bounding box are left out.
//
// Where a system fits the shared memory of a block, that block makes all steps in one launch. Of larger ones every step is a
// launch: many blocks make the product, and the last of them the step. With 5 us a launch and 60 % of the 128 multiply-adds
// that a multiprocessor makes in each of 1.7e9 cycles a second, 20 steps take
//
//   in one block        5 us + 21 s^4 / 130e9
//   in launches       110 us + 21 s^4 / (130e9 s^2 / 256)
//
// equal at s = 31 if all of k may differ from 0. Within an estimate most supports of 37 x 37 are smaller: there a block takes
// 120 us, launches 145 us. What fits a block is at most 42 x 42 in float32. Torch's transforms take 440 launches, 2200 us,
// which these kernels reach at s = 200 on 132 multiprocessors.
#pragma once

#include "common/cuda/last_block.cuh"
#include "common/integers.h"
#include "toeplitz_solve/toeplitz_solve_quotient.h"

namespace asnet::cuda::toeplitz_solve {

// Images of any strides.
template <typename T>
struct Images {
  const T* values;
  int64_t image, row, column;

  __device__ T at(int64_t n, int y, int x) const { return values[n * image + y * row + x * column]; }
};

template <typename T>
struct Systems {
  int64_t count;
  int size;  // s
  T weight;  // w
  int64_t steps;
  Images<T> lags, right;  // (2 s - 1) x (2 s - 1) and s x s
  Images<bool> support;   // null: everywhere
  T* solution;            // [count][s][s]
};

// Memory of any content.
template <typename T>
struct Workspace {
  T* values;
  double* sums;
  int* numbers;
};
struct WorkspaceSize {
  int64_t values, sums, numbers;
};

namespace detail {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kRows = 8;

// ---------------------------------------------------------------------------------------------------------------------
// 1. What a block knows of its system

// Where k may differ from 0. Planes hold the box column by column, `height` values each, zeros from `rows` on.
struct Box {
  int top, left, rows, columns;
  int pixels;  // of the support

  ASNET_EVERYWHERE int height() const { return static_cast<int>(round_up(rows, kRows)); }
  ASNET_EVERYWHERE int area() const { return columns * height(); }
  // Of kRows outputs in a column.
  ASNET_EVERYWHERE int units() const { return area() / kRows; }
  // Warps that take one unit a lane.
  ASNET_EVERYWHERE int sets() const { return static_cast<int>(ceil_divide(units(), 32)); }
  // Lags of its pixels, row by row, the lag 0 in the middle; zeros where only padding needs them.
  ASNET_EVERYWHERE int lag_rows() const { return 2 * height() - 1; }
  ASNET_EVERYWHERE int lag_columns() const { return 2 * columns - 1; }
  ASNET_EVERYWHERE int64_t lags() const { return int64_t{lag_rows()} * lag_columns(); }
};
ASNET_EVERYWHERE Box whole(int size) { return {0, 0, size, size, size * size}; }

template <typename T>
struct Planes {
  T* allowed;  // 1 where k may differ from 0, else 0
  T *solution, *residual;
  T *direction, *turned;  // turned: (A + w I) direction
};

// The sum over all threads, in every thread. Between two sums with the same memory there is a barrier beside that of this one.
__device__ __forceinline__ double block_sum(double value, double* of_warp) {
  const double sum = warp_sum(value);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  double total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += of_warp[warp];
  return total;
}

__device__ __forceinline__ int warp_maximum(int x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

template <typename T>
__device__ Box support_box(const Systems<T>& systems, int64_t n) {
  const int size = systems.size;
  if (systems.support.values == nullptr) return whole(size);
  // -top, -left, bottom, right; pixels
  ASNET_SHARED(int, of_warp, [kWarps][5]);
  int found[5] = {-size, -size, -1, -1, 0};
  for (int at = threadIdx.x; at < size * size; at += kThreads) {
    const int y = at / size, x = at % size;
    if (!systems.support.at(n, y, x)) continue;
    found[0] = max(found[0], -y);
    found[1] = max(found[1], -x);
    found[2] = max(found[2], y);
    found[3] = max(found[3], x);
    ++found[4];
  }
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    const int value = i < 4 ? warp_maximum(found[i]) : warp_sum(found[i]);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32][i] = value;
    found[i] = i < 4 ? value : 0;
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) {
#pragma unroll
    for (int i = 0; i < 4; ++i) found[i] = max(found[i], of_warp[warp][i]);
    found[4] += of_warp[warp][4];
  }
  // Of an empty support one pixel, where k is 0.
  if (found[4] == 0) return {0, 0, 1, 1, 0};
  return {-found[0], -found[1], found[2] + found[0] + 1, found[3] + found[1] + 1, found[4]};
}

// Fills planes and lags: the direction is at first the constant k, the residual b.
template <typename T>
__device__ __forceinline__ void begin(const Systems<T>& systems, int64_t n, const Box& box, const Planes<T>& planes,
                                      T* lags) {
  const int height = box.height(), middle = systems.size - 1;
  const T constant = static_cast<T>(1.0 / max(box.pixels, 1));
  for (int at = threadIdx.x; at < box.area(); at += kThreads) {
    const int y = at % height, x = at / height;
    const bool inside = y < box.rows && box.pixels > 0 &&
                        (systems.support.values == nullptr || systems.support.at(n, box.top + y, box.left + x));
    planes.allowed[at] = inside ? T(1) : T(0);
    planes.solution[at] = planes.direction[at] = inside ? constant : T(0);
    planes.residual[at] = inside ? systems.right.at(n, box.top + y, box.left + x) : T(0);
  }
  for (int at = threadIdx.x; at < box.lags(); at += kThreads) {
    const int dy = at / box.lag_columns() - (height - 1), dx = at % box.lag_columns() - (box.columns - 1);
    lags[at] = dy > -box.rows && dy < box.rows ? systems.lags.at(n, middle + dy, middle + dx) : T(0);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. Steps

// sums += the part of A direction that columns first .. last - 1 of the direction have in outputs y .. y + kRows - 1 of column x.
// Each column is summed for itself: a single sum of all terms has four times the error for 37 x 37.
template <typename T>
__device__ __forceinline__ void multiply(const Box& box, const T* lags, const T* direction, int x, int y, int first,
                                         int last, T (&sums)[kRows]) {
  constexpr int kPack = 16 / sizeof(T);
  const int height = box.height(), row = box.lag_columns();
  for (int column = first; column < last; ++column) {
    const T* lag = lags + (y + height - 1) * row + x - column + box.columns - 1;
    const T* value = direction + column * height;
    // Lags of rows y - from - (kRows - 1) .. y - from + kRows - 1; the upper kRows - 1 were the lower ones a turn ago.
    T window[2 * kRows - 1], of_column[kRows] = {};
#pragma unroll
    for (int i = 1; i < kRows; ++i) window[kRows - 1 + i] = lag[i * row];
    for (int from = 0; from < height; from += kRows, lag -= kRows * row, value += kRows) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) window[i] = lag[(i - kRows + 1) * row];
#pragma unroll
      for (int pack = 0; pack < kRows / kPack; ++pack) {
        const Pack<T, kPack> values = load_pack<T, kPack>(value + pack * kPack);
#pragma unroll
        for (int k = 0; k < kPack; ++k)
#pragma unroll
          for (int r = 0; r < kRows; ++r) of_column[r] += window[kRows - 1 - (pack * kPack + k) + r] * values.element[k];
      }
#pragma unroll
      for (int i = 0; i < kRows - 1; ++i) window[kRows + i] = window[i];
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) sums[r] += of_column[r];
  }
}

// The same for a lane's unit of a set, of `shares` of the columns one, stored to `to` if there is such a unit.
template <typename T>
__device__ __forceinline__ void multiply_unit(const Box& box, const T* lags, const T* direction, int unit, int share,
                                              int shares, T* to) {
  constexpr int kPack = 16 / sizeof(T);
  // Lanes without a unit take the last one.
  const int taken = min(unit, box.units() - 1);
  T sums[kRows] = {};
  multiply(box, lags, direction, taken % box.columns, taken / box.columns * kRows, box.columns * share / shares,
           box.columns * (share + 1) / shares, sums);
  if (unit >= box.units()) return;
#pragma unroll
  for (int i = 0; i < kRows; i += kPack) {
    Pack<T, kPack> pack;
#pragma unroll
    for (int k = 0; k < kPack; ++k) pack.element[k] = sums[i + k];
    store_pack<T, kPack>(to + i, pack);
  }
}

// Place of a unit's first output in the planes.
__device__ __forceinline__ int place(const Box& box, int unit) {
  return unit % box.columns * box.height() + unit / box.columns * kRows;
}

// The step after a product; number 0 is not a step but makes the residual that of the constant k. energy = |residual|^2 before,
// curvature = direction . turned. Returns |residual|^2.
template <typename T>
__device__ __forceinline__ double step(int64_t number, const Box& box, const Planes<T>& planes, double energy,
                                       double curvature, double* of_warp) {
  const T length = number == 0 ? T(1) : quotient_of_sums<T>(energy, curvature);
  double left = 0;
#pragma unroll 4
  for (int at = threadIdx.x; at < box.area(); at += kThreads) {
    if (number > 0) planes.solution[at] += length * planes.direction[at];
    const T residual = planes.residual[at] - length * planes.turned[at];
    planes.residual[at] = residual;
    left += static_cast<double>(residual) * residual;
  }
  left = block_sum(left, of_warp);
  const T kept = number == 0 ? T(0) : quotient_of_sums<T>(left, energy);
#pragma unroll 4
  for (int at = threadIdx.x; at < box.area(); at += kThreads)
    planes.direction[at] = planes.residual[at] + kept * planes.direction[at];
  return left;
}

// After a step's barrier.
template <typename T>
__device__ __forceinline__ void store_solution(const Systems<T>& systems, int64_t n, const Box& box, const T* solution) {
  const int size = systems.size;
  for (int at = threadIdx.x; at < size * size; at += kThreads) {
    const int y = at / size - box.top, x = at % size - box.left;
    const bool inside = y >= 0 && y < box.rows && x >= 0 && x < box.columns;
    systems.solution[n * size * size + at] = inside ? solution[x * box.height() + y] : T(0);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. All steps in one launch, a block for each system

// Of a system in global memory: solution, residual, allowed.
constexpr int kPlanesOfBlock = 3;

template <typename T>
inline size_t shared_bytes(int size) {
  return (static_cast<size_t>(whole(size).area()) + kThreads * kRows + whole(size).lags()) * sizeof(T);
}

// Each warp has at most one set of units, and with the sums over warps shared memory stays within 48 KiB.
template <typename T>
inline bool fits_block(int size) {
  constexpr size_t kSums = 1024;
  return whole(size).sets() <= kWarps && shared_bytes<T>(size) + kSums <= 48 * 1024;
}

// Floor: a load, a multiply-add and a barrier wait in turn, 1 us a step up to 13 x 13; 14 us a step for 37 x 37.
// ptxas limits: registers 128, shared 49152
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) solve_in_block(Systems<T> systems, T* workspace) {
  ASNET_DYNAMIC_SHARED(T, memory);
  ASNET_SHARED(double, of_warp, [2][kWarps]);
  const int64_t n = blockIdx.x, plane = whole(systems.size).area();
  const Box box = support_box(systems, n);
  const int area = box.area();
  // Sums of shares of the columns; the first becomes the product.
  T *const direction = memory, *const parts = direction + area, *const lags = parts + kThreads * kRows;
  T* const own = workspace + n * kPlanesOfBlock * plane;
  const Planes<T> planes = {own, own + plane, own + 2 * plane, direction, parts};
  begin(systems, n, box, planes, lags);

  const int warp = threadIdx.x / 32, sets = box.sets(), shares = kWarps / sets;
  const int unit = warp % sets * 32 + static_cast<int>(threadIdx.x) % 32, share = warp / sets;
  double energy = 0;
  for (int64_t number = 0; number <= systems.steps; ++number) {
    __syncthreads();
    if (share < shares) multiply_unit(box, lags, direction, unit, share, shares, parts + share * area + place(box, unit));
    __syncthreads();
    double curvature = 0;
    for (int at = threadIdx.x; at < area; at += kThreads) {
      T sum = systems.weight * direction[at];
      for (int i = 0; i < shares; ++i) sum += parts[i * area + at];
      sum *= planes.allowed[at];
      parts[at] = sum;
      curvature += static_cast<double>(direction[at]) * sum;
    }
    curvature = block_sum(curvature, of_warp[0]);
    energy = step(number, box, planes, energy, curvature, of_warp[1]);
  }
  store_solution(systems, n, box, planes.solution);
}

// ---------------------------------------------------------------------------------------------------------------------
// 4. A launch for every step

// The parts of a workspace that belong to one system.
template <typename T>
struct SystemMemory {
  Planes<T> planes;
  T* lags;
  double *energy, *curvatures;  // a curvature for each block
  int* arrived;                 // blocks
  Box* box;

  static constexpr int kNumbers = 1 + sizeof(Box) / sizeof(int);
  static int64_t values(int size) { return round_up(5 * whole(size).area() + whole(size).lags(), kRows); }
  static int64_t sums(int size) { return 1 + whole(size).sets(); }

  __device__ SystemMemory(const Workspace<T>& workspace, int size, int64_t stride, int64_t n) {
    T* const values = workspace.values + n * stride;
    const int64_t plane = whole(size).area();
    planes = {values, values + plane, values + 2 * plane, values + 3 * plane, values + 4 * plane};
    lags = values + 5 * plane;
    energy = workspace.sums + n * (1 + whole(size).sets());
    curvatures = energy + 1;
    arrived = workspace.numbers + n * kNumbers;
    box = reinterpret_cast<Box*>(arrived + 1);
  }
};

// Floor: 0.3 MB copied by one block, 5 us for 101 x 101.
// ptxas limits: registers 64, shared 256
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    begin_in_launches(Systems<T> systems, Workspace<T> workspace, int64_t stride) {
  const int64_t n = blockIdx.x;
  const SystemMemory<T> memory(workspace, systems.size, stride, n);
  const Box box = support_box(systems, n);
  if (threadIdx.x == 0) {
    *memory.box = box;
    *memory.arrived = 0;
  }
  begin(systems, n, box, memory.planes, memory.lags);
}

// A block takes the outputs of one set, and its warps the shares of their sums.
// Floor: 20 us for 101 x 101 in 42 blocks.
// ptxas limits: registers 128, shared 17408
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    step_in_launches(Systems<T> systems, Workspace<T> workspace, int64_t stride, int64_t number) {
  ASNET_SHARED(T, parts, [kWarps][kThreads]);
  ASNET_SHARED(double, of_warp, [2][kWarps]);
  const int blocks = whole(systems.size).sets(), set = static_cast<int>(blockIdx.x % blocks);
  const int64_t n = blockIdx.x / blocks;
  const SystemMemory<T> memory(workspace, systems.size, stride, n);
  const Planes<T>& planes = memory.planes;
  const Box box = *memory.box;
  if (set >= box.sets()) return;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  multiply_unit(box, memory.lags, planes.direction, set * 32 + lane, warp, kWarps, parts[warp] + lane * kRows);
  __syncthreads();
  const int unit = set * 32 + static_cast<int>(threadIdx.x) / kRows;
  double curvature = 0;
  if (unit < box.units()) {
    const int at = place(box, unit) + static_cast<int>(threadIdx.x) % kRows;
    T sum = systems.weight * planes.direction[at];
    for (int i = 0; i < kWarps; ++i) sum += parts[i][threadIdx.x];
    sum *= planes.allowed[at];
    planes.turned[at] = sum;
    curvature = static_cast<double>(planes.direction[at]) * sum;
  }
  curvature = block_sum(curvature, of_warp[0]);
  if (threadIdx.x == 0) memory.curvatures[set] = curvature;
  if (!arrives_last(memory.arrived, box.sets())) return;

  curvature = 0;
  for (int i = threadIdx.x; i < box.sets(); i += kThreads) curvature += memory.curvatures[i];
  curvature = block_sum(curvature, of_warp[1]);
  const double energy = step(number, box, planes, *memory.energy, curvature, of_warp[0]);
  if (threadIdx.x == 0) {
    *memory.energy = energy;
    *memory.arrived = 0;
  }
  if (number == systems.steps) store_solution(systems, n, box, planes.solution);
}

}  // namespace detail

template <typename T>
WorkspaceSize workspace_size(int64_t count, int size) {
  if (detail::fits_block<T>(size)) return {count * detail::kPlanesOfBlock * detail::whole(size).area(), 0, 0};
  using Memory = detail::SystemMemory<T>;
  return {count * Memory::values(size), count * Memory::sums(size), count * Memory::kNumbers};
}

// Of at least one system, with a workspace of workspace_size.
template <typename T>
void solve(const Systems<T>& systems, const Workspace<T>& workspace, cudaStream_t stream) {
  const auto count = static_cast<unsigned>(systems.count);
  if (detail::fits_block<T>(systems.size)) {
    ASNET_LAUNCH(detail::solve_in_block<T>, dim3(count), dim3(detail::kThreads), detail::shared_bytes<T>(systems.size),
                 stream, systems, workspace.values);
    return;
  }
  const int64_t stride = detail::SystemMemory<T>::values(systems.size);
  const auto blocks = count * static_cast<unsigned>(detail::whole(systems.size).sets());
  ASNET_LAUNCH(detail::begin_in_launches<T>, dim3(count), dim3(detail::kThreads), 0, stream, systems, workspace, stride);
  for (int64_t number = 0; number <= systems.steps; ++number)
    ASNET_LAUNCH(detail::step_in_launches<T>, dim3(blocks), dim3(detail::kThreads), 0, stream, systems, workspace, stride,
                 number);
}

}  // namespace asnet::cuda::toeplitz_solve
