// Reads the golden data of this folder (make_golden.py writes it): what transformers answers, and to which request.
#ifndef ELSERVE_TESTS_GOLDEN_GOLDEN_CASES_H_
#define ELSERVE_TESTS_GOLDEN_GOLDEN_CASES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/decoding.h"
#include "engine/engine.h"
#include "nlohmann/json.hpp"

namespace elserve {

// One request and its answers.
struct GoldenCase {
  std::string name;  // "bart-odd[17] {parameters}", for messages
  // Token ids, special tokens included. Of a decoder-only model none: its prompt is decoding.prefix.
  std::vector<int32_t> source;
  // As the file has them, under transformers' names. What stands there is all that is set: [] as eos_token_id is
  // "none", a missing forced_bos_token_id or forced_eos_token_id is "off", whatever the checkpoint says.
  nlohmann::json parameters;
  std::vector<int32_t> prefix;      // decoder_input_ids as they are given to generate(); empty: none
  DecodingSpec decoding;            // parameters and prefix, resolved
  std::vector<Hypothesis> answers;  // best first; with alternatives where `decoding` asks for them

  // Cases with text alone: those of debian-synopsis, and a few of each of the other families.
  struct Text {
    std::string prompt;  // tokenized, it is `source`, or decoding.prefix
    bool question = false;
    std::string document;                          // of a summary; of a question, the context
    std::string answer;                            // of a question
    int64_t span_begin = 0, span_end = 0;          // where the context has it: bytes
    std::string source_language, target_language;  // empty: none is named
    std::vector<std::string> answers;              // the decoded text of each, GoldenCase::prefix at its beginning
    std::string prefix;                            // what makes GoldenCase::prefix; empty: none
    // A target for the prompt, and the log-probabilities of its tokens and of the EOS behind them; empty: none.
    std::string target;
    std::vector<float> target_logprobs;
  };
  std::optional<Text> text;
};

// Intermediate values of one source.
struct GoldenStates {
  std::vector<int32_t> source;
  int32_t decoder_start_token_id = 0;
  std::vector<std::vector<float>> encoder_states;  // [source tokens, d_model], the encoder's last
  std::vector<float> first_logits;                 // [vocab], after the decoder's start token
};

struct GoldenFile {
  std::string checkpoint;     // absolute directory
  std::string tokenizer;      // of the tokenizer's files, absolute too; empty: they lie in the checkpoint
  bool decoder_only = false;  // the sources are prompts
  SalientHeads salience;      // where DecodingSpec::salience of the cases acts; none: no case has any
  std::vector<GoldenStates> states;
  std::vector<GoldenCase> cases;
};

// The names of the files with tiny checkpoints: BART's, the other families', and those without an encoder; and of the
// one with the embedded model.
inline constexpr const char* kTinyGoldenFiles[] = {"bart-odd", "bart-relu", "bart-wide", "bart-one"};
// Of a BART whose encoder has FAVOR+, which cuda has no kernels for.
inline constexpr const char* kFavorGoldenFiles[] = {"bart-favor"};
inline constexpr const char* kFamilyGoldenFiles[] = {"t5-odd",      "t5-hub",      "t5-gated-odd", "t5-gated-hub",
                                                     "pegasus-odd", "pegasus-hub", "mbart-odd",    "mbart-hub",
                                                     "marian-odd",  "marian-hub"};
inline constexpr const char* kDecoderOnlyGoldenFiles[] = {"gpt2-odd", "gpt2-hub"};
inline constexpr const char* kSynopsisGoldenFile = "debian-synopsis";
// Those of tiny checkpoints whose cases have salience (make_salience.py).
inline constexpr const char* kSalienceGoldenFiles[] = {"bart-odd-salience", "bart-wide-salience",
                                                       "t5-gated-odd-salience"};

// Reads cases/NAME.json; throws what nlohmann::json or the standard library throw if that is not as it should be.
GoldenFile ReadGoldenFile(std::string_view name);

// What is wrong with the answers that were got, in words; empty if nothing is. Tokens and reasons are equal; scores
// within 1e-4, relative to those above 1; log-probabilities within 1e-3, where `logprobs` says that they were asked
// for; alternatives alike.
std::string DifferenceFromGolden(const GoldenCase& golden, std::span<const Hypothesis> got, bool logprobs = true);

}  // namespace elserve

#endif  // ELSERVE_TESTS_GOLDEN_GOLDEN_CASES_H_
