// Texts that end a hypothesis.
#ifndef ELSERVE_ENGINE_SEARCH_STOP_H_
#define ELSERVE_ENGINE_SEARCH_STOP_H_

#include <cstdint>
#include <span>
#include <string>

#include "engine/decoding.h"

namespace elserve {

// Whether one of the strings ends within the last of the tokens: what came before, of the prefix too, may be its
// beginning, and the token may go on behind it (StopStringCriteria of transformers). `window` is scratch.
bool CompletesStopString(const StopStrings& stop, std::span<const int32_t> tokens, std::string* window);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_STOP_H_
