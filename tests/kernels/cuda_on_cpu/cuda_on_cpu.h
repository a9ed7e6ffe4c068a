// Runs CUDA kernels on the CPU, for tests: every CUDA thread is a fiber of the calling thread, and CUDA's keywords are
// functions and macros. With this header before it, a kernel source is C++20:
//
//   g++ -x c++ -std=c++20 -include tests/kernels/cuda_on_cpu/cuda_on_cpu.h -Icsrc -c csrc/cuda/<operator>.cu
//
// It also detects behaviour that a GPU leaves undefined; see tests/kernels/README.md.
#pragma once

#ifdef __CUDACC__
#error "cuda_on_cpu.h takes the place of the CUDA compiler; nvcc needs no such header"
#endif

#include "language.h"
// After language.h, whose keywords their functions use.
#include "run_translated.h"
