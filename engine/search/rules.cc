#include "engine/search/rules.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace elserve {
namespace {

// Where `text` has the last n - 1 of `tokens`, the token that follows them there is banned; n = 1 bans every token of
// it. Knuth, Morris and Pratt: linear, whatever repeats. NoRepeatNGramLogitsProcessor (of the tokens themselves) and
// EncoderNoRepeatNGramLogitsProcessor.
void BanNgramsOf(std::span<const int32_t> text, std::span<const int32_t> tokens, int n, EditBuffer& edits) {
  if (n == 1) {
    for (const int32_t token : text) edits.Ban(token);
    return;
  }
  if (n <= 0 || tokens.size() + 1 < static_cast<size_t>(n) || text.size() < static_cast<size_t>(n)) return;
  const std::span<const int32_t> suffix = tokens.last(static_cast<size_t>(n) - 1);
  // [i]: how many tokens the longest end of the suffix's first i + 1 has that is also their beginning, but not all of
  // it.
  std::vector<int32_t>& ends = edits.scratch();
  ends.assign(suffix.size(), 0);
  const auto extend = [&](size_t matched, int32_t token) {
    while (matched > 0 && (matched == suffix.size() || suffix[matched] != token)) {
      matched = static_cast<size_t>(ends[matched - 1]);
    }
    return matched < suffix.size() && suffix[matched] == token ? matched + 1 : matched;
  };
  for (size_t i = 1; i < suffix.size(); ++i) {
    ends[i] = static_cast<int32_t>(extend(static_cast<size_t>(ends[i - 1]), suffix[i]));
  }
  size_t matched = 0;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    matched = extend(matched, text[i]);
    if (matched == suffix.size()) edits.Ban(text[i + 1]);
  }
}

bool IsEos(const DecodingSpec& spec, int32_t token) {
  return std::find(spec.eos_token_id.begin(), spec.eos_token_id.end(), token) != spec.eos_token_id.end();
}

// Whether the token after `tokens` may complete the sequence. The start token takes part. transformers 4.49, whose
// groups of beams these are, looks at no sequence of several tokens that is longer than the tokens.
bool IsNext(const DecodingSpec& spec, std::span<const int32_t> sequence, std::span<const int32_t> tokens) {
  const size_t before = sequence.size() - 1;
  if (spec.num_beam_groups > 1 && before > 0 && before == tokens.size()) return false;
  return before <= tokens.size() && std::ranges::equal(sequence.first(before), tokens.last(before));
}

// SequenceBiasLogitsProcessor.
void AddSequenceBiases(const DecodingSpec& spec, std::span<const int32_t> tokens, EditBuffer& edits) {
  for (size_t i = 0; i < spec.biased_sequences.size(); ++i) {
    const std::span<const int32_t> sequence = spec.biased_sequences[i];
    if (IsNext(spec, sequence, tokens)) edits.Add({.token = sequence.back(), .add = spec.sequence_bias[i]});
  }
}

// NoBadWordsLogitsProcessor. An end of sequence alone is no bad word.
void BanBadWords(const DecodingSpec& spec, std::span<const int32_t> tokens, EditBuffer& edits) {
  for (size_t i = 0; i < spec.bad_words_ids.size(); ++i) {
    const std::span<const int32_t> word = spec.bad_words_ids[i];
    if (word.size() == 1 && IsEos(spec, word.back())) continue;
    if (IsNext(spec, word, tokens)) edits.Ban(word.back());
  }
}

// EncoderRepetitionPenaltyLogitsProcessor and RepetitionPenaltyLogitsProcessor.
void Penalize(const DecodingSpec& spec, std::span<const int32_t> source, std::span<const int32_t> tokens,
              EditBuffer& edits) {
  if (const float penalty = spec.encoder_repetition_penalty; penalty != 1.0f) {
    edits.AddEach(source, {.negative = 1 / penalty, .positive = penalty});
  }
  if (const float penalty = spec.repetition_penalty; penalty != 1.0f) {
    edits.AddEach(tokens, {.negative = penalty, .positive = 1 / penalty});
  }
}

