#include "tests/engine/backend/cuda/emulation/block.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "tests/engine/backend/cuda/emulation/fiber.h"

namespace elserve::cuda_emulation {
namespace {

constexpr int kMostResident = 3;     // blocks
constexpr uint32_t kMostTurns = 64;  // of a warp, before any other may be next

struct Block;
struct Warp;

struct Copy {
  void* to;
  const void* from;
};

struct Thread {
  explicit Thread(void (*entry)()) : fiber(entry) {}
  Fiber fiber;
  Block* block = nullptr;
  Warp* warp = nullptr;
  int lane = 0;
  Place place;
  std::vector<Copy> copies;        // under way, oldest first
  std::vector<size_t> groups_end;  // of each group, in copies; behind the last: not yet committed
};

struct Warp {
  Thread* lanes[kWarpThreads];  // null: has ended
  Thread* ready[kWarpThreads];  // the last one is next
  int ready_count = 0;
  int ready_place = -1;  // among the warps that have some
  WarpWork work = nullptr;
  void* brought[kWarpThreads];
  int met = 0;
  int alive = kWarpThreads;
};

struct FreeShared {
  void operator()(unsigned char* data) const { std::free(data); }
};
using SharedMemory = std::unique_ptr<unsigned char, FreeShared>;
SharedMemory Poisoned(size_t bytes) {
  constexpr size_t kAlign = 128;
  const size_t whole = (bytes + kAlign - 1) / kAlign * kAlign;
  auto* data = static_cast<unsigned char*>(std::aligned_alloc(kAlign, std::max(whole, kAlign)));
  std::memset(data, kPoison, std::max(whole, kAlign));
  return SharedMemory(data);
}

struct Block {
  std::vector<Warp> warps;
  int waiting = 0;  // at the barrier
  int alive = 0;
  bool any = false, next_any = false;
  SharedMemory dynamic;
  std::vector<std::pair<const std::type_info*, SharedMemory>> statics;
};

void RunThreads();

class Multiprocessor {
 public:
  bool Run(const Grid& grid);
  // The warp's threads, in an order of chance.
  void MakeReady(Warp& warp);
  // Of the thread that runs: others go on, and at some time this one.
  void Yield() { Continue(current_->fiber); }
  void Exit();
  void LeaveFault();
  // Lets the block's threads pass the barrier when all have come that live.
  void Release(Block& block);

  Thread& current() const { return *current_; }
  const Grid& grid() const { return *grid_; }
  bool running() const { return grid_ != nullptr; }

 private:
  void Begin(unsigned index);
  void Continue(Fiber& from);
  Thread* Next();

