#include "server/text/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/text/byte_level.h"

namespace elserve {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t QueueKey(uint32_t rank, uint32_t position) { return static_cast<uint64_t>(rank) << 32 | position; }

// Takes the lowest key of both; false if there is none.
bool PopLowest(BpeModel::Scratch& scratch, size_t& first_done, uint64_t& key) {
  std::vector<uint64_t>& heap = scratch.heap;
  const bool has_first = first_done < scratch.first.size();
  if (!has_first && heap.empty()) return false;
  if (has_first && (heap.empty() || scratch.first[first_done] <= heap.front())) {
    key = scratch.first[first_done++];
    return true;
  }
  std::pop_heap(heap.begin(), heap.end(), std::greater<>());
  key = heap.back();
  heap.pop_back();
  return true;
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Create(const BpeSpec& spec) {
  BpeModel model;
  if (absl::Status status = model.SetVocab(spec); !status.ok()) return status;
  if (absl::Status status = model.SetMerges(spec); !status.ok()) return status;
  if (absl::Status status = model.SetBytes(spec); !status.ok()) return status;
  model.fuse_unk_ = spec.fuse_unk;
  model.ignore_merges_ = spec.ignore_merges;
  return model;
}

absl::Status BpeModel::SetVocab(const BpeSpec& spec) {
  if (spec.vocab.empty()) return absl::InvalidArgumentError(spec.vocab_source + " is empty");
  absl::flat_hash_map<int32_t, const std::string*> owners;
  owners.reserve(spec.vocab.size());
  vocab_.reserve(spec.vocab.size());
  for (const auto& [token, id] : spec.vocab) {
    if (id < 0 || id > kMaxTokenId) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s[\"%s\"] is %d: ids must be from 0 to %d", spec.vocab_source, token, id, kMaxTokenId));
    }
    const auto [owner, fresh_id] = owners.try_emplace(id, &token);
    if (!fresh_id) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: \"%s\" and \"%s\" have the same id %d", spec.vocab_source, *owner->second, token, id));
    }
    if (static_cast<size_t>(id) >= used_ids_.size()) used_ids_.resize(static_cast<size_t>(id) + 1);
    used_ids_[id] = true;
    if (!vocab_.try_emplace(token, id).second) {
      return absl::InvalidArgumentError(absl::StrFormat("%s has \"%s\" twice", spec.vocab_source, token));
    }
  }
  return absl::OkStatus();
}

absl::Status BpeModel::SetMerges(const BpeSpec& spec) {
  merges_.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    int32_t ids[3];
    const std::string* const tokens[2] = {&left, &right};
    const std::string merged = left + right;
    for (int i = 0; i < 3; ++i) {
      const std::string& token = i < 2 ? *tokens[i] : merged;
      const std::optional<int32_t> id = TokenId(token);
      if (!id) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s[%d] (\"%s\", \"%s\") needs the token \"%s\", which is not in %s", spec.merges_source,
                            rank, left, right, token, spec.vocab_source));
      }
      ids[i] = *id;
    }
    // A pair that is given twice has its last rank, as in the tokenizers library.
    merged_ids_.push_back(ids[2]);
    merges_.insert_or_assign(PairKey(ids[0], ids[1]), Merged{static_cast<uint32_t>(rank), ids[2]});
  }
  return absl::OkStatus();
}

absl::Status BpeModel::SetBytes(const BpeSpec& spec) {
  bool complete = true;
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = TokenId(ByteCharacters()[byte]).value_or(-1);
    complete = complete && byte_ids_[byte] >= 0;
  }
  if (!spec.unk_token || complete) return absl::OkStatus();
  const std::optional<int32_t> unk = TokenId(*spec.unk_token);
  if (!unk) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the unknown token \"%s\" is not in %s, which has no token for some bytes", *spec.unk_token,
                        spec.vocab_source));
  }
  unk_id_ = *unk;
  return absl::OkStatus();
}

std::optional<int32_t> BpeModel::TokenId(std::string_view token) const {
  const auto found = vocab_.find(View(token));
  if (found == vocab_.end()) return std::nullopt;
  return found->second;
}

const BpeModel::Merged* BpeModel::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// Notes what the symbol at `position` and the one after it make; null: nothing.
const BpeModel::Merged* BpeModel::SetMerged(uint32_t position, Scratch& scratch) const {
  Scratch::Symbol& left = scratch.symbols[position];
  const Merged* const merged = left.next == kNone ? nullptr : FindMerge(left.id, scratch.symbols[left.next].id);
  left.merged = merged == nullptr ? -1 : merged->id;
  return merged;
}

void BpeModel::PushMerge(uint32_t position, Scratch& scratch) const {
  const Merged* const merged = SetMerged(position, scratch);
  if (merged == nullptr) return;
  scratch.heap.push_back(QueueKey(merged->rank, position));
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
}

void BpeModel::SetSymbols(std::string_view word, Scratch& scratch) const {
  scratch.symbols.clear();
  bool after_unk = false;
  for (const char byte : word) {
    int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    const bool unknown = id < 0;
    if (unknown) {
      id = unk_id_;
      if (id < 0 || (after_unk && fuse_unk_)) continue;
    }
    after_unk = unknown;
    const auto position = static_cast<uint32_t>(scratch.symbols.size());
    scratch.symbols.push_back({id, -1, position == 0 ? kNone : position - 1, position + 1});
  }
  if (!scratch.symbols.empty()) scratch.symbols.back().next = kNone;
}

// The same steps as the tokenizers library's Word::merge_all, down to which outdated entries of the queue count.
void BpeModel::MergeSymbols(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  scratch.first.clear();
  scratch.heap.clear();
  for (uint32_t i = 0; i < symbols.size(); ++i) {
    if (const Merged* const merged = SetMerged(i, scratch)) scratch.first.push_back(QueueKey(merged->rank, i));
  }
  std::sort(scratch.first.begin(), scratch.first.end());
  size_t first_done = 0;
  uint64_t key = 0;
  while (PopLowest(scratch, first_done, key)) {
    const auto position = static_cast<uint32_t>(key);
    Scratch::Symbol& left = symbols[position];
    // The entry is outdated if the pair is no longer there, or makes another token by now.
    if (left.id < 0 || left.merged < 0 || left.merged != merged_ids_[key >> 32]) continue;
    Scratch::Symbol& right = symbols[left.next];
    left.id = left.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next != kNone) symbols[left.next].prev = position;
    PushMerge(position, scratch);
    if (left.prev != kNone) PushMerge(left.prev, scratch);
  }
}

void BpeModel::EncodeWord(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const std::optional<int32_t> id = TokenId(SpellBytes(word))) {
      ids.push_back(*id);
      return;
    }
  }
  SetSymbols(word, scratch);
  MergeSymbols(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace elserve
