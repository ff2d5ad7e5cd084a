#include "engine/encode_batch.h"

#include <algorithm>

namespace elserve {

EncodeBatch::EncodeBatch(Encoder& encoder, int tokens_per_step, int max_source, int max_documents)
    : encoder_(encoder), tokens_per_step_(tokens_per_step) {
  const size_t positions = std::max(tokens_per_step, max_source);
  tokens_.reserve(positions);
  position_ids_.reserve(positions);
  // Each has a last page that need not be full. The parts refer to the list, so it may not grow.
  pages_.reserve(positions / kPageTokens + max_documents);
  parts_.reserve(max_documents);
  documents_.reserve(max_documents);
}

void EncodeBatch::Form(DocumentStore& store) {
  if (active()) return;
  next_layer_ = 0;
  done_ = false;
  documents_.clear();
  for (Document& document : store.used()) {
    if (document.stage != Document::Stage::kWaiting) continue;
    const auto begin = static_cast<int32_t>(tokens_.size());
    if (active() && begin + document.length > tokens_per_step_) break;
    const size_t first_page = pages_.size();
    store.AppendTokens(document, &tokens_);
    store.AppendPages(document, &pages_);
    parts_.push_back({begin, document.length, std::span<const int32_t>(pages_).subspan(first_page)});
    for (int32_t i = 0; i < document.length; ++i) position_ids_.push_back(i);
    documents_.push_back(&document);
    document.stage = Document::Stage::kEncoding;
  }
}

void EncodeBatch::Drop(const Document* document) {
  for (size_t i = 0; i < documents_.size(); ++i) {
    if (documents_[i] != document) continue;
    documents_[i] = nullptr;
    parts_[i].pages = {};
  }
  // Nobody waits for the batch any more: the next one need not either.
  if (std::all_of(documents_.begin(), documents_.end(), [](const Document* d) { return d == nullptr; })) Clear();
}

void EncodeBatch::Clear() {
  tokens_.clear();
  position_ids_.clear();
  pages_.clear();
  parts_.clear();
}

void EncodeBatch::Run() {
  if (!active()) return;
  const int64_t budget = tokens_per_step_ * encoder_.layers();
  const int64_t layers = std::max<int64_t>(1, budget / static_cast<int64_t>(tokens_.size()));
  if (next_layer_ == 0) encoder_.Embed();
  for (int64_t i = 0; i < layers && next_layer_ < encoder_.layers(); ++i) encoder_.RunLayer(next_layer_++);
  if (next_layer_ < encoder_.layers()) return;
  encoder_.Store();
  done_ = true;
}

std::span<Document* const> EncodeBatch::TakeDone() {
  if (!done_) return {};
  done_ = false;
  Clear();
  return documents_;
}

}  // namespace elserve
