#include "engine/encode_batch.h"

#include <algorithm>

namespace elserve {

EncodeBatch::EncodeBatch(Encoder& encoder, int tokens_per_step, int max_source, int max_documents)
    : encoder_(encoder), tokens_per_step_(tokens_per_step) {
  const size_t positions = std::max(tokens_per_step, max_source);
  tokens_.reserve(positions);
  position_ids_.reserve(positions);
  documents_.reserve(max_documents);
  sequences_.reserve(max_documents);
}

void EncodeBatch::Form(std::span<Sequence* const> sequences) {
  if (active()) return;
  next_layer_ = 0;
  done_ = false;
  sequences_.clear();
  for (Sequence* sequence : sequences) {
    if (sequence->stage != Sequence::Stage::kWaiting) continue;
    const size_t length = sequence->source.size();
    if (active() && tokens_.size() + length > static_cast<size_t>(tokens_per_step_)) break;
    documents_.push_back({static_cast<int32_t>(tokens_.size()), static_cast<int32_t>(length), sequence->pages});
    tokens_.insert(tokens_.end(), sequence->source.begin(), sequence->source.end());
    for (size_t i = 0; i < length; ++i) position_ids_.push_back(static_cast<int32_t>(i));
    sequences_.push_back(sequence);
    sequence->stage = Sequence::Stage::kEncoding;
  }
}

void EncodeBatch::Drop(const Sequence* sequence) {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (sequences_[i] != sequence) continue;
    sequences_[i] = nullptr;
    documents_[i].pages = {};
  }
  // Nobody waits for the batch any more: the next one need not either.
  if (std::all_of(sequences_.begin(), sequences_.end(), [](const Sequence* s) { return s == nullptr; })) Clear();
}

void EncodeBatch::Clear() {
  tokens_.clear();
  position_ids_.clear();
  documents_.clear();
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

std::span<Sequence* const> EncodeBatch::TakeDone() {
  if (!done_) return {};
  done_ = false;
  Clear();
  return sequences_;
}

}  // namespace elserve
