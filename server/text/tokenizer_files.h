// The files of a Hugging Face directory become a tokenizer's description.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_FILES_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_FILES_H_

#include <filesystem>

#include "absl/status/statusor.h"
#include "server/text/tokenizer_spec.h"

namespace elserve {

// tokenizer.json where there is one, read literally, or else the files of the family that tokenizer_config.json's
// tokenizer_class (config.json's model_type, where it has none) names; over that tokenizer_config.json,
// special_tokens_map.json and added_tokens.json, as transformers' AutoTokenizer does it.
//
// RobertaTokenizer, BartTokenizer and GPT2Tokenizer differ in one thing: as in transformers 5, they take vocabulary,
// merges and added tokens from tokenizer.json, and the rest (add_prefix_space, the special tokens, the frame) is their
// own (TokenizerFamily::rebuild).
absl::StatusOr<TokenizerSpec> ReadTokenizerFiles(const std::filesystem::path& directory);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_FILES_H_
