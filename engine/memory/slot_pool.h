// Which pages of encoder memory, or blocks of decoder memory, are free. The bookkeeping alone: the bytes are the
// backend's.
#ifndef ELSERVE_ENGINE_MEMORY_SLOT_POOL_H_
#define ELSERVE_ENGINE_MEMORY_SLOT_POOL_H_

#include <cstdint>
#include <vector>

namespace elserve {

// Numbers 0 to slots - 1, each free or taken. Nothing has to be contiguous, so nothing is ever moved. Allocates only
// when it is made.
class SlotPool {
 public:
  explicit SlotPool(int64_t slots) {
    free_.reserve(slots);
    for (int64_t i = slots; i-- > 0;) free_.push_back(static_cast<int32_t>(i));
  }

  int64_t free() const { return static_cast<int64_t>(free_.size()); }

  // Appends `n` free slots to `to`; the caller has seen that they are there.
  void Take(int64_t n, std::vector<int32_t>* to) {
    to->insert(to->end(), free_.end() - n, free_.end());
    free_.resize(free_.size() - n);
  }

  // Returns all of `from` and empties it.
  void Return(std::vector<int32_t>* from) {
    free_.insert(free_.end(), from->begin(), from->end());
    from->clear();
  }

 private:
  std::vector<int32_t> free_;  // the next to be taken last
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MEMORY_SLOT_POOL_H_
