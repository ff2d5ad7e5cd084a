// The searches of a step, advanced with what the device found.
#ifndef ELSERVE_ENGINE_SEARCH_BATCH_H_
#define ELSERVE_ENGINE_SEARCH_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/search/decoded_row.h"
#include "engine/sequence.h"
#include "engine/thread_pool.h"

namespace elserve {

// Made anew for each step: Clear, Add for each sequence that selected, Run. Searches that draw tokens or look at whole
// rows run on all threads, each on one of them; others take less than it costs to wake a thread. Either way subnormal
// numbers are flushed to zero, so that no search depends on what the others are.
class SearchBatch {
 public:
  struct Entry {
    Sequence* sequence;
    size_t first, rows;  // of what was added
    bool finite = true;  // false: its logits are not finite, and its search means nothing any more
  };

  // So many select rows in a step at most, of this vocabulary. `pool` may be null: the caller's thread alone.
  SearchBatch(int64_t rows, int vocab, ThreadPool* pool);

  void Clear();
  // `rows`: the device's answer for each of the sequence's select rows; `rules`: of each, or none where nothing comes
  // whole. Both have to stay until Run has ended.
  void Add(Sequence& sequence, std::span<const SelectedRow> rows, std::span<const RowRules> rules);
  void Run();
  // As they were added.
  std::span<const Entry> entries() const { return entries_; }

 private:
  void Advance(Entry& entry, RowWorkspace& workspace) const;

  ThreadPool* const pool_;
  std::vector<Entry> entries_;
  std::vector<DecodedRow> rows_;          // of all entries
  bool costly_ = false;                   // some search draws, or looks at whole rows
  std::vector<RowWorkspace> workspaces_;  // [threads]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_BATCH_H_
