#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/parameters/parameters.h"
#include "server/parameters/rules.h"

namespace elserve {
namespace {

constexpr int kDefaultNewTokens = 20;  // GenerationConfig._get_default_generation_params()["max_length"]

EarlyStopping ToEarlyStopping(v1::EarlyStopping value) {
  switch (value) {
    case v1::EARLY_STOPPING_TRUE:
      return EarlyStopping::kTrue;
    case v1::EARLY_STOPPING_NEVER:
      return EarlyStopping::kNever;
    default:
      return EarlyStopping::kFalse;
  }
}

v1::EarlyStopping FromEarlyStopping(EarlyStopping value) {
  switch (value) {
    case EarlyStopping::kTrue:
      return v1::EARLY_STOPPING_TRUE;
    case EarlyStopping::kNever:
      return v1::EARLY_STOPPING_NEVER;
    case EarlyStopping::kFalse:
      break;
  }
  return v1::EARLY_STOPPING_FALSE;
}

// [-1] is off; an id that stands twice counts once.
std::vector<int32_t> ToIds(const google::protobuf::RepeatedField<int32_t>& list) {
  std::vector<int32_t> ids;
  for (int32_t id : list) {
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

void FillIds(const std::vector<int32_t>& ids, google::protobuf::RepeatedField<int32_t>* list) {
  list->Clear();
  list->Add(ids.begin(), ids.end());
  if (ids.empty()) list->Add(-1);
}

// [[-1]] is off; a word that stands twice counts once.
TokenSequences ToWords(const google::protobuf::RepeatedPtrField<v1::TokenList>& lists) {
  TokenSequences words;
  for (const v1::TokenList& list : lists) {
    const std::span<const int32_t> word(list.ids().data(), static_cast<size_t>(list.ids_size()));
    const bool none = word.size() == 1 && word[0] == -1;
    if (!none && !words.Contains(word)) words.Add(word);
  }
  return words;
}

void FillWords(const TokenSequences& words, google::protobuf::RepeatedPtrField<v1::TokenList>* lists) {
  for (size_t i = 0; i < words.size(); ++i) lists->Add()->mutable_ids()->Add(words[i].begin(), words[i].end());
  if (words.empty()) lists->Add()->add_ids(-1);
}

std::span<const int32_t> IdsOf(const v1::SequenceBias& bias) {
  return {bias.ids().data(), static_cast<size_t>(bias.ids_size())};
}

// Those that act: ids [-1] are off, and of entries with the same ids the last counts.
std::vector<const v1::SequenceBias*> ActingBiases(const google::protobuf::RepeatedPtrField<v1::SequenceBias>& list) {
  std::vector<const v1::SequenceBias*> acting;
  for (auto bias = list.begin(); bias != list.end(); ++bias) {
    const bool replaced = std::any_of(bias + 1, list.end(), [&bias](const v1::SequenceBias& later) {
      return std::ranges::equal(IdsOf(*bias), IdsOf(later));
    });
    if (!replaced && bias->ids(0) != -1) acting.push_back(&*bias);
  }
  return acting;
}

void FillBiases(const v1::DecodingParameters& merged, google::protobuf::RepeatedPtrField<v1::SequenceBias>* list) {
  for (const v1::SequenceBias* bias : ActingBiases(merged.sequence_bias())) *list->Add() = *bias;
  if (list->empty()) list->Add()->add_ids(-1);
}

// So that an EOS's value stays a number: it grows by less than 1e30 times what it was.
absl::Status ResolveDecay(const v1::DecodingParameters& merged, DecodingSpec* spec) {
  if (!merged.has_exponential_decay_length_penalty()) return absl::OkStatus();
  DecodingSpec::ExponentialDecay& decay = spec->exponential_decay_length_penalty;
  decay.start_index = merged.exponential_decay_length_penalty().start_index();
  decay.factor = merged.exponential_decay_length_penalty().factor();
  const int places = spec->max_length - static_cast<int>(spec->prefix.size()) - decay.start_index;
  const double most = places > 0 ? std::pow(1e30, 1.0 / places) : decay.factor;
  if (decay.factor <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("exponential_decay_length_penalty.factor is ", decay.factor, " for ",
                                                 places, " places up to max_length; allowed is at most ", most));
}

std::vector<int32_t> Prefix(const v1::DecodingParameters& merged, const ModelLimits& limits,
                            std::span<const int32_t> answer_prefix) {
  const int32_t start = merged.decoder_start_token_id();
  std::vector<int32_t> prefix;
  if (!limits.decoder_only && (answer_prefix.empty() || answer_prefix.front() != start)) prefix.push_back(start);
  prefix.insert(prefix.end(), answer_prefix.begin(), answer_prefix.end());
  return prefix;
}

absl::Status CheckStartToken(const v1::DecodingParameters& merged, const ModelLimits& limits) {
  if (limits.decoder_only && !merged.has_decoder_start_token_id()) return absl::OkStatus();
  if (limits.decoder_only) {
    return absl::InvalidArgumentError(absl::StrCat("decoder_start_token_id is ", merged.decoder_start_token_id(),
                                                   "; the model is decoder-only: its answers go on from the prompt"));
  }
  if (merged.has_decoder_start_token_id()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "decoder_start_token_id is not set, and the checkpoint names neither it nor bos_token_id; allowed is 0 to ",
      limits.vocab_size - 1));
}

// The four lengths, which count the prefix. What exceeds max_length says no more than max_length itself, and is cut to
// it, so that no sum of lengths overflows further down.
absl::Status ResolveLengths(const v1::DecodingParameters& merged, const ModelLimits& limits, DecodingSpec* spec) {
  const auto prefix = static_cast<int>(spec->prefix.size()), most = limits.max_decoder_tokens;
  const std::string what = limits.decoder_only
                               ? absl::StrCat("the prompt has ", prefix, " tokens")
                               : absl::StrCat("the answer's prefix has ", prefix, " tokens with the start token");
  const auto refuse = [&](const char* name, int length, int low, int high) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", length, " and ", what, "; allowed is ", low, " to ",
                                                   high, " for such a ", limits.decoder_only ? "prompt" : "prefix"));
  };
  if (prefix >= most) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, "; allowed are at most ", most - 1, ", one less than the model's max_decoder_tokens"));
  }
  if (merged.has_max_new_tokens()) {
    if (merged.max_new_tokens() > most - prefix) {
      return refuse("max_new_tokens", merged.max_new_tokens(), 1, most - prefix);
    }
    spec->max_length = prefix + merged.max_new_tokens();
  } else if (merged.has_max_length()) {
    if (merged.max_length() <= prefix) return refuse("max_length", merged.max_length(), prefix + 1, most);
    spec->max_length = merged.max_length();
  } else {
    spec->max_length = std::min(prefix + kDefaultNewTokens, most);
  }
  spec->min_new_tokens = std::min(merged.min_new_tokens(), spec->max_length - prefix);
  spec->min_length =
      merged.has_min_new_tokens() ? prefix + spec->min_new_tokens : std::min(merged.min_length(), spec->max_length);
  return absl::OkStatus();
}