// ExponentialDecayLengthPenalty: an EOS that is banned stays so, unless remove_invalid_values has made a number of it.
void FavourEos(const DecodingSpec& spec, int length, EditBuffer& edits) {
  const DecodingSpec::ExponentialDecay& decay = spec.exponential_decay_length_penalty;
  const int places = length - static_cast<int>(spec.prefix.size()) - decay.start_index;
  if (places <= 0 || decay.factor == 1.0) return;
  const auto more = static_cast<float>(std::pow(decay.factor, places) - 1);
  edits.AddEach(spec.eos_token_id, {.negative = 1 - more, .positive = 1 + more});
}

// Where SuppressTokensAtBeginLogitsProcessor acts.
int FirstFreePlace(const DecodingSpec& spec) {
  const auto prefix = static_cast<int>(spec.prefix.size());
  return prefix == 1 && spec.forced_bos_token_id >= 0 ? 2 : prefix;
}

// MinLengthLogitsProcessor and MinNewTokensLengthLogitsProcessor; `length` counts the prefix.
bool EosIsBanned(const DecodingSpec& spec, int length) {
  return length < spec.min_length || length - static_cast<int>(spec.prefix.size()) < spec.min_new_tokens;
}

}  // namespace

LogitEdit Then(const LogitEdit& first, const LogitEdit& second) {
  LogitEdit both = first;
  both.ban = first.ban || second.ban;
  both.add += second.add;
  // The second factor goes by the sign that the first one leaves.
  both.negative *= first.negative > 0 ? second.negative : second.positive;
  both.positive *= first.positive < 0 ? second.negative : second.positive;
  return both;
}

EditBuffer::EditBuffer(int64_t capacity, int64_t row) : chunks_(1) {
  row_.reserve(static_cast<size_t>(row));
  scratch_.reserve(static_cast<size_t>(row));
  chunks_[0].reserve(static_cast<size_t>(capacity));
}

void EditBuffer::Clear() {
  for (std::vector<LogitEdit>& chunk : chunks_) chunk.clear();
  chunk_ = 0;
}

void EditBuffer::AddEach(std::span<const int32_t> tokens, LogitEdit edit) {
  const size_t order = row_.size();
  for (const int32_t token : tokens) {
    edit.token = token;
    row_.push_back({edit, order});
  }
}

std::span<const LogitEdit> EditBuffer::FinishRow() {
  std::sort(row_.begin(), row_.end(), [](const Added& a, const Added& b) {
    return a.edit.token != b.edit.token ? a.edit.token < b.edit.token : a.order < b.order;
  });
  while (chunks_[chunk_].capacity() - chunks_[chunk_].size() < row_.size()) {
    if (++chunk_ == chunks_.size()) chunks_.emplace_back().reserve(std::max(row_.size(), chunks_[0].capacity()));
  }
  std::vector<LogitEdit>& edits = chunks_[chunk_];
  const size_t begin = edits.size();
  const Added* last = nullptr;
  for (const Added& added : row_) {
    const bool same_token = last != nullptr && last->edit.token == added.edit.token;
    if (!same_token) {
      edits.push_back(added.edit);
    } else if (last->order != added.order) {
      edits.back() = Then(edits.back(), added.edit);
    }
    last = &added;
  }
  return {edits.data() + begin, edits.size() - begin};
}

int CandidatesPerRow(const DecodingSpec& spec) {
  if (spec.do_sample) return spec.sampling.top_k + kMaxTies;
  if (spec.num_beams == 1) return 1;
  const int beams = spec.num_beams / spec.num_beam_groups;
  return std::min(beams + static_cast<int>(spec.eos_token_id.size()), kMaxCandidates);
}

