// A grid of a kernel on the processor: threads are fibers, which change places where threads meet.
//
// Some blocks are resident at a time. A warp runs on until none of its threads can, or by chance another one is next;
// its threads take turns in random order. So a warp may be a whole loop ahead of its neighbours, and a thread ahead of
// its warp, wherever no barrier forbids it. Memory is poisoned, asynchronous copies happen at any time until they are
// waited for. All chance comes from one seed.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_BLOCK_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <typeinfo>

namespace elserve::cuda_emulation {

inline constexpr int kWarpThreads = 32;
inline constexpr unsigned char kPoison = 0xff;  // NaN as float32 and bfloat16, -1 as an integer

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

// Numbers of the one sequence that all of the emulation draws from; ELSERVE_EMULATION_SEED sets its beginning.
uint32_t RandomBelow(uint32_t n);
inline bool OneIn(uint32_t n) { return RandomBelow(n) == 0; }

// Says what a kernel did that CUDA does not allow, and ends the process.
[[noreturn]] void Fail(const char* what);

struct Grid {
  Index3 blocks;
  Index3 threads;  // of a block: whole warps, along x alone
  size_t shared_bytes = 0;
  std::function<void()> kernel;  // one thread of it
};

// Runs all of a grid. False: a thread touched memory that is not there.
bool RunGrid(const Grid& grid);

// What follows is called by a kernel's thread.

struct Place {
  Index3 thread, block, blocks;
};
extern Place place;  // of the thread that runs

unsigned char* DynamicShared();
// The block's memory for `type`, which it has once.
void* StaticShared(const std::type_info& type, size_t bytes);

// __syncthreads_or.
bool MeetBlock(bool value);

// All threads of the warp meet; then `work` is done once, on what each of them brought, in the order of lanes.
using WarpWork = void (*)(void* const* lanes);
void MeetWarp(WarpWork work, void* own);

// Of 16 bytes, in groups, as cp.async. Null: zeros.
void CopyAsync(void* shared, const void* global);
void CommitCopies();
void WaitCopies(int pending);
// Where `at` is not 16-byte aligned or not within the block's dynamic shared memory, fails.
void CheckShared(const void* at);

}  // namespace elserve::cuda_emulation

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_BLOCK_H_
