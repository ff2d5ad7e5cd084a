#include "engine/document_list.h"

namespace elserve {

// The spans of documents_ refer to pages_, which may not grow.
DocumentList::DocumentList(int64_t positions, int64_t pages, const DocumentStore& store) : store_(store) {
  documents_.reserve(positions);
  pages_.reserve(pages);
}

void DocumentList::Clear() {
  documents_.clear();
  pages_.clear();
  last_ = nullptr;
  positions_ = 0;
}

void DocumentList::Add(const Sequence& sequence, int positions) {
  const Document* const document = sequence.document;
  if (document == nullptr) {
    documents_.push_back({.begin = positions_, .positions = 0, .length = 0, .pages = {}});
  } else if (last_ == nullptr || document != last_->document) {
    const size_t first_page = pages_.size();
    store_.AppendPages(*document, &pages_);
    documents_.push_back({.begin = positions_,
                          .positions = 0,
                          .length = document->length,
                          .pages = std::span<const int32_t>(pages_).subspan(first_page),
                          .bias = sequence.bias});
  } else if (!sequence.ReadsAs(*last_)) {
    documents_.push_back({.begin = positions_,
                          .positions = 0,
                          .length = document->length,
                          .pages = documents_.back().pages,
                          .bias = sequence.bias});
  }
  last_ = &sequence;
  documents_.back().positions += positions;
  positions_ += positions;
}

}  // namespace elserve
