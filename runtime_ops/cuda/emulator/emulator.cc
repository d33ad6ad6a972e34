#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace qcompiler {
namespace cuda {
namespace emulator {
namespace {

constexpr int kWarp = 32;
constexpr std::size_t kStack = 128 * 1024;
constexpr std::size_t kWarpSlot = 64;  // most bytes that a lane exchanges

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

struct Copy {
  unsigned char* to;
  const unsigned char* from;
};

struct Thread {
  ucontext_t start;
  jmp_buf here;  // once it has started: a jump makes no system call, as swapcontext does
  bool started = false;
  std::unique_ptr<char[]> stack;
  int index = 0;
  bool done = false;
  const int* waits = nullptr;  // a counter of arrivals, until it leaves `seen`
  int seen = 0;
  std::vector<Copy> open;               // copies of the group that is not committed
  std::deque<std::vector<Copy>> groups;  // committed ones, oldest first
};

struct Barrier {
  int arrived = 0, round = 0;
};

struct Warp {
  Barrier barrier;
  int exchanges[kWarp] = {};  // of every lane
  alignas(16) unsigned char slots[2][32 * kWarpSlot];
};

Order g_order;
std::size_t g_shared_limit = 227 * 1024;
int g_processors = 2;

std::vector<Thread> g_threads;
std::vector<Warp> g_warps;
Barrier g_block;
Thread* g_current = nullptr;
jmp_buf g_scheduler;
const std::function<void()>* g_body = nullptr;
unsigned char* g_shared = nullptr;
int g_live = 0;

// The address sanitizer wants to know which stack is in use.
#if defined(__SANITIZE_ADDRESS__)
const void* g_scheduler_stack = nullptr;
std::size_t g_scheduler_size = 0;
void leaving(const void* stack, std::size_t size) { __sanitizer_start_switch_fiber(nullptr, stack, size); }
void arrived(const void** stack, std::size_t* size) { __sanitizer_finish_switch_fiber(nullptr, stack, size); }
#define QC_SWITCH(call) call
#else
#define QC_SWITCH(call)
#endif

// From a thread to the scheduler; comes back when the thread has its turn.
void leave() {
  if (_setjmp(g_current->here) == 0) {
    QC_SWITCH(leaving(g_scheduler_stack, g_scheduler_size));
    _longjmp(g_scheduler, 1);
  }
  QC_SWITCH(arrived(&g_scheduler_stack, &g_scheduler_size));
}

// From the scheduler to a thread; comes back when the thread leaves. A function of its own: no variable changes between
// setjmp and its return.
__attribute__((noinline)) void resume(Thread& thread) {
  g_current = &thread;
  threadIdx = dim3(static_cast<unsigned>(thread.index), 0, 0);
  if (_setjmp(g_scheduler) != 0) {
    QC_SWITCH(arrived(nullptr, nullptr));
    return;
  }
  QC_SWITCH(leaving(thread.stack.get(), kStack));
  if (thread.started) _longjmp(thread.here, 1);
  thread.started = true;
  setcontext(&thread.start);
}

void enter() {
  QC_SWITCH(arrived(&g_scheduler_stack, &g_scheduler_size));
  (*g_body)();
  if (!g_current->open.empty() || !g_current->groups.empty()) {
    for (const auto& group : g_current->groups) {
      if (!group.empty()) fail("a thread ended with copies under way");
    }
    if (!g_current->open.empty()) fail("a thread ended with copies that it never committed");
  }
  g_current->done = true;
  leave();
}

void wait(Barrier* barrier, int count) {
  if (++barrier->arrived == count) {
    barrier->arrived = 0;
    ++barrier->round;
    return;
  }
  g_current->waits = &barrier->round;
  g_current->seen = barrier->round;
  leave();
}

int warp_size(int index) {
  const int first = index / kWarp * kWarp;
  const int left = static_cast<int>(blockDim.x) - first;
  return left < kWarp ? left : kWarp;
}

// As far as a warp gets without the others: one that runs ahead of a barrier that is missing shows.
bool run_warp(int warp) {
  const int first = warp * kWarp, count = warp_size(first);
  bool moved = false;
  for (bool goes_on = true; goes_on;) {
    goes_on = false;
    for (int n = 0; n < count; ++n) {
      Thread& thread = g_threads[static_cast<std::size_t>(first + (g_order.backwards ? count - 1 - n : n))];
      if (thread.done || (thread.waits != nullptr && *thread.waits == thread.seen)) continue;
      thread.waits = nullptr;
      resume(thread);
      goes_on = moved = true;
      if (thread.done) --g_live;
    }
  }
  return moved;
}

void run_block(int threads) {
  g_block = Barrier();
  g_warps.assign(static_cast<std::size_t>((threads + kWarp - 1) / kWarp), Warp());
  g_live = threads;
  for (int i = 0; i < threads; ++i) {
    Thread& thread = g_threads[static_cast<std::size_t>(i)];
    thread.index = i;
    thread.done = thread.started = false;
    thread.waits = nullptr;
    thread.groups.clear();
    if (!thread.stack) thread.stack.reset(new char[kStack]);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(thread.stack.get(), kStack);  // left over from frames that were never left
#endif
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.stack.get();
    thread.start.uc_stack.ss_size = kStack;
    thread.start.uc_link = nullptr;
    makecontext(&thread.start, enter, 0);
  }
  const int warps = static_cast<int>(g_warps.size());
  while (g_live > 0) {
    bool moved = false;
    for (int n = 0; n < warps; ++n) moved = run_warp(g_order.backwards ? warps - 1 - n : n) || moved;
    if (!moved) fail("the threads of a block wait for each other: not all of them reach a barrier");
  }
}

}  // namespace

void set_order(const Order& order) { g_order = order; }
void set_shared_limit(std::size_t bytes) { g_shared_limit = bytes; }
void set_processors(int count) { g_processors = count; }

void run(dim3 grid, int threads, std::size_t shared, const std::function<void()>& body) {
  if (threads < 1 || threads > kMostThreads) fail("a block has 1 to 1024 threads");
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 || grid.z > 65535) fail("a grid of this size is refused");
  if (shared > g_shared_limit) fail("more shared memory than a block may have");
  if (g_threads.size() < static_cast<std::size_t>(threads)) g_threads.resize(static_cast<std::size_t>(threads));
  gridDim = grid;
  blockDim = dim3(static_cast<unsigned>(threads), 1, 1);
  g_body = &body;
  // Memory of exactly this size: the address sanitizer sees every access beyond it.
  g_shared = static_cast<unsigned char*>(std::aligned_alloc(128, (shared + 127) / 128 * 128 + (shared == 0 ? 128 : 0)));
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        std::memset(g_shared, 0xa5, shared);  // what is read before it was written is no number
        blockIdx = dim3(x, y, z);
        run_block(threads);
      }
    }
  }
  std::free(g_shared);
}

