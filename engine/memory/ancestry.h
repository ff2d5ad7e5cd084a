// Which cells a row attends to: its hypothesis's history, one cell a decoder position. When beams are reordered only
// these numbers move; the states stay where they were written.
#ifndef ELSERVE_ENGINE_MEMORY_ANCESTRY_H_
#define ELSERVE_ENGINE_MEMORY_ANCESTRY_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace elserve {

// Of one sequence's rows. Allocates only in Reserve.
class Ancestry {
 public:
  // Forgets what was there. Room for so many rows of so many cells; used again where it is large enough.
  void Reserve(int rows, int max_length) {
    stride_ = static_cast<size_t>(max_length);
    cells_.resize(static_cast<size_t>(rows) * stride_);
    next_.resize(cells_.size());
  }

  // Row i goes on from the first `length` cells of what was row parents[i].
  void Reorder(std::span<const int32_t> parents, int length) {
    size_t row = 0;
    while (row < parents.size() && parents[row] == static_cast<int32_t>(row)) ++row;
    if (row == parents.size()) return;
    for (row = 0; row < parents.size(); ++row) {
      std::copy_n(cells_.data() + static_cast<size_t>(parents[row]) * stride_, length, next_.data() + row * stride_);
    }
    cells_.swap(next_);
  }

  // The row's position `length`, behind those that it has, is in `cell`.
  void Append(int row, int length, int32_t cell) { cells_[static_cast<size_t>(row) * stride_ + length] = cell; }

  // Valid until the next Reorder or Reserve.
  std::span<const int32_t> cells(int row, int length) const {
    return {cells_.data() + static_cast<size_t>(row) * stride_, static_cast<size_t>(length)};
  }

 private:
  size_t stride_ = 0;
  std::vector<int32_t> cells_, next_;  // [rows, stride]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MEMORY_ANCESTRY_H_
