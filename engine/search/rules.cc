#include "engine/search/rules.h"

#include <algorithm>
#include <cstddef>

namespace elserve {
namespace {

// NoRepeatNGramLogitsProcessor: where the last n - 1 tokens stood before, the token that followed them is banned. The
// prefix takes part; n = 1 bans every token that there is.
void BanRepeatedNgrams(std::span<const int32_t> tokens, int n, EditBuffer& edits) {
  const size_t prefix = static_cast<size_t>(n) - 1;
  if (n <= 0 || tokens.size() <= prefix) return;
  const int32_t* suffix = tokens.data() + (tokens.size() - prefix);
  for (size_t begin = 0; begin + prefix < tokens.size(); ++begin) {
    if (std::equal(suffix, suffix + prefix, tokens.data() + begin)) edits.Ban(tokens[begin + prefix]);
  }
}

bool IsEos(const DecodingSpec& spec, int32_t token) {
  return std::find(spec.eos_token_id.begin(), spec.eos_token_id.end(), token) != spec.eos_token_id.end();
}

// NoBadWordsLogitsProcessor: where the tokens end with all of a word but its last one, that one is banned. The start
// token takes part. An end of sequence alone is no bad word.
void BanBadWords(const DecodingSpec& spec, std::span<const int32_t> tokens, EditBuffer& edits) {
  for (size_t i = 0; i < spec.bad_words_ids.size(); ++i) {
    const std::span<const int32_t> word = spec.bad_words_ids[i];
    const size_t prefix = word.size() - 1;
    if (prefix == 0 && IsEos(spec, word.back())) continue;
    if (prefix > tokens.size()) continue;
    if (std::equal(word.begin(), word.end() - 1, tokens.end() - static_cast<std::ptrdiff_t>(prefix))) {
      edits.Ban(word.back());
    }
  }
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
  chunks_[0].reserve(static_cast<size_t>(capacity));
}

void EditBuffer::Clear() {
  for (std::vector<LogitEdit>& chunk : chunks_) chunk.clear();
  chunk_ = 0;
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
  for (const Added& added : row_) {
    if (edits.size() > begin && edits.back().token == added.edit.token) {
      edits.back() = Then(edits.back(), added.edit);
    } else {
      edits.push_back(added.edit);
    }
  }
  return {edits.data() + begin, edits.size() - begin};
}

int CandidatesPerRow(const DecodingSpec& spec) {
  if (spec.num_beams == 1) return 1;
  return std::min(spec.num_beams + static_cast<int>(spec.eos_token_id.size()), kMaxCandidates);
}

RowRules RulesFor(const DecodingSpec& spec, std::span<const int32_t> tokens, EditBuffer& edits) {
  const int length = static_cast<int>(tokens.size());
  RowRules rules;
  rules.log_probs = spec.num_beams > 1;
  rules.count = CandidatesPerRow(spec);
  rules.renormalize = spec.renormalize_logits;
  // Forcing comes after the bans and sets every value of the row, so bans leave no trace. Of two the later one counts.
  if (!spec.forced_eos_token_id.empty() && length == spec.max_length - 1) {
    rules.force = spec.forced_eos_token_id;
    return rules;
  }
  if (spec.forced_bos_token_id >= 0 && length == 1) {
    rules.force = {&spec.forced_bos_token_id, 1};
    return rules;
  }
  edits.BeginRow();
  BanRepeatedNgrams(tokens, spec.no_repeat_ngram_size, edits);
  BanBadWords(spec, tokens, edits);
  if (EosIsBanned(spec, length)) {
    for (int32_t token : spec.eos_token_id) edits.Ban(token);
  }
  rules.edits = edits.FinishRow();
  return rules;
}

int64_t MaxEditsPerRow(const DecodingSpec& spec) {
  // The longest row that still decodes has max_length - 1 tokens, and so many n-grams less n - 1.
  const int64_t longest = int64_t{spec.max_length} - 1;
  const int64_t n = spec.no_repeat_ngram_size;
  int64_t most = n > 0 ? std::max<int64_t>(0, longest - n + 1) : 0;
  most += static_cast<int64_t>(spec.bad_words_ids.size());
  if (EosIsBanned(spec, static_cast<int>(spec.prefix.size()))) most += static_cast<int64_t>(spec.eos_token_id.size());
  return most;
}

int64_t MaxEdits(const DecodingSpec& spec) { return spec.num_beams * MaxEditsPerRow(spec); }

}  // namespace elserve