  const Grid* grid_ = nullptr;
  bool faulted_ = false;
  Fiber host_;
  Thread* current_ = nullptr;
  Warp* warp_ = nullptr;  // whose thread ran last
  uint32_t turns_ = 0;    // that it has yet
  std::vector<Warp*> ready_;
  std::vector<std::unique_ptr<Block>> resident_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Thread*> idle_;
};

Multiprocessor device;

void Multiprocessor::MakeReady(Warp& warp) {
  warp.ready_place = static_cast<int>(ready_.size());
  ready_.push_back(&warp);
  const uint32_t begin = RandomBelow(kWarpThreads), step = RandomBelow(kWarpThreads) | 1;
  for (uint32_t i = 0; i < kWarpThreads; ++i) {
    Thread* const thread = warp.lanes[(begin + i * step) % kWarpThreads];
    if (thread != nullptr) warp.ready[warp.ready_count++] = thread;
  }
}

Thread* Multiprocessor::Next() {
  if (ready_.empty()) return nullptr;
  if (turns_-- == 0 || warp_->ready_count == 0) {
    warp_ = ready_[RandomBelow(static_cast<uint32_t>(ready_.size()))];
    turns_ = RandomBelow(kMostTurns);
  }
  Thread* const next = warp_->ready[--warp_->ready_count];
  if (warp_->ready_count == 0) {
    ready_.back()->ready_place = warp_->ready_place;
    ready_[warp_->ready_place] = ready_.back();
    ready_.pop_back();
  }
  return next;
}

void Multiprocessor::Continue(Fiber& from) {
  Thread* const next = Next();
  Fiber& to = next == nullptr ? host_ : next->fiber;
  if (next != nullptr) {
    current_ = next;
    place = next->place;
  }
  if (&to != &from) from.SwitchTo(to);
}

void Multiprocessor::Begin(unsigned index) {
  const Index3 blocks = grid_->blocks;
  const unsigned count = grid_->threads.x;
  resident_.push_back(std::make_unique<Block>());
  Block& block = *resident_.back();
  block.warps.resize(count / kWarpThreads);
  block.alive = static_cast<int>(count);
  block.dynamic = Poisoned(grid_->shared_bytes);
  for (unsigned t = 0; t < count; ++t) {
    if (idle_.empty()) {
      threads_.push_back(std::make_unique<Thread>(RunThreads));
      idle_.push_back(threads_.back().get());
    }
    Thread& thread = *idle_.back();
    idle_.pop_back();
    thread.block = &block;
    thread.warp = &block.warps[t / kWarpThreads];
    thread.lane = static_cast<int>(t % kWarpThreads);
    thread.warp->lanes[thread.lane] = &thread;
    thread.place = {.thread = {t, 0, 0},
                    .block = {index % blocks.x, index / blocks.x % blocks.y, index / blocks.x / blocks.y},
                    .blocks = blocks};
  }
  for (Warp& warp : block.warps) MakeReady(warp);
}

bool Multiprocessor::Run(const Grid& grid) {
  grid_ = &grid;
  faulted_ = false;
  if (grid.threads.x % kWarpThreads != 0 || grid.threads.y != 1 || grid.threads.z != 1) {
    Fail("a block's threads are not whole warps along x");
  }
  std::vector<unsigned> order(size_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z);
  std::iota(order.begin(), order.end(), 0u);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[RandomBelow(static_cast<uint32_t>(i))]);
  const size_t most = 1 + RandomBelow(kMostResident);
  while (!faulted_ && (!order.empty() || !resident_.empty())) {
    while (!order.empty() && resident_.size() < most) {
      Begin(order.back());
      order.pop_back();
    }
    const size_t before = resident_.size();
    turns_ = 0;
    Continue(host_);
    std::erase_if(resident_, [](const auto& block) { return block->alive == 0; });
    if (!faulted_ && resident_.size() == before) {
      Fail("a thread waits for others of its block or warp, which have ended or wait elsewhere");
    }
  }
  if (faulted_) {
    ready_.clear(), idle_.clear(), resident_.clear(), threads_.clear();
  }
  grid_ = nullptr;
  return !faulted_;
}

void Multiprocessor::Release(Block& block) {
  if (block.waiting == 0 || block.waiting < block.alive) return;
  block.any = std::exchange(block.next_any, false);
  block.waiting = 0;
  for (Warp& warp : block.warps) {
    if (warp.alive > 0) MakeReady(warp);
  }
}

void Multiprocessor::Exit() {
  Thread& thread = *current_;
  thread.copies.clear(), thread.groups_end.clear();
  thread.warp->lanes[thread.lane] = nullptr;
  --thread.block->alive, --thread.warp->alive;
  Release(*thread.block);
  idle_.push_back(&thread);
  // A block that has ended makes room for the next one.
  if (thread.block->alive == 0) {
    thread.fiber.SwitchTo(host_);
  } else {
    Continue(thread.fiber);
  }
}

void Multiprocessor::LeaveFault() {
  faulted_ = true;
  current_->fiber.SwitchTo(host_);
}

void RunThreads() {
  for (;;) {
    device.grid().kernel();
    device.Exit();
  }
}

struct sigaction before_us;

// A kernel's access to memory that is not there ends the grid; anybody else's goes where it would have gone.
void OnFault(int signal, siginfo_t* info, void* context) {
  (void)info, (void)context;
  if (device.running()) device.LeaveFault();
  sigaction(signal, &before_us, nullptr);
}

uint64_t FirstState() {
  const char* const seed = std::getenv("ELSERVE_EMULATION_SEED");
  return 0x9e3779b97f4a7c15u + (seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10)) * 0xbf58476d1ce4e5b9u;
}

