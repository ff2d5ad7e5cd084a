// The steps of tokenizer.json: normalizer, pre-tokenizer and decoder, each of them one or a Sequence.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_JSON_STEPS_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_JSON_STEPS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/text/decoder.h"
#include "server/text/json_file.h"
#include "server/text/normalizer.h"
#include "server/text/pre_tokenizer.h"

namespace elserve {

// One step with the key that its members stand behind ("decoder.decoders[1].").
struct JsonStep {
  const Json* json;
  std::string prefix;
  std::string type;
};

// The steps of `key`: none, one, or those of a Sequence (whose list is called `list`), in it and below.
std::vector<JsonStep> ReadSteps(JsonFile& file, std::string_view key, std::string_view list);

// "normalizer.type "NFX" is not supported: NFC, ... are"
void FailUnsupported(JsonFile& file, const JsonStep& step, std::string_view supported);

// What is wrong is file.status().
void ReadNormalizer(JsonFile& file, std::vector<normalizer::Step>& steps);
void ReadPreTokenizer(JsonFile& file, std::vector<pre_tokenizer::Step>& steps);
void ReadDecoder(JsonFile& file, std::vector<decoder::Step>& steps);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_JSON_STEPS_H_
