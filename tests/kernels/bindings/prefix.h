// Comes before every binding, precompiled: parsing pybind11 takes longer than most kernels.
#include "cuda_on_cpu/cuda_on_cpu.h"
// After the language.
#include "bindings/arrays.h"
