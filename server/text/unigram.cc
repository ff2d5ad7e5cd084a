#include "server/text/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

// An unknown character's score is so much below the lowest of all pieces.
constexpr double kUnknownPenalty = 10;

// So many bytes are gone through between looks at the number of tokens.
constexpr size_t kStride = 4096;

// SentencePiece's: where a sum of scores is further from 0, it is taken off all that go on from there.
constexpr float kScoreReset = 100000;

// The length of the character that begins with this byte, in valid UTF-8.
uint32_t CharacterLength(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The best way to a place in the piece, from its begin.
template <typename Score>
struct Way {
  Score score = 0;
  uint32_t begin = kNone;  // where its last token begins; kNone: there is no way
  int32_t id = 0;          // that token

  void Offer(Score offered, uint32_t offered_begin, int32_t offered_id) {
    if (begin == kNone || offered > score) *this = {offered, offered_begin, offered_id};
  }
};

}  // namespace

template <typename Score>
struct UnigramModel::Buffers : TokenModel::Scratch {
  std::vector<Way<Score>> ways;  // by end, in bytes of the piece
  size_t furthest = 0;           // the highest end that some way has
  std::vector<uint32_t> counts;  // by end: the tokens of the way, for as many ends as were counted
  std::vector<uint32_t> ends;    // of the best way's tokens, the last first
};

absl::StatusOr<std::unique_ptr<UnigramModel>> UnigramModel::Create(UnigramSpec spec) {
  if (spec.pieces.size() > static_cast<size_t>(kMaxTokenId) + 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d pieces: at most %d", spec.source, spec.pieces.size(), kMaxTokenId + 1));
  }
  std::vector<std::pair<std::string, int32_t>> entries;
  entries.reserve(spec.pieces.size());
  for (UnigramSpec::Piece& piece : spec.pieces) {
    entries.emplace_back(std::move(piece.text), static_cast<int32_t>(entries.size()));
  }
  absl::StatusOr<Vocabulary> vocabulary = Vocabulary::Create(std::move(entries), spec.source);
  if (!vocabulary.ok()) return vocabulary.status();
  std::unique_ptr<UnigramModel> model(new UnigramModel(*std::move(vocabulary)));
  if (absl::Status status = model->SetPieces(spec); !status.ok()) return status;
  return model;
}

absl::Status UnigramModel::SetPieces(const UnigramSpec& spec) {
  using Use = UnigramSpec::Piece::Use;
  std::vector<std::pair<std::string_view, int32_t>> found;  // in texts
  size_t bytes = 0;
  lowest_score_ = std::numeric_limits<float>::max();
  for (size_t i = 0; i < spec.pieces.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const UnigramSpec::Piece& piece = spec.pieces[i];
    const std::string_view text = *vocabulary().Spelling(id);
    // The comparison is false for NaN.
    if (!(std::abs(piece.score) <= kMaxScore)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s[%d] (\"%s\") has the score %g: scores must be from %g to %g", spec.source, i, text,
                          piece.score, -kMaxScore, kMaxScore));
    }
    bytes += text.size();
    if (piece.use == Use::kNormal) lowest_score_ = std::min(lowest_score_, piece.score);
    // unigram::GetUserDefinedScore, in float32 for both of its users.
    scores_.push_back(piece.use == Use::kUserDefined ? static_cast<float>(0.1 * (static_cast<double>(text.size()) - 1))
                                                     : piece.score);
    if ((piece.use == Use::kNormal || piece.use == Use::kUserDefined) && !text.empty()) {
      found.emplace_back(text, id);
      longest_ = std::max(longest_, text.size());
    }
  }
  if (bytes > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d bytes of text: at most %d", spec.source, bytes, kMaxTextBytes));
  }
  if (spec.unk_id < 0 || static_cast<size_t>(spec.unk_id) >= spec.pieces.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d pieces, and the unknown one is said to be %d",
                                                      spec.source, spec.pieces.size(), spec.unk_id));
  }
  trie_ = PieceTrie(std::move(found));
  unk_id_ = spec.unk_id;
  arithmetic_ = spec.arithmetic;
  byte_fallback_ = spec.byte_fallback;
  for (int byte = 0; byte < 256; ++byte) byte_ids_[byte] = TokenId(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  return absl::OkStatus();
}

std::unique_ptr<TokenModel::Scratch> UnigramModel::MakeScratch() const {
  if (arithmetic_ == UnigramArithmetic::kTokenizers) return std::make_unique<Buffers<double>>();
  return std::make_unique<Buffers<float>>();
}

// Offers every token that begins at `begin` to the place where it ends; and the unknown one, if none is one character.
template <typename Score>
void UnigramModel::Extend(std::string_view piece, uint32_t begin, Buffers<Score>& buffers) const {
  Way<Score>* const ways = buffers.ways.data();
  const Score score = ways[begin].score;
  const uint32_t one_character = begin + CharacterLength(piece[begin]);
  bool has_one_character = false;
  uint32_t node = PieceTrie::kRoot;
  const auto size = static_cast<uint32_t>(piece.size());
  for (uint32_t end = begin; end < size && trie_.Step(node, piece[end]);) {
    ++end;
    const int32_t id = trie_.Value(node);
    if (id < 0) continue;
    ways[end].Offer(score + static_cast<Score>(scores_[id]), begin, id);
    has_one_character = has_one_character || end == one_character;
    buffers.furthest = std::max<size_t>(buffers.furthest, end);
  }
  if (has_one_character) return;
  const Score unknown = static_cast<Score>(lowest_score_) - static_cast<Score>(kUnknownPenalty);
  ways[one_character].Offer(score + unknown, begin, unk_id_);
  buffers.furthest = std::max<size_t>(buffers.furthest, one_character);
}

