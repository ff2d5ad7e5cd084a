// Step results keep their memory: a warm step takes none.
#ifndef ELSERVE_ENGINE_UPDATE_POOL_H_
#define ELSERVE_ENGINE_UPDATE_POOL_H_

#include <cstdint>
#include <vector>

#include "engine/engine.h"
#include "engine/sequence.h"

namespace elserve {

// The updates of a step's result. What an earlier result held is used again.
class UpdatePool {
 public:
  explicit UpdatePool(const ModelInfo& info);

  // Empties the result, which holds an earlier step's.
  void Begin(StepResult* result);
  // The sequence's entry of this step's result, made on first use. Valid until the next call.
  SequenceUpdate& Of(Sequence& sequence);
  // Where the answers of a search take their memory from and leave what they do not need; see Finalize.
  std::vector<Hypothesis>* hypotheses() { return &spare_hypotheses_; }

 private:
  StepResult* result_ = nullptr;
  uint64_t step_ = 0;  // counts the results
  // As many as a step can need.
  std::vector<SequenceUpdate> spare_updates_;
  std::vector<Hypothesis> spare_hypotheses_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_UPDATE_POOL_H_