int lane() { return g_current->index % kWarp; }

void sync_block() { wait(&g_block, static_cast<int>(blockDim.x)); }

void sync_warp() {
  wait(&g_warps[static_cast<std::size_t>(g_current->index / kWarp)].barrier, warp_size(g_current->index));
}

const void* exchange(const void* value, std::size_t bytes) {
  if (bytes > kWarpSlot) fail("too large an exchange");
  if (warp_size(g_current->index) != kWarp) fail("a warp operation in a warp that is not full");
  Warp& warp = g_warps[static_cast<std::size_t>(g_current->index / kWarp)];
  const int me = lane();
  // Two sets of slots by turns: a lane may be one exchange ahead of those that still read.
  unsigned char* const slots = warp.slots[warp.exchanges[me]++ % 2];
  std::memcpy(slots + static_cast<std::size_t>(me) * bytes, value, bytes);
  sync_warp();
  return slots;
}

void copy_async(unsigned char* to, const unsigned char* from) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    fail("an asynchronous copy is not aligned to 16 bytes");
  }
  if (g_order.eager) {
    std::memcpy(to, from, 16);
  } else {
    std::memset(to, 0xa5, 16);
    g_current->open.push_back({to, from});
  }
}

void commit_copies() {
  g_current->groups.push_back(std::move(g_current->open));
  g_current->open.clear();
}

void wait_copies(int pending) {
  while (g_current->groups.size() > static_cast<std::size_t>(pending)) {
    for (const Copy& copy : g_current->groups.front()) std::memcpy(copy.to, copy.from, 16);
    g_current->groups.pop_front();
  }
}

