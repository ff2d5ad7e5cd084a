// The keys of `tasks.questions` that say how questions are asked.
#ifndef ELSERVE_SERVER_CONFIG_QUESTION_FORMAT_KEYS_H_
#define ELSERVE_SERVER_CONFIG_QUESTION_FORMAT_KEYS_H_

#include "server/config/yaml_map.h"
#include "server/text/question_format.h"

namespace elserve {

// Takes `format` and the keys that it has; those of another format are errors that name theirs.
void ReadQuestionFormat(YamlMap* keys, QuestionFormat* format, YamlErrors* errors);

}  // namespace elserve

#endif  // ELSERVE_SERVER_CONFIG_QUESTION_FORMAT_KEYS_H_
