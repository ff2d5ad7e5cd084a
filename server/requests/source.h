// A request's source: its text becomes token ids, and what is too long is cut or refused.
#ifndef ELSERVE_SERVER_REQUESTS_SOURCE_H_
#define ELSERVE_SERVER_REQUESTS_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/generation_request.h"
#include "server/requests/languages.h"
#include "server/requests/served_model.h"
#include "server/text/prompts.h"
#include "server/text/token_model.h"

namespace elserve {

// How a request's texts become token ids.
struct SourceRules {
  TaskPrompt prompt;
  TextLanguages languages;
  v1::Truncation truncation = v1::TRUNCATION_UNSPECIFIED;
  size_t most_tokens = 0;  // of a source
  std::string why;         // so many: what of a decoder-only model's positions the answer takes
  bool may_chunk = false;  // the task knows TRUNCATION_CHUNK
  bool spans = false;      // asks for EncodedSource::spans
};

struct EncodedSource {
  std::vector<int32_t> ids;
  bool truncated = false;
  std::vector<TextSpan> spans = {};  // of each id its bytes of the prompt; {0, 0} if no text made it
};

// Tokenizes a prompt and applies the limit of the model. `field` is what the client calls the text. A text that is
// refused costs no more than its first tokens, so it is not known how many it has. `suffix`: the prompt ends with the
// task's, which truncation leaves.
absl::StatusOr<EncodedSource> EncodeText(const ServedModel& model, const SourceRules& rules, std::string_view prompt,
                                         const std::string& field, bool suffix = false);

// The same where the caller finds another prompt if this one has more than `most_tokens`, at most the rules': nullopt.
absl::StatusOr<std::optional<EncodedSource>> EncodeIfItFits(const ServedModel& model, const SourceRules& rules,
                                                            std::string_view prompt, const std::string& field,
                                                            size_t most_tokens);

// The source of a request that has `text` or `token_ids`: Generate and Score.
absl::StatusOr<EncodedSource> EncodeInput(const ServedModel& model, const SourceRules& rules,
                                          const GenerationRequest& request);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_SOURCE_H_