unsigned char* shared_memory() { return g_shared; }

}  // namespace emulator

namespace {

// Bytes of the operands of one lane.
struct Operands {
  unsigned a[4], b[2];
};

}  // namespace

// PTX ISA, "Matrix Fragments for mma.m16n8k32": with group = lane / 4 and t = lane % 4, byte i of the left operand is
// row group (i < 4 or 8 <= i < 12) or group + 8, column 4 t + i % 4 (+ 16 for i >= 8); byte i of the right one is row
// 4 t + i % 4 (+ 16 for i >= 4), column group; sum i is row group (+ 8 for i >= 2), column 2 t + i % 2.
void multiply_add(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, bool is_unsigned) {
  const Operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const Operands* const all = static_cast<const Operands*>(emulator::exchange(&mine, sizeof mine));
  const int group = emulator::lane() / 4, t = emulator::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + (i >= 2 ? 8 : 0), column = 2 * t + i % 2;
    unsigned sum = static_cast<unsigned>(d[i]);
    for (int k = 0; k < 32; ++k) {
      const int owner = k % 16 / 4;  // the lane of four that holds this part of the depth
      const int a_byte = k % 4 + (row >= 8 ? 4 : 0) + (k >= 16 ? 8 : 0);
      const int b_byte = k % 4 + (k >= 16 ? 4 : 0);
      const unsigned left = all[row % 8 * 4 + owner].a[a_byte / 4] >> 8 * (a_byte % 4) & 255u;
      const unsigned right = all[column * 4 + owner].b[b_byte / 4] >> 8 * (b_byte % 4) & 255u;
      const int x = is_unsigned ? static_cast<int>(left) : static_cast<std::int8_t>(left);
      sum += static_cast<unsigned>(x * static_cast<std::int8_t>(right));
    }
    d[i] = static_cast<int>(sum);
  }
}

void load_matrices(unsigned (&out)[4], const unsigned char* row) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) emulator::fail("a row of a matrix is not aligned to 16 bytes");
  const unsigned char* const* const rows =
      static_cast<const unsigned char* const*>(emulator::exchange(&row, sizeof row));
  const int lane = emulator::lane();
  for (int matrix = 0; matrix < 4; ++matrix) {
    std::memcpy(&out[matrix], rows[8 * matrix + lane / 4] + 4 * (lane % 4), 4);
  }
  emulator::sync_warp();  // the rows are read before any lane goes on and writes them
}

float from_half_bits(unsigned short bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double size = exponent == 31  ? (mantissa == 0 ? INFINITY : NAN)
                      : exponent == 0 ? std::ldexp(mantissa, -24)
                                      : std::ldexp(1024 + mantissa, exponent - 25);
  return static_cast<float>((bits & 0x8000) != 0 ? -size : size);
}

// Searched for among all of them: of two neighbours the nearer one, on ties the one with the even bits.
unsigned short to_half_bits(float x) {
  constexpr int kInfinity = 0x7c00, kNan = 0x7fff;
  static const std::vector<double> values = [] {
    std::vector<double> all;
    for (int bits = 0; bits < kInfinity; ++bits) all.push_back(from_half_bits(static_cast<unsigned short>(bits)));
    all.push_back(65536.0);  // what would come next is infinity's
    return all;
  }();
  const double size = std::fabs(static_cast<double>(x));
  const auto above = std::lower_bound(values.begin(), values.end(), size);
  int bits = static_cast<int>(above - values.begin());
  if (std::isnan(x)) {
    bits = kNan;
  } else if (above == values.end()) {
    bits = kInfinity;
  } else if (bits > 0) {
    const double down = size - above[-1], up = *above - size;
    if (down < up || (down == up && bits % 2 != 0)) --bits;
  }
  return static_cast<unsigned short>(bits | (std::signbit(x) ? 0x8000 : 0));
}

}  // namespace cuda
}  // namespace qcompiler

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256 + (bytes == 0 ? 256 : 0));
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xa5, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  using namespace qcompiler::cuda::emulator;
  *value = attribute == cudaDevAttrMultiProcessorCount ? g_processors : static_cast<int>(g_shared_limit);
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