// False if the piece must have more than max_tokens.
template <typename Score>
bool UnigramModel::FindWays(std::string_view piece, size_t max_tokens, Buffers<Score>& buffers) const {
  std::vector<Way<Score>>& ways = buffers.ways;
  ways.clear();
  buffers.counts.assign(1, 0);
  buffers.furthest = 0;
  uint32_t begin = 0;
  for (size_t stride = kStride; begin < piece.size(); stride += kStride) {
    ways.resize(std::min(piece.size(), stride + longest_) + 1);
    const auto stride_end = static_cast<uint32_t>(std::min(piece.size(), stride));
    for (; begin < stride_end; begin += CharacterLength(piece[begin])) {
      if constexpr (std::is_same_v<Score, float>) {
        if (const float far = ways[begin].score; std::abs(far) > kScoreReset) {
          for (size_t end = begin; end <= buffers.furthest; ++end) ways[end].score -= far;
        }
      }
      Extend(piece, begin, buffers);
    }
    if (begin < piece.size() && TooManyTokens(begin, max_tokens, buffers)) return false;
  }
  return true;
}

// Whether every way on from `at`, which all that begins before was offered to, has too many tokens by now: the token
// across it begins less than longest_ before. Unknown characters that follow each other count as one.
template <typename Score>
bool UnigramModel::TooManyTokens(uint32_t at, size_t max_tokens, Buffers<Score>& buffers) const {
  const std::vector<Way<Score>>& ways = buffers.ways;
  std::vector<uint32_t>& counts = buffers.counts;
  for (auto end = static_cast<uint32_t>(counts.size()); end <= at; ++end) {
    const Way<Score>& way = ways[end];
    if (way.begin == kNone) {
      counts.push_back(kNone);
      continue;
    }
    const bool goes_on = way.begin > 0 && way.id == unk_id_ && ways[way.begin].id == unk_id_;
    counts.push_back(counts[way.begin] + (goes_on ? 0 : 1));
  }
  const size_t from = at > longest_ ? at - longest_ : 0;
  return *std::min_element(counts.begin() + static_cast<ptrdiff_t>(from), counts.end()) > max_tokens;
}

// Unigram::tokenize of the tokenizers library: what unknown characters make together is looked up again.
void UnigramModel::AddUnknown(std::string_view piece, TextSpan span, TokenList& tokens) const {
  const std::string_view text = piece.substr(span.begin, span.end - span.begin);
  if (arithmetic_ == UnigramArithmetic::kTokenizers) {
    if (const std::optional<int32_t> id = TokenId(text)) return tokens.Add(*id, span.begin, span.end);
  }
  const auto has_token = [&](char byte) { return byte_ids_[static_cast<uint8_t>(byte)] >= 0; };
  if (!byte_fallback_ || !std::all_of(text.begin(), text.end(), has_token)) {
    return tokens.Add(unk_id_, span.begin, span.end);
  }
  for (const char byte : text) tokens.Add(byte_ids_[static_cast<uint8_t>(byte)], span.begin, span.end);
}

template <typename Score>
void UnigramModel::AddTokens(std::string_view piece, Buffers<Score>& buffers, TokenList& tokens) const {
  std::vector<uint32_t>& ends = buffers.ends;
  ends.clear();
  for (auto end = static_cast<uint32_t>(piece.size()); end > 0; end = buffers.ways[end].begin) ends.push_back(end);
  TextSpan unknown;  // the run of unknown characters that goes on, if it is not empty
  for (size_t i = ends.size(); i-- > 0;) {
    const Way<Score>& way = buffers.ways[ends[i]];
    if (way.id == unk_id_) {
      if (unknown.begin == unknown.end) unknown.begin = way.begin;
      unknown.end = ends[i];
      continue;
    }
    if (unknown.begin < unknown.end) AddUnknown(piece, unknown, tokens);
    unknown = {};
    tokens.Add(way.id, way.begin, ends[i]);
  }
  if (unknown.begin < unknown.end) AddUnknown(piece, unknown, tokens);
}

template <typename Score>
bool UnigramModel::EncodeWith(std::string_view piece, size_t max_tokens, Buffers<Score>& buffers,
                              TokenList& tokens) const {
  const size_t before = tokens.ids.size();
  if (!FindWays(piece, max_tokens, buffers)) return false;
  AddTokens(piece, buffers, tokens);
  return tokens.ids.size() - before <= max_tokens;
}

bool UnigramModel::Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const {
  if (piece.empty()) return true;
  if (arithmetic_ == UnigramArithmetic::kTokenizers) {
    return EncodeWith(piece, max_tokens, static_cast<Buffers<double>&>(scratch), tokens);
  }
  return EncodeWith(piece, max_tokens, static_cast<Buffers<float>&>(scratch), tokens);
}

bool UnigramModel::IsCovered(std::string_view character) const {
  uint32_t node = PieceTrie::kRoot;
  return std::all_of(character.begin(), character.end(), [&](char byte) { return trie_.Step(node, byte); }) &&
         trie_.Value(node) >= 0;
}

}  // namespace elserve
