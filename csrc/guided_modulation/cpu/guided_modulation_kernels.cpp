// y = act((x + c) * s + b) and its gradients on one piece of memory: a plane with constant parameters, or rows of whole
// pixels, whose parameters repeat with every row.
#include "guided_modulation/cpu/guided_modulation_kernels.h"

#include "common/cpu/vector_elements.h"

namespace asnet::ASNET_ISA {

// ---------------------------------------------------------------------------------------------------------------------
// 1. The formula, a register at a time

template <typename T>
struct ModulationRegisters {
  Wide<T> c, s, b;
};

// NaN fails both comparisons with zero and passes through, as in torch.relu.
template <typename T, bool relu>
inline Wide<T> modulate(Wide<T> x, const ModulationRegisters<T>& p) {
  const Wide<T> z = (x + p.c) * p.s + p.b;
  if constexpr (relu) return z <= 0 ? Wide<T>{} : z;
  return z;
}

template <typename T>
struct SumRegisters {
  Wide<T> g{}, gx{};

  void add(const SumRegisters& other) {
    g += other.g;
    gx += other.gx;
  }
};

// Length of a lane's partial sums. A single sum over a whole piece would have several times the rounding error of torch's
// pairwise sums.
constexpr int64_t kChain = 16;

template <typename T, Saved saved>
inline Wide<T> differentiate(Wide<T> grad, Wide<T> kept, const ModulationRegisters<T>& p, SumRegisters<T>& sums) {
  Wide<T> g = grad;
  if constexpr (saved == Saved::output) g = kept <= 0 ? Wide<T>{} : grad;
  if constexpr (has_input(saved)) {
    const Wide<T> shifted = kept + p.c;
    if constexpr (saved == Saved::input_relu) g = shifted * p.s + p.b <= 0 ? Wide<T>{} : grad;
    sums.gx += g * shifted;
  }
  sums.g += g;
  return g * p.s;
}

// One register of everything that the backward pass reads and writes; with a count, only the first lanes. A lane without an
// element has gradient zero and adds nothing to the sums.
template <typename T, Saved saved, typename... Count>
inline void differentiate_at(int64_t at, const T* grad, const T* kept, T* grad_x, const ModulationRegisters<T>& p,
                             SumRegisters<T>& sums, Count... count) {
  Wide<T> k{};
  if constexpr (saved != Saved::nothing) k = load_elements(kept + at, count...);
  store_elements(grad_x + at, differentiate<T, saved>(load_elements(grad + at, count...), k, p, sums), count...);
}

// ---------------------------------------------------------------------------------------------------------------------
// 2. Planes

template <typename T>
inline ModulationRegisters<T> constants(const Modulation<T>& p) {
  return {broadcast(*p.c), broadcast(*p.s), broadcast(*p.b)};
}

template <typename T, bool relu>
void modulate_plane(const Modulation<T>& parameters, int64_t count, const T* x, T* out) {
  const ModulationRegisters<T> p = constants(parameters);
  int64_t i = 0;
  for (; i + wide_lanes<T> <= count; i += wide_lanes<T>)
    store_elements(out + i, modulate<T, relu>(load_elements(x + i), p));
  if (i < count) store_elements(out + i, modulate<T, relu>(load_elements(x + i, count - i), p), count - i);
}

template <typename T, Saved saved>
void differentiate_plane(const Modulation<T>& parameters, int64_t count, const T* grad, const T* kept, T* grad_x,
                         Accumulation<T>* sums_g, Accumulation<T>* sums_gx) {
  constexpr int64_t lanes = wide_lanes<T>;
  const ModulationRegisters<T> p = constants(parameters);
  SumRegisters<T> sums;
  int64_t i = 0;
  while (i + 2 * lanes <= count) {
    SumRegisters<T> even, odd;  // two independent chains hide the latency of additions
    const int64_t end = i + 2 * kChain * lanes < count ? i + 2 * kChain * lanes : count;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      differentiate_at<T, saved>(i, grad, kept, grad_x, p, even);
      differentiate_at<T, saved>(i + lanes, grad, kept, grad_x, p, odd);
    }
    even.add(odd);
    sums.add(even);
  }
  if (i + lanes <= count) {
    differentiate_at<T, saved>(i, grad, kept, grad_x, p, sums);
    i += lanes;
  }
  if (i < count) differentiate_at<T, saved>(i, grad, kept, grad_x, p, sums, count - i);
  *sums_g = sum_of_lanes<Accumulation<T>>(sums.g);
  if constexpr (has_input(saved)) *sums_gx = sum_of_lanes<Accumulation<T>>(sums.gx);
}

// ---------------------------------------------------------------------------------------------------------------------
// 3. Rows

template <typename T>
inline ModulationRegisters<T> columns(const Modulation<T>& p, int64_t column) {
  return {load(p.c + column), load(p.s + column), load(p.b + column)};
}

template <typename T, bool relu>
void modulate_rows(const Modulation<T>& parameters, const Rows& rows, const T* x, T* out) {
  for (int64_t row = 0; row <= rows.rows; ++row, x += rows.length, out += rows.length) {
    const int64_t length = row < rows.rows ? rows.length : rows.short_length;
    int64_t i = 0;
    for (; i + wide_lanes<T> <= length; i += wide_lanes<T>)
      store_elements(out + i, modulate<T, relu>(load_elements(x + i), columns(parameters, i)));
    if (i < length)
      store_elements(out + i, modulate<T, relu>(load_elements(x + i, length - i), columns(parameters, i)), length - i);
  }
}

