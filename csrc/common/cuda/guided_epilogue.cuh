// Epilogue of a guided convolution, on the sums in registers: act((sum + c) * (1 + m) + b) and the store of the result,
// which is written once and not read back.
#pragma once

#include "common/cuda/guided_modulation_formula.cuh"
#include "common/cuda/matrix_tiles.cuh"

namespace asnet::cuda::guided_conv {

using guided_modulation::narrow;
using guided_modulation::ParameterTables;

// (sum + c) s + b as sum * scale + offset, then act.
template <typename A>
struct Affine {
  A scale, offset;
  bool relu;

  __device__ __forceinline__ Affine(const ParameterTables<A>& tables, int64_t n, int channel, int channels, bool relu)
      : scale(0), offset(0), relu(relu) {
    if (channel >= channels) return;
    const auto [c, s, b] = tables.of(n, channel);
    scale = s;
    offset = c * s + b;
  }

  __device__ __forceinline__ A operator()(A sum) const {
    const A z = sum * scale + offset;
    return relu && z <= 0 ? A(0) : z;  // passes NaN
  }
};

// Modulates a warp's sums in place. Output channels are columns or rows of the tile; `channel` belongs to the warp's first
// column or row.
template <bool channels_across, typename A, int row_tiles>
__device__ __forceinline__ void modulate_sums(A (&sums)[row_tiles][4][4], const ParameterTables<A>& tables, int64_t n,
                                              int channel, int channels, bool relu) {
  const int lane = threadIdx.x % 32;
  if constexpr (channels_across) {
#pragma unroll
    for (int column = 0; column < 8; ++column) {
      const int j = column / 2, e = column % 2;
      const Affine<A> affine(tables, n, channel + 8 * j + 2 * (lane % 4) + e, channels, relu);
#pragma unroll
      for (int i = 0; i < row_tiles; ++i) {
        sums[i][j][e] = affine(sums[i][j][e]);
        sums[i][j][e + 2] = affine(sums[i][j][e + 2]);
      }
    }
  } else {
#pragma unroll
    for (int row = 0; row < 2 * row_tiles; ++row) {
      const int i = row / 2, e = row % 2 * 2;
      const Affine<A> affine(tables, n, channel + 8 * row + lane / 4, channels, relu);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sums[i][j][e] = affine(sums[i][j][e]);
        sums[i][j][e + 1] = affine(sums[i][j][e + 1]);
      }
    }
  }
}

// Transposes within four lanes: lane q gives four words and receives word q of each lane.
__device__ __forceinline__ void transpose_quad(uint32_t (&word)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const uint32_t received = __shfl_xor_sync(0xffffffffu, upper ? word[i] : word[i + bit], bit);
      if (upper)
        word[i] = received;
      else
        word[i + bit] = received;
    }
  }
}

// Rounds and stores a warp's sums. row_address(row) is the address of the warp's first column in row `row`, or null if the
// row is outside. `packed`: addresses and `columns_left` are multiples of 16 bytes. Four lanes then write 64 bytes of a
// row, that is, whole sectors; 16-bit elements, of which a lane has two neighbours, are first exchanged among the four.
template <bool packed, typename T, typename A, int row_tiles, typename RowAddress>
__device__ __forceinline__ void store_sums(const A (&sums)[row_tiles][4][4], int columns_left,
                                           const RowAddress& row_address) {
  const int lane = threadIdx.x % 32, quad = lane % 4;
#pragma unroll
  for (int row = 0; row < 2 * row_tiles; ++row) {
    const int i = row / 2, e = row % 2 * 2;
    Pack<T, 2> pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) pairs[j] = {narrow<T>(sums[i][j][e]), narrow<T>(sums[i][j][e + 1])};
    T* const to = row_address(8 * row + lane / 4);
    if constexpr (packed && sizeof(T) == 2) {
      Pack<uint32_t, 4> words;
#pragma unroll
      for (int j = 0; j < 4; ++j) words.element[j] = same_bits<uint32_t>(pairs[j]);
      transpose_quad(words.element);
      if (to && 8 * quad < columns_left) store_pack(to + 8 * quad, same_bits<Pack<T, 8>>(words));
    } else if (to) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int column = 8 * j + 2 * quad;
        if constexpr (packed) {
          if (column < columns_left) store_pack(to + column, pairs[j]);
        } else {
          if (column < columns_left) to[column] = pairs[j].element[0];
          if (column + 1 < columns_left) to[column + 1] = pairs[j].element[1];
        }
      }
    }
  }
}

}  // namespace asnet::cuda::guided_conv
