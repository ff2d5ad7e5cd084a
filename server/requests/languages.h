// The languages of texts: what may be named, and what the one to be written asks of decoding.
#ifndef ELSERVE_SERVER_REQUESTS_LANGUAGES_H_
#define ELSERVE_SERVER_REQUESTS_LANGUAGES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/text/tokenizer.h"

namespace elserve {

// By code. Empty: the tokenizer's own source, no target.
struct TextLanguages {
  std::string source;
  std::string target;
};

// What the target language sets: forced_bos_token_id, decoder_start_token_id, or nothing where there is none or the
// encoder is told. `decoder_start` is what the model starts with by itself; only a language's token gives way to
// another's. INVALID_ARGUMENT names the field, the code and what is allowed, of the source language too.
absl::StatusOr<v1::DecodingParameters> LanguageParameters(const Tokenizer& tokenizer,
                                                          std::optional<int32_t> decoder_start,
                                                          const TextLanguages& languages);

// For GetModel; `defaults` are the configuration's.
v1::Model::Languages DescribeLanguages(const Tokenizer& tokenizer, std::optional<int32_t> decoder_start,
                                       const TextLanguages& defaults);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_LANGUAGES_H_
