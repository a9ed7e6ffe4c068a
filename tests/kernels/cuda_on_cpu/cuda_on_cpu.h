// Runs CUDA kernels on the CPU, for tests: every CUDA thread is a fiber of the calling thread, and the words of the
// language are functions and macros of ours. A kernel source becomes C++20 with this header before it:
//
//   g++ -x c++ -std=c++20 -include tests/kernels/cuda_on_cpu/cuda_on_cpu.h -Icsrc -c csrc/cuda/<operator>.cu
//
// Beyond results it checks what a GPU leaves undefined; see tests/kernels/README.md.
#pragma once

#ifdef __CUDACC__
#error "cuda_on_cpu.h takes the place of the CUDA compiler; nvcc needs no such header"
#endif

#include "language.h"
// After the language, whose words their functions use.
#include "run_translated.h"