// Values as they are in force; those that are in `merged` not through float32.
void FillSampling(const Sampling& sampling, const v1::DecodingParameters& merged, v1::DecodingParameters* effective) {
  effective->set_temperature(merged.has_temperature() ? merged.temperature() : 1.0);
  effective->set_top_h(sampling.top_h);
  effective->set_top_k(sampling.top_k);
  effective->set_top_p(sampling.top_p);
  effective->set_min_p(sampling.min_p);
  effective->set_typical_p(sampling.typical_p);
  effective->set_epsilon_cutoff(sampling.epsilon_cutoff);
  effective->set_eta_cutoff(sampling.eta_cutoff);
  effective->set_seed(sampling.seed);
}

Sampling ToSampling(const v1::DecodingParameters& merged) {
  constexpr int kDefaultTopK = 50;  // GenerationConfig._get_default_generation_params()
  Sampling sampling;
  if (merged.has_temperature()) sampling.temperature = static_cast<float>(merged.temperature());
  sampling.top_h = merged.top_h();
  sampling.top_k = merged.has_top_k() ? merged.top_k() : kDefaultTopK;
  if (merged.has_top_p()) sampling.top_p = merged.top_p();
  sampling.min_p = merged.min_p();
  if (merged.has_typical_p()) sampling.typical_p = merged.typical_p();
  sampling.epsilon_cutoff = merged.epsilon_cutoff();
  sampling.eta_cutoff = merged.eta_cutoff();
  sampling.seed = merged.seed();
  return sampling;
}

v1::DecodingParameters Effective(const DecodingSpec& spec, const v1::DecodingParameters& merged) {
  v1::DecodingParameters effective;
  const auto prefix = static_cast<int>(spec.prefix.size());
  effective.set_max_length(spec.max_length);
  effective.set_max_new_tokens(spec.max_length - prefix);
  effective.set_min_length(spec.min_length);
  // The same bound as min_length, so that it makes no difference which of the two a reader sends back.
  effective.set_min_new_tokens(std::max(0, spec.min_length - prefix));
  effective.set_max_time(merged.has_max_time() ? merged.max_time() : -1);
  effective.set_num_beams(spec.num_beams);
  effective.set_num_return_sequences(spec.num_return_sequences);
  effective.set_length_penalty(merged.has_length_penalty() ? merged.length_penalty() : 1.0);
  effective.set_early_stopping(FromEarlyStopping(spec.early_stopping));
  effective.set_no_repeat_ngram_size(merged.no_repeat_ngram_size());
  effective.set_forced_bos_token_id(spec.forced_bos_token_id);
  FillIds(spec.forced_eos_token_id, effective.mutable_forced_eos_token_id());
  if (merged.has_decoder_start_token_id()) effective.set_decoder_start_token_id(merged.decoder_start_token_id());
  FillIds(spec.eos_token_id, effective.mutable_eos_token_id());
  FillWords(spec.bad_words_ids, effective.mutable_bad_words_ids());
  effective.set_renormalize_logits(spec.renormalize_logits);
  effective.set_repetition_penalty(merged.has_repetition_penalty() ? merged.repetition_penalty() : 1.0);
  effective.set_encoder_repetition_penalty(merged.has_encoder_repetition_penalty() ? merged.encoder_repetition_penalty()
                                                                                   : 1.0);
  effective.set_encoder_no_repeat_ngram_size(merged.encoder_no_repeat_ngram_size());
  *effective.mutable_stop_strings() = merged.stop_strings();
  if (effective.stop_strings().empty()) effective.add_stop_strings("");
  effective.set_num_beam_groups(spec.num_beam_groups);
  effective.set_diversity_penalty(merged.diversity_penalty());
  effective.set_pad_token_id(spec.pad_token_id);
  effective.set_remove_invalid_values(spec.remove_invalid_values);
  effective.set_do_sample(spec.do_sample);
  if (spec.do_sample) FillSampling(spec.sampling, merged, &effective);
  FillBiases(merged, effective.mutable_sequence_bias());
  effective.mutable_exponential_decay_length_penalty()->set_start_index(
      spec.exponential_decay_length_penalty.start_index);
  effective.mutable_exponential_decay_length_penalty()->set_factor(spec.exponential_decay_length_penalty.factor);
  FillIds(spec.suppress_tokens, effective.mutable_suppress_tokens());
  FillIds(spec.begin_suppress_tokens, effective.mutable_begin_suppress_tokens());
  return effective;
}

}  // namespace

