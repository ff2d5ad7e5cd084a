// What the families have in common whose vocabulary is vocab.json and merges.txt: byte-level BPE.
#ifndef ELSERVE_SERVER_TEXT_FAMILIES_BYTE_LEVEL_FAMILY_H_
#define ELSERVE_SERVER_TEXT_FAMILIES_BYTE_LEVEL_FAMILY_H_

#include "absl/status/status.h"
#include "server/text/families/family.h"

namespace elserve {

// Fills the model from vocab.json ({"token": id}) and merges.txt (a line for each merge, after an optional "#version"
// line). What is missing is an error that says which files a tokenizer may have instead.
absl::Status ReadVocabAndMerges(const FamilyFiles& files, TokenizerSpec& spec);

// What these classes make of a vocabulary, whatever tokenizer.json says beside it: no normalizer, no unknown token (and
// so none that is fused), the byte-level steps. False: the model is no BPE, which is config's status.
bool SetByteLevelSteps(JsonFile& config, TokenizerSpec& spec);

// add_prefix_space of tokenizer_config.json.
bool AddsPrefixSpace(JsonFile& config);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_FAMILIES_BYTE_LEVEL_FAMILY_H_
