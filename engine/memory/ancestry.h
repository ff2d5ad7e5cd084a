// Which cells a position attends to: its hypothesis's history, one cell a decoder position. When beams are reordered
// only these numbers move; the states stay where they were written.
#ifndef ELSERVE_ENGINE_MEMORY_ANCESTRY_H_
#define ELSERVE_ENGINE_MEMORY_ANCESTRY_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace elserve {

// A table for this step's positions and one for the step before's, which they continue. Allocates only when it is made.
class Ancestry {
 public:
  Ancestry(int64_t positions, int64_t max_length)
      : stride_(max_length), now_(positions * max_length), before_(positions * max_length) {}

  // This step's table becomes the one before.
  void BeginStep() { now_.swap(before_); }

  // Position `position` continues `length` cells of the step before's `parent` (any value where length is 0) with
  // `cell`.
  void Continue(int64_t position, int64_t parent, int64_t length, int32_t cell) {
    int32_t* to = now_.data() + position * stride_;
    if (length > 0) std::copy_n(before_.data() + parent * stride_, length, to);
    to[length] = cell;
  }

  // [positions, stride()]
  const int32_t* table() const { return now_.data(); }
  int64_t stride() const { return stride_; }

 private:
  int64_t stride_;
  std::vector<int32_t> now_, before_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MEMORY_ANCESTRY_H_
