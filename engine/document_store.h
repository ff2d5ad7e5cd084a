// Whose encoder memory is: the documents of the sequences in flight, and those that stay behind as a cache.
#ifndef ELSERVE_ENGINE_DOCUMENT_STORE_H_
#define ELSERVE_ENGINE_DOCUMENT_STORE_H_

#include <cstdint>
#include <list>
#include <span>
#include <vector>

#include "engine/document.h"
#include "engine/engine.h"

namespace elserve {

// A page is a document's or free. A document is in use while a sequence in flight has it. One that nobody uses any more
// is kept if it is encoded, and its pages count as free: they are taken, from the document that nobody has used for the
// longest time first, when the pages that are nobody's do not do.
//
// What a document has of its own size, its tokens and the chain of its pages, stands in tables by page: so as many are
// kept as the pages hold, and the tables grow with encoder memory alone (some 400 bytes a page of 64 states). Allocates
// only when it is made.
class DocumentStore {
 public:
  // `shared`: EngineOptions::encoder_cache. Not shared: every sequence gets a document of its own, and none is kept.
  DocumentStore(int64_t pages, bool shared);
  DocumentStore(const DocumentStore&) = delete;
  DocumentStore& operator=(const DocumentStore&) = delete;

  // The document of these tokens (at least one) for one user more: an equal one that is there, whatever its stage, or
  // else a new one. Null: it takes more than free_pages().
  Document* Acquire(std::span<const int32_t> tokens);
  // The user is gone. With the last one a document is kept, or forgotten if it is not encoded.
  void Release(Document* document);

  // Pages of no document in use.
  int64_t free_pages() const { return free_pages_; }
  // Documents in use, in the order in which they came into it.
  std::list<Document>& used() { return used_; }
  const EncoderCacheCounts& counts() const { return counts_; }

  // Append a document's tokens, and its pages in the order of its tokens.
  void AppendTokens(const Document& document, std::vector<int32_t>* to) const;
  void AppendPages(const Document& document, std::vector<int32_t>* to) const;

 private:
  Document* Find(uint64_t hash, std::span<const int32_t> tokens) const;
  bool Equal(const Document& document, std::span<const int32_t> tokens) const;
  Document* Make(uint64_t hash, std::span<const int32_t> tokens);
  void TakePages(std::span<const int32_t> tokens, Document* document);
  void ReturnPages(const Document& document);
  // Out of `list`, with nothing left of it.
  void Forget(Document* document, std::list<Document>* list);
  Document*& BucketOf(uint64_t hash) { return buckets_[hash % buckets_.size()]; }

  const bool shared_;
  std::list<Document> used_, spare_;
  std::list<Document> kept_;          // the least recently used first
  std::vector<Document*> buckets_;    // of used_ and kept_, if shared
  std::vector<int32_t> tokens_;       // [pages * kPageTokens]
  std::vector<int32_t> next_page_;    // [pages]: in the chain of a document's pages, or of nobody's
  int32_t first_spare_page_ = 0;      // of nobody's
  int64_t spare_pages_, free_pages_;  // nobody's; these and those of kept_
  EncoderCacheCounts counts_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DOCUMENT_STORE_H_
