// The CUDA kernels against the definitions in reference/: on a GPU, or run on the processor by cuda/emulator.
//
//   cd runtime_ops
//   common="tests/cuda/*.cc tests/test_samples.cc reference/*.cc cpu/checks.cc cpu/error.cc cpu/quantizer.cc
//           cpu/weights.cc cuda/linear.cu cuda/attention.cu cuda/memory.cu"
//   nvcc -std=c++17 -O3 -fmad=false -Xcompiler -ffp-contract=off -arch=native -x cu -o test_cuda $common
//   g++ -std=c++17 -O2 -ffp-contract=off -o test_cuda cuda/emulator/*.cc -x c++ $common
//   ./test_cuda [--quick]
#include <cstring>

#include "harness.h"

int g_checks = 0;
int g_failures = 0;

void test_activations();
void test_fragments();
void test_cuda_linear(bool quick);
void test_cuda_attention(bool quick);

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  std::setvbuf(stdout, nullptr, _IOLBF, 1024);
  const auto run = [quick] {
    test_activations();
    test_fragments();
    test_cuda_linear(quick);
    test_cuda_attention(quick);
  };
#if defined(__CUDACC__)
  run();
#else
  using namespace qcompiler::cuda::emulator;
  for (const Order order : {Order{true, false}, Order{true, true}, Order{false, false}}) {
    set_order(order);
    run();
    if (quick) break;  // the sanitizers see the same memory in every order
  }
#endif
  std::printf("%d checks, %d failures\n", g_checks, g_failures);
  return g_failures == 0 ? 0 : 1;
}
