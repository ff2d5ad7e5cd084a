#include "server/text/character_steps.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "server/text/utf8.h"

namespace elserve {
namespace {

using Part = Normalizer::Part;

bool IsAscii(char byte) { return static_cast<uint8_t>(byte) < 0x80; }

// Derived has
//   size_t Unchanged(std::string_view text) const: how much of the text from its begin on surely stays as it is and
//     can be taken by itself;
//   bool Run(std::string_view text, Sink& sink) const: all of the text; false: nothing has changed.
template <typename Derived>
class CharacterStep : public Normalizer::Step {
 public:
  bool Apply(std::string_view text, Part, std::string& out) const final {
    const size_t unchanged = derived().Unchanged(text);
    if (unchanged == text.size()) return false;
    out.reserve(text.size());
    out.assign(text, 0, unchanged);
    TextSink sink(out);
    return derived().Run(text.substr(unchanged), sink);
  }

  void Apply(Part, AlignedText& text) const final {
    ChangeSink sink;
    if (derived().Run(text.text(), sink)) sink.Finish(text);
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
};

// Precompiled::normalize: whole grapheme clusters of less than 6 bytes first. What one becomes is decided by the
// shortest key that it begins with; what is left of the cluster goes. Then single characters.
class PrecompiledStep final : public CharacterStep<PrecompiledStep> {
 public:
  explicit PrecompiledStep(Charsmap charsmap) : charsmap_(std::move(charsmap)) {
    for (size_t byte = 0; byte < plain_.size(); ++byte) {
      const char character = static_cast<char>(byte);
      plain_[byte] = byte < 0x80 && byte != '\r' && !charsmap_.Shortest(std::string_view(&character, 1));
    }
  }

  // ASCII without a key, but for one that a mark may follow.
  size_t Unchanged(std::string_view text) const {
    size_t at = 0;
    while (at < text.size() && plain_[static_cast<uint8_t>(text[at])]) ++at;
    return at > 0 && at < text.size() && !IsAscii(text[at]) ? at - 1 : at;
  }

  template <typename Sink>
  bool Run(std::string_view text, Sink& sink) const {
    bool changed = false;
    for (size_t at = 0; at < text.size();) {
      if (const size_t same = Unchanged(text.substr(at)); same > 0) {
        sink.Same(text.substr(at, same));
        at += same;
        continue;
      }
      const std::string_view cluster = Cluster(text, at);
      at += cluster.size();
      if (cluster.size() <= kMaxClusterBytes && Become(cluster, sink)) {
        changed = true;
        continue;
      }
      for (size_t i = 0; i < cluster.size();) {
        const Utf8Character character = ReadUtf8(cluster, i);
        if (Become(cluster.substr(i, character.length), sink)) {
          changed = true;
        } else {
          sink.Add(character.code_point, 0);
        }
        i += character.length;
      }
    }
    return changed;
  }

 private:
  static constexpr size_t kMaxClusterBytes = 5;

  static std::string_view Cluster(std::string_view text, size_t begin) {
    const Utf8Character first = ReadUtf8(text, begin);
    const size_t next = begin + first.length;
    const bool alone =
        IsSeparable(first.code_point) && (next == text.size() || IsSeparable(ReadUtf8(text, next).code_point));
    return text.substr(begin, (alone ? next : GraphemeEnd(text, begin)) - begin);
  }

