#include "server/text/text_encoder.h"

#include <algorithm>
#include <cstring>

#include "absl/hash/hash.h"
#include "server/text/aligned_text.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

constexpr size_t kMaxSeenWords = 1 << 15;
constexpr size_t kMaxSeenWordBytes = 64;
constexpr size_t kBlockBytes = 1 << 14;
// Bytes behind a cut that decide about it: two characters.
constexpr size_t kCutContext = 8;

// MarianTokenizer.remove_language_code
constexpr std::string_view kCodeBegins = ">>";
constexpr std::string_view kCodeEnds = "<<";

// Whether the character that byte `at` is a part of is white space.
bool IsSpaceAt(std::string_view text, size_t at) {
  while (!IsCharacterBoundary(text, at)) --at;
  return IsWhiteSpace(ReadUtf8(text, at).code_point);
}

// The last place, from `from` on, between what is no white space and a space; 0: there is none.
size_t LastWordEnd(std::string_view text, size_t from) {
  for (size_t at = text.size(); at-- > std::max<size_t>(from, 1);) {
    if (text[at] == ' ' && !IsSpaceAt(text, at - 1)) return at;
  }
  return 0;
}

uint32_t Offset(size_t offset) { return static_cast<uint32_t>(offset); }

}  // namespace

size_t TextEncoder::ViewHash::operator()(std::string_view text) const {
  return absl::Hash<absl::string_view>()(absl::string_view(text.data(), text.size()));
}

TextEncoder::TextEncoder(const TextPipeline& pipeline, Limit limit)
    : pipeline_(pipeline), limit_(limit), words_(*pipeline.pre_tokenizer), scratch_(pipeline.model->MakeScratch()) {}

bool TextEncoder::AddToken(int32_t id, uint32_t begin, uint32_t end) {
  tokens_.Add(id, begin, end);
  exceeded_ = tokens_.ids.size() > limit_.tokens;
  return !exceeded_;
}

// Whether the stretch that begins at byte `stretch` may be cut at byte `at`: where no added token takes white space
// away, no step of the normalizer looks across, and no language's code goes on.
bool TextEncoder::MayCut(std::string_view text, size_t stretch, size_t at) {
  if (at == 0 || !IsCharacterBoundary(text, at) || IsSpaceAt(text, at - 1) || IsSpaceAt(text, at) ||
      pipeline_.normalizer->NextCut(text.substr(0, at + kCutContext), at) != at) {
    return false;
  }
  if (!pipeline_.leading_code || !text.substr(stretch).starts_with(kCodeBegins)) return true;
  if (!code_end_ || *code_end_ < stretch) code_end_ = text.find(kCodeEnds, stretch);
  return *code_end_ == std::string_view::npos || *code_end_ + kCodeEnds.size() < at;
}

bool TextEncoder::BeginsText(std::string_view stretch) const {
  AlignedText aligned(stretch);
  pipeline_.normalizer->Normalize(aligned);
  return !aligned.alignment().empty() && aligned.alignment()[0].begin == 0;
}

absl::Status TextEncoder::Encode(std::string_view text) {
  tokens_.ids.reserve(std::min(text.size() / 4, limit_.tokens) + 1);
  AddedTokens::Scanner scanner(pipeline_.added, AddedTokens::Pass::kRaw, text);
  size_t stretch = 0;  // where the one in hand begins
  const auto may_cut = [&](size_t at) { return MayCut(text, stretch, at); };
  TextPiece piece;
  while (scanner.Next(piece, may_cut)) {
    const bool more = piece.id >= 0 ? AddToken(piece.id, Offset(piece.begin), Offset(piece.end))
                                    : EncodeStretch(text.substr(piece.begin, piece.end - piece.begin), piece);
    if (!more) break;
    if (piece.ends) stretch = piece.end;
  }
  return Outcome();
}

absl::Status TextEncoder::Outcome() const {
  if (words_.failed()) return absl::InternalError("PCRE2 could not cut the text into words");
  if (too_large_) return absl::InvalidArgumentError("the text has too many bytes once it is normalized");
  return absl::OkStatus();
}

