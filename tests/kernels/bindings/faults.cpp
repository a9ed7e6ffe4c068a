#include "bindings/arrays.h"
#include "faults_kernels.cuh"

using asnet::bindings::pointer;
namespace cuda = asnet::cuda;

// module.NAME(mended, result, ...) for every kernel there.
#define ASNET_FAULT(name, grid, shared_bytes)                                                      \
  module.def(#name, [](bool mended, const py::array& result) {                                     \
    int* const to = pointer<int>(result);                                                          \
    mended ? ASNET_LAUNCH(cuda::name<true>, grid, cuda::faults_block, shared_bytes, nullptr, to)   \
           : ASNET_LAUNCH(cuda::name<false>, grid, cuda::faults_block, shared_bytes, nullptr, to); \
  })
#define ASNET_FAULT_OF_INPUT(name, threads)                                              \
  module.def(#name, [](bool mended, const py::array& result, const py::array& indices) { \
    int* const to = pointer<int>(result);                                                \
    const int* const from = pointer<const int>(indices);                                 \
    mended ? ASNET_LAUNCH(cuda::name<true>, 1, threads, 0, nullptr, from, to)            \
           : ASNET_LAUNCH(cuda::name<false>, 1, threads, 0, nullptr, from, to);          \
  })

ASNET_BINDINGS(module) {
  ASNET_FAULT(missing_barrier, 1, 0);
  ASNET_FAULT(missing_warp_barrier, 1, 0);
  ASNET_FAULT(read_past_shared_memory, 1, 0);
  ASNET_FAULT_OF_INPUT(read_past_array, cuda::faults_block);
  ASNET_FAULT_OF_INPUT(misaligned_pack, cuda::faults_block / 4);
  ASNET_FAULT_OF_INPUT(misaligned_pointer, cuda::faults_block);
  ASNET_FAULT(divergent_barrier, 1, 0);
  ASNET_FAULT(barrier_after_return, 1, 0);
  ASNET_FAULT(missing_lane, 1, 0);
  ASNET_FAULT(unwritten_output, 1, 0);
  ASNET_FAULT(unwritten_shared_memory, 1, cuda::faults_block * sizeof(int));
  ASNET_FAULT_OF_INPUT(missing_wait, cuda::faults_block);
  ASNET_FAULT_OF_INPUT(copies_outlive_thread, cuda::faults_block);
  ASNET_FAULT_OF_INPUT(target_still_read, cuda::faults_block);
  ASNET_FAULT(blocks_overlap, 2, 0);
  module.def("last_block", [](bool mended, const py::array& result) {
    std::vector<int> partial(3);
    int arrived = 0;
    int* const to = pointer<int>(result);
    mended ? ASNET_LAUNCH(cuda::last_block<true>, 3, cuda::faults_block, 0, nullptr, partial.data(), &arrived, to)
           : ASNET_LAUNCH(cuda::last_block<false>, 3, cuda::faults_block, 0, nullptr, partial.data(), &arrived, to);
  });
}
