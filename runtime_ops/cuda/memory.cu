#include "memory.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

namespace qcompiler {
namespace cuda {
namespace {

// While a stream is being captured, allocations are refused unless they are declared harmless.
class Uncaptured {
 public:
  Uncaptured() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~Uncaptured() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

cudaError_t allocate(void** memory, std::size_t bytes) {
  const Uncaptured scope;
  return cudaMalloc(memory, bytes);
}

void release(void* memory) {
  if (memory == nullptr) return;
  const Uncaptured scope;
  cudaFree(memory);
}

// Memory of one stream.
struct Pool {
  std::mutex mutex;
  void* memory = nullptr;
  std::size_t size = 0;
  std::vector<void*> outgrown;

  ~Pool() {
    for (void* old : outgrown) release(old);
    release(memory);
  }
};

struct Pools {
  std::mutex mutex;
  std::map<std::pair<int, cudaStream_t>, std::unique_ptr<Pool>> by_stream;
  int users = 0;
};

// Never destroyed: at the end of the process the driver may be gone before this library is.
Pools& pools() {
  static Pools& all = *new Pools;
  return all;
}

Pool& pool_of(int device, cudaStream_t stream) {
  Pools& all = pools();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::unique_ptr<Pool>& found = all.by_stream[{device, stream}];
  if (!found) found.reset(new Pool);
  return *found;
}

}  // namespace

Constants::~Constants() { release(memory_); }

Status Constants::upload() {
  const std::size_t size = std::max<std::size_t>(bytes_.size(), 256);
  Status status = launch_status("constants", allocate(&memory_, size));
  if (status == nullptr) {
    status = launch_status("constants", cudaMemcpy(memory_, bytes_.data(), bytes_.size(), cudaMemcpyHostToDevice));
  }
  std::vector<char>().swap(bytes_);
  return status;
}

Workspace::Workspace(int device, cudaStream_t stream, std::size_t bytes) {
  Pool& pool = pool_of(device, stream);
  lock_ = std::unique_lock<std::mutex>(pool.mutex);
  if (bytes > pool.size) {
    // Twice as much at least: all that was outgrown together is then no more than what is in use.
    const std::size_t size = std::max(bytes, 2 * pool.size);
    void* grown = nullptr;
    if ((status_ = launch_status("scratch memory", allocate(&grown, size))) != nullptr) return;
    if (pool.memory != nullptr) pool.outgrown.push_back(pool.memory);
    pool.memory = grown;
    pool.size = size;
  }
  data_ = pool.memory;
}

WorkspaceUser::WorkspaceUser() {
  const std::lock_guard<std::mutex> lock(pools().mutex);
  ++pools().users;
}

WorkspaceUser::~WorkspaceUser() {
  const std::lock_guard<std::mutex> lock(pools().mutex);
  if (--pools().users == 0) pools().by_stream.clear();
}

Status DeviceLimits::read(int device, DeviceLimits* limits) {
  int shared = 0;
  Status status =
      launch_status("device", cudaDeviceGetAttribute(&limits->processors, cudaDevAttrMultiProcessorCount, device));
  if (status != nullptr) return status;
  status = launch_status("device", cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  limits->shared_bytes = static_cast<std::size_t>(shared);
  return status;
}

}  // namespace cuda
}  // namespace qcompiler
