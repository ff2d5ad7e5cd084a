// Salience (Cao and Wang 2021, "Attention Head Masking for Inference Time Content Selection in Abstractive
// Summarization"): in chosen layers and heads of cross-attention a sequence lowers the scores of the source's tokens
// that are not salient, or hides them. The encoder's output does not depend on it, so documents are shared as without
// it.
#ifndef ELSERVE_ENGINE_SALIENCE_H_
#define ELSERVE_ENGINE_SALIENCE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/decoding.h"
#include "engine/engine.h"
#include "engine/model/model_config.h"

namespace elserve {

// The layers and heads that the options name, ascending: the first layer and all heads where they name none. Of a
// decoder-only model none. INVALID_ARGUMENT names the key, the value and what is allowed.
absl::StatusOr<SalientHeads> ResolveSalience(const SalientHeads& options, const ModelConfig& config);

// Whether a sequence of so many source tokens may have it.
absl::Status CheckSalience(const Salience& salience, int source_tokens);

// How many sequences with salience there may be at once: what they add to scores stands on the host, and takes at most
// 16 MiB, or what one sequence of the longest source takes. That is a small part of the states of such a source.
int64_t MostSalient(int64_t max_rows, int heads, int max_source_tokens);

// What is added to the scores of each sequence that has salience. Its memory is kept from one to the next, and grows
// with the most that were in flight at once.
class SalienceBiases {
 public:
  // `salient`: whose tokens are marked, of `heads`. `sequences`: MostSalient of them.
  SalienceBiases(const SalientHeads& salient, int heads, int max_source_tokens, int64_t sequences);

  // [heads * length], as DecodeDocument::bias. One of `sequences` has to be free.
  std::span<const float> Take(const Salience& salience, int length);
  void Return(std::span<const float> bias);

 private:
  std::vector<bool> salient_;  // [heads]
  size_t most_floats_;         // of one sequence
  // [sequences]; those that were taken so far have [most_floats_].
  std::vector<std::vector<float>> values_;
  std::vector<size_t> free_;  // of values_; the next to be taken last
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SALIENCE_H_
