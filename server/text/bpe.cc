#include "server/text/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "absl/strings/str_format.h"
#include "server/text/byte_level.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
constexpr size_t kMaxCharacterBytes = 4;

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t QueueKey(uint32_t rank, uint32_t position) { return static_cast<uint64_t>(rank) << 32 | position; }

}  // namespace

struct BpeModel::Buffers : TokenModel::Scratch {
  struct Symbol {
    int32_t id;      // -1: merged into the one before
    int32_t merged;  // the token that this and the next one make; -1: none
    uint32_t prev;   // kNone at the ends
    uint32_t next;
  };

  std::vector<Symbol> symbols;
  // Merges to be done, as rank << 32 | position: the lowest is the next. Those of the piece's symbols are sorted once;
  // a heap holds the ones that merging brings up.
  std::vector<uint64_t> first;
  std::vector<uint64_t> heap;
  // Where each symbol begins, if asked for. As in the tokenizers library that is the sum of the lengths before it:
  // what was left out of the piece has none.
  bool with_spans = false;
  std::vector<uint32_t> begins;
  uint32_t end = 0;

  void Clear(bool spans) {
    symbols.clear();
    begins.clear();
    with_spans = spans;
    end = 0;
  }

  void Add(int32_t id, uint32_t bytes) {
    const auto position = static_cast<uint32_t>(symbols.size());
    symbols.push_back({id, -1, position == 0 ? kNone : position - 1, position + 1});
    if (with_spans) begins.push_back(end);
    end += bytes;
  }

  // Takes the lowest key of both lists; false if there is none.
  bool PopLowest(size_t& first_done, uint64_t& key) {
    const bool has_first = first_done < first.size();
    if (!has_first && heap.empty()) return false;
    if (has_first && (heap.empty() || first[first_done] <= heap.front())) {
      key = first[first_done++];
      return true;
    }
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    key = heap.back();
    heap.pop_back();
    return true;
  }
};

void BpeModel::CharacterIds::Set(uint32_t code_point, int32_t id) {
  uint32_t& page = pages_[code_point >> 8];
  if (page == 0) {
    page = static_cast<uint32_t>(ids_.size());
    ids_.resize(ids_.size() + 256, -1);
  }
  ids_[page + (code_point & 0xFF)] = id;
}

absl::StatusOr<std::unique_ptr<BpeModel>> BpeModel::Create(BpeSpec spec) {
  absl::StatusOr<Vocabulary> vocabulary = Vocabulary::Create(std::move(spec.vocab), spec.vocab_source);
  if (!vocabulary.ok()) return vocabulary.status();
  std::unique_ptr<BpeModel> model(new BpeModel(*std::move(vocabulary)));
  if (absl::Status status = model->SetMerges(spec); !status.ok()) return status;
  if (absl::Status status = model->SetAlphabet(spec); !status.ok()) return status;
  model->fuse_unk_ = spec.fuse_unk;
  model->ignore_merges_ = spec.ignore_merges;
  return model;
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

absl::Status BpeModel::SetAlphabet(const BpeSpec& spec) {
  alphabet_ = spec.alphabet;
  byte_ids_.fill(-1);
  bool complete = false;
  if (alphabet_ == BpeAlphabet::kBytes) {
    complete = SetBytes();
  } else {
    SetCharacters();
    if (spec.byte_fallback) byte_ids_ = ByteTokens();
    complete = *std::min_element(byte_ids_.begin(), byte_ids_.end()) >= 0;
  }
  longest_ = std::max(vocabulary().longest_spelling(), kMaxCharacterBytes);
  const std::optional<int32_t> unk = spec.unk_token ? TokenId(*spec.unk_token) : std::nullopt;
  unk_id_ = unk.value_or(-1);
  covers_all_ = complete || (unk && !spec.fuse_unk);
  if (spec.unk_token && !unk && !complete) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the unknown token \"%s\" is not in %s, which has no token for some %s", *spec.unk_token,
                        spec.vocab_source, alphabet_ == BpeAlphabet::kBytes ? "bytes" : "characters"));
  }
  return absl::OkStatus();
}

// False if some byte has no token.
bool BpeModel::SetBytes() {
  bool complete = true;
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = TokenId(ByteCharacters()[byte]).value_or(-1);
    complete = complete && byte_ids_[byte] >= 0;
  }
  return complete;
}

void BpeModel::SetCharacters() {
  for (int32_t id = 0; id < vocabulary().end_id(); ++id) {
    const std::string_view spelling = vocabulary().Spelling(id).value_or("");
    if (spelling.empty()) continue;
    const Utf8Character character = ReadUtf8(spelling, 0);
    if (character.valid && character.length == spelling.size()) character_ids_.Set(character.code_point, id);
  }
}

