// How much memory the states of sequences get, and in which form attention keeps them. Pure functions of numbers, asked
// once at load.
#ifndef ELSERVE_ENGINE_MEMORY_PLAN_H_
#define ELSERVE_ENGINE_MEMORY_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"

namespace elserve {

// What the plan depends on.
struct MemoryPlanInput {
  bool cross_attention = true;          // false: decoder-only; nothing of encoder memory or sources is looked at
  std::optional<AttentionForms> forms;  // nullopt: the plan chooses
  // MemoryShape::int8: the plan chooses among forms that keep states of sources, or of a decoder-only model's
  // positions.
  bool int8 = false;
  MemoryCosts el, kv;  // of the backend, for the model's shape with both attentions in this form
  int d_model = 0;
  int layers = 0;  // of the decoder
  int heads = 0;   // of the decoder
  int head_dim = 0;
  int ffn = 0;
  int vocab = 0;
  int bytes_per_weight = 4;  // 4 in float32, 2 in bfloat16
  int max_source_tokens = 0;
  int max_decoder_tokens = 0;
  int max_rows = 0;
  int64_t budget_bytes = 0;  // for encoder and decoder memory together
  // Instead of what the budget gives, where not 0.
  int64_t encoder_memory_tokens = 0;
  int64_t decoder_memory_tokens = 0;
  OperationFigures figures;  // of the backend, in the precision at hand
};

struct MemoryPlan {
  AttentionForms forms;
  std::string reason;  // why these forms, with numbers
  int64_t encoder_pages = 0;
  int64_t decoder_blocks = 0;
  int64_t bytes = 0;
};

// INVALID_ARGUMENT if not one sequence of the greatest length, greedy, fits: it names the memory that would do.
//
// The budget is shared between encoder and decoder in the proportion that a typical sequence needs (a source of the
// greatest length, 4 beams, 64 new tokens), but neither gets more than max_rows sequences could use. Where the forms
// are open the plan compares the time of one decode step of a typical document by each pair of forms, at the batch that
// its memory allows. Of a decoder-only model all is decoder memory, the typical sequence is a prompt that leaves room
// for 64 new tokens, and self-attention's form is chosen alone; MemoryPlan::forms has no other then.
absl::StatusOr<MemoryPlan> PlanMemory(const MemoryPlanInput& input);

// Host memory of the lists that stand ready for max_rows sequences of the greatest length: hypotheses, ancestry, edits,
// results. It follows from numbers that a checkpoint may state freely, so PlanMemory refuses more than an eighth of the
// budget, or 64 MiB where that is more. What stands ready for sources grows with the pages alone, and so with the
// budget; what salience adds to scores has a bound of its own (MostSalient).
int64_t ListBytes(const MemoryPlanInput& input);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MEMORY_PLAN_H_
