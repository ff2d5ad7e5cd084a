// What the decoder is fed where a request says how an answer begins, or what it is.
#ifndef ELSERVE_SERVER_REQUESTS_ANSWER_TOKENS_H_
#define ELSERVE_SERVER_REQUESTS_ANSWER_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/served_model.h"

namespace elserve {

// The decoder's tokens where an answer begins with a text, or is one.
struct AnswerText {
  std::vector<int32_t> tokens;  // the decoder's start token first
  int begin = 0;                // of the text's own
};

// `merged`: decoder_start_token_id, which has to be set, and forced_bos_token_id. `room`: the most tokens that may be.
absl::StatusOr<AnswerText> AnswerTokens(const ServedModel& model, const std::string& text, const std::string& field,
                                        const v1::DecodingParameters& merged, int room);

// Token ids as they are, at least one and at most `room`.
absl::StatusOr<std::vector<int32_t>> AnswerIds(const ServedModel& model, const v1::TokenList& list,
                                               const std::string& field, int room);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_ANSWER_TOKENS_H_
