#include "tests/golden/golden_cases.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace elserve {
namespace {

using nlohmann::json;

// decoder_input_ids with what generate() puts before them.
std::vector<int32_t> WholePrefix(const json& parameters, const std::vector<int32_t>& given) {
  const int32_t start = parameters.at("decoder_start_token_id");
  std::vector<int32_t> prefix = {start};
  prefix.insert(prefix.end(), given.begin() + (!given.empty() && given[0] == start ? 1 : 0), given.end());
  return prefix;
}

// transformers' own meaning of what is set and what is not: generate() without a configuration beneath.
DecodingSpec Resolve(const json& parameters, std::vector<int32_t> prefix) {
  DecodingSpec spec;
  spec.prefix = std::move(prefix);
  const auto first = static_cast<int>(spec.prefix.size());
  spec.num_beams = parameters.value("num_beams", 1);
  spec.num_return_sequences = parameters.value("num_return_sequences", 1);
  spec.length_penalty = parameters.value("length_penalty", 1.0f);
  if (auto it = parameters.find("early_stopping"); it != parameters.end()) {
    spec.early_stopping = it->is_string()   ? EarlyStopping::kNever
                          : it->get<bool>() ? EarlyStopping::kTrue
                                            : EarlyStopping::kFalse;
  }
  // 20 new tokens if nothing is said; the new-token forms win over the others.
  spec.max_length = parameters.contains("max_new_tokens") ? first + parameters["max_new_tokens"].get<int>()
                                                          : parameters.value("max_length", first + 20);
  spec.min_new_tokens = parameters.value("min_new_tokens", 0);
  spec.min_length = spec.min_new_tokens > 0 ? 0 : parameters.value("min_length", 0);
  spec.no_repeat_ngram_size = parameters.value("no_repeat_ngram_size", 0);
  spec.forced_bos_token_id = parameters.value("forced_bos_token_id", -1);
  spec.forced_eos_token_id = parameters.value("forced_eos_token_id", std::vector<int32_t>());
  spec.eos_token_id = parameters.at("eos_token_id").get<std::vector<int32_t>>();
  for (const auto& word : parameters.value("bad_words_ids", json::array())) {
    spec.bad_words_ids.Add(word.get<std::vector<int32_t>>());
  }
  spec.renormalize_logits = parameters.value("renormalize_logits", false);
  spec.repetition_penalty = parameters.value("repetition_penalty", 1.0f);
  spec.encoder_repetition_penalty = parameters.value("encoder_repetition_penalty", 1.0f);
  spec.encoder_no_repeat_ngram_size = parameters.value("encoder_no_repeat_ngram_size", 0);
  spec.remove_invalid_values = parameters.value("remove_invalid_values", false);
  spec.num_beam_groups = parameters.value("num_beam_groups", 1);
  spec.diversity_penalty = parameters.value("diversity_penalty", 0.0f);
  spec.pad_token_id = parameters.value("pad_token_id", -1);
  spec.do_sample = parameters.value("do_sample", false);
  if (spec.do_sample) {
    spec.sampling = {.temperature = parameters.value("temperature", 1.0f),
                     .top_h = parameters.value("top_h", 0.0),
                     .top_k = parameters.value("top_k", 50),
                     .top_p = parameters.value("top_p", 1.0),
                     .min_p = parameters.value("min_p", 0.0),
                     .typical_p = parameters.value("typical_p", 1.0),
                     .epsilon_cutoff = parameters.value("epsilon_cutoff", 0.0),
                     .eta_cutoff = parameters.value("eta_cutoff", 0.0)};
  }
  for (const json& bias : parameters.value("sequence_bias", json::array())) {
    spec.biased_sequences.Add(bias.at(0).get<std::vector<int32_t>>());
    spec.sequence_bias.push_back(bias.at(1));
  }
  if (const auto decay = parameters.find("exponential_decay_length_penalty"); decay != parameters.end()) {
    spec.exponential_decay_length_penalty = {.start_index = decay->at(0), .factor = decay->at(1)};
  }
  spec.suppress_tokens = parameters.value("suppress_tokens", std::vector<int32_t>());
  spec.begin_suppress_tokens = parameters.value("begin_suppress_tokens", std::vector<int32_t>());
  return spec;
}

Salience ReadSalience(const json& item) {
  Salience salience;
  for (const json& range : item.at("tokens")) salience.tokens.push_back({range.at(0), range.at(1)});
  salience.addition = std::log1p(-item.at("strength").get<float>());
  return salience;
}

GoldenCase::Text ReadText(const json& item) {
  GoldenCase::Text text;
  text.prompt = item.at("prompt");
  text.question = item.at("task") == "question";
  text.document = text.question ? item.at("context") : item.at("document");
  if (text.question) {
    text.answer = item.at("answer");
    text.span_begin = item.at("span").at(0);
    text.span_end = item.at("span").at(1);
  }
  text.source_language = item.value("source_language", "");
  text.target_language = item.value("target_language", "");
  text.prefix = item.value("prefix_text", "");
  text.target = item.value("target_text", "");
  text.target_logprobs = item.value("target_logprobs", std::vector<float>());
  for (const json& sequence : item.at("sequences")) text.answers.push_back(sequence.at("text"));
  return text;
}

GoldenCase ReadCase(std::string name, bool decoder_only, const json& item) {
  GoldenCase golden;
  const auto source = item.at("source").get<std::vector<int32_t>>();
  if (!decoder_only) golden.source = source;
  golden.parameters = item.at("parameters");
  golden.prefix = item.value("prefix", std::vector<int32_t>());
  golden.decoding = Resolve(golden.parameters, decoder_only ? source : WholePrefix(golden.parameters, golden.prefix));
  if (item.contains("salience")) golden.decoding.salience = ReadSalience(item["salience"]);
  golden.name = absl::StrCat(name, " ", source.size(), " source tokens ", golden.parameters.dump());
  for (const json& sequence : item.at("sequences")) {
    Hypothesis answer;
    answer.tokens = sequence.at("tokens").get<std::vector<int32_t>>();
    answer.logprobs = sequence.at("logprobs").get<std::vector<float>>();
    answer.score = sequence.at("score");
    for (const json& place : sequence.value("alternatives", json::array())) {
      golden.decoding.top_logprobs = static_cast<int>(place.size());
      for (const json& alternative : place) answer.alternatives.push_back({alternative.at(0), alternative.at(1)});
    }
    const std::vector<int32_t>& ends = golden.decoding.eos_token_id;
    const bool ended = std::find(ends.begin(), ends.end(), answer.tokens.back()) != ends.end();
    answer.reason = ended                              ? FinishReason::kEos
                    : sequence.value("stopped", false) ? FinishReason::kStopString
                                                       : FinishReason::kLength;
    golden.answers.push_back(std::move(answer));
  }
  if (item.contains("prompt")) golden.text = ReadText(item);
  return golden;
}

std::string Difference(std::span<const TokenLogprob> golden, std::span<const TokenLogprob> got) {
  if (got.size() != golden.size()) return absl::StrCat("has ", got.size(), " alternatives, not ", golden.size());
  for (size_t i = 0; i < golden.size(); ++i) {
    const TokenLogprob &expected = golden[i], &is = got[i];
    if (is.token != expected.token || !(std::abs(is.logprob - expected.logprob) <= 1e-3f)) {
      return absl::StrCat("alternative ", i, " is ", is.token, " with ", is.logprob, ", transformers' ", expected.token,
                          " with ", expected.logprob);
    }
  }
  return "";
}

bool Close(float golden, float got, float tolerance) {
  return std::abs(golden - got) <= tolerance * std::max(1.0f, std::abs(golden));
}

std::string Difference(const Hypothesis& golden, const Hypothesis& got, bool logprobs) {
  if (golden.tokens != got.tokens) {
    return absl::StrCat("tokens are ", absl::StrJoin(got.tokens, " "), ", transformers' ",
                        absl::StrJoin(golden.tokens, " "));
  }
  if (golden.reason != got.reason) return "ended for another reason";
  if (!Close(golden.score, got.score, 1e-4f)) {
    return absl::StrCat("score is ", got.score, ", transformers' ", golden.score);
  }
  if (!logprobs) return "";
  if (got.logprobs.size() != golden.logprobs.size())
    return absl::StrCat("has ", got.logprobs.size(), " log-probabilities");
  for (size_t i = 0; i < golden.logprobs.size(); ++i) {
    if (!(std::abs(golden.logprobs[i] - got.logprobs[i]) <= 1e-3f)) {
      return absl::StrCat("log-probability of token ", i, " is ", got.logprobs[i], ", transformers' ",
                          golden.logprobs[i]);
    }
  }
  return Difference(golden.alternatives, got.alternatives);
}

}  // namespace

