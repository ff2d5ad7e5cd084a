// Cuts text into words, the pieces that a model encodes each for itself: the pre-tokenizers of tokenizer.json.
#ifndef ELSERVE_SERVER_TEXT_PRE_TOKENIZER_H_
#define ELSERVE_SERVER_TEXT_PRE_TOKENIZER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/text/aligned_text.h"
#include "server/text/word_splitter.h"

namespace elserve {

// The steps, each as the tokenizers library's pre-tokenizer of that name does it.
namespace pre_tokenizer {

// Cuts by GPT-2's pattern, if `use_regex` is set. The model takes the bytes as they are.
struct ByteLevel {
  bool add_prefix_space = true;  // a text that does not begin with a space gets one
  bool use_regex = true;
};
// Spaces become the replacement, and a word begins at each, if `split` is set.
struct Metaspace {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\u2581";  // one character
  Prepend prepend = Prepend::kAlways;  // to texts that do not begin with it; kFirst: where the whole text begins
  bool split = true;
};
// White space goes, and words are what stands between it.
struct WhitespaceSplit {};

using Step = std::variant<ByteLevel, Metaspace, WhitespaceSplit>;

}  // namespace pre_tokenizer

// Immutable after Create.
class PreTokenizer {
 public:
  static constexpr size_t kMaxSteps = 16;

  // What a text is to the steps: a stretch between added tokens, or a part of one.
  struct Place {
    bool begins_text = true;  // it comes from what the whole text begins with
    bool begins = true;       // it is no later part of a stretch that was cut
  };

  // Cuts the texts of one call: it holds buffers.
  class Words;

  // WhitespaceSplit may stand before one ByteLevel or Metaspace; anything else is INVALID_ARGUMENT (to be completed
  // with file and key). No steps: a text is one word.
  static absl::StatusOr<PreTokenizer> Create(const std::vector<pre_tokenizer::Step>& steps);

  // Whether the model is to know bytes, by the alphabet of byte_level.h.
  bool gives_bytes() const { return byte_level_.has_value(); }

  // Whether words depend on what the whole text begins with.
  bool asks_for_beginning() const {
    return metaspace_ && metaspace_->prepend == pre_tokenizer::Metaspace::Prepend::kFirst;
  }

  // Whether a word ends before each space that stands behind other than white space: a text may be cut there.
  bool ends_words() const;

 private:
  PreTokenizer() = default;

  bool whitespace_split_ = false;
  std::optional<pre_tokenizer::ByteLevel> byte_level_;
  std::optional<pre_tokenizer::Metaspace> metaspace_;
};

class PreTokenizer::Words {
 public:
  using Take = absl::FunctionRef<bool(std::string_view word)>;
  // `edited` is the text from byte `begin` on as the steps changed it, and `word` is the word's part of that.
  using TakeAligned = absl::FunctionRef<bool(const AlignedText& edited, TextSpan word, size_t begin)>;

  // The pre-tokenizer must outlive this.
  explicit Words(const PreTokenizer& pre_tokenizer) : steps_(pre_tokenizer) {}

  // Calls `take` for each word, none of them empty, until it returns false. A view is valid during its call alone.
  // False: `take` ended it, or PCRE2 failed, which failed() tells.
  bool Each(std::string_view text, Place place, Take take);

  // The same for those who ask where words come from.
  bool EachAligned(std::string_view text, Place place, TakeAligned take);

  bool failed() const { return failed_; }

 private:
  // Calls `take` with the offsets of what stands between white space, or of the whole text where it is not to be cut.
  bool Runs(std::string_view text, absl::FunctionRef<bool(size_t begin, size_t end)> take) const;
  // Calls `take` with the offsets of the words of a text that has its prefix.
  bool Cut(std::string_view text, absl::FunctionRef<bool(size_t begin, size_t end)> take);
  bool Metaspaced(std::string_view text, bool prepend, Take take);
  // What is to be put before a text; empty: nothing.
  std::string_view Prefix(std::string_view text, Place place) const;

  const PreTokenizer& steps_;
  WordSplitter splitter_;
  std::string buffer_;
  bool failed_ = false;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_PRE_TOKENIZER_H_
