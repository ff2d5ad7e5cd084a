#include "tests/engine/backend/cuda/emulation/device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

using elserve::cuda_emulation::Fail;
using elserve::cuda_emulation::kDevices;
using elserve::cuda_emulation::kPoison;
using elserve::cuda_emulation::OneIn;
using elserve::cuda_emulation::RandomBelow;

namespace {

// How often an event was recorded, and how many of these places the stream has passed.
struct EventState {
  int64_t recorded = 0;
  int64_t passed = 0;
};

struct Operation {
  std::function<void()> work;
  std::shared_ptr<const EventState> awaited;  // null: nothing
  int64_t place = 0;                          // of the awaited event
  bool Ready() const { return awaited == nullptr || awaited->passed >= place; }
};

}  // namespace

struct EmulatedEvent {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

struct EmulatedGraph {
  std::vector<std::function<void()>> work;
};

struct EmulatedStream {
  int device = 0;
  std::deque<Operation> queue;
  std::unique_ptr<EmulatedGraph> capture;
  bool capture_failed = false;
};

namespace {

struct Model {
  const char* name;
  int major, minor, processors, shared_bytes, shared_bytes_each;
};
// Few multiprocessors, so that a block has several items of work.
constexpr Model kModels[kDevices] = {
    {"Emulated sm_90", 9, 0, 4, 227 << 10, 228 << 10},
    {"Emulated sm_80", 8, 0, 3, 163 << 10, 164 << 10},
    {"Emulated sm_86", 8, 6, 2, 99 << 10, 100 << 10},
};
constexpr size_t kDeviceBytes = size_t{8} << 30;
constexpr size_t kSharedByDefault = 48 << 10;
constexpr size_t kMostThreads = 1024;
// Of a larger block only so much is poisoned at each end: cublasLt's workspace alone would take all time.
constexpr size_t kPoisonedEnd = size_t{1} << 20;
constexpr size_t kAlign = 256;
constexpr uint32_t kMostAtOnce = 8;  // operations that run by chance

struct FreeMemory {
  void operator()(std::byte* data) const { std::free(data); }
};
struct Memory {
  std::unique_ptr<std::byte, FreeMemory> data;
  size_t bytes = 0;
};

struct State {
  std::recursive_mutex mutex;
  cudaError_t failed = cudaSuccess;  // by a kernel: for good
  std::vector<EmulatedStream*> streams;
  std::map<void*, Memory> device_memory, host_memory;
  size_t device_bytes = 0;
  std::map<const void*, size_t> shared_allowed;  // by kernel
  std::set<const void*> kernels_run;
};
State& The() {
  static auto* const state = new State;
  return *state;
}
// Every call takes it.
std::unique_lock<std::recursive_mutex> Lock() { return std::unique_lock(The().mutex); }

thread_local int current_device = 0;
thread_local int captures = 0;  // that this thread has begun

bool Ready(const EmulatedStream& stream) { return !stream.queue.empty() && stream.queue.front().Ready(); }

void RunNext(EmulatedStream& stream) {
  const Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (The().failed == cudaSuccess && operation.work) operation.work();
}

bool RunAny() {
  std::vector<EmulatedStream*> ready;
  std::copy_if(The().streams.begin(), The().streams.end(), std::back_inserter(ready),
               [](const EmulatedStream* stream) { return Ready(*stream); });
  if (ready.empty()) return false;
  RunNext(*ready[RandomBelow(static_cast<uint32_t>(ready.size()))]);
  return true;
}

// Until the stream is empty: with everything that others could do meanwhile, or with no more than it has to wait for.
void Drain(EmulatedStream& stream) {
  const bool alone = OneIn(2);
  while (!stream.queue.empty()) {
    if (alone && Ready(stream)) {
      RunNext(stream);
    } else if (!RunAny()) {
      Fail("a stream waits for an event that nothing will record");
    }
  }
}
void DrainAll() {
  for (EmulatedStream* stream : The().streams) Drain(*stream);
}

cudaError_t Add(EmulatedStream& stream, Operation operation) {
  if (The().failed != cudaSuccess) return The().failed;
  if (stream.capture != nullptr) {
    stream.capture_failed |= operation.awaited != nullptr;
    stream.capture->work.push_back(std::move(operation.work));
    return cudaSuccess;
  }
  stream.queue.push_back(std::move(operation));
  // The device may be quick.
  for (uint32_t n = OneIn(4) ? RandomBelow(kMostAtOnce) : 0; n > 0 && RunAny(); --n) continue;
  return The().failed;
}

// What waits, or allocates, may not stand in what is captured.
cudaError_t Wait() { return captures > 0 ? cudaErrorStreamCaptureUnsupported : The().failed; }

cudaError_t Allocate(std::map<void*, Memory>& memory, void** data, size_t bytes) {
  const size_t whole = (bytes + kAlign - 1) / kAlign * kAlign;
  // Exactly as many bytes as asked for, where the address sanitizer looks.
  auto* raw = static_cast<std::byte*>(nullptr);
  if (posix_memalign(reinterpret_cast<void**>(&raw), kAlign, bytes) != 0) return cudaErrorMemoryAllocation;
  const size_t end = std::min(bytes, kPoisonedEnd);
  std::memset(raw, kPoison, end);
  std::memset(raw + bytes - end, kPoison, end);
  memory[raw] = {std::unique_ptr<std::byte, FreeMemory>(raw), whole};
  *data = raw;
  return cudaSuccess;
}

}  // namespace

namespace elserve::cuda_emulation {

cudaError_t AllowShared(const void* kernel, size_t bytes) {
  const auto lock = Lock();
  if (bytes > static_cast<size_t>(kModels[current_device].shared_bytes)) return cudaErrorInvalidValue;
  The().shared_allowed[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work) {
  const auto lock = Lock();
  if (stream->device != current_device) return cudaErrorInvalidValue;
  return Add(*stream, {.work = std::move(work), .awaited = nullptr});
}

cudaError_t Enqueue(const void* kernel, const cudaLaunchConfig_t& config, std::function<void()> thread) {
  const auto lock = Lock();
  const dim3 &blocks = config.gridDim, &threads = config.blockDim;
  const auto allowed = The().shared_allowed.find(kernel);
  const size_t most = allowed == The().shared_allowed.end() ? kSharedByDefault : allowed->second;
  if (size_t{threads.x} * threads.y * threads.z > kMostThreads || config.dynamicSmemBytes > most ||
      blocks.x * blocks.y * blocks.z == 0) {
    return cudaErrorInvalidValue;
  }
  const Grid grid = {.blocks = {blocks.x, blocks.y, blocks.z},
                     .threads = {threads.x, threads.y, threads.z},
                     .shared_bytes = config.dynamicSmemBytes,
                     .kernel = std::move(thread)};
  return Enqueue(config.stream, [grid, kernel] {
    The().kernels_run.insert(kernel);
    if (!RunGrid(grid)) The().failed = cudaErrorIllegalAddress;
  });
}

std::set<const void*> KernelsRun() {
  const auto lock = Lock();
  return The().kernels_run;
}

}  // namespace elserve::cuda_emulation

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorUnknown:
      break;
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() { return The().failed; }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Model& model = kModels[device];
  std::snprintf(properties->name, sizeof(properties->name), "%s", model.name);
  properties->totalGlobalMem = kDeviceBytes;
  properties->multiProcessorCount = model.processors;
  properties->major = model.major, properties->minor = model.minor;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  switch (attribute) {
    case cudaDevAttrClockRate:
      *value = 1'500'000;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 2'000'000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = 5120;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kModels[device].shared_bytes_each;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kModels[device].shared_bytes;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  const auto lock = Lock();
  if (const cudaError_t error = Wait(); error != cudaSuccess) return error;
  if (bytes > kDeviceBytes - The().device_bytes) return cudaErrorMemoryAllocation;
  const cudaError_t error = Allocate(The().device_memory, data, bytes);
  if (error == cudaSuccess) The().device_bytes += The().device_memory[*data].bytes;
  return error;
}
cudaError_t cudaFree(void* data) {
  const auto lock = Lock();
  DrainAll();
  const auto found = The().device_memory.find(data);
  if (found == The().device_memory.end()) Fail("cudaFree of what cudaMalloc did not give");
  The().device_bytes -= found->second.bytes;
  The().device_memory.erase(found);
  return The().failed;
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  const auto lock = Lock();
  const cudaError_t error = Wait();
  return error != cudaSuccess ? error : Allocate(The().host_memory, data, bytes);
}
cudaError_t cudaFreeHost(void* data) {
  const auto lock = Lock();
  DrainAll();
  if (The().host_memory.erase(data) == 0) Fail("cudaFreeHost of what cudaHostAlloc did not give");
  return The().failed;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const auto lock = Lock();
  *free = kDeviceBytes - The().device_bytes, *total = kDeviceBytes;
  return The().failed;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  const auto lock = Lock();
  *stream = new EmulatedStream;
  (*stream)->device = current_device;
  The().streams.push_back(*stream);
  return The().failed;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto lock = Lock();
  Drain(*stream);
  std::erase(The().streams, stream);
  delete stream;
  return The().failed;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto lock = Lock();
  if (const cudaError_t error = Wait(); error != cudaSuccess) return error;
  Drain(*stream);
  return The().failed;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto lock = Lock();
  return Add(*stream, {.work = nullptr, .awaited = event->state, .place = event->state->recorded});
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return elserve::cuda_emulation::Enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return elserve::cuda_emulation::Enqueue(stream, [=] { std::memset(to, value, bytes); });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const auto lock = Lock();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto lock = Lock();
  if (stream->capture != nullptr) stream->capture_failed = true;
  const std::shared_ptr<EventState> state = event->state;
  return Add(*stream, {.work = [state, place = ++state->recorded] { state->passed = std::max(state->passed, place); },
                       .awaited = nullptr});
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto lock = Lock();
  if (const cudaError_t error = Wait(); error != cudaSuccess) return error;
  while (event->state->passed < event->state->recorded && The().failed == cudaSuccess) {
    if (!RunAny()) Fail("an event is awaited that nothing will record");
  }
  return The().failed;
}
// Any time: whatever is chosen by it has to be right.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  const auto lock = Lock();
  *milliseconds = 0.1f + static_cast<float>(RandomBelow(1000)) / 1000;
  return The().failed;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const auto lock = Lock();
  if (stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
  stream->capture = std::make_unique<EmulatedGraph>();
  stream->capture_failed = false;
  ++captures;
  return The().failed;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const auto lock = Lock();
  if (stream->capture == nullptr) return cudaErrorStreamCaptureUnsupported;
  --captures;
  std::unique_ptr<EmulatedGraph> captured = std::move(stream->capture);
  if (stream->capture_failed) return cudaErrorStreamCaptureUnsupported;
  *graph = captured.release();
  return The().failed;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned) {
  *executable = new EmulatedGraph(*graph);
  return The().failed;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return The().failed; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const auto lock = Lock();
  for (const auto& work : executable->work) {
    const cudaError_t error = elserve::cuda_emulation::Enqueue(stream, work);
    if (error != cudaSuccess) return error;
  }
  return The().failed;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return cudaGraphDestroy(executable); }
