// The CUDA functions that kernels use, for two compilers: nvcc, and g++ with the CPU counterparts in
// tests/kernels/cuda_on_cpu, which run a kernel on the CPU. Kernel sources include this header and no header of CUDA or
// torch. All PTX is here.
#pragma once

#include "common/integers.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace asnet::cuda {

// Throws one sentence if a CUDA call has failed.
inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  constexpr int major = CUDART_VERSION / 1000, minor = CUDART_VERSION % 1000 / 10;
  throw std::runtime_error(std::string("asnet: CUDA says \"") + cudaGetErrorString(status) + "\" to " + call +
                           " (asnet was built with CUDA " + std::to_string(major) + "." + std::to_string(minor) + ")");
}

}  // namespace asnet::cuda

// The kernel is in parentheses because its template arguments may contain commas: ASNET_LAUNCH((f<float, 4>), grid, ..).
// Dynamic shared memory beyond 48 KiB must be requested.
#define ASNET_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                      \
  do {                                                                                                                    \
    const auto asnet_kernel = kernel;                                                                                     \
    const size_t asnet_bytes = shared_bytes;                                                                              \
    if (asnet_bytes > 48 * 1024)                                                                                          \
      ::asnet::cuda::check_cuda(                                                                                          \
          cudaFuncSetAttribute(asnet_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(asnet_bytes)), \
          "the shared memory of " #kernel);                                                                               \
    asnet_kernel<<<grid, block, asnet_bytes, stream>>>(__VA_ARGS__);                                                      \
    ::asnet::cuda::check_cuda(cudaGetLastError(), "the launch of " #kernel);                                              \
  } while (false)

// ASNET_SHARED(float, tile, [4][32]) declares static shared memory; ASNET_DYNAMIC_SHARED(float, tile) names the dynamic
// shared memory of the launch. Both are aligned for 16-byte accesses.
#define ASNET_SHARED(type, name, dimensions) __shared__ alignas(16) type name dimensions
#define ASNET_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char asnet_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(asnet_dynamic_shared)

namespace asnet::cuda {

using bfloat16 = __nv_bfloat16;
using float16 = __half;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(float16 x) { return __half2float(x); }

// Rounds to nearest, ties to even.
template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return __float2bfloat16_rn(x);
  else if constexpr (std::is_same_v<T, float16>)
    return __float2half_rn(x);
  else
    return x;
}

// d += a b on tensor cores, one 16x8 tile per warp. Lane l holds
//   a, 16x16 row-major: rows l/4 and l/4 + 8; a[0], a[1]: columns 2 (l%4) and the next; a[2], a[3]: 8 columns further;
//   b, 16x8: column l/4; b[0]: rows 2 (l%4) and the next; b[1]: 8 rows further;
//   d: rows l/4 (d[0], d[1]) and l/4 + 8, columns 2 (l%4) and the next.
template <typename T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, bfloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same for floats as TF32, whose 13 lower bits are not read. a is 16x8, b is 8x8; a[0], a[1]: rows l/4 and l/4 + 8 of
// column l%4; a[2], a[3]: of column l%4 + 4; b[0], b[1]: rows l%4 and l%4 + 4 of column l/4.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads four 8x8 matrices of 16-bit elements. Lanes 8 i .. 8 i + 7 give the addresses of the rows of matrix i, in shared
// memory and aligned to 16 bytes; lane l receives in r[i] two neighbours of row l/4 (transposed: of column l/4).
template <bool transposed = false>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// Copies 4, 8 or 16 bytes from global to shared memory in the background; both addresses are multiples of the size. Where
// `inside` is false it writes zeros and reads nothing. The copying thread sees the data after wait_for_copies<groups>,
// other threads after a barrier as well.
template <int bytes>
__device__ __forceinline__ void copy_in_background(void* to_shared, const void* from, bool inside = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  const int read = inside ? bytes : 0;
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(read) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(bytes), "r"(read)
                 : "memory");
}
// Groups the copies begun since the last call.
__device__ __forceinline__ void group_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Returns when all but the last `groups` groups of this thread have arrived.
template <int groups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Checked only on the CPU.
template <int bytes>
__device__ __forceinline__ void expect_aligned(const void*) {}

template <int bytes>
__device__ __forceinline__ void store_bytes_to_global(void* to, const void* from) {
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16);
  uint32_t word[4] = {};
  memcpy(word, from, bytes);
  const size_t address = __cvta_generic_to_global(to);
  if constexpr (bytes == 16)
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(address), "r"(word[0]), "r"(word[1]), "r"(word[2]),
                 "r"(word[3])
                 : "memory");
  else if constexpr (bytes == 8)
    asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(address), "r"(word[0]), "r"(word[1]) : "memory");
  else if constexpr (bytes == 4)
    asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(word[0]) : "memory");
  else
    asm volatile("st.global.b16 [%0], %1;" ::"l"(address), "h"(static_cast<uint16_t>(word[0])) : "memory");
}

}  // namespace asnet::cuda

#endif  // __CUDACC__

namespace asnet::cuda {

// The type in which elements of T are summed.
template <typename T>
using Accumulation = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename To, typename From>
__device__ __forceinline__ To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From) && !std::is_array_v<From>);
  // Not memcpy: nvcc turns it into byte loads where `from` is in memory.
  return __builtin_bit_cast(To, from);
}

// Rounds a float, given by its bits, to TF32's 11 bits, ties away from zero. A NaN may become any number.
__device__ __forceinline__ uint32_t to_tf32(uint32_t bits) { return (bits + 0x1000u) & 0xffffe000u; }

// A float, given by its bits, as the sum of two TF32 numbers: three instructions. The remainder `low` may have 12 bits, of
// which an mma reads 11, so at most the last bit of the float is lost. Infinities, and floats that round to one, become
// NaN: they have no remainder.
struct Tf32Pair {
  uint32_t high, low;
};
__device__ __forceinline__ Tf32Pair to_tf32_pair(uint32_t bits) {
  const uint32_t high = to_tf32(bits);
  return {high, same_bits<uint32_t>(same_bits<float>(bits) - same_bits<float>(high))};
}

// `count` elements loaded and stored at once: at most 16 bytes, aligned to their size.
template <typename T, int count>
struct alignas(sizeof(T) * count) Pack {
  static_assert(sizeof(T) * count <= 16 && (count & (count - 1)) == 0);
  T element[count];
};

template <typename T, int count>
__device__ __forceinline__ Pack<T, count> load_pack(const T* from) {
  expect_aligned<sizeof(Pack<T, count>)>(from);
  return *reinterpret_cast<const Pack<T, count>*>(from);
}
template <typename T, int count>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, count>& pack) {
  expect_aligned<sizeof(Pack<T, count>)>(to);
  *reinterpret_cast<Pack<T, count>*>(to) = pack;
}

// The same in global memory, always as one store: nvcc may split the store above into elements.
template <typename T, int count>
__device__ __forceinline__ void store_pack_to_global(T* to, const Pack<T, count>& pack) {
  expect_aligned<sizeof(Pack<T, count>)>(to);
  store_bytes_to_global<sizeof(Pack<T, count>)>(to, &pack);
}

// Sum over the 32 lanes of a warp, bit-identical in every lane.
template <typename A>
__device__ __forceinline__ A warp_sum(A x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

}  // namespace asnet::cuda
