// Decoding parameters that are texts, which a model's tokenizer makes ids of.
#ifndef ELSERVE_SERVER_REQUESTS_TEXT_PARAMETERS_H_
#define ELSERVE_SERVER_REQUESTS_TEXT_PARAMETERS_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/decoding.h"
#include "proto/elserve/v1/decoding_parameters.pb.h"
#include "server/requests/served_model.h"
#include "server/text/tokenizer.h"

namespace elserve {

// Moves bad_words of the merged parameters into bad_words_ids. INVALID_ARGUMENT names a word that has no tokens, or too
// many.
absl::Status TakeBadWords(const Tokenizer& tokenizer, v1::DecodingParameters* merged);

// stop_strings of the merged parameters; null: none. INVALID_ARGUMENT where no token can end any of them.
absl::StatusOr<std::shared_ptr<const StopStrings>> StopStringsOf(const ServedModel& model,
                                                                 const v1::DecodingParameters& merged);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_TEXT_PARAMETERS_H_
