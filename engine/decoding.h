// What one sequence asks of decoding, and what the device and the search say to each other about it. Plain structs:
// every field has a value, resolved from requests, configuration and checkpoint by server/parameters/.
#ifndef ELSERVE_ENGINE_DECODING_H_
#define ELSERVE_ENGINE_DECODING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace elserve {

inline constexpr int kMaxBeams = 32;
inline constexpr int kMaxEosIds = 32;
inline constexpr int kMaxBadWords = 256;
inline constexpr int kMaxBadWordIds = 32;
inline constexpr int kMaxSuppressTokens = 1024;
inline constexpr int kMaxSequenceBiases = 256;
inline constexpr int kMaxSequenceBiasIds = 32;
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopStringBytes = 256;
// The largest top_k for which candidates are asked for, and how many as likely as the last of them are looked for.
inline constexpr int kMaxFewTopK = 64;
inline constexpr int kMaxTies = 8;
// The most candidates that a row is ever asked for: the next beams need num_beams that did not end, and at most one for
// each EOS id stands above them.
inline constexpr int kMaxCandidates = std::max(kMaxBeams + kMaxEosIds, kMaxFewTopK + kMaxTies);

// The most alternatives of a token that are told.
inline constexpr int kMaxTopLogprobs = 20;

// How a token is drawn, under transformers' names; warpers act in this order (engine/search/distribution.h).
struct Sampling {
  float temperature = 1.0f;   // values are divided by it; above 0
  double top_h = 0;           // above 0 to 1; 0: off
  int top_k = 0;              // 0: off
  double top_p = 1.0;         // 0 to 1; 1: off
  double min_p = 0;           // 0 to 1; 0: off
  double typical_p = 1.0;     // above 0 to 1; 1: off
  double epsilon_cutoff = 0;  // 0 to below 1; 0: off
  double eta_cutoff = 0;      // 0 to below 1; 0: off
  // Token n of hypothesis h is drawn by a number that depends on seed, n and h alone.
  uint64_t seed = 0;

  bool operator==(const Sampling&) const = default;
};

enum class EarlyStopping { kFalse, kTrue, kNever };

// Some sequences of token ids, one behind the other: copied over others they take no memory that those have not.
class TokenSequences {
 public:
  TokenSequences() = default;
  TokenSequences(std::initializer_list<std::vector<int32_t>> sequences) {
    for (const std::vector<int32_t>& sequence : sequences) Add(sequence);
  }

  void Add(std::span<const int32_t> sequence) {
    ids_.insert(ids_.end(), sequence.begin(), sequence.end());
    ends_.push_back(ids_.size());
  }

  bool empty() const { return ends_.empty(); }
  size_t size() const { return ends_.size(); }
  std::span<const int32_t> operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return {ids_.data() + begin, ends_[i] - begin};
  }
  bool Contains(std::span<const int32_t> sequence) const {
    for (size_t i = 0; i < size(); ++i) {
      if (std::ranges::equal((*this)[i], sequence)) return true;
    }
    return false;
  }
  bool operator==(const TokenSequences&) const = default;
  template <typename H>
  friend H AbslHashValue(H hash, const TokenSequences& sequences) {
    return H::combine(std::move(hash), sequences.ids_, sequences.ends_);
  }
  size_t heap_bytes() const { return ids_.capacity() * sizeof(int32_t) + ends_.capacity() * sizeof(size_t); }

 private:
  std::vector<int32_t> ids_;
  std::vector<size_t> ends_;  // of each sequence in ids_
};

// The bytes that each token adds to a text.
class TokenBytes {
 public:
  // Of the next token.
  void Add(std::string_view text) {
    bytes_ += text;
    ends_.push_back(bytes_.size());
  }
  // Empty for ids beyond the last.
  std::string_view operator[](int32_t token) const {
    const auto i = static_cast<size_t>(token);
    if (i >= ends_.size()) return {};
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }
  bool operator==(const TokenBytes&) const = default;

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

// Texts that end a hypothesis, and what tokens are made of. Constant; any number of sequences share one.
struct StopStrings {
  std::shared_ptr<const TokenBytes> texts;
  std::vector<std::string> strings;  // at most kMaxStopStrings, each of 1 to kMaxStopStringBytes bytes
  // A string is looked for in so many tokens, the last one included: those that have no text may be too many.
  size_t most_tokens = kMaxStopStringBytes;

