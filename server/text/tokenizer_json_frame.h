// The post-processor of tokenizer.json: what it puts around a text.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_JSON_FRAME_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_JSON_FRAME_H_

#include "server/text/json_file.h"
#include "server/text/tokenizer_spec.h"

namespace elserve {

// Fills the frame and what is taken off spans. What is wrong is file.status().
void ReadPostProcessor(JsonFile& file, TokenizerSpec& spec);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_JSON_FRAME_H_
