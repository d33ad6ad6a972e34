// Times one linear layer on a GPU, whole and in parts, with tensors of float32 and of float16, and the rate of the
// tensor-core instruction alone.
//
//   nvcc -std=c++17 -O3 -fmad=false -Xcompiler -ffp-contract=off -arch=native -o bench_linear \
//        runtime_ops/tests/cuda/bench_linear.cu runtime_ops/cuda/memory.cu runtime_ops/cpu/{checks,error,quantizer,weights}.cc
//   ./bench_linear [ROWS CHANNELS OUTPUTS]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "../../cuda/linear.cu"  // its parts, too

namespace {

using namespace qcompiler;

void require(bool fine, const char* what) {
  if (fine) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(cudaGetLastError()));
  std::exit(1);
}

// The best of a few rounds: other work on the device only adds.
double microseconds(cudaStream_t stream, const std::function<void()>& work) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess, "events");
  double best = 1e30;
  for (int round = 0; round < 10; ++round) {
    constexpr int kRepeats = 20;
    work();
    cudaEventRecord(begin, stream);
    for (int i = 0; i < kRepeats; ++i) work();
    cudaEventRecord(end, stream);
    require(cudaEventSynchronize(end) == cudaSuccess, "run");
    float ms = 0.0f;
    cudaEventElapsedTime(&ms, begin, end);
    best = std::min(best, 1e3 * ms / kRepeats);
  }
  return best;
}

// Nothing but products, operands and sums in registers.
__global__ void products_alone(int* out, int rounds) {
  int sums[8][4] = {};
  const unsigned a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
  for (int r = 0; r < rounds; ++r) {
#pragma unroll
    for (int i = 0; i < 8; ++i) cuda::multiply_add<false>(sums[i], a, r + i, r - i);
  }
  int all = 0;
  for (int i = 0; i < 8; ++i) all += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
  out[blockIdx.x * blockDim.x + threadIdx.x] = all;
}

template <typename T>
T* device_copy(const std::vector<T>& values) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, values.size() * sizeof(T)) == cudaSuccess, "memory");
  require(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess, "copy");
  return static_cast<T*>(memory);
}

void bench_ceiling(cudaStream_t stream) {
  int processors = 0;
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0);
  const int blocks = 4 * processors, threads = 256, rounds = 4096;
  int* const out = device_copy(std::vector<int>(static_cast<std::size_t>(blocks * threads)));
  const double us = microseconds(stream, [&] { products_alone<<<blocks, threads, 0, stream>>>(out, rounds); });
  const double operations = 2.0 * 16 * 8 * 32 * 8 * rounds * blocks * (threads / 32);
  std::printf("mma.sync s8 alone: %.1f TOPS\n", operations / us / 1e6);
  cudaFree(out);
}

cpu::Status run(const cuda::Linear* linear, const cpu::LinearCall& call, cudaStream_t stream) {
  return cuda::linear_run(linear, call, stream);
}
cpu::Status run(const cuda::Linear* linear, const cpu::HalfLinearCall& call, cudaStream_t stream) {
  return cuda::linear_run_half(linear, call, stream);
}

void set_value(float* to, float x) { *to = x; }
void set_value(cpu::Half* to, float x) { to->bits = __half_as_ushort(__float2half_rn(x)); }

