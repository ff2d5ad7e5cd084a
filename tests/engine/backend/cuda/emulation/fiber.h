// A stack of its own for a function, and the change from one to another. x86-64.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_FIBER_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_FIBER_H_

#include <cstddef>

namespace elserve::cuda_emulation {

class Fiber {
 public:
  // The stack that runs now.
  Fiber() = default;
  // A new one, which begins with `entry` when it is first switched to; `entry` does not return.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Goes on in `to` where it was left; returns when somebody switches back to this one, which is the one that runs.
  void SwitchTo(Fiber& to);

 private:
  static void Begin();
  void Arrive();

  void* stack_pointer_ = nullptr;
  void (*entry_)() = nullptr;
  void* mapping_ = nullptr;  // null: the stack is not ours
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* sanitizer_ = nullptr;  // the address sanitizer's
};

}  // namespace elserve::cuda_emulation

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_FIBER_H_
