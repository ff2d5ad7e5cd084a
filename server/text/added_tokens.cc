#include "server/text/added_tokens.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// The first byte of the character that ends before `end` > 0.
bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !IsWordCharacter(ReadUtf8(text, PreviousCharacter(text, begin)).code_point)) &&
         (end == text.size() || !IsWordCharacter(ReadUtf8(text, end).code_point));
}

}  // namespace

void AddedTokens::Trie::Insert(std::string_view content, int32_t id) {
  uint32_t node = 0;
  for (const char byte : content) {
    const uint64_t edge = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
    const auto [next, fresh] = edges_.try_emplace(edge, static_cast<uint32_t>(nodes_.size()));
    if (fresh) nodes_.push_back(-1);
    if (node == 0) first_[static_cast<uint8_t>(byte)] = next->second;
    node = next->second;
  }
  nodes_[node] = id;
}

std::pair<size_t, int32_t> AddedTokens::Trie::Longest(std::string_view text, size_t begin) const {
  std::pair<size_t, int32_t> longest = {begin, -1};
  uint32_t node = first_[static_cast<uint8_t>(text[begin])];
  for (size_t at = begin + 1; node != 0; ++at) {
    if (nodes_[node] >= 0) longest = {at, nodes_[node]};
    if (at == text.size()) break;
    const auto edge = edges_.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[at]));
    node = edge == edges_.end() ? 0 : edge->second;
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

std::optional<std::string_view> AddedTokens::DecodedText(int32_t id) const {
  const auto found = decoded_.find(id);
  if (found == decoded_.end()) return std::nullopt;
  return found->second;
}

void AddedTokens::Prepare(const Normalizer& normalizer) {
  raw_ = Trie();
  normalized_ = Trie();
  std::string buffer;
  for (const auto& [id, token] : by_id_) {
    decoded_[id] = token.normalized ? normalizer.Normalize(token.content, buffer) : std::string_view(token.content);
  }
  for (const std::vector<AddedToken>* tokens : {&special_in_order_, &others_in_order_}) {
    for (const AddedToken& token : *tokens) {
      const std::string_view content = token.normalized ? normalizer.Normalize(token.content, buffer) : token.content;
      if (content.empty()) continue;
      const int32_t id = ids_.at(token.content);
      (token.normalized ? normalized_ : raw_).Insert(content, id);
      if (!token.normalized) continue;
      longest_normalized_ = std::max(longest_normalized_, content.size());
      // By its id, since the flags that were stated last are those that count.
      if (by_id_.at(id).rstrip || content.find(' ') != std::string_view::npos) takes_spaces_behind_ = true;
    }
  }
}

TextPiece AddedTokens::Scanner::Text(size_t end, bool ends) {
  const TextPiece text = {.begin = done_, .end = end, .id = -1, .begins = begins_, .ends = ends};
  done_ = end;
  begins_ = ends;
  return text;
}

bool AddedTokens::Scanner::Find(TextPiece& token) {
  const auto [found_end, id] = trie_.Longest(text_, at_);
  if (id < 0) {
    ++at_;
    return false;
  }
  token = {.begin = at_, .end = found_end, .id = id};
  at_ = found_end;
  const AddedToken& added = tokens_.by_id_.at(id);
  if (added.single_word && !StandsAlone(text_, token.begin, token.end)) return false;
  if (added.lstrip) token.begin = std::max(SpaceBefore(text_, token.begin, std::min(done_, token.begin)), done_);
  if (added.rstrip) {
    if (token.end < space_begin_ || token.end > space_end_) {
      space_begin_ = token.end;
      space_end_ = SpaceAfter(text_, token.end);
    }
    token.end = space_end_;
  }
  return true;
}

bool AddedTokens::Scanner::Next(TextPiece& piece, MayCut* may_cut) {
  if (next_) {
    piece = *next_;
    next_.reset();
    return true;
  }
  while (at_ < text_.size()) {
    if (may_cut != nullptr && at_ >= std::max(done_ + kPartBytes, next_look_)) {
      next_look_ = at_ + kLookBytes;
      if ((*may_cut)(at_)) {
        piece = Text(at_, false);
        return true;
      }
    }
    TextPiece token;
    if (!trie_.begins(text_[at_])) {
      ++at_;
    } else if (Find(token)) {
      const bool text_before = done_ < token.begin;
      if (text_before) piece = Text(token.begin, true);
      done_ = token.end;
      begins_ = true;
      // White space that the token before has taken can leave nothing of a token that is white space itself.
      const bool any_token = token.begin < token.end;
      if (text_before && any_token) next_ = token;
      if (!text_before && any_token) piece = token;
      if (text_before || any_token) return true;
    }
  }
  if (done_ >= text_.size()) return false;
  piece = Text(text_.size(), true);
  return true;
}

}  // namespace elserve
