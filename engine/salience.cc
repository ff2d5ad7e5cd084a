#include "engine/salience.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

constexpr int64_t kMostBiasFloats = (int64_t{16} << 20) / int64_t{sizeof(float)};

// `numbers` count from 1, in any order, none twice.
absl::Status CheckNumbers(const char* key, const std::vector<int>& numbers, const char* what, int most) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] < 1 || numbers[i] > most) {
      return absl::InvalidArgumentError(absl::StrCat("salience.", key, " has ", numbers[i],
                                                     "; the model's decoder has ", most, " ", what,
                                                     ", which count from 1: allowed are 1 to ", most));
    }
    if (std::find(numbers.begin(), numbers.begin() + i, numbers[i]) != numbers.begin() + i) {
      return absl::InvalidArgumentError(
          absl::StrCat("salience.", key, " has ", numbers[i], " twice; allowed is each number once"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SalientHeads> ResolveSalience(const SalientHeads& options, const ModelConfig& config) {
  if (config.decoder_only()) {
    if (options == SalientHeads()) return options;
    return absl::InvalidArgumentError(
        "salience is set; the model is decoder-only and has no cross-attention: leave it out");
  }
  SalientHeads salient = options;
  const int layers = config.decoder.layers, heads = config.decoder.heads;
  absl::Status status = CheckNumbers("layers", salient.layers, "layers", layers);
  status.Update(CheckNumbers("heads", salient.heads, "heads", heads));
  if (!status.ok()) return status;
  if (salient.layers.empty()) salient.layers = {1};
  if (salient.heads.empty()) {
    for (int head = 1; head <= heads; ++head) salient.heads.push_back(head);
  }
  std::sort(salient.layers.begin(), salient.layers.end());
  std::sort(salient.heads.begin(), salient.heads.end());
  return salient;
}

absl::Status CheckSalience(const Salience& salience, int source_tokens) {
  int before = 0;
  for (const TokenRange& range : salience.tokens) {
    if (range.begin < before || range.end <= range.begin || range.end > source_tokens) {
      return absl::InvalidArgumentError(absl::StrCat("salience has tokens ", range.begin, " to ", range.end,
                                                     "; allowed are ranges that ascend, apart, from ", before, " to ",
                                                     source_tokens));
    }
    before = range.end + 1;
  }
  // Not a number is refused, too.
  if (salience.addition <= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("salience adds ", salience.addition, " to the scores of other tokens; allowed is 0 or less"));
}

int64_t MostSalient(int64_t max_rows, int heads, int max_source_tokens) {
  const int64_t floats = int64_t{heads} * max_source_tokens;
  return floats == 0 ? 0 : std::min(max_rows, std::max<int64_t>(1, kMostBiasFloats / floats));
}

SalienceBiases::SalienceBiases(const SalientHeads& salient, int heads, int max_source_tokens, int64_t sequences)
    : salient_(heads),
      most_floats_(static_cast<size_t>(heads) * static_cast<size_t>(max_source_tokens)),
      values_(sequences) {
  for (const int head : salient.heads) salient_[head - 1] = true;
  for (size_t i = values_.size(); i-- > 0;) free_.push_back(i);
}

std::span<const float> SalienceBiases::Take(const Salience& salience, int length) {
  std::vector<float>& values = values_[free_.back()];
  free_.pop_back();
  values.resize(most_floats_);
  auto to = values.begin();
  for (const bool salient : salient_) {
    std::fill_n(to, length, salient ? salience.addition : 0.0f);
    if (salient) {
      for (const TokenRange& range : salience.tokens) std::fill(to + range.begin, to + range.end, 0.0f);
    }
    to += length;
  }
  return {values.begin(), to};
}

void SalienceBiases::Return(std::span<const float> bias) {
  const auto values = std::find_if(values_.begin(), values_.end(),
                                   [&bias](const std::vector<float>& each) { return each.data() == bias.data(); });
  free_.push_back(values - values_.begin());
}

}  // namespace elserve
