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

void DocumentList::Add(const Document* document, int positions) {
  if (document == nullptr) {
    documents_.push_back({.begin = positions_, .positions = 0, .length = 0, .pages = {}});
  } else if (document != last_) {
    const size_t first_page = pages_.size();
    store_.AppendPages(*document, &pages_);
    documents_.push_back({.begin = positions_,
                          .positions = 0,
                          .length = document->length,
                          .pages = std::span<const int32_t>(pages_).subspan(first_page)});
  }
  last_ = document;
  documents_.back().positions += positions;
  positions_ += positions;
}

}  // namespace elserve
