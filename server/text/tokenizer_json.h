// tokenizer.json, the tokenizers library's own file.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_JSON_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_JSON_H_

#include <string>
#include <string_view>
#include <vector>

#include "server/text/json_file.h"
#include "server/text/tokenizer_spec.h"

namespace elserve {

// Fills the model, the steps, the added tokens (in the file's order, with their ids) and the frame of the
// post-processor from the whole file. A component that is not known is an error with its name. What is wrong is
// file.status().
void ReadTokenizerJson(JsonFile& file, TokenizerSpec& spec);

// An added token as an object; `special` is its flag where the object has none, and `normalized` is !special then.
AddedToken ReadAddedToken(JsonFile& file, const Json& value, std::string_view key, bool special);

// One line of merges ("Ġ the"): two tokens and one space; false if it is not.
bool SplitMerge(std::string_view line, std::vector<std::pair<std::string, std::string>>& merges);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_JSON_H_
