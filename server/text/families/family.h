// What the tokenizers of each family of models have of their own: one file for each.
#ifndef ELSERVE_SERVER_TEXT_FAMILIES_FAMILY_H_
#define ELSERVE_SERVER_TEXT_FAMILIES_FAMILY_H_

#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/text/json_file.h"
#include "server/text/special_tokens.h"
#include "server/text/tokenizer_spec.h"

namespace elserve {

// The directory of a tokenizer, and what was read of it before the family is asked.
struct FamilyFiles {
  std::filesystem::path directory;
  JsonFile& config;        // tokenizer_config.json; what is wrong with it becomes its status
  SpecialTokens& special;  // read
};

struct TokenizerFamily {
  std::string_view class_name;  // transformers', without "Fast"
  // The named tokens where no file says otherwise, by kTokenAttributes; nullptr: none.
  std::array<const char*, kTokenAttributes.size()> tokens;
  bool mask_takes_space = false;  // <mask> takes the space before it, and is normalized
  // Fills the spec from the family's own files, where there is no tokenizer.json, and names the tokens that it has
  // beside those of the files.
  absl::Status (*read)(const FamilyFiles& files, TokenizerSpec& spec);
  // nullptr: tokenizer.json means what it says. Otherwise the class takes vocabulary, merges and added tokens from it,
  // as transformers 5 does, and this puts the rest in place that is its own, whatever file the model is from.
  void (*rebuild)(const FamilyFiles& files, TokenizerSpec& spec) = nullptr;
  // Fills the languages, whatever file the tokenizer comes from; nullptr: the family has none.
  void (*read_languages)(JsonFile& config, LanguageSpec& languages);
};

extern const TokenizerFamily kRobertaTokenizer;  // BART's too
extern const TokenizerFamily kGpt2Tokenizer;
extern const TokenizerFamily kT5Tokenizer;
extern const TokenizerFamily kPegasusTokenizer;
extern const TokenizerFamily kMBartTokenizer;
extern const TokenizerFamily kMBart50Tokenizer;
extern const TokenizerFamily kMarianTokenizer;

// The family of a tokenizer_class without "Fast"; nullptr: none.
const TokenizerFamily* FindTokenizerFamily(std::string_view class_name);
// The class that AutoTokenizer takes for config.json's model_type; "": none of ours.
std::string_view TokenizerClassOf(std::string_view model_type);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_FAMILIES_FAMILY_H_
