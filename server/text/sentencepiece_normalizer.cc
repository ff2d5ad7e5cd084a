#include "server/text/sentencepiece_normalizer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"

namespace elserve {
namespace {

constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";  // U+2581

}  // namespace

// The text to be and, if asked for, the part of the old text that each of its bytes stands for.
class SentencePieceNormalizer::Writer {
 public:
  Writer(std::string_view space, bool with_parts) : space_(space), with_parts_(with_parts) {}

  // Spaces in `content` are written as they are to be.
  void Add(std::string_view content, TextSpan part) {
    for (const char byte : content) {
      if (byte == ' ') {
        text += space_;
      } else {
        text.push_back(byte);
      }
    }
    if (with_parts_) parts.resize(text.size(), part);
  }

  void RemoveTrailingSpaces() {
    while (text.ends_with(space_)) text.resize(text.size() - space_.size());
    if (with_parts_) parts.resize(text.size());
  }

  std::string text;
  std::vector<TextSpan> parts;

 private:
  std::string_view space_;
  bool with_parts_;
};

absl::StatusOr<std::unique_ptr<const Normalizer::Step>> SentencePieceNormalizer::Create(
    const normalizer::SentencePiece& spec) {
  std::unique_ptr<SentencePieceNormalizer> step(new SentencePieceNormalizer());
  step->spec_ = spec;
  step->spec_.charsmap.clear();
  if (!spec.charsmap.empty()) {
    absl::StatusOr<Charsmap> charsmap = Charsmap::Parse(spec.charsmap);
    if (!charsmap.ok()) return charsmap.status();
    step->charsmap_ = *std::move(charsmap);
  }
  std::vector<std::pair<std::string_view, int32_t>> pieces;
  for (const std::string& piece : step->spec_.user_defined) {
    pieces.emplace_back(piece, 0);
    step->longest_user_defined_ = std::max(step->longest_user_defined_, piece.size());
  }
  std::sort(pieces.begin(), pieces.end());
  pieces.erase(std::unique(pieces.begin(), pieces.end()), pieces.end());
  if (!pieces.empty() && pieces.front().first.empty()) {
    return absl::InvalidArgumentError("a user-defined piece is empty");
  }
  step->user_defined_ = PieceTrie(std::move(pieces));
  return step;
}

// The length of the longest user-defined piece that the text begins with, or 0.
size_t SentencePieceNormalizer::UserDefined(std::string_view text) const {
  size_t longest = 0;
  uint32_t node = PieceTrie::kRoot;
  for (size_t at = 0; at < text.size() && user_defined_.Step(node, text[at]); ++at) {
    if (user_defined_.Value(node) >= 0) longest = at + 1;
  }
  return longest;
}

// Normalizer::NormalizePrefix.
Charsmap::Match SentencePieceNormalizer::Prefix(std::string_view text) const {
  if (const size_t length = UserDefined(text); length > 0) return {length, text.substr(0, length)};
  if (charsmap_) {
    if (const std::optional<Charsmap::Match> match = charsmap_->Longest(text)) return *match;
  }
  const size_t length = ReadUtf8(text, 0).length;
  return {length, text.substr(0, length)};
}

// Normalizer::Normalize.
void SentencePieceNormalizer::Run(std::string_view text, Normalizer::Part part, Writer& writer) const {
  size_t at = 0;
  bool after_space = spec_.remove_extra_whitespaces && part.begins;
  while (after_space && at < text.size()) {
    const Charsmap::Match match = Prefix(text.substr(at));
    if (match.becomes != " ") break;
    at += match.length;
  }
  if (at == text.size()) return;
  const auto place = [](size_t offset) {
    return TextSpan{static_cast<uint32_t>(offset), static_cast<uint32_t>(offset)};
  };
  if (part.begins && !spec_.treat_whitespace_as_suffix && spec_.add_dummy_prefix) writer.Add(" ", place(at));
  while (at < text.size()) {
    Charsmap::Match match = Prefix(text.substr(at));
    const TextSpan from = {static_cast<uint32_t>(at), static_cast<uint32_t>(at + match.length)};
    while (after_space && !match.becomes.empty() && match.becomes[0] == ' ') match.becomes.remove_prefix(1);
    if (!match.becomes.empty()) {
      writer.Add(match.becomes, from);
      after_space = spec_.remove_extra_whitespaces && match.becomes.back() == ' ';
    }
    at += match.length;
  }
  if (!part.ends) return;
  if (spec_.remove_extra_whitespaces) writer.RemoveTrailingSpaces();
  if (spec_.treat_whitespace_as_suffix && spec_.add_dummy_prefix) writer.Add(" ", place(text.size()));
}

bool SentencePieceNormalizer::Apply(std::string_view text, Normalizer::Part part, std::string& out) const {
  Writer writer(spec_.escape_whitespaces ? kEscapedSpace : " ", false);
  writer.text = std::move(out);
  Run(text, part, writer);
  out = std::move(writer.text);
  return true;
}

void SentencePieceNormalizer::Apply(Normalizer::Part part, AlignedText& text) const {
  Writer writer(spec_.escape_whitespaces ? kEscapedSpace : " ", true);
  Run(text.text(), part, writer);
  text.Become(std::move(writer.text), writer.parts);
}

bool SentencePieceNormalizer::CanCut(std::string_view text, size_t at) const {
  const size_t longest = std::max(charsmap_ ? Charsmap::kMaxKeyBytes : 0, longest_user_defined_);
  for (size_t begin = at > longest ? at - longest : 0; begin < at; ++begin) {
    if (!IsCharacterBoundary(text, begin)) continue;
    const std::string_view rest = text.substr(begin);
    if (user_defined_.Reach(rest) > at - begin || (charsmap_ && charsmap_->Reach(rest) > at - begin)) return false;
  }
  return true;
}

}  // namespace elserve
