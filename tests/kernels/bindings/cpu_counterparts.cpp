#include "bindings/arrays.h"
#include "cpu_counterparts_kernels.cuh"

using asnet::bindings::pointer;
namespace cuda = asnet::cuda;

ASNET_BINDINGS(module) {
  module.def("multiply_tiles", [](const py::array& a, const py::array& b, const py::array& d, bool is_bfloat16) {
    if (is_bfloat16)
      ASNET_LAUNCH(cuda::multiply_16x16x8<cuda::bfloat16>, 1, 32, 0, nullptr, pointer<const cuda::bfloat16>(a),
                   pointer<const cuda::bfloat16>(b), pointer<float>(d));
    else
      ASNET_LAUNCH(cuda::multiply_16x16x8<cuda::float16>, 1, 32, 0, nullptr, pointer<const cuda::float16>(a),
                   pointer<const cuda::float16>(b), pointer<float>(d));
  });
  module.def("multiply_tiles_tf32", [](const py::array& a, const py::array& b, const py::array& d) {
    ASNET_LAUNCH(cuda::multiply_16x8x8, 1, 32, 0, nullptr, pointer<const float>(a), pointer<const float>(b),
                 pointer<float>(d));
  });
  module.def("exchange_matrices", [](const py::array& from, const py::array& result, bool transposed) {
    const auto kernel = transposed ? &cuda::exchange_matrices<true> : &cuda::exchange_matrices<false>;
    ASNET_LAUNCH(kernel, 1, 32, 0, nullptr, pointer<const uint16_t>(from), pointer<uint16_t>(result));
  });
  // float32 on one side, uint16 (bfloat16) or float16 on the other; a multiple of 64 elements.
  module.def("round_elements", [](const py::array& from, const py::array& to) {
    const auto blocks = static_cast<unsigned>(from.size() / 64);
    asnet::bindings::dispatch(to, [&]<typename T>() {
      ASNET_LAUNCH(cuda::round_elements<T>, blocks, 64, 0, nullptr, pointer<const float>(from), pointer<T>(to));
    });
  });
  module.def("widen_elements", [](const py::array& from, const py::array& to) {
    const auto blocks = static_cast<unsigned>(from.size() / 64);
    asnet::bindings::dispatch(from, [&]<typename T>() {
      if constexpr (sizeof(T) == 2)
        ASNET_LAUNCH(cuda::widen_elements<T>, blocks, 64, 0, nullptr, pointer<const T>(from), pointer<float>(to));
    });
  });
  module.def("to_tf32", [](float x) { return cuda::to_tf32(cuda::same_bits<uint32_t>(x)); });
  module.def("to_tf32_pair", [](float x) {
    const cuda::Tf32Pair pair = cuda::to_tf32_pair(cuda::same_bits<uint32_t>(x));
    return std::pair(pair.high, pair.low);
  });
  module.def("collectives",
             [](const py::array& result) { ASNET_LAUNCH(cuda::collectives, 1, 48, 0, nullptr, pointer<int>(result)); });
  module.def("copy_stages", [](const py::array& from, const py::array& result) {
    ASNET_LAUNCH(cuda::copy_stages, 1, 32, 0, nullptr, pointer<const float>(from), pointer<float>(result));
  });
  module.def("add_atomically", [](const py::array& integer, const py::array& single, const py::array& real) {
    ASNET_LAUNCH(cuda::add_atomically, 3, 64, 0, nullptr, pointer<int>(integer), pointer<float>(single),
                 pointer<double>(real));
  });
  module.def("count_threads", [](const std::vector<unsigned>& grid, const std::vector<unsigned>& block, size_t shared_bytes,
                                 const py::array& result) {
    ASNET_LAUNCH(cuda::count_threads, dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]), shared_bytes,
                 nullptr, pointer<int>(result));
  });
}