GoldenFile ReadGoldenFile(std::string_view name) {
  const std::string root = ELSERVE_SOURCE_DIR;
  const std::string path = root + "/tests/golden/cases/" + std::string(name) + ".json";
  std::ifstream stream(path);
  if (!stream) throw std::runtime_error("cannot read " + path);
  const json content = json::parse(stream);
  GoldenFile file;
  file.checkpoint = root + "/" + content.at("checkpoint").get<std::string>();
  if (content.contains("tokenizer")) file.tokenizer = root + "/" + content["tokenizer"].get<std::string>();
  file.decoder_only = content.value("decoder_only", false);
  if (const auto salience = content.find("salience"); salience != content.end()) {
    file.salience = {.layers = salience->at("layers").get<std::vector<int>>(),
                     .heads = salience->at("heads").get<std::vector<int>>()};
  }
  for (const json& item : content.at("states")) {
    file.states.push_back({.source = item.at("source").get<std::vector<int32_t>>(),
                           .decoder_start_token_id = item.at("decoder_start_token_id"),
                           .encoder_states = item.at("encoder_states").get<std::vector<std::vector<float>>>(),
                           .first_logits = item.at("first_logits").get<std::vector<float>>()});
  }
  for (const json& item : content.at("cases")) {
    file.cases.push_back(
        ReadCase(std::string(name) + "[" + std::to_string(file.cases.size()) + "]", file.decoder_only, item));
  }
  return file;
}

std::string DifferenceFromGolden(const GoldenCase& golden, std::span<const Hypothesis> got, bool logprobs) {
  if (got.size() != golden.answers.size()) {
    return absl::StrCat(golden.name, ": ", got.size(), " answers, transformers' ", golden.answers.size());
  }
  for (size_t i = 0; i < got.size(); ++i) {
    const std::string difference = Difference(golden.answers[i], got[i], logprobs);
    if (!difference.empty()) return absl::StrCat(golden.name, ": answer ", i, " ", difference);
  }
  return "";
}

}  // namespace elserve
