#include "server/text/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

// An unknown character's score is so much below the lowest of all pieces.
constexpr double kUnknownPenalty = 10;

// So many bytes are gone through, at least, between looks at what is decided.
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

// What was found of one piece. Tokens are appended as soon as no way on can do without them, so that ways are kept for
// what is open alone: mostly for less than a stride, however long the piece.
template <typename Score>
struct UnigramModel::Buffers : TokenModel::Scratch {
  uint32_t base = 0;             // all before it is decided
  std::vector<Way<Score>> ways;  // by end, from base on
  size_t furthest = 0;           // the highest end that some way has
  TextSpan unknown;              // the run of unknown characters before base, if it is not empty: it may go on
  std::vector<uint32_t> ends;    // of a way's tokens, the last first

  void Clear() {
    base = 0;
    ways.clear();
    furthest = 0;
    unknown = {};
  }

  Way<Score>& at(size_t end) { return ways[end - base]; }

  // Where the ways to two places part.
  uint32_t Parting(uint32_t a, uint32_t b) {
    while (a != b) {
      uint32_t& further = a > b ? a : b;
      further = at(further).begin;
    }
    return a;
  }
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
  Way<Score>* const ways = &buffers.at(begin);  // from begin on
  const Score score = ways->score;
  const uint32_t one_character = begin + CharacterLength(piece[begin]);
  bool has_one_character = false;
  uint32_t node = PieceTrie::kRoot;
  const auto size = static_cast<uint32_t>(piece.size());
  for (uint32_t end = begin; end < size && trie_.Step(node, piece[end]);) {
    ++end;
    const int32_t id = trie_.Value(node);
    if (id < 0) continue;
    ways[end - begin].Offer(score + static_cast<Score>(scores_[id]), begin, id);
    has_one_character = has_one_character || end == one_character;
    buffers.furthest = std::max<size_t>(buffers.furthest, end);
  }
  if (has_one_character) return;
  const Score unknown = static_cast<Score>(lowest_score_) - static_cast<Score>(kUnknownPenalty);
  ways[one_character - begin].Offer(score + unknown, begin, unk_id_);
  buffers.furthest = std::max<size_t>(buffers.furthest, one_character);
}

// Appends the tokens that all ways on from `begin` share, which all that begins before was offered to: every way goes
// through one of the ends from there on.
template <typename Score>
void UnigramModel::Commit(std::string_view piece, uint32_t begin, Buffers<Score>& buffers, TokenList& tokens) const {
  uint32_t place = begin;
  while (buffers.at(place).begin == kNone) ++place;
  for (uint32_t end = place + 1; end <= buffers.furthest; ++end) {
    if (buffers.at(end).begin != kNone) place = buffers.Parting(place, end);
  }
  AddTokens(piece, place, buffers, tokens);
  buffers.ways.erase(buffers.ways.begin(), buffers.ways.begin() + (place - buffers.base));
  buffers.base = place;
}

// False, and more than max_tokens tokens were appended, if the piece has more; else those that are open are left.
template <typename Score>
bool UnigramModel::FindWays(std::string_view piece, size_t max_tokens, Buffers<Score>& buffers,
                            TokenList& tokens) const {
  const size_t before = tokens.ids.size();
  buffers.Clear();
  uint32_t begin = 0;
  for (size_t stride = kStride; begin < piece.size();) {
    const auto stride_end = static_cast<uint32_t>(std::min(piece.size(), begin + stride));
    buffers.ways.resize(std::min(piece.size(), stride_end + longest_) + 1 - buffers.base);
    for (; begin < stride_end; begin += CharacterLength(piece[begin])) {
      if constexpr (std::is_same_v<Score, float>) {
        if (const float far = buffers.at(begin).score; std::abs(far) > kScoreReset) {
          for (size_t end = begin; end <= buffers.furthest; ++end) buffers.at(end).score -= far;
        }
      }
      Extend(piece, begin, buffers);
    }
    if (begin == piece.size()) break;
    Commit(piece, begin, buffers, tokens);
    if (tokens.ids.size() - before > max_tokens) return false;
    // Where ways go on side by side for long, all looks together take no longer than the last one.
    stride = std::max<size_t>(kStride, begin - buffers.base);
  }
  return true;
}

// Unigram::tokenize of the tokenizers library: what unknown characters make together is looked up again.
// Ends the run, if there is one.
void UnigramModel::AddUnknown(std::string_view piece, TextSpan& span, TokenList& tokens) const {
  const auto [begin, end] = std::exchange(span, {});
  if (begin == end) return;
  const std::string_view text = piece.substr(begin, end - begin);
  if (arithmetic_ == UnigramArithmetic::kTokenizers) {
    if (const std::optional<int32_t> id = TokenId(text)) return tokens.Add(*id, begin, end);
  }
  const auto id_of = [&](char byte) { return byte_ids_[static_cast<uint8_t>(byte)]; };
  if (!byte_fallback_ || !std::all_of(text.begin(), text.end(), [&](char byte) { return id_of(byte) >= 0; })) {
    return tokens.Add(unk_id_, begin, end);
  }
  for (const char byte : text) tokens.Add(id_of(byte), begin, end);
}

// Appends the tokens of the way from base to `end`.
template <typename Score>
void UnigramModel::AddTokens(std::string_view piece, uint32_t end, Buffers<Score>& buffers, TokenList& tokens) const {
  std::vector<uint32_t>& ends = buffers.ends;
  ends.clear();
  for (; end > buffers.base; end = buffers.at(end).begin) ends.push_back(end);
  for (size_t i = ends.size(); i-- > 0;) {
    const Way<Score>& way = buffers.at(ends[i]);
    if (way.id == unk_id_) {
      if (buffers.unknown.begin == buffers.unknown.end) buffers.unknown.begin = way.begin;
      buffers.unknown.end = ends[i];
      continue;
    }
    AddUnknown(piece, buffers.unknown, tokens);
    tokens.Add(way.id, way.begin, ends[i]);
  }
}

template <typename Score>
bool UnigramModel::EncodeWith(std::string_view piece, size_t max_tokens, Buffers<Score>& buffers,
                              TokenList& tokens) const {
  const size_t before = tokens.ids.size();
  if (!FindWays(piece, max_tokens, buffers, tokens)) return false;
  AddTokens(piece, static_cast<uint32_t>(piece.size()), buffers, tokens);
  AddUnknown(piece, buffers.unknown, tokens);
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