template <typename T>
void bench_layer(long long rows, int channels, int outputs, cpu::Grouping grouping, const char* name, int rotate,
                 cudaStream_t stream) {
  const std::size_t c = static_cast<std::size_t>(channels), d = static_cast<std::size_t>(outputs);
  std::vector<std::uint8_t> weight(c * d / 2);
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
  const std::vector<float> w_scale(d, 0.001f), bias(d, 0.1f), gamma(c, 1.0f), beta(c, 0.0f);
  // lower, upper, scale, zero point, multiplier, outer
  const bool segments = grouping == cpu::Grouping::kSegments;
  const float scale = 0.25f;
  const std::vector<float> groups = {-2, 2, scale, 8, segments ? scale : 1, segments ? 1 : scale,
                                     -4, 4, scale, 8, segments ? scale : 1, segments ? 1 : scale};
  cpu::LinearSpec spec;
  spec.channels = channels;
  spec.outputs = outputs;
  spec.weight = weight.data();
  spec.weight_type = cpu::WeightType::kInt4;
  spec.w_scale = w_scale.data();
  spec.bias = bias.data();
  spec.groups = {groups.data(), 2};
  spec.bits = 4;
  spec.grouping = grouping;
  spec.block = 32;
  spec.slack = 0.25f;
  spec.rotate = rotate;
  spec.gelu = cpu::Gelu::kErf;
  spec.gamma = gamma.data();
  spec.beta = beta.data();
  cuda::Linear* linear = nullptr;
  const cpu::Status wrong = cuda::linear_create(spec, &linear);
  if (wrong != nullptr) {
    std::printf("%s: %s\n", name, wrong);
    std::exit(1);
  }
  std::vector<T> x(static_cast<std::size_t>(rows) * c);
  for (std::size_t i = 0; i < x.size(); ++i) set_value(&x[i], static_cast<float>(i * 2654435761u % 4001) / 1000.0f - 2.0f);
  cpu::LinearCallOf<T> call;
  call.batch = rows % 197 == 0 ? rows / 197 : 1;
  call.rows = rows / call.batch;
  call.x = device_copy(x);
  call.y = device_copy(std::vector<T>(static_cast<std::size_t>(rows) * d));
  require(run(linear, call, stream) == nullptr, name);
  const double whole = microseconds(stream, [&] { run(linear, call, stream); });
  const double operations = 2.0 * static_cast<double>(rows) * channels * outputs;
  std::printf("%-28s whole %8.1f us, %7.1f TOPS", name, whole, operations / whole / 1e6);
  if (!segments) {
    // The product again, on what the whole left in scratch memory.
    const int floats = static_cast<int>(cuda::row_buffer_floats(
        channels, grouping == cpu::Grouping::kBlocks ? channels / linear->blocks.block : 0));
    const cuda::RowsLaunch plan = cuda::plan_rows(*linear, rows, floats);
    cuda::Scratch scratch = {};
    const std::size_t bytes = cuda::lay_out(*linear, call, plan, floats, nullptr, &scratch);
    const cuda::Workspace workspace(0, stream, bytes);
    cuda::lay_out(*linear, call, plan, floats, workspace.data(), &scratch);
    cuda::Product p = {};
    p.a = scratch.operand;
    p.b = linear->constants.at<signed char>(linear->weight);
    p.stride = linear->stride;
    p.epilogue = cuda::epilogue_of(*linear, rows, scratch);
    const cuda::Output<T> out = cuda::output_of(*linear, call);
    const double product = microseconds(stream, [&] { cuda::launch_product(*linear, p, out, stream); });
    std::printf("; product %8.1f us, %7.1f TOPS; input %8.1f us", product, operations / product / 1e6, whole - product);
  }
  std::printf("\n");
  cudaFree(const_cast<T*>(call.x));
  cudaFree(call.y);
  cuda::linear_destroy(linear);
}

template <typename T>
void bench_layers(long long rows, int channels, int outputs, const char* type, cudaStream_t stream) {
  std::printf("tensors of %s\n", type);
  bench_layer<T>(rows, channels, outputs, cpu::Grouping::kBlocks, "blocks of 32", 1, stream);
  bench_layer<T>(rows, channels, outputs, cpu::Grouping::kBlocks, "blocks of 32, rotated", 32, stream);
  bench_layer<T>(rows, channels, outputs, cpu::Grouping::kRows, "groups of tokens", 1, stream);
  bench_layer<T>(rows, channels, outputs, cpu::Grouping::kChannels, "groups of channels", 1, stream);
  bench_layer<T>(rows, channels, outputs, cpu::Grouping::kSegments, "sorted segments", 1, stream);
}

}  // namespace

int main(int argc, char** argv) {
  const long long rows = argc > 3 ? std::atoll(argv[1]) : 64 * 197;
  const int channels = argc > 3 ? std::atoi(argv[2]) : 768, outputs = argc > 3 ? std::atoi(argv[3]) : 3072;
  cudaStream_t stream;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "stream");
  bench_ceiling(stream);
  std::printf("%lld tokens, %d -> %d, LayerNorm in front, GELU behind\n", rows, channels, outputs);
  bench_layers<float>(rows, channels, outputs, "float32", stream);
  bench_layers<cpu::Half>(rows, channels, outputs, "float16", stream);
  return 0;
}
