#include "engine/document_store.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "absl/hash/hash.h"
#include "absl/types/span.h"
#include "engine/backend/backend.h"

namespace elserve {
namespace {

int64_t PagesOf(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace

// Every document has a page at least, so there are never more documents than pages.
DocumentStore::DocumentStore(int64_t pages, bool shared)
    : shared_(shared),
      spare_(pages),
      buckets_(std::bit_ceil(static_cast<uint64_t>(pages))),
      tokens_(pages * kPageTokens),
      next_page_(pages),
      spare_pages_(pages),
      free_pages_(pages) {
  for (auto place = spare_.begin(); place != spare_.end(); ++place) place->place = place;
  std::iota(next_page_.begin(), next_page_.end(), 1);
}

Document* DocumentStore::Acquire(std::span<const int32_t> tokens) {
  const uint64_t hash = shared_ ? absl::HashOf(absl::MakeConstSpan(tokens.data(), tokens.size())) : 0;
  Document* document = shared_ ? Find(hash, tokens) : nullptr;
  if (document == nullptr) {
    document = Make(hash, tokens);
    if (document == nullptr) return nullptr;
    counts_.misses += shared_;
  } else {
    if (document->users == 0) {
      used_.splice(used_.end(), kept_, document->place);
      free_pages_ -= PagesOf(document->length);
      counts_.kept_tokens -= document->length;
    }
    ++counts_.hits;
  }
  ++document->users;
  return document;
}

void DocumentStore::Release(Document* document) {
  if (--document->users > 0) return;
  free_pages_ += PagesOf(document->length);
  if (shared_ && document->stage == Document::Stage::kEncoded) {
    kept_.splice(kept_.end(), used_, document->place);
    counts_.kept_tokens += document->length;
  } else {
    Forget(document, &used_);
  }
}

Document* DocumentStore::Find(uint64_t hash, std::span<const int32_t> tokens) const {
  Document* document = buckets_[hash % buckets_.size()];
  while (document != nullptr && (document->hash != hash || !Equal(*document, tokens))) {
    document = document->next_in_bucket;
  }
  return document;
}

bool DocumentStore::Equal(const Document& document, std::span<const int32_t> tokens) const {
  if (tokens.size() != static_cast<size_t>(document.length)) return false;
  for (int32_t page = document.first_page; !tokens.empty(); page = next_page_[page]) {
    const auto part = tokens.first(std::min<size_t>(kPageTokens, tokens.size()));
    if (!std::equal(part.begin(), part.end(), tokens_.begin() + int64_t{page} * kPageTokens)) return false;
    tokens = tokens.subspan(part.size());
  }
  return true;
}

Document* DocumentStore::Make(uint64_t hash, std::span<const int32_t> tokens) {
  const int64_t pages = PagesOf(static_cast<int64_t>(tokens.size()));
  if (pages > free_pages_) return nullptr;
  while (spare_pages_ < pages) {
    ++counts_.evictions;
    counts_.kept_tokens -= kept_.front().length;
    Forget(&kept_.front(), &kept_);
  }
  Document* document = &spare_.front();
  used_.splice(used_.end(), spare_, document->place);
  document->stage = Document::Stage::kWaiting;
  document->length = static_cast<int32_t>(tokens.size());
  document->hash = hash;
  TakePages(tokens, document);
  free_pages_ -= pages;
  if (shared_) {
    Document*& bucket = BucketOf(hash);
    document->next_in_bucket = bucket;
    bucket = document;
  }
  return document;
}

void DocumentStore::TakePages(std::span<const int32_t> tokens, Document* document) {
  document->first_page = first_spare_page_;
  for (; !tokens.empty(); --spare_pages_) {
    const auto part = tokens.first(std::min<size_t>(kPageTokens, tokens.size()));
    std::copy(part.begin(), part.end(), tokens_.begin() + int64_t{first_spare_page_} * kPageTokens);
    first_spare_page_ = next_page_[first_spare_page_];
    tokens = tokens.subspan(part.size());
  }
}

void DocumentStore::ReturnPages(const Document& document) {
  const int64_t pages = PagesOf(document.length);
  int32_t last = document.first_page;
  for (int64_t i = 1; i < pages; ++i) last = next_page_[last];
  next_page_[last] = first_spare_page_;
  first_spare_page_ = document.first_page;
  spare_pages_ += pages;
}

void DocumentStore::Forget(Document* document, std::list<Document>* list) {
  if (shared_) {
    Document** link = &BucketOf(document->hash);
    while (*link != document) link = &(*link)->next_in_bucket;
    *link = document->next_in_bucket;
  }
  ReturnPages(*document);
  spare_.splice(spare_.begin(), *list, document->place);
}

void DocumentStore::AppendTokens(const Document& document, std::vector<int32_t>* to) const {
  int32_t page = document.first_page;
  for (int32_t left = document.length; left > 0; left -= kPageTokens, page = next_page_[page]) {
    const auto from = tokens_.begin() + int64_t{page} * kPageTokens;
    to->insert(to->end(), from, from + std::min(left, kPageTokens));
  }
}

void DocumentStore::AppendPages(const Document& document, std::vector<int32_t>* to) const {
  int32_t page = document.first_page;
  for (int32_t left = document.length; left > 0; left -= kPageTokens, page = next_page_[page]) to->push_back(page);
}

}  // namespace elserve
