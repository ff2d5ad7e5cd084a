#include "engine/search/rules.h"

#include <algorithm>
#include <limits>

namespace elserve {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// NoRepeatNGramLogitsProcessor: where the last n - 1 tokens stood before, the token that followed them is banned. The
// start token takes part; n = 1 bans every token that there is.
void BanRepeatedNgrams(std::span<const int32_t> tokens, int n, EditBuffer& edits) {
  const size_t prefix = static_cast<size_t>(n) - 1;
  if (n <= 0 || tokens.size() <= prefix) return;
  const int32_t* suffix = tokens.data() + (tokens.size() - prefix);
  for (size_t begin = 0; begin + prefix < tokens.size(); ++begin) {
    if (std::equal(suffix, suffix + prefix, tokens.data() + begin)) edits.Ban(tokens[begin + prefix]);
  }
}

// MinLengthLogitsProcessor and MinNewTokensLengthLogitsProcessor; `length` counts the start token.
bool EosIsBanned(const DecodingSpec& spec, int length) {
  return length < spec.min_length || length - 1 < spec.min_new_tokens;
}

}  // namespace

void EditBuffer::Ban(int32_t token) { edits_.push_back({token, -kInfinity, 1.0f}); }

std::span<const LogitEdit> EditBuffer::FinishRow() {
  const auto begin = edits_.begin() + static_cast<std::ptrdiff_t>(row_begin_);
  std::sort(begin, edits_.end(), [](const LogitEdit& a, const LogitEdit& b) { return a.token < b.token; });
  const auto end =
      std::unique(begin, edits_.end(), [](const LogitEdit& a, const LogitEdit& b) { return a.token == b.token; });
  edits_.erase(end, edits_.end());
  return {edits_.data() + row_begin_, edits_.size() - row_begin_};
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
  if (EosIsBanned(spec, 1)) most += static_cast<int64_t>(spec.eos_token_id.size());
  return most;
}

int64_t MaxEdits(const DecodingSpec& spec) { return spec.num_beams * MaxEditsPerRow(spec); }

}  // namespace elserve