// MarianTokenizer.remove_language_code: the token of the code that the stretch begins with, if it does.
bool TextEncoder::EncodeLeadingCode(std::string_view text, TextPiece& piece) {
  const std::string_view stretch = text.substr(piece.begin, piece.end - piece.begin);
  if (!pipeline_.leading_code || !stretch.starts_with(kCodeBegins)) return true;
  const size_t end = stretch.find(kCodeEnds);
  if (end == std::string_view::npos) return true;
  const std::string_view code = stretch.substr(0, end + kCodeEnds.size());
  std::optional<int32_t> id = pipeline_.model->TokenId(code);
  if (!id) id = pipeline_.model->unk_id();
  const size_t begin = piece.begin;
  piece.begin += code.size();
  return !id || AddToken(*id, Offset(begin), Offset(piece.begin));
}

bool TextEncoder::EncodeStretch(std::string_view text, const TextPiece& piece) {
  TextPiece rest = {.begin = 0, .end = text.size()};
  if (piece.begins && !EncodeLeadingCode(text, rest)) return false;
  text.remove_prefix(rest.begin);
  if (piece.begins) {
    place_ = {.begins_text = piece.begin == 0, .begins = true};
    if (place_.begins_text && pipeline_.pre_tokenizer->asks_for_beginning()) place_.begins_text = BeginsText(text);
  }
  const std::string_view normalized =
      pipeline_.normalizer->Normalize(text, {.begins = piece.begins, .ends = piece.ends}, normalized_);
  if (piece.begins && piece.ends) {
    if (normalized.size() > AddedTokens::Scanner::kPartBytes && !MayFit(normalized)) return false;
    covered_ = 0;
    return EncodeNormalized(normalized, place_);
  }
  // In what is pending no word ends, but where it begins with a space.
  const size_t searched = pending_.size();
  pending_.append(normalized);
  size_t ready = piece.ends ? pending_.size() : 0;
  if (!piece.ends && pipeline_.ends_words) ready = LastWordEnd(pending_, searched);
  if (ready == 0) return MayFit(normalized);
  if (!EncodeNormalized(std::string_view(pending_).substr(0, ready), place_)) return false;
  pending_.erase(0, ready);
  covered_ = 0;
  place_ = {.begins_text = false, .begins = false};
  return true;
}

// False if what is pending, of which `added` is new, must have too many tokens, whatever comes behind it: no token
// covers more than a few bytes. White space is not counted, since a later step may take it away.
bool TextEncoder::MayFit(std::string_view added) {
  if (limit_.keep) return true;
  for (size_t at = 0; at < added.size();) {
    const Utf8Character character = ReadUtf8(added, at);
    const bool counts =
        !IsWhiteSpace(character.code_point) && pipeline_.model->IsCovered(added.substr(at, character.length));
    if (counts) covered_ += character.length;
    at += character.length;
  }
  const size_t longest = std::max(pipeline_.model->longest_token(), pipeline_.added.longest_normalized());
  exceeded_ = covered_ / longest > limit_.tokens - tokens_.ids.size();
  return !exceeded_;
}

// A normalized stretch, or a part of one that ends where a word does.
bool TextEncoder::EncodeNormalized(std::string_view text, PreTokenizer::Place place) {
  if (!pipeline_.added.has_any(AddedTokens::Pass::kNormalized)) return EncodeWords(text, place);
  AddedTokens::Scanner scanner(pipeline_.added, AddedTokens::Pass::kNormalized, text);
  TextPiece part;
  while (scanner.Next(part)) {
    const PreTokenizer::Place here = {.begins_text = place.begins_text && part.begin == 0,
                                      .begins = place.begins || part.begin > 0};
    const bool more =
        part.id >= 0 ? AddToken(part.id, 0, 0) : EncodeWords(text.substr(part.begin, part.end - part.begin), here);
    if (!more) return false;
  }
  return true;
}

bool TextEncoder::EncodeWords(std::string_view text, PreTokenizer::Place place) {
  return words_.Each(text, place, [&](std::string_view word) { return EncodeWord(word); });
}