// <0x00> ... <0xFF>
std::array<int32_t, 256> BpeModel::ByteTokens() const {
  std::array<int32_t, 256> ids;
  for (int byte = 0; byte < 256; ++byte) ids[byte] = TokenId(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  return ids;
}

std::unique_ptr<TokenModel::Scratch> BpeModel::MakeScratch() const { return std::make_unique<Buffers>(); }

std::optional<int32_t> BpeModel::unk_id() const {
  if (unk_id_ < 0) return std::nullopt;
  return unk_id_;
}

const BpeModel::Merged* BpeModel::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// Notes what the symbol at `position` and the one after it make; null: nothing.
const BpeModel::Merged* BpeModel::SetMerged(uint32_t position, Buffers& buffers) const {
  Buffers::Symbol& left = buffers.symbols[position];
  const Merged* const merged = left.next == kNone ? nullptr : FindMerge(left.id, buffers.symbols[left.next].id);
  left.merged = merged == nullptr ? -1 : merged->id;
  return merged;
}

void BpeModel::PushMerge(uint32_t position, Buffers& buffers) const {
  const Merged* const merged = SetMerged(position, buffers);
  if (merged == nullptr) return;
  buffers.heap.push_back(QueueKey(merged->rank, position));
  std::push_heap(buffers.heap.begin(), buffers.heap.end(), std::greater<>());
}

void BpeModel::SetSymbols(std::string_view piece, Buffers& buffers) const {
  if (alphabet_ == BpeAlphabet::kBytes) {
    SetByteSymbols(piece, buffers);
  } else {
    SetCharacterSymbols(piece, buffers);
  }
  if (!buffers.symbols.empty()) buffers.symbols.back().next = kNone;
}

void BpeModel::SetByteSymbols(std::string_view piece, Buffers& buffers) const {
  bool after_unk = false;
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id >= 0) {
      buffers.Add(id, 1);
    } else if (after_unk && fuse_unk_) {
      ++buffers.end;
    } else if (unk_id_ >= 0) {
      buffers.Add(unk_id_, 1);
    }
    after_unk = id < 0 && unk_id_ >= 0;
  }
}

// False if some byte of the character has no token.
bool BpeModel::AddByteTokens(std::string_view character, Buffers& buffers) const {
  for (const char byte : character) {
    if (byte_ids_[static_cast<uint8_t>(byte)] < 0) return false;
  }
  for (const char byte : character) buffers.Add(byte_ids_[static_cast<uint8_t>(byte)], 1);
  return true;
}

// The tokenizers library's BPE::merge_word. An unknown token is added only when the next known or unknown character
// comes, or at the end: bytes that are fallen back to go before it.
void BpeModel::SetCharacterSymbols(std::string_view piece, Buffers& buffers) const {
  uint32_t unknown_bytes = 0;
  for (size_t at = 0; at < piece.size();) {
    const Utf8Character character = ReadUtf8(piece, at);
    const auto length = static_cast<uint32_t>(character.length);
    const int32_t id = character_ids_.Get(character.code_point);
    if (id >= 0) {
      if (unknown_bytes > 0) buffers.Add(unk_id_, unknown_bytes);
      unknown_bytes = 0;
      buffers.Add(id, length);
    } else if (!AddByteTokens(piece.substr(at, length), buffers) && unk_id_ >= 0) {
      if (unknown_bytes > 0 && !fuse_unk_) {
        buffers.Add(unk_id_, unknown_bytes);
        unknown_bytes = 0;
      }
      unknown_bytes += length;
    }
    at += length;
  }
  if (unknown_bytes > 0) buffers.Add(unk_id_, unknown_bytes);
}

// The same steps as the tokenizers library's Word::merge_all, down to which outdated entries of the queue count.
void BpeModel::MergeSymbols(Buffers& buffers) const {
  std::vector<Buffers::Symbol>& symbols = buffers.symbols;
  buffers.first.clear();
  buffers.heap.clear();
  for (uint32_t i = 0; i < symbols.size(); ++i) {
    if (const Merged* const merged = SetMerged(i, buffers)) buffers.first.push_back(QueueKey(merged->rank, i));
  }
  std::sort(buffers.first.begin(), buffers.first.end());
  size_t first_done = 0;
  uint64_t key = 0;
  while (buffers.PopLowest(first_done, key)) {
    const auto position = static_cast<uint32_t>(key);
    Buffers::Symbol& left = symbols[position];
    // The entry is outdated if the pair is no longer there, or makes another token by now.
    if (left.id < 0 || left.merged < 0 || left.merged != merged_ids_[key >> 32]) continue;
    Buffers::Symbol& right = symbols[left.next];
    left.id = left.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next != kNone) symbols[left.next].prev = position;
    PushMerge(position, buffers);
    if (left.prev != kNone) PushMerge(left.prev, buffers);
  }
}

bool BpeModel::IsCovered(std::string_view character) const {
  if (covers_all_) return true;
  if (alphabet_ == BpeAlphabet::kCharacters) return character_ids_.Get(ReadUtf8(character, 0).code_point) >= 0;
  return std::all_of(character.begin(), character.end(),
                     [&](char byte) { return byte_ids_[static_cast<uint8_t>(byte)] >= 0; });
}

std::optional<int32_t> BpeModel::WholePiece(std::string_view piece) const {
  return TokenId(alphabet_ == BpeAlphabet::kBytes ? SpellBytes(piece) : piece);
}

bool BpeModel::Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const {
  if (ignore_merges_) {
    if (const std::optional<int32_t> id = WholePiece(piece)) {
      tokens.Add(*id, 0, static_cast<uint32_t>(piece.size()));
      return max_tokens > 0;
    }
  }
  auto& buffers = static_cast<Buffers&>(scratch);
  buffers.Clear(tokens.with_spans);
  SetSymbols(piece, buffers);
  MergeSymbols(buffers);
  const size_t before = tokens.ids.size();
  for (uint32_t i = 0; i < buffers.symbols.size(); ++i) {
    const Buffers::Symbol& symbol = buffers.symbols[i];
    if (symbol.id < 0) continue;
    tokens.ids.push_back(symbol.id);
    if (tokens.with_spans) {
      tokens.spans.push_back({buffers.begins[i], symbol.next == kNone ? buffers.end : buffers.begins[symbol.next]});
    }
  }
  return tokens.ids.size() - before <= max_tokens;
}

}  // namespace elserve
