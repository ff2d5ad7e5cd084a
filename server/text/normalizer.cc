#include "server/text/normalizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "server/text/character_steps.h"
#include "server/text/normalizer_step.h"
#include "server/text/replace_pattern.h"
#include "server/text/sentencepiece_normalizer.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

using Part = Normalizer::Part;
using StepPointer = std::unique_ptr<const Normalizer::Step>;

// NormalizedString::replace.
class ReplaceStep final : public Normalizer::Step {
 public:
  ReplaceStep(ReplacePattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  bool Apply(std::string_view text, Part, std::string& out) const override {
    size_t done = 0;
    ForEachMatch(text, [&](size_t begin, size_t end) {
      out.append(text, done, begin - done).append(content_);
      done = end;
    });
    if (done == 0) return false;
    out.append(text, done);
    return true;
  }

  void Apply(Part, AlignedText& text) const override {
    std::vector<TextSpan> matches;
    ForEachMatch(text.text(), [&](size_t begin, size_t end) {
      matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    });
    if (!matches.empty()) text.Replace(matches, content_);
  }

  bool MayJoin(char32_t character) const override { return pattern_.Mentions(character); }

 private:
  template <typename Function>
  void ForEachMatch(std::string_view text, Function function) const {
    for (size_t at = pattern_.NextCandidate(text, 0); at < text.size(); at = pattern_.NextCandidate(text, at)) {
      const size_t end = pattern_.MatchEnd(text, at);
      if (end > at) function(at, end);
      at = std::max(end, at + 1);
    }
  }

  ReplacePattern pattern_;
  std::string content_;
};

// NormalizedString::lrstrip.
class StripStep final : public Normalizer::Step {
 public:
  explicit StripStep(normalizer::Strip spec) : spec_(spec) {}

  bool Apply(std::string_view text, Part part, std::string& out) const override {
    const TextSpan kept = Kept(text, part);
    if (kept.end - kept.begin == text.size()) return false;
    out = text.substr(kept.begin, kept.end - kept.begin);
    return true;
  }

  void Apply(Part part, AlignedText& text) const override {
    const TextSpan kept = Kept(text.text(), part);
    text.Keep(kept.begin, kept.end);
  }

 private:
  TextSpan Kept(std::string_view text, Part part) const {
    const size_t begin = spec_.left && part.begins ? SpaceAfter(text, 0) : 0;
    const size_t end = spec_.right && part.ends ? SpaceBefore(text, text.size(), begin) : text.size();
    return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
  }

  normalizer::Strip spec_;
};

class PrependStep final : public Normalizer::Step {
 public:
  explicit PrependStep(std::string content) : content_(std::move(content)) {}

  bool Apply(std::string_view text, Part part, std::string& out) const override {
    if (!part.begins || text.empty()) return false;
    out.append(content_).append(text);
    return true;
  }

  void Apply(Part part, AlignedText& text) const override {
    if (part.begins) text.Prepend(content_);
  }