// Processes `registers` registers of columns through all whole rows, with parameters and sums in registers. With a count,
// there is one register, holding this many columns.
template <typename T, Saved saved, int registers, typename... Count>
inline void differentiate_columns(const Modulation<T>& parameters, int64_t column, const Rows& rows, const T* grad,
                                  const T* kept, T* grad_x, Accumulation<T>* sums_g, Accumulation<T>* sums_gx,
                                  Count... count) {
  constexpr int64_t lanes = wide_lanes<T>;
  ModulationRegisters<T> p[registers];
  SumRegisters<T> sums[registers];
  for (int r = 0; r < registers; ++r) p[r] = columns(parameters, column + r * lanes);
  for (int64_t row = 0; row < rows.rows;) {
    SumRegisters<T> chains[registers];
    for (const int64_t end = row + kChain < rows.rows ? row + kChain : rows.rows; row < end; ++row)
#pragma GCC unroll 4  // keeps the arrays in registers
      for (int r = 0; r < registers; ++r)
        differentiate_at<T, saved>(row * rows.length + column + r * lanes, grad, kept, grad_x, p[r], chains[r], count...);
    for (int r = 0; r < registers; ++r) sums[r].add(chains[r]);
  }
  for (int r = 0; r < registers; ++r) {
    store(sums_g + column + r * lanes, sums[r].g);
    if constexpr (has_input(saved)) store(sums_gx + column + r * lanes, sums[r].gx);
  }
}

template <typename T, Saved saved>
void differentiate_rows(const Modulation<T>& parameters, const Rows& rows, const T* grad, const T* kept, T* grad_x,
                        Accumulation<T>* sums_g, Accumulation<T>* sums_gx) {
  constexpr int64_t lanes = wide_lanes<T>;
  int64_t i = 0;
  for (; i + 4 * lanes <= rows.length; i += 4 * lanes)
    differentiate_columns<T, saved, 4>(parameters, i, rows, grad, kept, grad_x, sums_g, sums_gx);
  for (; i + lanes <= rows.length; i += lanes)
    differentiate_columns<T, saved, 1>(parameters, i, rows, grad, kept, grad_x, sums_g, sums_gx);
  if (i < rows.length)
    differentiate_columns<T, saved, 1>(parameters, i, rows, grad, kept, grad_x, sums_g, sums_gx, rows.length - i);

  const int64_t start = rows.rows * rows.length;
  for (i = 0; i < rows.short_length; i += lanes) {
    const int64_t rest = rows.short_length - i;
    SumRegisters<T> sums{load(sums_g + i), {}};
    if constexpr (has_input(saved)) sums.gx = load(sums_gx + i);
    differentiate_at<T, saved>(start + i, grad, kept, grad_x, columns(parameters, i), sums, rest < lanes ? rest : lanes);
    store(sums_g + i, sums.g);
    if constexpr (has_input(saved)) store(sums_gx + i, sums.gx);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// 4. What the host calls

template <typename T>
void modulate_plane(const Modulation<T>& parameters, bool relu, int64_t count, const T* x, T* out) {
  (relu ? modulate_plane<T, true> : modulate_plane<T, false>)(parameters, count, x, out);
}

template <typename T>
void modulate_rows(const Modulation<T>& parameters, bool relu, const Rows& rows, const T* x, T* out) {
  (relu ? modulate_rows<T, true> : modulate_rows<T, false>)(parameters, rows, x, out);
}

template <typename T>
void differentiate_plane(const Modulation<T>& parameters, Saved saved, int64_t count, const T* grad, const T* kept,
                         T* grad_x, Accumulation<T>* sums_g, Accumulation<T>* sums_gx) {
  switch (saved) {
    case Saved::nothing:
      return differentiate_plane<T, Saved::nothing>(parameters, count, grad, kept, grad_x, sums_g, sums_gx);
    case Saved::output:
      return differentiate_plane<T, Saved::output>(parameters, count, grad, kept, grad_x, sums_g, sums_gx);
    case Saved::input: return differentiate_plane<T, Saved::input>(parameters, count, grad, kept, grad_x, sums_g, sums_gx);
    case Saved::input_relu:
      return differentiate_plane<T, Saved::input_relu>(parameters, count, grad, kept, grad_x, sums_g, sums_gx);
  }
}

template <typename T>
void differentiate_rows(const Modulation<T>& parameters, Saved saved, const Rows& rows, const T* grad, const T* kept,
                        T* grad_x, Accumulation<T>* sums_g, Accumulation<T>* sums_gx) {
  switch (saved) {
    case Saved::nothing:
      return differentiate_rows<T, Saved::nothing>(parameters, rows, grad, kept, grad_x, sums_g, sums_gx);
    case Saved::output: return differentiate_rows<T, Saved::output>(parameters, rows, grad, kept, grad_x, sums_g, sums_gx);
    case Saved::input: return differentiate_rows<T, Saved::input>(parameters, rows, grad, kept, grad_x, sums_g, sums_gx);
    case Saved::input_relu:
      return differentiate_rows<T, Saved::input_relu>(parameters, rows, grad, kept, grad_x, sums_g, sums_gx);
  }
}

#define INSTANTIATE(T)                                                                                                    \
  template void modulate_plane<T>(const Modulation<T>&, bool, int64_t, const T*, T*);                                     \
  template void modulate_rows<T>(const Modulation<T>&, bool, const Rows&, const T*, T*);                                  \
  template void differentiate_plane<T>(const Modulation<T>&, Saved, int64_t, const T*, const T*, T*, Accumulation<T>*,    \
                                       Accumulation<T>*);                                                                 \
  template void differentiate_rows<T>(const Modulation<T>&, Saved, const Rows&, const T*, const T*, T*, Accumulation<T>*, \
                                      Accumulation<T>*);
INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(BFloat16)
INSTANTIATE(Float16)

}  // namespace asnet::ASNET_ISA
