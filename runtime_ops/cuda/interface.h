// What the CUDA library gives to the operator library, which loads it and owns ONNX Runtime's side: a table of functions
// over plain pointers. Both are built together; `version` says so.
//
// Tensors of a call lie on the device, scratch memory is the library's own, and a run only puts work on the stream: it
// does not wait, so that it can be captured as a graph.
#ifndef QCOMPILER_CUDA_INTERFACE_H_
#define QCOMPILER_CUDA_INTERFACE_H_

#include "../cpu/kernels.h"

namespace qcompiler {
namespace cuda {

using cpu::Status;

struct Linear;     // opaque
struct Attention;  // opaque

// Both take what their CPU counterparts take, and all of it. Operators are created on the thread's current device.
Status linear_create(const cpu::LinearSpec& spec, Linear** out) noexcept;
void linear_destroy(Linear* linear) noexcept;
Status linear_run(const Linear* linear, const cpu::LinearCall& call, void* stream) noexcept;
Status linear_run_half(const Linear* linear, const cpu::HalfLinearCall& call, void* stream) noexcept;

Status attention_create(const cpu::AttentionSpec& spec, Attention** out) noexcept;
void attention_destroy(Attention* attention) noexcept;
Status attention_run(const Attention* attention, const cpu::AttentionCall& call, void* stream) noexcept;
Status attention_run_half(const Attention* attention, const cpu::HalfAttentionCall& call, void* stream) noexcept;

struct Interface {
  const char* version;  // of the package
  std::size_t linear_spec_bytes, attention_spec_bytes;  // for callers that spell the structures out themselves
  // nullptr, or why this machine's devices or driver cannot run the library.
  Status (*unusable)() noexcept;
  decltype(&cuda::linear_create) linear_create;
  decltype(&cuda::linear_destroy) linear_destroy;
  decltype(&cuda::linear_run) linear_run;
  decltype(&cuda::linear_run_half) linear_run_half;
  decltype(&cuda::attention_create) attention_create;
  decltype(&cuda::attention_destroy) attention_destroy;
  decltype(&cuda::attention_run) attention_run;
  decltype(&cuda::attention_run_half) attention_run_half;
};

constexpr char kInterfaceSymbol[] = "qcompiler_cuda_interface";
using InterfaceFunction = const Interface* (*)();

}  // namespace cuda
}  // namespace qcompiler

#endif  // QCOMPILER_CUDA_INTERFACE_H_