// Appends a word's tokens, or the first ones if there are too many, to a list.
bool TextEncoder::Append(std::string_view word, TokenList& tokens) {
  too_large_ = word.size() >= TokenModel::kMaxPieceBytes;
  if (too_large_) return false;
  exceeded_ = !pipeline_.model->Encode(word, limit_.tokens - tokens_.ids.size(), *scratch_, tokens);
  return !exceeded_;
}

bool TextEncoder::EncodeWord(std::string_view word) {
  const size_t begin = tokens_.ids.size();
  const bool short_enough = word.size() <= kMaxSeenWordBytes;
  const auto seen = short_enough ? seen_.find(word) : seen_.end();
  if (seen != seen_.end()) {
    for (size_t i = seen->second.begin; i < seen->second.end; ++i) tokens_.ids.push_back(tokens_.ids[i]);
  } else {
    if (!Append(word, tokens_)) return false;
    if (short_enough && seen_.size() < kMaxSeenWords) seen_.emplace(Remember(word), Range{begin, tokens_.ids.size()});
  }
  exceeded_ = tokens_.ids.size() > limit_.tokens;
  return !exceeded_;
}

std::string_view TextEncoder::Remember(std::string_view word) {
  if (spellings_.empty() || block_used_ + word.size() > kBlockBytes) {
    spellings_.push_back(std::make_unique<char[]>(kBlockBytes));
    block_used_ = 0;
  }
  char* const begin = spellings_.back().get() + block_used_;
  std::memcpy(begin, word.data(), word.size());
  block_used_ += word.size();
  return {begin, word.size()};
}

absl::Status TextEncoder::EncodeWithSpans(std::string_view text) {
  tokens_.with_spans = true;
  AddedTokens::Scanner scanner(pipeline_.added, AddedTokens::Pass::kRaw, text);
  TextPiece piece;
  while (scanner.Next(piece)) {
    const bool more = piece.id >= 0 ? AddToken(piece.id, Offset(piece.begin), Offset(piece.end))
                                    : EncodeStretchWithSpans(text, piece);
    if (!more) break;
  }
  return Outcome();
}

bool TextEncoder::EncodeStretchWithSpans(std::string_view text, TextPiece piece) {
  if (!EncodeLeadingCode(text, piece)) return false;
  AlignedText normalized(text.substr(piece.begin, piece.end - piece.begin));
  pipeline_.normalizer->Normalize(normalized);
  const auto original = [&](size_t begin, size_t end) {
    const TextSpan span = normalized.Original({Offset(begin), Offset(end)});
    return TextSpan{Offset(piece.begin) + span.begin, Offset(piece.begin) + span.end};
  };
  AddedTokens::Scanner scanner(pipeline_.added, AddedTokens::Pass::kNormalized, normalized.text());
  TextPiece part;
  TokenList word_tokens;
  word_tokens.with_spans = true;
  while (scanner.Next(part)) {
    const TextSpan span = original(part.begin, part.end);
    if (part.id >= 0) {
      if (!AddToken(part.id, span.begin, span.end)) return false;
      continue;
    }
    const std::string_view stretch = std::string_view(normalized.text()).substr(part.begin, part.end - part.begin);
    const PreTokenizer::Place place = {.begins_text = span.begin == 0, .begins = true};
    const auto take = [&](const AlignedText& edited, TextSpan word, size_t begin) {
      word_tokens.ids.clear();
      word_tokens.spans.clear();
      const std::string_view text_of_word = std::string_view(edited.text()).substr(word.begin, word.end - word.begin);
      if (!Append(text_of_word, word_tokens) && !exceeded_) return false;
      for (size_t i = 0; i < word_tokens.ids.size(); ++i) {
        const TextSpan token = word_tokens.spans[i];
        const TextSpan from = edited.Original({word.begin + token.begin, word.begin + token.end});
        const TextSpan whole = original(part.begin + begin + from.begin, part.begin + begin + from.end);
        if (!AddToken(word_tokens.ids[i], whole.begin, whole.end)) return false;
      }
      return true;
    };
    if (!words_.EachAligned(stretch, place, take)) return false;
  }
  return true;
}

}  // namespace elserve
