// What becomes of tokens on their way back to text, step after step: the decoders of tokenizer.json, and what
// SentencePiece does to its pieces. Tokens may still be coming: text is given out as soon as no later token can change
// it.
#ifndef ELSERVE_SERVER_TEXT_DECODER_H_
#define ELSERVE_SERVER_TEXT_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace elserve {

// The steps, each as the tokenizers library's decoder of that name does it. A step gets the tokens of the step before;
// Fuse, ByteLevel and SentencePiece join them to one, which only Fuse, Replace, Strip and TrimWhiteSpace can take on.
namespace decoder {

// Characters become the bytes that they stand for (byte_level.h); bytes that form no character become U+FFFD.
struct ByteLevel {};
struct Fuse {};
// The replacement becomes a space; where `drops_first` is set, that of the first token goes.
struct Metaspace {
  std::string replacement = "\u2581";
  bool drops_first = true;
};
// A run of <0x00> ... <0xFF> becomes the character that it spells, or else one U+FFFD a token.
struct ByteFallback {};
struct Replace {
  std::string pattern;
  std::string content;
};
// Takes at most so many of the character `content` off both ends.
struct Strip {
  std::string content;
  size_t start = 0;
  size_t stop = 0;
};
// Python's str.strip, of the whole text.
struct TrimWhiteSpace {};
// SentencePieceProcessor::DecodePieces between special tokens, which have a space behind them (MarianTokenizer).
struct SentencePiece {
  enum class Kind : uint8_t {
    kUnknown,  // no piece of the model: stays as it is
    kPiece,    // U+2581 becomes a space; the first one of a text goes
    kControl,  // nothing
    kByte,
  };
  std::vector<Kind> kinds;           // by token id
  bool drops_first = true;           // add_dummy_prefix or remove_extra_whitespaces
  bool drops_all_that_begin = true;  // remove_extra_whitespaces: of more than one piece
};

using Step = std::variant<ByteLevel, Fuse, Metaspace, ByteFallback, Replace, Strip, TrimWhiteSpace, SentencePiece>;

}  // namespace decoder

// The byte that "<0x2F>" stands for; nullopt: it is no such token.
std::optional<char> ByteOfToken(std::string_view token);

// Immutable after Create.
class Decoder {
 public:
  static constexpr size_t kMaxSteps = 32;

  // One text in the making. The decoder must outlive it.
  class Stream;

  // INVALID_ARGUMENT (to be completed with file and key) names the step and what is wrong with it. Without steps
  // tokens stand side by side as they are.
  static absl::StatusOr<Decoder> Create(std::vector<decoder::Step> steps);

  // Whether one of its steps is of this kind.
  template <typename Step>
  bool Has() const {
    for (const decoder::Step& step : steps_) {
      if (std::holds_alternative<Step>(step)) return true;
    }
    return false;
  }

 private:
  explicit Decoder(std::vector<decoder::Step> steps) : steps_(std::move(steps)) {}

  std::vector<decoder::Step> steps_;
};

class Decoder::Stream {
 public:
  explicit Stream(const Decoder& decoder) : decoder_(&decoder), states_(decoder.steps_.size()) {}

  // Appends what this token makes certain. `special`: SentencePiece leaves it as it is.
  void Add(std::string_view token, int32_t id, bool special, std::string& text);
  // Appends the rest. Afterwards this is as new.
  void End(std::string& text);

 private:
  // What a step keeps from token to token.
  struct State {
    std::string held;    // text or bytes that later tokens may change
    size_t tokens = 0;   // seen so far
    size_t removed = 0;  // Strip: characters taken from the beginning
    bool begun = false;  // text was given out
  };

  // A whole token for the step, or a part of the one token that the steps before it have joined.
  void Token(size_t step, std::string_view token);
  void Part(size_t step, std::string_view part);
  void Finish(size_t step);

  void On(const decoder::ByteLevel&, size_t step, std::string_view token);
  void On(const decoder::Fuse&, size_t step, std::string_view token);
  void On(const decoder::Metaspace& metaspace, size_t step, std::string_view token);
  void On(const decoder::ByteFallback&, size_t step, std::string_view token);
  void On(const decoder::Replace& replace, size_t step, std::string_view token);
  void On(const decoder::Strip& strip, size_t step, std::string_view token);
  void On(const decoder::TrimWhiteSpace&, size_t step, std::string_view token);
  void On(const decoder::SentencePiece& pieces, size_t step, std::string_view token);
  void OnPart(const decoder::Replace& replace, size_t step, std::string_view part);
  void OnPart(const decoder::Strip& strip, size_t step, std::string_view part);
  void TrimPart(size_t step, std::string_view part);
  void FlushByteRun(size_t step);
  void PassCharacters(size_t step, bool last);
  void PassPieceBytes(size_t step, bool last);

  const Decoder* decoder_;
  std::vector<State> states_;  // by step
  int32_t id_ = 0;             // of the token that is being added
  bool special_ = false;
  std::string* text_ = nullptr;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_DECODER_H_