  // By what the texts are, wherever they stand.
  bool operator==(const StopStrings& other) const;
};

// Tokens begin to end - 1 of a source.
struct TokenRange {
  int32_t begin = 0;
  int32_t end = 0;
  bool operator==(const TokenRange&) const = default;
};

// Which of a source's tokens matter: in the layers and heads that the model has for it (EngineOptions::salience) what
// the decoder's cross-attention gives to the other ones is lowered.
struct Salience {
  std::vector<TokenRange> tokens;  // ascending, none empty, none next to another; none at all: it is off
  // To the scores of other tokens, before the softmax: at most 0. -infinity hides them.
  float addition = 0;
  bool operator==(const Salience&) const = default;
};

// The decoding parameters of one sequence under transformers' names (GenerationConfig). Lengths count tokens of the
// decoder, its prefix included.
struct DecodingSpec {
  // What every hypothesis begins with (decoder_input_ids): the decoder start token, then what the answer is to begin
  // with. At least one token, fewer than max_length. Rules see it; answers, their scores and log-probabilities leave it
  // out.
  std::vector<int32_t> prefix = {0};
  // Not 0: nothing is generated, but the prefix's tokens from this one on are scored: they are the answer, with the
  // log-probability of each and, as its score, their sum. 1 to the prefix's length - 1; max_length is that length and
  // num_beams 1 then.
  int score_from = 0;
  int num_beams = 1;             // 1: greedy; 2 to kMaxBeams: beam search
  int num_beam_groups = 1;       // above 1: diverse beam search; a divisor of num_beams
  float diversity_penalty = 0;   // above 0 where there are groups
  int32_t pad_token_id = -1;     // what a group that has ended chooses; -1: the first EOS
  int num_return_sequences = 1;  // 1 to num_beams; with do_sample, hypotheses that are drawn, 1 to kMaxBeams
  bool do_sample = false;        // draw tokens; num_beams is 1
  Sampling sampling;
  float length_penalty = 1.0f;  // a finished sum is divided by new_tokens ** length_penalty
  EarlyStopping early_stopping = EarlyStopping::kFalse;
  int max_length = 20;                       // decoding ends at this length
  int min_length = 0;                        // EOS is banned while the length is below this
  int min_new_tokens = 0;                    // EOS is banned while fewer tokens than this are generated
  int no_repeat_ngram_size = 0;              // 0: off
  int forced_bos_token_id = -1;              // the token that follows a prefix of one token; -1: off
  std::vector<int32_t> forced_eos_token_id;  // allowed alone at the last place; empty: off
  std::vector<int32_t> eos_token_id;         // any of them ends a hypothesis; at most kMaxEosIds; may be empty
  // Of tokens that the hypothesis has, prefix and all: a value below 0 is multiplied by it, others are divided.
  float repetition_penalty = 1.0f;
  // Likewise of tokens that the source has, but the other way round: above 1 they are more likely.
  float encoder_repetition_penalty = 1.0f;
  int encoder_no_repeat_ngram_size = 0;  // no n-gram of the source comes; 0: off
  // Where a hypothesis ends with all of a sequence but its last token, that one's value grows by the sequence's bias.
  // At most kMaxSequenceBiases, each of 1 to kMaxSequenceBiasIds ids, none twice.
  TokenSequences biased_sequences;
  std::vector<float> sequence_bias;  // of each
  // An EOS's value x becomes x + |x| * (factor ** n - 1) in the n-th place behind the first start_index generated ones.
  struct ExponentialDecay {
    int start_index = 0;
    double factor = 1.0;  // 1: off
    bool operator==(const ExponentialDecay&) const = default;
  };
  ExponentialDecay exponential_decay_length_penalty;
  std::vector<int32_t> suppress_tokens;  // they do not come, not even where they are forced; at most kMaxSuppressTokens
  std::vector<int32_t> begin_suppress_tokens;  // they do not come first, or behind a forced first token; likewise
  TokenSequences bad_words_ids;     // they do not come; at most kMaxBadWords, each of 1 to kMaxBadWordIds ids
  bool renormalize_logits = false;  // values are log-softmaxed (again) after all rules; of no effect with do_sample
  // Logits that are not finite do not fail the sequence: by the rules' order NaN is 0, and an infinity, a ban's as
  // well, the greatest number or its opposite.
  bool remove_invalid_values = false;
  // With one beam: a hypothesis ends at the token that completes one of them. Null: none.
  std::shared_ptr<const StopStrings> stop_strings;
  // So many of each step's most likely tokens come with the answers (Hypothesis::alternatives); 0 to kMaxTopLogprobs; 0
  // with score_from. Each row then selects twice.
  int top_logprobs = 0;
  Salience salience;  // of a decoder-only model off

  // The most rows that are live at once.
  int most_rows() const { return do_sample ? num_return_sequences : num_beams; }

  // Sequences of equal sources and equal specs have the same answer.
  bool operator==(const DecodingSpec& other) const;
};

// Equal for equal specs, within one process.
size_t HashOf(const DecodingSpec& spec);
// What the spec's lists and texts take beside the struct; without StopStrings::texts, which a model's specs share.
size_t HeapBytes(const DecodingSpec& spec);

enum class FinishReason { kEos, kLength, kStopString };

struct TokenLogprob {
  int32_t token;
  float logprob;  // log-softmax of the unedited logits
};

// One answer of a sequence. tokens leave out the prefix and keep EOS.
struct Hypothesis {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;  // of each token: log-softmax of the unedited logits
  // DecodingSpec::top_logprobs of them for each token, or as many as the vocabulary has: what was most likely in its
  // place by the unedited logits, most likely first, the lower token first among equals.
  std::vector<TokenLogprob> alternatives;
  // Beam search: transformers' sequences_scores. Greedy: the sum of logprobs.
  float score = 0;
  FinishReason reason = FinishReason::kLength;
};

// One of the best next tokens of a row.
struct Candidate {
  int32_t token;
  float value;    // after the edits: what is ranked and summed (log-probability for beams, logit for greedy)
  float logprob;  // log-softmax of the unedited logits at the token
};

// One change of one token's value x, before candidates are taken: -infinity where the token is banned or x was that
// already, else x + add, and that times `negative` or `positive` by its own sign. Every logits processor of
// transformers that changes single tokens is one of these, and so is any sequence of them (Then, in search/rules.h). At
// most one edit a token reaches the device.
struct LogitEdit {
  int32_t token = 0;
  bool ban = false;
  float add = 0.0f;
  float negative = 1.0f;
  float positive = 1.0f;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DECODING_H_
