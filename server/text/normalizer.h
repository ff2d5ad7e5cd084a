// What happens to a text before it is cut into words: the normalizers of tokenizer.json and of SentencePiece's models.
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

namespace elserve {

// The steps, each as the tokenizers library's normalizer of that name does it.
namespace normalizer {

// A SentencePiece model's precompiled_charsmap, as bytes (base64 in tokenizer.json).
struct Precompiled {
  std::string charsmap;
};
struct Nfc {};
struct Nfd {};
struct Nfkc {};
struct Nfkd {};
struct Lowercase {};
// Each match becomes `content`. A regular expression may be one character with a repetition (" {2,}", "x+"), or no
// more than characters; any other is refused.
struct Replace {
  std::string pattern;
  bool is_regex = false;
  std::string content;
};
// Takes away white space.
struct Strip {
  bool left = true;
  bool right = true;
};
struct Prepend {
  std::string content;
};
// Takes away control characters and makes other blanks a space, as in machine translation.
struct Nmt {};
struct StripAccents {};

using Step = std::variant<Precompiled, Nfc, Nfd, Nfkc, Nfkd, Lowercase, Replace, Strip, Prepend, Nmt, StripAccents>;

}  // namespace normalizer

// Immutable after Create: all of it may be called from any thread at once. Texts must be valid UTF-8.
class Normalizer {
 public:
  static constexpr size_t kMaxSteps = 16;

  // INVALID_ARGUMENT (to be completed with file and key) names the step and what is wrong with it. No steps: the text
  // stays as it is.
  static absl::StatusOr<Normalizer> Create(std::vector<normalizer::Step> steps);

  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  bool is_identity() const;

  // Which ends of a whole text a part of it has. Strip and Prepend act there alone.
  struct Part {
    bool begins = true;
    bool ends = true;
  };

  // The normalized text: `text` itself where no step can change it, or else `buffer`, which is overwritten.
  std::string_view Normalize(std::string_view text, std::string& buffer) const {
    return Normalize(text, Part(), buffer);
  }

  // The same for one part of a text that was cut by NextCut.
  std::string_view Normalize(std::string_view text, Part part, std::string& buffer) const;

  // The same text, with what each byte comes from.
  void Normalize(AlignedText& text) const;

  // The first place at or after byte `from` where a text can be cut into parts that become, each for itself and end to
  // end, what the whole text becomes; text.size() where there is none. So a text can be taken part by part, and its
  // rest be left alone once it has too many tokens.
  size_t NextCut(std::string_view text, size_t from) const;

 private:
  struct State;
  explicit Normalizer(std::unique_ptr<const State> state);

  std::unique_ptr<const State> state_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_NORMALIZER_H_
