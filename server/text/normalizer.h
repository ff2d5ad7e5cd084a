// What happens to a text before it is cut into words: the normalizers of tokenizer.json, and SentencePiece's own.
#ifndef ELSERVE_SERVER_TEXT_NORMALIZER_H_
#define ELSERVE_SERVER_TEXT_NORMALIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/aligned_text.h"
#include "server/text/unicode.h"

namespace elserve {

// The steps, each as the tokenizers library's normalizer of that name does it.
namespace normalizer {

// A SentencePiece model's precompiled_charsmap, as bytes (base64 in tokenizer.json).
struct Precompiled {
  std::string charsmap;
};
struct Form {
  NormalForm form = NormalForm::kNfc;
};
struct Lowercase {};
// Each match becomes `content`. What regular expressions are taken says replace_pattern.h.
struct Replace {
  std::string pattern = "";
  bool is_regex = false;
  std::string content = "";
};
// Takes away white space.
struct Strip {
  bool left = true;
  bool right = true;
};
struct Prepend {
  std::string content;
};
// Takes away control characters and makes other blanks a space, as is the custom in machine translation.
struct Nmt {};
struct StripAccents {};

// Not of the tokenizers library: all that SentencePiece does to a text before its model, which is what transformers
// runs for Marian. See sentencepiece_model.h for the fields.
struct SentencePiece {
  std::string charsmap = "";  // "": none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  std::vector<std::string> user_defined = {};  // pieces that are left as they are
};

using Step = std::variant<Precompiled, Form, Lowercase, Replace, Strip, Prepend, Nmt, StripAccents, SentencePiece>;

}  // namespace normalizer

// Immutable after Create: all of it may be called from any thread at once. Texts must be valid UTF-8.
class Normalizer {
 public:
  class Step;  // normalizer_step.h

  static constexpr size_t kMaxSteps = 16;
  static constexpr size_t kMaxContentBytes = 256;  // of what replaces or is put before

  // INVALID_ARGUMENT (to be completed with file and key) names the step and what is wrong with it. Without steps the
  // text stays as it is.
  static absl::StatusOr<Normalizer> Create(const std::vector<normalizer::Step>& steps);

  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  // Which ends of a whole text a part of it has. White space is taken off and content put before there alone.
  struct Part {
    bool begins = true;
    bool ends = true;
  };

  // The normalized text: `text` itself where nothing changes, or else `buffer`, which is overwritten.
  std::string_view Normalize(std::string_view text, std::string& buffer) const {
    return Normalize(text, Part(), buffer);
  }

  // The same for one part of a text that was cut by NextCut.
  std::string_view Normalize(std::string_view text, Part part, std::string& buffer) const;

  // The same, with what each byte comes from.
  void Normalize(AlignedText& text) const { Normalize(Part(), text); }
  void Normalize(Part part, AlignedText& text) const;

  // The first place at or after byte `from` where a text can be cut into parts that become, each for itself and end to
  // end, what the whole text becomes; text.size() where there is none. So a text can be taken part by part, and its
  // rest be left alone once it has too many tokens.
  size_t NextCut(std::string_view text, size_t from) const;

 private:
  explicit Normalizer(std::vector<std::unique_ptr<const Step>> steps);

  bool StandsAlone(std::string_view character) const;

  std::vector<std::unique_ptr<const Step>> steps_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_NORMALIZER_H_
