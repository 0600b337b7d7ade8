// Runs CUDA C++ kernels on a CPU, for tests: g++ -DEMULATED -include emulator.h -x c++ kernels.cu. See README.md.
#pragma once
#include "state.h"
#ifdef EMULATE_BY_THREADS
#include "thread_engine.h"
#else
#include "fibre_engine.h"
#endif
// The engines are plain C++; from here on, the words of CUDA have their meaning.
#include "device.h"
#include "launch.h"
