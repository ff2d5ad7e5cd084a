// Memory that comes to the second-level cache ahead of its use, a few lines at a time between tile instructions: the
// tile unit loads whole tiles, too far apart for the processor's own prefetchers to be ahead enough.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_FETCH_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_FETCH_INL_H_

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

namespace elserve::cpu {
namespace {

class Fetch {
 public:
  static constexpr int kLine = 64;  // bytes

  Fetch() = default;
  // `units` from `from` on in about `calls` calls; null: nothing. `step`: bytes to the next line that is asked for: 128
  // where the processor, which takes lines in pairs, gets the other one by itself.
  Fetch(const uint32_t* from, int64_t units, int64_t calls, int64_t step = kLine)
      : at_(reinterpret_cast<const char*>(from)),
        step_(step),
        left_(from == nullptr ? 0 : (units * 4 + step - 1) / step) {
    lines_ = (left_ + calls - 1) / std::max<int64_t>(calls, 1);
  }

  bool done() const { return left_ == 0; }

  void operator()() {
    const int64_t lines = std::min(lines_, left_);
    for (int64_t i = 0; i < lines; ++i) _mm_prefetch(at_ + i * step_, _MM_HINT_T1);
    at_ += lines * step_;
    left_ -= lines;
  }

 private:
  const char* at_ = nullptr;
  int64_t step_ = kLine;
  int64_t left_ = 0, lines_ = 0;  // lines in all, and a call
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_FETCH_INL_H_
