// What the families have in common whose vocabulary is one SentencePiece model: transformers' SpmConverter.
#ifndef ELSERVE_SERVER_TEXT_FAMILIES_SENTENCEPIECE_FAMILY_H_
#define ELSERVE_SERVER_TEXT_FAMILIES_SENTENCEPIECE_FAMILY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/families/family.h"
#include "server/text/sentencepiece_model.h"

namespace elserve {

// A piece with its score, its place being its id.
using ScoredPieces = std::vector<std::pair<std::string, double>>;

// `directory`/`name`; what is missing is an error that says which files a tokenizer may have instead.
absl::StatusOr<SentencePieceModel> ReadFamilyModel(const FamilyFiles& files, std::string_view name);

// The pieces from `first` on, appended to others.
void AppendPieces(const SentencePieceModel& model, size_t first, ScoredPieces& pieces);

// Fills model, normalizer, pre-tokenizer, decoder and the model's own added tokens (control codes are special, what
// users defined is not). `name` is the file's.
absl::Status FillFromModel(const SentencePieceModel& model, std::string_view name, ScoredPieces pieces, int32_t unk_id,
                           TokenizerSpec& spec);

// A frame's token that the vocabulary has to have.
FrameToken NamedFrameToken(std::string content, std::string_view file);

// A count that tokenizer_config.json states, or else the fallback. What is wrong is the file's status.
int32_t ReadCount(JsonFile& config, const char* key, int32_t fallback);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_FAMILIES_SENTENCEPIECE_FAMILY_H_
