// A tokenizer as its files describe it, before anything is built from it.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_SPEC_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_SPEC_H_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/added_tokens.h"
#include "server/text/bpe.h"

namespace elserve {

// A token that is to be added, in the order of adding.
struct StatedToken {
  AddedToken token;
  std::optional<int32_t> id;  // what the file says it is
  std::string source;         // file and key, for errors
};

// A token that the post-processor puts around a text: by its id, or by what the vocabulary calls it.
struct FrameToken {
  std::optional<int32_t> id;
  std::string content;
  std::string source;
};

struct TokenizerSpec {
  BpeSpec model;
  bool add_prefix_space = false;  // each text between added tokens begins with a space
  bool use_regex = true;          // text is cut into words
  std::vector<StatedToken> added;
  std::vector<FrameToken> before;  // e.g. <s>
  std::vector<FrameToken> after;   // e.g. </s>
  std::optional<int64_t> model_max_length;
};

// Reads the files of a Hugging Face directory to the same effect as transformers' AutoTokenizer
// (PreTrainedTokenizerBase. _from_pretrained, RobertaTokenizer, TokenizersBackend). With the class RobertaTokenizer or
// BartTokenizer, or none stated, tokenizer.json gives vocabulary, merges and added tokens, and the class the rest
// (add_prefix_space and the special tokens are tokenizer_config.json's); without tokenizer.json, vocab.json and
// merges.txt take its place. With TokenizersBackend (PreTrainedTokenizerFast), tokenizer.json gives all.
absl::StatusOr<TokenizerSpec> ReadTokenizerFiles(const std::filesystem::path& directory);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_SPEC_H_
