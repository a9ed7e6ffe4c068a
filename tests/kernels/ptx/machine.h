// Instructions for the C++ that translate.py generates from PTX: on registers, memory and, through function pointers, the
// threads of cuda_on_cpu.h. Compiled separately, without cuda_on_cpu.h: the translation is a library.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

namespace asnet::ptx {

using Location = std::source_location;

// Shared memory has 32-bit addresses: static memory from 0, dynamic memory from here.
constexpr uint32_t dynamic_shared = 0x10000000;

// The executing thread and its operations with other threads.
struct Machine {
  uint32_t tid[3], ctaid[3], ntid[3], nctaid[3];
  unsigned char *static_memory, *dynamic_memory;
  size_t static_bytes, dynamic_bytes;
  void (*fail)(const char* sentence, Location);
  void (*barrier)(Location);
  void (*sync_warp)(uint32_t mask, Location);
  uint32_t (*shuffle_xor)(uint32_t mask, uint32_t value, uint32_t by, Location);
  void (*multiply_bfloat16)(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location);
  void (*multiply_float16)(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location);
  void (*multiply_tf32)(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location);
  void (*load_matrices)(uint32_t (&r)[4], const void* row, bool transposed, Location);
  void (*copy)(void* to, const void* from, int bytes, bool inside);
  void (*group_copies)();
  void (*wait_for_copies)(int groups);
  void (*fence)();
  uint32_t (*add)(uint32_t* address, uint32_t value);
};

struct Kernel {
  const char* name;  // as c++filt --no-params has it, without "void "
  size_t static_bytes;
  void (*run)(const Machine&, const void* const* parameters);
};

// ---------------------------------------------------------------------------------------------------------------------
// Registers. A register holds bits; the instruction determines their type.

struct bf16 {
  uint16_t bits;
  operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};
using f16 = _Float16;

template <size_t bytes>
using Bits =
    std::conditional_t<bytes == 1, uint8_t,
                       std::conditional_t<bytes == 2, uint16_t, std::conditional_t<bytes == 4, uint32_t, uint64_t>>>;

// The lower bits of a register, or an immediate, as T.
template <typename T, typename Register>
T as(Register value) {
  if constexpr (std::is_same_v<T, Register>)
    return value;
  else if constexpr (std::is_integral_v<Register>)
    return std::bit_cast<T>(static_cast<Bits<sizeof(T)>>(value));
  else
    return as<T>(std::bit_cast<Bits<sizeof(Register)>>(value));
}

// Stores to a register that may be wider; signed values are sign-extended.
template <typename Register, typename T>
void set(Register& to, T value) {
  if constexpr (std::is_same_v<Register, T>)
    to = value;
  else if constexpr (std::is_integral_v<T>)
    to = as<Register>(static_cast<Bits<sizeof(Register)>>(value));
  else
    to = as<Register>(std::bit_cast<Bits<sizeof(T)>>(value));
}

// Integers wrap around, which is undefined for signed integers in C++.
template <typename T, typename Function>
T wrapping(Function function, T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(function(static_cast<Bits<8>>(a), static_cast<Bits<8>>(b)));
  else
    return function(a, b);
}
template <typename T>
T add(T a, T b) {
  return wrapping([](auto x, auto y) { return x + y; }, a, b);
}
template <typename T>
T sub(T a, T b) {
  return wrapping([](auto x, auto y) { return x - y; }, a, b);
}
template <typename T>
T mul(T a, T b) {
  return wrapping([](auto x, auto y) { return x * y; }, a, b);
}
template <typename T>
T neg(T a) {
  if constexpr (std::is_integral_v<T>)
    return sub(T(0), a);
  else
    return -a;
}
// Returns the number if the other operand is NaN.
template <typename T>
T min(T a, T b) {
  return a != a ? b : b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a != a ? b : b > a ? b : a;
}
template <typename T>
T shl(T a, uint32_t by) {
  return by < 8 * sizeof(T) ? static_cast<T>(static_cast<Bits<sizeof(T)>>(a) << by) : T(0);
}
template <typename T>
T shr(T a, uint32_t by) {
  return by < 8 * sizeof(T) ? static_cast<T>(a >> by) : a < T(0) ? T(-1) : T(0);
}
template <typename T>
T divide(const Machine& machine, T a, T b, Location at) {
  if (b == 0) machine.fail("division by zero", at);
  if constexpr (std::is_signed_v<T>)
    if (b == -1) return neg(a);
  return static_cast<T>(a / b);
}
template <typename T>
T remainder(const Machine& machine, T a, T b, Location at) {
  return sub(a, mul(divide(machine, a, b, at), b));
}
// The lower `length` bits of a into b at `position`.
template <typename T>
T bfi(T a, T b, uint32_t position, uint32_t length) {
  const T mask =
      static_cast<T>(shl(length < 8 * sizeof(T) ? static_cast<T>((T(1) << length) - 1) : static_cast<T>(~T(0)), position));
  return static_cast<T>((b & ~mask) | (shl(a, position) & mask));
}

// To the nearest, ties to even.
template <typename To, typename From>
To convert(From value) {
  if constexpr (std::is_same_v<To, bf16>) {
    const float x = value;
    const auto bits = std::bit_cast<uint32_t>(x);
    return x != x ? bf16{0x7fff} : bf16{static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
  } else {
    return static_cast<To>(value);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

inline void expect_aligned(const Machine& machine, uint64_t address, size_t bytes, Location at) {
  if (address % bytes != 0) machine.fail("an access at an address that is no multiple of its size", at);
}

inline unsigned char* global(const Machine& machine, uint64_t address, size_t bytes, Location at) {
  expect_aligned(machine, address, bytes, at);
  return reinterpret_cast<unsigned char*>(address);
}

inline unsigned char* shared(const Machine& machine, uint64_t address, size_t bytes, Location at) {
  expect_aligned(machine, address, bytes, at);
  const bool dynamic = address >= dynamic_shared;
  const uint64_t offset = dynamic ? address - dynamic_shared : address;
  if (offset + bytes > (dynamic ? machine.dynamic_bytes : machine.static_bytes))
    machine.fail("an access outside of shared memory", at);
  return (dynamic ? machine.dynamic_memory : machine.static_memory) + offset;
}

template <typename T>
T load(const void* from, size_t index) {
  T value;
  std::memcpy(&value, static_cast<const unsigned char*>(from) + index * sizeof(T), sizeof(T));
  return value;
}
template <typename T>
void store(void* to, size_t index, T value) {
  std::memcpy(static_cast<unsigned char*>(to) + index * sizeof(T), &value, sizeof(T));
}

}  // namespace asnet::ptx