v1::DecodingParameters BuiltInParameters() {
  v1::DecodingParameters built_in;
  built_in.set_num_beams(1);
  built_in.set_num_return_sequences(1);
  built_in.set_length_penalty(1.0);
  built_in.set_early_stopping(v1::EARLY_STOPPING_FALSE);
  built_in.set_no_repeat_ngram_size(0);
  built_in.set_renormalize_logits(false);
  built_in.set_repetition_penalty(1.0);
  built_in.set_encoder_repetition_penalty(1.0);
  built_in.set_encoder_no_repeat_ngram_size(0);
  built_in.set_num_beam_groups(1);
  built_in.set_diversity_penalty(0.0);
  built_in.set_remove_invalid_values(false);
  built_in.set_do_sample(false);
  return built_in;
}

absl::StatusOr<ResolvedParameters> ResolveParameters(const v1::DecodingParameters& merged, const ModelLimits& limits,
                                                     std::span<const int32_t> answer_prefix) {
  if (absl::Status status = ValidateParameters(merged, &limits); !status.ok()) return status;
  if (absl::Status status = CheckTogether(merged, limits); !status.ok()) return status;
  if (absl::Status status = CheckStartToken(merged, limits); !status.ok()) return status;
  DecodingSpec spec;
  if (merged.has_num_beams()) spec.num_beams = merged.num_beams();
  if (merged.has_num_return_sequences()) spec.num_return_sequences = merged.num_return_sequences();
  spec.do_sample = merged.do_sample();
  if (spec.do_sample) spec.sampling = ToSampling(merged);
  spec.num_beam_groups = std::max(1, merged.num_beam_groups());
  spec.diversity_penalty = static_cast<float>(merged.diversity_penalty());
  spec.pad_token_id = merged.has_pad_token_id() ? merged.pad_token_id() : -1;
  spec.remove_invalid_values = merged.remove_invalid_values();
  spec.prefix = Prefix(merged, limits, answer_prefix);
  if (merged.has_length_penalty()) spec.length_penalty = static_cast<float>(merged.length_penalty());
  spec.early_stopping = ToEarlyStopping(merged.early_stopping());
  if (absl::Status status = ResolveLengths(merged, limits, &spec); !status.ok()) return status;
  // An n-gram as long as the longest output cannot come twice.
  spec.no_repeat_ngram_size = merged.no_repeat_ngram_size() >= spec.max_length ? 0 : merged.no_repeat_ngram_size();
  if (merged.has_forced_bos_token_id()) spec.forced_bos_token_id = merged.forced_bos_token_id();
  spec.forced_eos_token_id = ToIds(merged.forced_eos_token_id());
  spec.eos_token_id = ToIds(merged.eos_token_id());
  spec.bad_words_ids = ToWords(merged.bad_words_ids());
  spec.renormalize_logits = merged.renormalize_logits();
  if (merged.has_repetition_penalty()) spec.repetition_penalty = static_cast<float>(merged.repetition_penalty());
  if (merged.has_encoder_repetition_penalty()) {
    spec.encoder_repetition_penalty = static_cast<float>(merged.encoder_repetition_penalty());
  }
  spec.encoder_no_repeat_ngram_size = merged.encoder_no_repeat_ngram_size();
  for (const v1::SequenceBias* bias : ActingBiases(merged.sequence_bias())) {
    spec.biased_sequences.Add(IdsOf(*bias));
    spec.sequence_bias.push_back(static_cast<float>(bias->bias()));
  }
  if (absl::Status status = ResolveDecay(merged, &spec); !status.ok()) return status;
  spec.suppress_tokens = ToIds(merged.suppress_tokens());
  spec.begin_suppress_tokens = ToIds(merged.begin_suppress_tokens());
  return ResolvedParameters{spec, Effective(spec, merged)};
}

}  // namespace elserve
