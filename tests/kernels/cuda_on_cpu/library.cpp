// The order of threads, for Python, in the library of the host entries.
extern "C" __attribute__((visibility("default"))) int asnet_set_thread_order(int order) {
  const int before = asnet::cuda_on_cpu::thread_order();
  asnet::cuda_on_cpu::thread_order() = order;
  return before;
}
