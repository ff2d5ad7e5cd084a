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

// What a decoder has before an answer's own text: its start token, and behind it the token that is forced there, or
// else what the family's labels begin with (BART's <s>). `merged`: decoder_start_token_id, which has to be set, and
// forced_bos_token_id.
absl::StatusOr<std::vector<int32_t>> BeforeAnswer(const Tokenizer& tokenizer, const v1::DecodingParameters& merged);

// An answer's text as the family's labels have it, without special tokens; at most `room` tokens.
absl::StatusOr<std::vector<int32_t>> AnswerTextIds(const ServedModel& model, const std::string& text,
                                                   const std::string& field, int room);

// Token ids as they are, at least one and at most `room`.
absl::StatusOr<std::vector<int32_t>> AnswerIds(const ServedModel& model, const std::vector<int32_t>& ids,
                                               const std::string& field, int room);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_ANSWER_TOKENS_H_