 private:
  std::string content_;
};

absl::Status CheckContent(std::string_view content) {
  if (content.size() <= Normalizer::kMaxContentBytes) return CheckUtf8(content, "the content");
  return absl::InvalidArgumentError(
      absl::StrFormat("the content has %d bytes: at most %d", content.size(), Normalizer::kMaxContentBytes));
}

// Makes the step of each kind.
struct StepMaker {
  absl::StatusOr<StepPointer> operator()(const normalizer::Precompiled& spec) const {
    absl::StatusOr<Charsmap> charsmap = Charsmap::Parse(spec.charsmap);
    if (!charsmap.ok()) return charsmap.status();
    return MakePrecompiledStep(*std::move(charsmap));
  }
  absl::StatusOr<StepPointer> operator()(const normalizer::Form& spec) const { return MakeFormStep(spec.form); }
  absl::StatusOr<StepPointer> operator()(const normalizer::Lowercase&) const { return MakeLowercaseStep(); }
  absl::StatusOr<StepPointer> operator()(const normalizer::Replace& spec) const {
    absl::StatusOr<ReplacePattern> pattern =
        spec.is_regex ? ReplacePattern::Regex(spec.pattern) : ReplacePattern::Literal(spec.pattern);
    if (!pattern.ok()) return pattern.status();
    if (absl::Status status = CheckContent(spec.content); !status.ok()) return status;
    return std::make_unique<ReplaceStep>(*std::move(pattern), spec.content);
  }
  absl::StatusOr<StepPointer> operator()(const normalizer::Strip& spec) const {
    return std::make_unique<StripStep>(spec);
  }
  absl::StatusOr<StepPointer> operator()(const normalizer::Prepend& spec) const {
    if (absl::Status status = CheckContent(spec.content); !status.ok()) return status;
    return std::make_unique<PrependStep>(spec.content);
  }
  absl::StatusOr<StepPointer> operator()(const normalizer::Nmt&) const { return MakeNmtStep(); }
  absl::StatusOr<StepPointer> operator()(const normalizer::StripAccents&) const { return MakeStripAccentsStep(); }
  absl::StatusOr<StepPointer> operator()(const normalizer::SentencePiece& spec) const {
    return SentencePieceNormalizer::Create(spec);
  }
};

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Create(const std::vector<normalizer::Step>& specs) {
  if (specs.size() > kMaxSteps) {
    return absl::InvalidArgumentError(absl::StrFormat("has %d steps: at most %d", specs.size(), kMaxSteps));
  }
  std::vector<StepPointer> steps;
  for (size_t i = 0; i < specs.size(); ++i) {
    absl::StatusOr<StepPointer> step = std::visit(StepMaker(), specs[i]);
    if (!step.ok()) {
      return absl::InvalidArgumentError(absl::StrFormat("step %d: %s", i, std::string(step.status().message())));
    }
    steps.push_back(*std::move(step));
  }
  return Normalizer(std::move(steps));
}

Normalizer::Normalizer(std::vector<StepPointer> steps) : steps_(std::move(steps)) {}
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

std::string_view Normalizer::Normalize(std::string_view text, Part part, std::string& buffer) const {
  std::string next;
  for (const StepPointer& step : steps_) {
    next.clear();
    if (!step->Apply(text, part, next)) continue;
    std::swap(buffer, next);
    text = buffer;
  }
  return text;
}

void Normalizer::Normalize(Part part, AlignedText& text) const {
  for (const StepPointer& step : steps_) step->Apply(part, text);
}

// True if the character becomes others than white space, whatever stands beside it.
bool Normalizer::StandsAlone(std::string_view character) const {
  std::string text(character);
  std::string next;
  for (const StepPointer& step : steps_) {
    for (size_t at = 0; at < text.size();) {
      const Utf8Character part = ReadUtf8(text, at);
      if (step->MayJoin(part.code_point) || IsWhiteSpace(part.code_point)) return false;
      at += part.length;
    }
    next.clear();
    if (step->Apply(text, {.begins = false, .ends = false}, next)) std::swap(text, next);
    if (text.empty()) return false;
  }
  for (size_t at = 0; at < text.size();) {
    const Utf8Character part = ReadUtf8(text, at);
    if (IsWhiteSpace(part.code_point)) return false;
    at += part.length;
  }
  return true;
}

size_t Normalizer::NextCut(std::string_view text, size_t from) const {
  if (steps_.empty()) {
    while (from < text.size() && !IsCharacterBoundary(text, from)) ++from;
    return std::min(from, text.size());
  }
  // The cut is between the second and the third of four separable characters: the two beside it are no part of what
  // stands further away.
  std::array<size_t, 4> begins = {};  // of the last four characters, the last one at the end
  size_t run = 0;                     // separable ones that came last
  size_t at = std::min(from, text.size());
  for (int back = 0; back < 2 && at > 0; ++back) at = PreviousCharacter(text, at);
  while (at < text.size()) {
    const Utf8Character character = ReadUtf8(text, at);
    std::move(begins.begin() + 1, begins.end(), begins.begin());
    begins[3] = at;
    run = IsSeparable(character.code_point) ? run + 1 : 0;
    at += character.length;
    if (run < 4 || begins[2] < from) continue;
    const size_t cut = begins[2];
    if (StandsAlone(text.substr(begins[1], cut - begins[1])) && StandsAlone(text.substr(cut, begins[3] - cut)) &&
        steps_.front()->CanCut(text, cut)) {
      return cut;
    }
  }
  return text.size();
}

}  // namespace elserve