  template <typename Sink>
  bool Become(std::string_view part, Sink& sink) const {
    const std::optional<Charsmap::Match> match = charsmap_.Shortest(part);
    if (!match) return false;
    const auto old_count =
        static_cast<int32_t>(std::count_if(part.begin(), part.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
    int32_t count = 0;
    for (size_t at = 0; at < match->becomes.size(); ++count) {
      const Utf8Character character = ReadUtf8(match->becomes, at);
      sink.Add(character.code_point, count < old_count ? 0 : 1);
      at += character.length;
    }
    if (count < old_count) sink.DropAfterLast(old_count - count);
    return true;
  }

  Charsmap charsmap_;
  std::array<bool, 256> plain_;
};

class FormStep final : public CharacterStep<FormStep> {
 public:
  explicit FormStep(NormalForm form) : form_(form), composes_(form == NormalForm::kNfc || form == NormalForm::kNfkc) {}

  // All but the last character before one that may change.
  size_t Unchanged(std::string_view text) const {
    size_t before = 0;
    for (size_t at = 0; at < text.size();) {
      size_t length = 1;
      if (!IsAscii(text[at])) {
        const Utf8Character character = ReadUtf8(text, at);
        if (!composes_ || !IsSeparable(character.code_point)) return before;
        length = character.length;
      }
      before = at;
      at += length;
    }
    return text.size();
  }

  template <typename Sink>
  bool Run(std::string_view text, Sink& sink) const {
    bool changed = false;
    for (size_t at = 0; at < text.size();) {
      const size_t same = Unchanged(text.substr(at));
      sink.Same(text.substr(at, same));
      at += same;
      // ASCII never joins with what stands before it.
      size_t end = std::min(at + 1, text.size());
      while (end < text.size() && !IsAscii(text[end])) ++end;
      if (end == at) break;
      for (const CharacterChange& change : Normalized(text.substr(at, end - at), form_)) {
        sink.Add(change.character, change.change);
      }
      changed = true;
      at = end;
    }
    return changed;
  }

 private:
  NormalForm form_;
  bool composes_;
};

// NormalizedString::lowercase.
class LowercaseStep final : public CharacterStep<LowercaseStep> {
 public:
  size_t Unchanged(std::string_view text) const {
    return static_cast<size_t>(
        std::find_if(text.begin(), text.end(), [](char byte) { return !IsAscii(byte) || IsCapital(byte); }) -
        text.begin());
  }

  template <typename Sink>
  bool Run(std::string_view text, Sink& sink) const {
    std::vector<char32_t> lower;
    for (size_t at = 0; at < text.size();) {
      if (IsAscii(text[at])) {
        const auto character = static_cast<char32_t>(text[at]);
        sink.Add(IsCapital(text[at]) ? character + 0x20 : character, 0);
        ++at;
        continue;
      }
      const Utf8Character character = ReadUtf8(text, at);
      lower.clear();
      AppendLowercase(character.code_point, lower);
      for (size_t i = 0; i < lower.size(); ++i) sink.Add(lower[i], i == 0 ? 0 : 1);
      at += character.length;
    }
    return true;
  }

 private:
  static bool IsCapital(char byte) { return byte >= 'A' && byte <= 'Z'; }
};

// do_nmt of the tokenizers library.
class NmtStep final : public CharacterStep<NmtStep> {
 public:
  size_t Unchanged(std::string_view text) const {
    return static_cast<size_t>(
        std::find_if(text.begin(), text.end(), [](char byte) { return byte < 0x20 || byte == 0x7F; }) - text.begin());
  }

  template <typename Sink>
  bool Run(std::string_view text, Sink& sink) const {
    for (size_t at = 0; at < text.size();) {
      const Utf8Character character = ReadUtf8(text, at);
      at += character.length;
      if (IsRemoved(character.code_point)) {
        sink.Drop();
      } else {
        sink.Add(IsBlank(character.code_point) ? U' ' : character.code_point, 0);
      }
    }
    return true;
  }

 private:
  static bool IsRemoved(char32_t c) {
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
  }
  static bool IsBlank(char32_t c) {
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
  }
};

class StripAccentsStep final : public CharacterStep<StripAccentsStep> {
 public:
  size_t Unchanged(std::string_view text) const {
    return static_cast<size_t>(std::find_if_not(text.begin(), text.end(), IsAscii) - text.begin());
  }

  template <typename Sink>
  bool Run(std::string_view text, Sink& sink) const {
    bool changed = false;
    for (size_t at = 0; at < text.size();) {
      const Utf8Character character = ReadUtf8(text, at);
      at += character.length;
      if (IsMark(character.code_point)) {
        sink.Drop();
        changed = true;
      } else {
        sink.Add(character.code_point, 0);
      }
    }
    return changed;
  }
};

}  // namespace

std::unique_ptr<const Normalizer::Step> MakePrecompiledStep(Charsmap charsmap) {
  return std::make_unique<PrecompiledStep>(std::move(charsmap));
}
std::unique_ptr<const Normalizer::Step> MakeFormStep(NormalForm form) { return std::make_unique<FormStep>(form); }
std::unique_ptr<const Normalizer::Step> MakeLowercaseStep() { return std::make_unique<LowercaseStep>(); }
std::unique_ptr<const Normalizer::Step> MakeNmtStep() { return std::make_unique<NmtStep>(); }
std::unique_ptr<const Normalizer::Step> MakeStripAccentsStep() { return std::make_unique<StripAccentsStep>(); }

}  // namespace elserve