// top_h looks at 100 tokens before top_k does. All other warpers come behind top_k, and see what it leaves alone. What
// a group of beams chooses changes the values of the next one's rows.
bool NeedsWholeRows(const DecodingSpec& spec) {
  const Sampling& sampling = spec.sampling;
  const bool few = sampling.top_h == 0 && sampling.top_k > 0 && sampling.top_k <= kMaxFewTopK;
  return spec.remove_invalid_values || (spec.do_sample && !few) || spec.num_beam_groups > 1;
}

RowRules RulesFor(const DecodingSpec& spec, std::span<const int32_t> source, std::span<const int32_t> tokens,
                  EditBuffer& edits) {
  const int length = static_cast<int>(tokens.size());
  RowRules rules;
  rules.log_probs = spec.num_beams > 1;
  rules.count = CandidatesPerRow(spec);
  // What is drawn does not change by it.
  rules.renormalize = spec.renormalize_logits && !spec.do_sample;
  rules.whole = NeedsWholeRows(spec);
  rules.remove_invalid = spec.remove_invalid_values;
  edits.BeginRow();
  // Forcing comes after penalties and bans and sets every value of the row, so they leave no trace. Of two forcings the
  // later one counts.
  if (!spec.forced_eos_token_id.empty() && length == spec.max_length - 1) {
    rules.force = spec.forced_eos_token_id;
  } else if (spec.forced_bos_token_id >= 0 && length == 1) {
    rules.force = {&spec.forced_bos_token_id, 1};
  } else {
    AddSequenceBiases(spec, tokens, edits);
    Penalize(spec, source, tokens, edits);
    BanNgramsOf(tokens, tokens, spec.no_repeat_ngram_size, edits);
    BanNgramsOf(source, tokens, spec.encoder_no_repeat_ngram_size, edits);
    BanBadWords(spec, tokens, edits);
    if (EosIsBanned(spec, length)) {
      for (int32_t token : spec.eos_token_id) edits.Ban(token);
    }
  }
  if (rules.remove_invalid) {
    rules.edits = edits.FinishRow();
    edits.BeginRow();
  }
  FavourEos(spec, length, edits);
  for (const int32_t token : spec.suppress_tokens) edits.Ban(token);
  if (length == FirstFreePlace(spec)) {
    for (const int32_t token : spec.begin_suppress_tokens) edits.Ban(token);
  }
  (rules.remove_invalid ? rules.late_edits : rules.edits) = edits.FinishRow();
  return rules;
}

bool NeedsSource(const DecodingSpec& spec) {
  return spec.encoder_repetition_penalty != 1.0f || spec.encoder_no_repeat_ngram_size > 0;
}

int64_t MaxEditsPerRow(const DecodingSpec& spec, int source_tokens) {
  // The longest row that still decodes has max_length - 1 tokens, and so many n-grams less n - 1.
  const int64_t longest = int64_t{spec.max_length} - 1;
  const auto ngrams = [](int64_t tokens, int64_t n) { return n > 0 ? std::max<int64_t>(0, tokens - n + 1) : 0; };
  int64_t most = ngrams(longest, spec.no_repeat_ngram_size);
  most += ngrams(source_tokens, spec.encoder_no_repeat_ngram_size);
  if (spec.repetition_penalty != 1.0f) most += longest;
  if (spec.encoder_repetition_penalty != 1.0f) most += source_tokens;
  most += static_cast<int64_t>(spec.biased_sequences.size() + spec.bad_words_ids.size());
  most += static_cast<int64_t>(spec.suppress_tokens.size() + spec.begin_suppress_tokens.size());
  if (EosIsBanned(spec, static_cast<int>(spec.prefix.size()))) most += static_cast<int64_t>(spec.eos_token_id.size());
  if (spec.exponential_decay_length_penalty.factor != 1.0) most += static_cast<int64_t>(spec.eos_token_id.size());
  return most;
}

int64_t MaxEdits(const DecodingSpec& spec, int source_tokens) {
  return spec.most_rows() * MaxEditsPerRow(spec, source_tokens);
}

}  // namespace elserve
