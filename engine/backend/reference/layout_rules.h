// What backend.h says of step layouts, as checks.
#ifndef ELSERVE_ENGINE_BACKEND_REFERENCE_LAYOUT_RULES_H_
#define ELSERVE_ENGINE_BACKEND_REFERENCE_LAYOUT_RULES_H_

#include "engine/backend/backend.h"

namespace elserve::reference {

struct MemorySize {
  bool cross_attention = true;
  int64_t encoder_pages = 0;
  int64_t decoder_blocks = 0;
  StepLimits limits;
};

// End the process where the layout breaks a rule (require.h).
void RequireValid(const EncodeLayout& layout, const MemorySize& memory);
void RequireValid(const DecodeLayout& layout, Phase phase, const MemorySize& memory);

}  // namespace elserve::reference

#endif  // ELSERVE_ENGINE_BACKEND_REFERENCE_LAYOUT_RULES_H_
