// One step of a Normalizer: what it does to a text, with and without keeping where each byte comes from.
#ifndef ELSERVE_SERVER_TEXT_NORMALIZER_STEP_H_
#define ELSERVE_SERVER_TEXT_NORMALIZER_STEP_H_

#include <string>
#include <string_view>
#include <vector>

#include "server/text/aligned_text.h"
#include "server/text/normalizer.h"
#include "server/text/utf8.h"

namespace elserve {

class Normalizer::Step {
 public:
  virtual ~Step() = default;

  // Writes to `out`, which is empty, what the text becomes; false: nothing changes, and `out` is of no use.
  virtual bool Apply(std::string_view text, Part part, std::string& out) const = 0;
  virtual void Apply(Part part, AlignedText& text) const = 0;

  // True if what becomes of this character may depend on others than the marks after it.
  virtual bool MayJoin(char32_t /*character*/) const { return false; }

  // False if what this step makes of either side of byte `at` of a text may depend on the other side, though no
  // character there may join with others. Only a first step may say so.
  virtual bool CanCut(std::string_view /*text*/, size_t /*at*/) const { return true; }
};

// Where the steps that go character by character write to. This one keeps the text alone.
class TextSink {
 public:
  explicit TextSink(std::string& text) : text_(text) {}

  void Add(char32_t character, int32_t /*change*/) { AppendUtf8(character, text_); }
  // Characters that stay as they are.
  void Same(std::string_view run) { text_ += run; }
  // The next character goes.
  void Drop() {}
  // So many characters go, after the last one that was added, if there is one.
  void DropAfterLast(int32_t /*characters*/) {}

 private:
  std::string& text_;
};

// This one keeps what AlignedText::Transform needs.
class ChangeSink {
 public:
  void Add(char32_t character, int32_t change) { changes_.push_back({character, change}); }
  void Same(std::string_view run) {
    for (size_t at = 0; at < run.size();) {
      const Utf8Character character = ReadUtf8(run, at);
      Add(character.code_point, 0);
      at += character.length;
    }
  }
  void Drop() {
    if (changes_.empty()) {
      ++removed_;
    } else {
      --changes_.back().change;
    }
  }
  void DropAfterLast(int32_t characters) {
    if (!changes_.empty()) changes_.back().change -= characters;
  }

  void Finish(AlignedText& text) const { text.Transform(changes_, removed_); }

 private:
  std::vector<CharacterChange> changes_;
  size_t removed_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_NORMALIZER_STEP_H_
