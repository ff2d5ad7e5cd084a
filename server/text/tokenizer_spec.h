// A tokenizer as its files describe it, before anything is built from it.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_SPEC_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "server/text/added_tokens.h"
#include "server/text/bpe.h"
#include "server/text/decoder.h"
#include "server/text/frame.h"
#include "server/text/normalizer.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/renumbered_model.h"
#include "server/text/span_trim.h"
#include "server/text/unigram.h"

namespace elserve {

// A token that is to be added, in the order of adding.
struct StatedToken {
  AddedToken token;
  std::optional<int32_t> id;  // what the file says it is
  std::string source;         // file and key, for errors
};

// A token that stands around a text: by its id, or by what the vocabulary calls it.
struct FrameToken {
  std::optional<int32_t> id;
  std::string content;
  std::string source;
};

// The languages of a family.
struct LanguageSpec {
  // Codes and the tokens that stand for them; those that the vocabulary lacks do not count.
  std::vector<std::pair<std::string, std::string>> tokens;
  TargetLanguageUse target_use = TargetLanguageUse::kNone;
  // The source language's token is one of the frame's, and this is what it is where a request names none; nullopt: as
  // the frame has it.
  bool source_in_frame = false;
  std::optional<std::string> source;
  std::string source_key;  // where `source` was read, for errors
};

enum class TruncationSide { kRight, kLeft };

// Answers that are tokenized by a model of their own; the other steps are those of sources.
struct AnswerSpec {
  std::string source;  // the file that it was read from, for errors
  RenumberedSpec model;
  std::vector<normalizer::Step> normalizer;
};

struct TokenizerSpec {
  std::variant<BpeSpec, UnigramSpec, RenumberedSpec> model;
  std::vector<normalizer::Step> normalizer;
  std::vector<pre_tokenizer::Step> pre_tokenizer;
  std::vector<decoder::Step> decoder;
  std::string source = "tokenizer.json";  // the file that the steps were read from, for errors
  // A text that begins with ">>" has a language's code up to "<<", which is a token (MarianTokenizer).
  bool leading_code = false;
  std::optional<AnswerSpec> answers;  // none: as sources
  std::vector<StatedToken> added;
  std::vector<FrameToken> before;  // e.g. <s>
  std::vector<FrameToken> after;   // e.g. </s>
  std::vector<SpanTrim> span_trims;
  LanguageSpec languages;
  std::optional<int64_t> model_max_length;
  TruncationSide truncation_side = TruncationSide::kRight;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_SPEC_H_
