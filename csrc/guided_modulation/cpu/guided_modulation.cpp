// The epilogue of a guided convolution, act((x + c) * (1 + m) + b), and its gradients, each in one pass over memory.
//
// Two memory layouts, each with its own kernels:
//   planes  contiguous [N, C, H, W]: m, b and c are constant in a plane
//   rows    channels-last: m, b and c repeat with every pixel; memory is traversed in rows of whole pixels (see PixelRows)
// The size of the pieces of work depends only on the shape, and the sums of the pieces are added in order, so the bits of
// the result do not depend on the number of threads.
#include "common/integers.h"
#include "guided_modulation/cpu/guided_modulation_kernels.h"
#include "guided_modulation/guided_modulation_arguments.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace asnet::guided_modulation {
namespace {

// Elements of one piece of a plane and of one piece of rows. Large enough to hide the overhead of a piece; small enough
// that the float sums of a piece, which are added in double, are as accurate as torch's pairwise sums, and that rows stay
// in the second-level cache while their columns are traversed block by block.
constexpr int64_t kPiece = 4096;
constexpr int64_t kRowsPiece = 16384, kMinimumRows = 32;

// Minimum number of elements per thread.
constexpr int64_t kGrain = 32768;

int64_t grain(int64_t elements_in_piece) { return std::max<int64_t>(1, kGrain / elements_in_piece); }

// m, b: [N, C], c: [C]; any may be absent. Strided, so one blur kernel expanded to a batch is not copied.
template <typename T>
struct ParameterTables {
  using A = Accumulation<T>;
  const A *multiplier = nullptr, *shift = nullptr, *conv_bias = nullptr;
  int64_t multiplier_strides[2] = {}, shift_strides[2] = {}, conv_bias_strides[1] = {};

