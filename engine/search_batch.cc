#include "engine/search_batch.h"

#include <algorithm>

namespace elserve {

SearchBatch::SearchBatch(int64_t rows, int vocab, ThreadPool* pool)
    : pool_(pool), workspaces_(pool == nullptr ? 1 : static_cast<size_t>(pool->threads())) {
  entries_.reserve(static_cast<size_t>(rows));
  rows_.reserve(static_cast<size_t>(rows));
  for (RowWorkspace& workspace : workspaces_) workspace.Reserve(vocab);
}

void SearchBatch::Clear() {
  entries_.clear();
  rows_.clear();
  costly_ = false;
}

void SearchBatch::Add(Sequence& sequence, std::span<const SelectedRow> rows, std::span<const RowRules> rules) {
  Entry entry{.sequence = &sequence, .first = rows_.size(), .rows = rows.size()};
  for (size_t i = 0; i < rows.size(); ++i) {
    entry.finite = entry.finite && rows[i].finite;
    rows_.push_back({rows[i].candidates, rows[i].logits, rules.empty() ? nullptr : &rules[i]});
    costly_ = costly_ || !rows[i].logits.empty();
  }
  costly_ = costly_ || sequence.search().spec().do_sample;
  entries_.push_back(entry);
}

void SearchBatch::Advance(Entry& entry, RowWorkspace& workspace) const {
  if (!entry.finite) return;
  SearchState& search = entry.sequence->search();
  std::span<const DecodedRow> rows = std::span(rows_).subspan(entry.first, entry.rows);
  if (search.spec().top_logprobs > 0) {
    const auto live = static_cast<size_t>(search.rows());
    search.NoteAlternatives(rows.subspan(live));
    rows = rows.first(live);
  }
  search.Advance(rows, workspace);
  entry.finite = !search.failed();
}

void SearchBatch::Run() {
  if (costly_ && pool_ != nullptr) {
    pool_->Run(static_cast<int64_t>(entries_.size()),
               [this](int64_t i, int thread) { Advance(entries_[i], workspaces_[thread]); });
    return;
  }
  const auto all = [this] {
    for (Entry& entry : entries_) Advance(entry, workspaces_[0]);
  };
  if (pool_ == nullptr) {
    all();
  } else {
    pool_->Run(1, [&all](int64_t, int) { all(); });  // on this thread, with its numbers treated as on the others
  }
}

}  // namespace elserve
