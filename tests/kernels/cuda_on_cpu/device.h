// CPU counterparts of the functions with PTX in csrc/common/cuda/device.cuh, with the layouts described there.
#pragma once

#include "language.h"

namespace asnet::cuda_on_cpu {

// The lanes' registers of one product: of a four, of b two.
struct Operands {
  uint32_t a[4], b[2];
};

// d += a b for a 16 x depth, b depth x 8. A register holds `packed` neighbours along the depth, which `get` extracts; the
// four lanes of a quad hold the next ones, and the second half of the depth is in the following registers.
template <int depth, int packed, typename Get>
void multiply_tiles(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Get get, const char* operation,
                    Location at) {
  const Exchanged<Operands> operands(0xffffffffu, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, operation, at);
  if (current->warp->lanes != 0xffffffffu) fail(std::string(operation) + " in a warp of less than 32 threads");
  const unsigned row = current->lane / 4, column = current->lane % 4 * 2;
  Operands of_row[4], of_column[2][4];
  for (unsigned i = 0; i < 4; ++i) {
    of_row[i] = operands.of(4 * row + i);
    of_column[0][i] = operands.of(4 * column + i);
    of_column[1][i] = operands.of(4 * (column + 1) + i);
  }
  for (int k = 0; k < depth; ++k) {
    const int half = k / (depth / 2), lane = k % (depth / 2) / packed, part = k % packed;
    for (int i = 0; i < 4; ++i)
      d[i] += get(of_row[lane].a[2 * half + i / 2], part) * get(of_column[i % 2][lane].b[half], part);
  }
}

}  // namespace asnet::cuda_on_cpu

namespace asnet::cuda {

template <typename T>
T from_float(float x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return round_to_bfloat16(x);
  else if constexpr (std::is_same_v<T, float16>)
    return round_to_float16(x);
  else
    return x;
}

template <typename T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ASNET_HERE) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
  const auto half = [](uint32_t pair, int part) { return to_float(T{static_cast<uint16_t>(pair >> (16 * part))}); };
  cuda_on_cpu::multiply_tiles<16, 2>(d, a, b, half, "mma_m16n8k16", at);
}

// Tensor cores ignore the 13 lower bits.
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ASNET_HERE) {
  const auto truncated = [](uint32_t x, int) { return std::bit_cast<float>(x & 0xffffe000u); };
  cuda_on_cpu::multiply_tiles<8, 1>(d, a, b, truncated, "mma_m16n8k8_tf32", at);
}

template <bool transposed = false>
void load_matrices(uint32_t (&r)[4], const void* row, ASNET_HERE) {
  struct Row {
    uint16_t element[8];
  } loaded;
  cuda_on_cpu::expect_multiple(row, 16, "load_matrices: a row");
  std::memcpy(&loaded, row, sizeof(Row));
  const cuda_on_cpu::Exchanged<Row> rows(0xffffffffu, loaded, "load_matrices", at);
  if (cuda_on_cpu::current->warp->lanes != 0xffffffffu)
    cuda_on_cpu::fail("load_matrices in a warp of less than 32 threads");
  const unsigned row_number = cuda_on_cpu::current->lane / 4, column = cuda_on_cpu::current->lane % 4 * 2;
  for (unsigned i = 0; i < 4; ++i) {
    uint32_t pair[2];
    for (unsigned j = 0; j < 2; ++j)
      pair[j] =
          transposed ? rows.of(8 * i + column + j).element[row_number] : rows.of(8 * i + row_number).element[column + j];
    r[i] = pair[0] | pair[1] << 16;
  }
}

// The target is set to NaN at once and receives its data at the wait, which reveals early reads and early overwrites.
template <int bytes>
void copy_in_background(void* to_shared, const void* from, bool inside = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  cuda_on_cpu::expect_multiple(to_shared, bytes, "copy_in_background: a target");
  cuda_on_cpu::expect_multiple(from, bytes, "copy_in_background: a source");
  std::memset(to_shared, 0xff, bytes);
  const cuda_on_cpu::Unseen unseen;
  auto& thread = *cuda_on_cpu::current;
  thread.copies.push_back({to_shared, inside ? from : nullptr, bytes, thread.groups});
}

inline void group_copies() {
  const cuda_on_cpu::Unseen unseen;
  ++cuda_on_cpu::current->groups;
}

template <int groups>
void wait_for_copies() {
  auto& thread = *cuda_on_cpu::current;
  std::vector<cuda_on_cpu::Copy> arriving;
  {
    const cuda_on_cpu::Unseen unseen;
    const auto arrives = [&](const cuda_on_cpu::Copy& copy) { return copy.group + groups < thread.groups; };
    std::copy_if(thread.copies.begin(), thread.copies.end(), std::back_inserter(arriving), arrives);
    std::erase_if(thread.copies, arrives);
  }
  for (const cuda_on_cpu::Copy& copy : arriving) {
    if (copy.from == nullptr)
      std::memset(copy.to, 0, copy.bytes);
    else
      std::memcpy(copy.to, copy.from, copy.bytes);
  }
}

// Used by load_pack, store_pack and store_pack_to_global.
template <int bytes>
void store_bytes_to_global(void* to, const void* from) {
  std::memcpy(to, from, bytes);
}
template <int bytes>
void expect_aligned(const void* address) {
  cuda_on_cpu::expect_multiple(address, bytes, "load_pack or store_pack");
}

}  // namespace asnet::cuda
