#include "server/text/added_tokens.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// The first byte of the character that ends before `end` > 0.
size_t PreviousCharacter(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && !IsCharacterBoundary(text, begin)) --begin;
  return begin;
}

// Where the white space that ends at `end` begins, not looking before `limit`.
size_t SpaceBefore(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    const size_t begin = PreviousCharacter(text, end);
    if (!IsWhiteSpace(ReadUtf8(text, begin).code_point)) break;
    end = begin;
  }
  return end;
}

size_t SpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Character character = ReadUtf8(text, begin);
    if (!IsWhiteSpace(character.code_point)) break;
    begin += character.length;
  }
  return begin;
}

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !IsWordCharacter(ReadUtf8(text, PreviousCharacter(text, begin)).code_point)) &&
         (end == text.size() || !IsWordCharacter(ReadUtf8(text, end).code_point));
}

}  // namespace

void AddedTokens::Trie::Insert(std::string_view content, int32_t id) {
  first_[static_cast<uint8_t>(content[0])] = true;
  uint32_t node = 0;
  for (const char byte : content) {
    const uint64_t edge = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
    const auto [next, fresh] = edges_.try_emplace(edge, static_cast<uint32_t>(nodes_.size()));
    if (fresh) nodes_.push_back(-1);
    node = next->second;
  }
  nodes_[node] = id;
}

std::pair<size_t, int32_t> AddedTokens::Trie::Longest(std::string_view text, size_t begin) const {
  std::pair<size_t, int32_t> longest = {begin, -1};
  if (!first_[static_cast<uint8_t>(text[begin])]) return longest;
  uint32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    const auto edge = edges_.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[at]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (nodes_[node] >= 0) longest = {at + 1, nodes_[node]};
  }
  return longest;
}

absl::StatusOr<int32_t> AddedTokens::Add(const AddedToken& token, const Vocabulary& vocabulary) {
  if (token.content.empty() || token.content.size() > kMaxContentBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("an added token of %d bytes: contents must have 1 to %d",
                                                      token.content.size(), kMaxContentBytes));
  }
  std::optional<int32_t> id = TokenId(token.content);
  if (id && by_id_.at(*id) == token) return *id;
  if (ids_.size() >= kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrFormat("more than %d added tokens", kMaxTokens));
  }
  if (token.special && special_.insert(token.content).second) special_in_order_.push_back(token);
  if (!id) id = vocabulary.TokenId(token.content);
  if (!id) {
    id = std::max(highest_id_ + 1, static_cast<int32_t>(vocabulary.size()));
    if (*id > kMaxTokenId) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the added token \"%s\" would have the id %d: ids must be from 0 to %d", token.content, *id, kMaxTokenId));
    }
    if (vocabulary.Spelling(*id)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the added token \"%s\" would have the id %d, which is another token's: the vocabulary has holes",
          token.content, *id));
    }
  }
  ids_[token.content] = *id;
  by_id_[*id] = token;
  highest_id_ = std::max(highest_id_, *id);
  if (!special_.contains(token.content)) others_in_order_.push_back(token);
  return *id;
}

bool AddedTokens::contains(std::string_view content) const { return ids_.contains(View(content)); }

bool AddedTokens::is_special(std::string_view content) const { return special_.contains(View(content)); }

std::optional<int32_t> AddedTokens::TokenId(std::string_view content) const {
  const auto found = ids_.find(View(content));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

void AddedTokens::Prepare() {
  raw_ = Trie();
  normalized_ = Trie();
  for (const std::vector<AddedToken>* tokens : {&special_in_order_, &others_in_order_}) {
    for (const AddedToken& token : *tokens) {
      (token.normalized ? normalized_ : raw_).Insert(token.content, ids_.at(token.content));
    }
  }
}

std::vector<TextPiece> AddedTokens::Split(std::string_view text) const {
  std::vector<TextPiece> first_pass;
  SplitBy(raw_, text, 0, first_pass);
  if (normalized_.empty()) return first_pass;
  std::vector<TextPiece> pieces;
  for (const TextPiece& piece : first_pass) {
    if (piece.id >= 0) {
      pieces.push_back(piece);
    } else {
      SplitBy(normalized_, text.substr(piece.begin, piece.end - piece.begin), piece.begin, pieces);
    }
  }
  return pieces;
}

// The pieces of `text`, which stands at byte `offset` of the whole.
void AddedTokens::SplitBy(const Trie& trie, std::string_view text, size_t offset,
                          std::vector<TextPiece>& pieces) const {
  size_t done = 0;         // where the last piece ended
  size_t space_begin = 0;  // the white space that was looked through last, so that none is looked through twice
  size_t space_end = 0;
  for (size_t at = 0; at < text.size() && !trie.empty();) {
    const auto [found_end, id] = trie.Longest(text, at);
    if (id < 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = found_end;
    at = found_end;
    const AddedToken& token = by_id_.at(id);
    if (token.single_word && !StandsAlone(text, begin, end)) continue;
    if (token.lstrip) begin = std::max(SpaceBefore(text, begin, std::min(done, begin)), done);
    if (token.rstrip) {
      if (end < space_begin || end > space_end) {
        space_begin = end;
        space_end = SpaceAfter(text, end);
      }
      end = space_end;
    }
    if (done < begin) pieces.push_back({offset + done, offset + begin, -1});
    // White space that the token before has taken can leave nothing of a token that is white space itself.
    if (begin < end) pieces.push_back({offset + begin, offset + end, id});
    done = end;
  }
  if (done < text.size()) pieces.push_back({offset + done, offset + text.size(), -1});
}

}  // namespace elserve
