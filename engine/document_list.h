// The documents that a decode layout's positions read, in memory taken once.
#ifndef ELSERVE_ENGINE_DOCUMENT_LIST_H_
#define ELSERVE_ENGINE_DOCUMENT_LIST_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/document_store.h"

namespace elserve {

// Made anew for each step: Clear, then Add for each sequence, in the order of their positions. Neighbours that share a
// document are one DecodeDocument, so that its states are read once for all of them.
class DocumentList {
 public:
  // `positions`: of one layout at most; `pages`: all of encoder memory. `store`: of the documents.
  DocumentList(int64_t positions, int64_t pages, const DocumentStore& store);

  void Clear();
  // The layout's next positions, so many, are of one sequence and read this document. The sequences of a document come
  // one after the other. Null: a sequence without one, which is a DecodeDocument of no tokens.
  void Add(const Document* document, int positions);

  // Valid until the next Clear.
  std::span<const DecodeDocument> documents() const { return documents_; }

 private:
  const DocumentStore& store_;
  std::vector<DecodeDocument> documents_;
  std::vector<int32_t> pages_;      // of all of them
  const Document* last_ = nullptr;  // the document of documents_.back()
  int positions_ = 0;               // of all of them
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DOCUMENT_LIST_H_
