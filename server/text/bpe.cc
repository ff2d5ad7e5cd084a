#include "server/text/bpe.h"

#include <algorithm>
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

// Order of the heap: true if `a` comes after `b`.
bool Later(const BpeModel::Scratch::Merge& a, const BpeModel::Scratch::Merge& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Create(BpeSpec spec) {
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

// Offers the merge of the symbol at `position` with the one after it, if there is one.
void BpeModel::PushMerge(uint32_t position, Scratch& scratch) const {
  const Scratch::Symbol& left = scratch.symbols[position];
  const Merged* const merged = FindMerge(left.id, scratch.symbols[left.next].id);
  if (merged == nullptr) return;
  scratch.queue.push_back({merged->rank, position, merged->id});
  std::push_heap(scratch.queue.begin(), scratch.queue.end(), Later);
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
    scratch.symbols.push_back({id, position == 0 ? kNone : position - 1, position + 1});
  }
  if (!scratch.symbols.empty()) scratch.symbols.back().next = kNone;
}

// The same steps as the tokenizers library's Word::merge_all, down to which outdated entries of the queue count.
void BpeModel::MergeSymbols(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<Scratch::Merge>& queue = scratch.queue;
  queue.clear();
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) {
    if (const Merged* const merged = FindMerge(symbols[i].id, symbols[i + 1].id)) {
      queue.push_back({merged->rank, i, merged->id});
    }
  }
  std::make_heap(queue.begin(), queue.end(), Later);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), Later);
    const Scratch::Merge top = queue.back();
    queue.pop_back();
    Scratch::Symbol& left = symbols[top.position];
    if (left.id < 0 || left.next == kNone) continue;
    Scratch::Symbol& right = symbols[left.next];
    const Merged* const current = FindMerge(left.id, right.id);
    if (current == nullptr || current->id != top.id) continue;
    left.id = top.id;
    left.next = right.next;
    right.id = -1;
    if (left.next != kNone) symbols[left.next].prev = top.position;
    if (left.prev != kNone) PushMerge(left.prev, scratch);
    if (left.next != kNone) PushMerge(top.position, scratch);
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
