// The emulation itself: what CUDA allows has CUDA's result, and what it leaves open comes out in more than one way.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <regex>
#include <set>
#include <vector>

#include "engine/backend/cuda/cuda_backend.h"
#include "engine/backend/cuda/launch.cuh"
#include "engine/backend/cuda/ptx.cuh"
#include "tests/engine/backend/cuda/emulation/kernel_list.h"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int kRounds = 40;

class EmulationTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, 0), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithPriority(&other_, cudaStreamNonBlocking, 0), cudaSuccess);
    void* data = nullptr;
    ASSERT_EQ(cudaMalloc(&data, kThreads * sizeof(int)), cudaSuccess);
    device_ = static_cast<int*>(data);
  }
  void TearDown() override {
    cudaFree(device_);
    cudaStreamDestroy(stream_);
    cudaStreamDestroy(other_);
  }
  // What the kernel leaves, waited for.
  std::vector<int> Run(void (*kernel)(int*), int shared_bytes = 0) {
    EXPECT_EQ(Launch(kernel, dim3(1), dim3(kThreads), shared_bytes, stream_, device_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return {device_, device_ + kThreads};
  }
  std::set<std::vector<int>> Outcomes(void (*kernel)(int*), int shared_bytes = 0) {
    std::set<std::vector<int>> outcomes;
    for (int round = 0; round < kRounds; ++round) outcomes.insert(Run(kernel, shared_bytes));
    return outcomes;
  }

  cudaStream_t stream_ = nullptr, other_ = nullptr;
  int* device_ = nullptr;
};

// Each thread gives its number to the thread on the other end of the block.
template <bool kBarrier>
__global__ void MirrorThreads(int* to) {
  auto& shared = StaticShared<int[kThreads]>();
  const int thread = static_cast<int>(threadIdx.x);
  shared[thread] = thread;
  if (kBarrier) __syncthreads();
  to[thread] = shared[kThreads - 1 - thread];
}

TEST_F(EmulationTest, AMissingBarrierShows) {
  const std::set<std::vector<int>> right = Outcomes(MirrorThreads<true>);
  EXPECT_EQ(right.size(), 1u);
  EXPECT_EQ(right.begin()->front(), kThreads - 1);
  EXPECT_GT(Outcomes(MirrorThreads<false>).size(), 1u);
}

template <bool kWait>
__global__ void CopyThroughShared(int* data) {
  auto* shared = reinterpret_cast<int*>(DynamicShared());
  const int thread = static_cast<int>(threadIdx.x);
  data[thread] = thread;
  __syncthreads();
  if (thread % 4 == 0) CopyAsync16(shared + thread, data + thread);
  CommitCopies();
  if (kWait) WaitCopies<0>();
  __syncthreads();
  data[thread] = shared[thread];
}

TEST_F(EmulationTest, ACopyThatIsNotWaitedForShows) {
  constexpr int kBytes = kThreads * sizeof(int);
  const std::set<std::vector<int>> right = Outcomes(CopyThroughShared<true>, kBytes);
  EXPECT_EQ(right.size(), 1u);
  EXPECT_EQ(right.begin()->back(), kThreads - 1);
  EXPECT_GT(Outcomes(CopyThroughShared<false>, kBytes).size(), 1u);
}

__global__ void ReadUnwritten(int* to) { to[threadIdx.x] = StaticShared<int[kThreads]>()[threadIdx.x]; }

TEST_F(EmulationTest, MemoryIsPoisoned) {
  EXPECT_EQ(Run(ReadUnwritten), std::vector<int>(kThreads, -1));
  void* fresh = nullptr;
  ASSERT_EQ(cudaMalloc(&fresh, sizeof(float)), cudaSuccess);
  EXPECT_TRUE(std::isnan(*static_cast<float*>(fresh)));
  cudaFree(fresh);
}

__global__ void AddOne(int* to) { ++to[threadIdx.x]; }

// Without an event the second stream may be first; with it, it is not.
TEST_F(EmulationTest, StreamsAreOrderedByEventsAlone) {
  for (const bool ordered : {false, true}) {
    std::set<int> seen;
    cudaEvent_t event = nullptr;
    ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
    for (int round = 0; round < kRounds; ++round) {
      int copied = 0;
      cudaMemsetAsync(device_, 0, kThreads * sizeof(int), stream_);
      cudaStreamSynchronize(stream_);
      Launch(AddOne, dim3(1), dim3(kThreads), 0, stream_, device_);
      if (ordered) {
        cudaEventRecord(event, stream_);
        cudaStreamWaitEvent(other_, event, 0);
      }
      cudaMemcpyAsync(&copied, device_, sizeof(copied), cudaMemcpyDeviceToHost, other_);
      cudaStreamSynchronize(other_);
      seen.insert(copied);
      cudaStreamSynchronize(stream_);
    }
    EXPECT_EQ(seen, ordered ? std::set<int>{1} : (std::set<int>{0, 1}));
    cudaEventDestroy(event);
  }
}

TEST_F(EmulationTest, AGraphRunsWhatWasCapturedEachTimeItIsLaunched) {
  cudaMemsetAsync(device_, 0, kThreads * sizeof(int), stream_);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  Launch(AddOne, dim3(1), dim3(kThreads), 0, stream_, device_);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  cudaGraphDestroy(graph);
  for (int launch = 0; launch < 3; ++launch) EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
  cudaGraphExecDestroy(executable);
  cudaStreamSynchronize(stream_);
  EXPECT_EQ(device_[0], 3);
}

// C += A B of 16 x 8 x 16 small numbers, each fragment filled as PTX ISA writes it.
__global__ void MultiplyOnce(int* to) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const auto a = [](int row, int k) { return static_cast<float>((3 * row + 5 * k) % 7 - 3); };
  const auto b = [](int k, int column) { return static_cast<float>((2 * k + column) % 5 - 2); };
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) {
    const int row = g + i % 2 * 8, k = 2 * t + i / 2 * 8;
    left[i] = PackBFloat16(a(row, k), a(row, k + 1));
  }
  for (int i = 0; i < 2; ++i) right[i] = PackBFloat16(b(2 * t + 8 * i, g), b(2 * t + 8 * i + 1, g));
  float c[4] = {1, 1, 1, 1};
  MultiplyAdd(c, left, right[0], right[1]);
  bool same = true;
  for (int i = 0; i < 4; ++i) {
    float expected = 1;
    for (int k = 0; k < 16; ++k) expected += a(g + i / 2 * 8, k) * b(k, 2 * t + i % 2);
    same &= c[i] == expected;
  }
  to[threadIdx.x] = same ? 1 : 0;
}

TEST_F(EmulationTest, MultipliesFragments) { EXPECT_EQ(Run(MultiplyOnce), std::vector<int>(kThreads, 1)); }

__global__ void LeaveSomeBehind(int* to) {
  if (threadIdx.x % 2 == 0) to[threadIdx.x] = __shfl_xor_sync(~0u, 1, 2);
}

TEST_F(EmulationTest, WaitingForNobodyEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(Run(LeaveSomeBehind), "a thread waits for others");
}

TEST(EmulatedKernels, EachIsSomeTestsToReach) {
  ASSERT_TRUE(MakeCudaBackend({}).ok());
  const auto kernels = cuda_emulation::AllKernels();
  EXPECT_GT(kernels.size(), 50u);
  for (const auto& [name, function] : kernels) {
    EXPECT_TRUE(std::regex_search(name, std::regex(ELSERVE_KERNELS_WITH_TESTS)))
        << name << ": name the test that has to reach it in this folder's CMakeLists.txt";
  }
}

}  // namespace
}  // namespace elserve::cuda