void Perform(const Copy& copy) {
  if (copy.from == nullptr) {
    std::memset(copy.to, 0, 16);
  } else {
    std::memcpy(copy.to, copy.from, 16);
  }
}

}  // namespace

Place place;

uint32_t RandomBelow(uint32_t n) {
  static uint64_t state = FirstState();
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return static_cast<uint32_t>((state >> 32) * n >> 32);
}

void Fail(const char* what) {
  const Index3 &block = place.block, &thread = place.thread;
  std::fprintf(stderr, "cuda emulation: block (%u, %u, %u), thread %u: %s\n", block.x, block.y, block.z, thread.x,
               what);
  std::abort();
}

bool RunGrid(const Grid& grid) {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = OnFault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before_us);
    return true;
  }();
  (void)installed;
  return device.Run(grid);
}

unsigned char* DynamicShared() { return device.current().block->dynamic.get(); }

void* StaticShared(const std::type_info& type, size_t bytes) {
  auto& statics = device.current().block->statics;
  for (const auto& [known, memory] : statics) {
    if (*known == type) return memory.get();
  }
  statics.emplace_back(&type, Poisoned(bytes));
  return statics.back().second.get();
}

bool MeetBlock(bool value) {
  Block& block = *device.current().block;
  block.next_any |= value;
  ++block.waiting;
  device.Release(block);
  device.Yield();
  return block.any;
}

void MeetWarp(WarpWork work, void* own) {
  Thread& thread = device.current();
  Warp& warp = *thread.warp;
  if (warp.met == 0) warp.work = work;
  if (warp.work != work) Fail("threads of a warp meet in different operations");
  warp.brought[thread.lane] = own;
  if (++warp.met == kWarpThreads) {
    work(warp.brought);
    warp.met = 0;
    device.MakeReady(warp);
  }
  device.Yield();
}

void CheckShared(const void* at) {
  const auto* byte = static_cast<const unsigned char*>(at);
  const unsigned char* begin = DynamicShared();
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0) Fail("an address in shared memory is not a multiple of 16");
  if (byte < begin || byte + 16 > begin + device.grid().shared_bytes) {
    Fail("an address is outside the block's dynamic shared memory");
  }
}

void CopyAsync(void* shared, const void* global) {
  CheckShared(shared);
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0) Fail("cp.async from an address that is not a multiple of 16");
  device.current().copies.push_back({shared, global});
}

// A group is copied at once, or when somebody waits for it: whatever is between may happen on a device.
void CommitCopies() {
  Thread& thread = device.current();
  if (OneIn(4)) {
    const size_t begin = thread.groups_end.empty() ? 0 : thread.groups_end.back();
    std::for_each(thread.copies.begin() + begin, thread.copies.end(), Perform);
    thread.copies.resize(begin);
  }
  thread.groups_end.push_back(thread.copies.size());
}

void WaitCopies(int pending) {
  Thread& thread = device.current();
  const int groups = static_cast<int>(thread.groups_end.size()) - pending;
  if (groups <= 0) return;
  const size_t end = thread.groups_end[groups - 1];
  std::for_each(thread.copies.begin(), thread.copies.begin() + end, Perform);
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + end);
  thread.groups_end.erase(thread.groups_end.begin(), thread.groups_end.begin() + groups);
  for (size_t& each : thread.groups_end) each -= end;
}

}  // namespace elserve::cuda_emulation
