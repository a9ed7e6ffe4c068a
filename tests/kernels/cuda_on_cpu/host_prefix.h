// Comes before every host entry, precompiled: parsing torch's headers takes seconds.
#include "cuda_on_cpu/cuda_on_cpu.h"
// After the language.
#include "common/cuda/host.h"
