// The documents that a decode layout's positions read, in memory taken once.
#ifndef ELSERVE_ENGINE_DOCUMENT_LIST_H_
#define ELSERVE_ENGINE_DOCUMENT_LIST_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/document_store.h"
#include "engine/sequence.h"

namespace elserve {

// Made anew for each step: Clear, then Add for each sequence, in the order of their positions. Neighbours that share a
// document and have equal salience are one DecodeDocument, so that its states are read once for all of them.
class DocumentList {
 public:
  // `positions`: of one layout at most; `pages`: all of encoder memory. `store`: of the documents.
  DocumentList(int64_t positions, int64_t pages, const DocumentStore& store);

  void Clear();
  // The layout's next positions, so many, are this sequence's. The sequences of a document come one after the other.
  // One without a document is a DecodeDocument of no tokens.
  void Add(const Sequence& sequence, int positions);

  // Valid until the next Clear.
  std::span<const DecodeDocument> documents() const { return documents_; }

 private:
  const DocumentStore& store_;
  std::vector<DecodeDocument> documents_;
  std::vector<int32_t> pages_;      // of all of them, once for each document
  const Sequence* last_ = nullptr;  // the one before
  int positions_ = 0;               // of all of them
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DOCUMENT_LIST_H_
