#include "engine/decoding.h"

#include <tuple>
#include <utility>

#include "absl/hash/hash.h"

namespace elserve {
namespace {

// All fields but stop_strings, which is a pointer. A field that this does not name does not compile.
auto Values(const DecodingSpec& spec) {
  const auto& [prefix, score_from, num_beams, num_beam_groups, diversity_penalty, pad_token_id, num_return_sequences,
               do_sample, sampling, length_penalty, early_stopping, max_length, min_length, min_new_tokens,
               no_repeat_ngram_size, forced_bos_token_id, forced_eos_token_id, eos_token_id, repetition_penalty,
               encoder_repetition_penalty, encoder_no_repeat_ngram_size, biased_sequences, sequence_bias,
               exponential_decay_length_penalty, suppress_tokens, begin_suppress_tokens, bad_words_ids,
               renormalize_logits, remove_invalid_values, stop_strings, top_logprobs, salience] = spec;
  return std::tie(prefix, score_from, num_beams, num_beam_groups, diversity_penalty, pad_token_id, num_return_sequences,
                  do_sample, sampling, length_penalty, early_stopping, max_length, min_length, min_new_tokens,
                  no_repeat_ngram_size, forced_bos_token_id, forced_eos_token_id, eos_token_id, repetition_penalty,
                  encoder_repetition_penalty, encoder_no_repeat_ngram_size, biased_sequences, sequence_bias,
                  exponential_decay_length_penalty, suppress_tokens, begin_suppress_tokens, bad_words_ids,
                  renormalize_logits, remove_invalid_values, top_logprobs, salience);
}

template <typename T>
bool PointToEqual(const std::shared_ptr<const T>& a, const std::shared_ptr<const T>& b) {
  return a == b || (a != nullptr && b != nullptr && *a == *b);
}

template <typename T>
size_t Bytes(const std::vector<T>& list) {
  return list.capacity() * sizeof(T);
}

}  // namespace

bool StopStrings::operator==(const StopStrings& other) const {
  return strings == other.strings && most_tokens == other.most_tokens && PointToEqual(texts, other.texts);
}

bool DecodingSpec::operator==(const DecodingSpec& other) const {
  return Values(*this) == Values(other) && PointToEqual(stop_strings, other.stop_strings);
}

template <typename H>
H AbslHashValue(H hash, const Sampling& sampling) {
  const auto& [temperature, top_h, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, seed] = sampling;
  return H::combine(std::move(hash), temperature, top_h, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff,
                    seed);
}

template <typename H>
H AbslHashValue(H hash, const DecodingSpec::ExponentialDecay& decay) {
  return H::combine(std::move(hash), decay.start_index, decay.factor);
}

template <typename H>
H AbslHashValue(H hash, const TokenRange& range) {
  return H::combine(std::move(hash), range.begin, range.end);
}

template <typename H>
H AbslHashValue(H hash, const Salience& salience) {
  return H::combine(std::move(hash), salience.tokens, salience.addition);
}

size_t HashOf(const DecodingSpec& spec) {
  const size_t stops = spec.stop_strings == nullptr ? 0 : absl::HashOf(spec.stop_strings->strings);
  return std::apply([stops](const auto&... values) { return absl::HashOf(stops, values...); }, Values(spec));
}

size_t HeapBytes(const DecodingSpec& spec) {
  size_t bytes = Bytes(spec.prefix) + Bytes(spec.forced_eos_token_id) + Bytes(spec.eos_token_id) +
                 spec.biased_sequences.heap_bytes() + Bytes(spec.sequence_bias) + Bytes(spec.suppress_tokens) +
                 Bytes(spec.begin_suppress_tokens) + spec.bad_words_ids.heap_bytes() + Bytes(spec.salience.tokens);
  if (spec.stop_strings != nullptr) {
    bytes += sizeof(StopStrings) + Bytes(spec.stop_strings->strings);
    for (const std::string& text : spec.stop_strings->strings) bytes += text.capacity();
  }
  return bytes;
}

}  // namespace elserve