  A c(int64_t channel) const { return conv_bias ? conv_bias[channel * conv_bias_strides[0]] : A(0); }
  A s(int64_t n, int64_t channel) const {
    return multiplier ? A(1) + multiplier[n * multiplier_strides[0] + channel * multiplier_strides[1]] : A(1);
  }
  A b(int64_t n, int64_t channel) const { return shift ? shift[n * shift_strides[0] + channel * shift_strides[1]] : A(0); }
};

// Pointers of the backward pass; `kept` is the saved input or output of the forward pass, or null.
template <typename T>
struct Gradients {
  const T *grad, *kept;
  T* grad_x;
  Accumulation<T>*grad_multiplier, *grad_shift;  // [N, C]; the first is null if the input was not saved
};

// out[n, channel] = the sum over pieces of sums[(n * C + channel) * pieces + piece] or, with the channel varying fastest,
// sums[(n * pieces + piece) * C + channel].
template <typename A>
void add_pieces(const std::vector<A>& sums, const MapShape& shape, int64_t pieces, bool channel_fastest, A* out) {
  torch::stable::parallel_for(0, shape.N * shape.C, grain(pieces), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t n = i / shape.C, channel = i % shape.C;
      const A* from = &sums[n * shape.C * pieces + channel * (channel_fastest ? 1 : pieces)];
      double sum = 0;
      for (int64_t piece = 0; piece < pieces; ++piece) sum += from[piece * (channel_fastest ? shape.C : 1)];
      out[i] = static_cast<A>(sum);
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Planes

// body(piece, parameters, offset of the first element, number of elements)
template <typename T, typename Body>
void for_plane_pieces(const MapShape& shape, const ParameterTables<T>& tables, const Body& body) {
  const int64_t per_plane = ceil_divide(shape.pixels, kPiece), pieces = shape.N * shape.C * per_plane;
  torch::stable::parallel_for(0, pieces, grain(std::min(kPiece, shape.pixels)), [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t plane = piece / per_plane, start = piece % per_plane * kPiece;
      const int64_t n = plane / shape.C, channel = plane % shape.C;
      const Accumulation<T> c = tables.c(channel), s = tables.s(n, channel), b = tables.b(n, channel);
      body(piece, Modulation<T>{&c, &s, &b}, plane * shape.pixels + start, std::min(kPiece, shape.pixels - start));
    }
  });
}

template <typename T>
void modulate_planes(const MapShape& shape, const ParameterTables<T>& tables, bool relu, const T* x, T* out) {
  for_plane_pieces(shape, tables, [&](int64_t, const Modulation<T>& parameters, int64_t offset, int64_t count) {
    ASNET_DISPATCH(modulate_plane<T>(parameters, relu, count, x + offset, out + offset));
  });
}

template <typename T>
void differentiate_planes(const MapShape& shape, const ParameterTables<T>& tables, Saved saved, const Gradients<T>& to) {
  using A = Accumulation<T>;
  const int64_t per_plane = ceil_divide(shape.pixels, kPiece);
  std::vector<A> sums_g(shape.N * shape.C * per_plane), sums_gx(sums_g.size());
  for_plane_pieces(shape, tables, [&](int64_t piece, const Modulation<T>& parameters, int64_t offset, int64_t count) {
    ASNET_DISPATCH(differentiate_plane<T>(parameters, saved, count, to.grad + offset, to.kept ? to.kept + offset : nullptr,
                                          to.grad_x + offset, &sums_g[piece], &sums_gx[piece]));
  });
  add_pieces(sums_g, shape, per_plane, false, to.grad_shift);
  if (has_input(saved)) add_pieces(sums_gx, shape, per_plane, false, to.grad_multiplier);
}

// ---------------------------------------------------------------------------------------------------------------------
// Rows

// Channels-last memory as rows of whole pixels: one pixel from 64 channels on; with fewer channels (3, 24), as many pixels
// as make the row at least 64 long and a multiple of 16, so that every register is full.
template <typename T>
class PixelRows {
 public:
  using A = Accumulation<T>;

  PixelRows(const MapShape& shape, const ParameterTables<T>& tables)
      : shape_(shape),
        length_(row_length(shape.C)),
        padded_length_(ceil_divide(length_, kMultiple) * kMultiple),
        rows_in_piece_(std::max(kMinimumRows, kRowsPiece / length_)),
        pieces_(ceil_divide(shape.pixels * shape.C, rows_in_piece_ * length_)),
        c_(shape.N * padded_length_),
        s_(c_.size()),
        b_(c_.size()) {
    for (int64_t n = 0; n < shape.N; ++n) {
      for (int64_t column = 0; column < length_; ++column) {
        const int64_t i = n * padded_length_ + column, channel = column % shape.C;
        c_[i] = tables.c(channel);
        s_[i] = tables.s(n, channel);
        b_[i] = tables.b(n, channel);
      }
    }
  }

  int64_t length() const { return length_; }
  int64_t padded_length() const { return padded_length_; }
  int64_t pieces() const { return pieces_; }  // per image

  // body(piece, parameters, offset of the first element, rows)
  template <typename Body>
  void for_pieces(const Body& body) const {
    const int64_t size = shape_.pixels * shape_.C, piece_size = rows_in_piece_ * length_;
    torch::stable::parallel_for(0, shape_.N * pieces_, grain(std::min(piece_size, size)), [&](int64_t first, int64_t last) {
      for (int64_t piece = first; piece < last; ++piece) {
        const int64_t n = piece / pieces_, start = piece % pieces_ * piece_size, table = n * padded_length_;
        const int64_t count = std::min(piece_size, size - start);
        body(piece, Modulation<T>{&c_[table], &s_[table], &b_[table]}, n * size + start,
             Rows{count / length_, length_, count % length_});
      }
    });
  }

 private:
  static constexpr int64_t kMultiple = 16, kMinimumLength = 64;

  static int64_t row_length(int64_t C) {
    if (C >= kMinimumLength) return C;
    const int64_t length = std::lcm(C, kMultiple);
    return ceil_divide(kMinimumLength, length) * length;
  }

  MapShape shape_;
  int64_t length_, padded_length_, rows_in_piece_, pieces_;
  std::vector<A> c_, s_, b_;
};

template <typename T>
void modulate_pixels(const MapShape& shape, const ParameterTables<T>& tables, bool relu, const T* x, T* out) {
  PixelRows<T>(shape, tables).for_pieces([&](int64_t, const Modulation<T>& parameters, int64_t offset, const Rows& rows) {
    ASNET_DISPATCH(modulate_rows<T>(parameters, relu, rows, x + offset, out + offset));
  });
}

template <typename T>
void differentiate_pixels(const MapShape& shape, const ParameterTables<T>& tables, Saved saved, const Gradients<T>& to) {
  using A = Accumulation<T>;
  const PixelRows<T> pixel_rows(shape, tables);
  const int64_t C = shape.C, padded = pixel_rows.padded_length();
  std::vector<A> sums_g(shape.N * pixel_rows.pieces() * C), sums_gx(sums_g.size());
  pixel_rows.for_pieces([&](int64_t piece, const Modulation<T>& parameters, int64_t offset, const Rows& rows) {
    std::vector<A> column_sums(2 * padded);
    A *columns_g = column_sums.data(), *columns_gx = columns_g + padded;
    ASNET_DISPATCH(differentiate_rows<T>(parameters, saved, rows, to.grad + offset, to.kept ? to.kept + offset : nullptr,
                                         to.grad_x + offset, columns_g, columns_gx));
    for (int64_t column = 0; column < pixel_rows.length(); ++column) {
      sums_g[piece * C + column % C] += columns_g[column];
      sums_gx[piece * C + column % C] += columns_gx[column];
    }
  });
  add_pieces(sums_g, shape, pixel_rows.pieces(), true, to.grad_shift);
  if (has_input(saved)) add_pieces(sums_gx, shape, pixel_rows.pieces(), true, to.grad_multiplier);
}

// ---------------------------------------------------------------------------------------------------------------------
// Operators

void modulate(const char* op, const Tensor& x, const OptionalTensor& multiplier, const OptionalTensor& shift,
              const OptionalTensor& conv_bias, bool relu, const Tensor& out) {
  dispatch_type<BFloat16, Float16>(op, x, [&](auto element) {
    using T = decltype(element);
    const auto tables = parameter_tables<ParameterTables<T>>(op, x, multiplier, shift, conv_bias);
    if (x.numel() == 0) return;
    const auto run = walk_pixels(x) ? modulate_pixels<T> : modulate_planes<T>;
    run(map_shape(x), tables, relu, const_pointer<T>(x), pointer<T>(out));
  });
}

void differentiate(const char* op, const BackwardTensors& tensors, const OptionalTensor& multiplier,
                   const OptionalTensor& shift, const OptionalTensor& conv_bias, bool relu) {
  const Saved saved =
      tensors.saved_input ? (relu ? Saved::input_relu : Saved::input) : (relu ? Saved::output : Saved::nothing);
  dispatch_type<BFloat16, Float16>(op, tensors.grad, [&](auto element) {
    using T = decltype(element);
    using A = Accumulation<T>;
    const auto tables = parameter_tables<ParameterTables<T>>(op, tensors.grad, multiplier, shift, conv_bias);
    const auto run = walk_pixels(tensors.kept) ? differentiate_pixels<T> : differentiate_planes<T>;
    run(map_shape(tensors.grad), tables, saved,
        {const_pointer<T>(tensors.grad), tensors.reads_kept ? const_pointer<T>(tensors.kept) : nullptr,
         pointer<T>(tensors.grad_x), pointer<A>(tensors.grad_multiplier), pointer<A>(tensors.grad_shift)});
  });
}

}  // namespace
}  // namespace asnet::guided_modulation

STABLE_TORCH_LIBRARY_IMPL(asnet, CPU, m) {
  namespace op = asnet::guided_modulation;
  m.impl("guided_modulation", TORCH_BOX(&op::forward<op::modulate>));
  m.impl("guided_modulation_", TORCH_BOX(&op::forward_in_place<op::modulate>));
  m.impl("guided_modulation_backward", TORCH_BOX(&op::backward<op::differentiate>));
}
