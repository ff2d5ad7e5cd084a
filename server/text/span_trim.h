// White space that post-processors take off the spans of tokens.
#ifndef ELSERVE_SERVER_TEXT_SPAN_TRIM_H_
#define ELSERVE_SERVER_TEXT_SPAN_TRIM_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "server/text/token_model.h"

namespace elserve {

struct TextPipeline;

// One step of it: trim_offsets of ByteLevel or RobertaProcessing (process_offsets in the tokenizers library).
struct SpanTrim {
  bool add_prefix_space = true;  // the first token's first space is no part of the text
  size_t tokens_before = 0;      // that stand before the text by then
};

// Applies the steps to the tokens of a text, whose spans are set.
void TrimSpans(std::string_view text, const std::vector<SpanTrim>& steps, const TextPipeline& pipeline,
               TokenList& tokens);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_SPAN_TRIM_H_
