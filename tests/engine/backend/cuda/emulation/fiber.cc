#include "tests/engine/backend/cuda/emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "fibers are written for x86-64"
#endif

// Keeps what a called function has to keep, on the stack that is left, and takes it from the other.
asm(R"(
.text
.p2align 4
.type elserve_switch_stack, @function
elserve_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size elserve_switch_stack, .-elserve_switch_stack
)");
extern "C" void elserve_switch_stack(void** leave, void* go);

namespace elserve::cuda_emulation {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 512 << 10;
#else
constexpr size_t kStackBytes = 128 << 10;
#endif
constexpr size_t kGuardBytes = 4096;
constexpr int kKeptRegisters = 6;
// Stacks begin at different places of a page, or they would fall on the same lines of the first-level cache.
constexpr size_t kCacheLine = 64, kStackOffsets = 4096;

// Of the last change.
Fiber* left = nullptr;
Fiber* entered = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)()) : entry_(entry) {
  mapping_ = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED || mprotect(mapping_, kGuardBytes, PROT_NONE) != 0) std::abort();
  stack_ = static_cast<char*>(mapping_) + kGuardBytes;
  stack_bytes_ = kStackBytes;
  // As if Begin had been called: the stack is 8 bytes off a multiple of 16.
  static size_t made = 0;
  char* const end = static_cast<char*>(mapping_) + kGuardBytes + kStackBytes - made++ * kCacheLine % kStackOffsets;
  auto** top = reinterpret_cast<void**>(end);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::Begin);
  stack_pointer_ = top - kKeptRegisters;
}

Fiber::~Fiber() {
  if (mapping_ != nullptr) munmap(mapping_, kGuardBytes + kStackBytes);
}

void Fiber::Begin() {
  entered->Arrive();
  entered->entry_();
  std::abort();
}

// The address sanitizer wants to know which stack is the one that runs.
void Fiber::Arrive() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(sanitizer_, &left->stack_, &left->stack_bytes_);
#endif
}

void Fiber::SwitchTo(Fiber& to) {
  left = this;
  entered = &to;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&sanitizer_, to.stack_, to.stack_bytes_);
#endif
  elserve_switch_stack(&stack_pointer_, to.stack_pointer_);
  Arrive();
}

}  // namespace elserve::cuda_emulation
