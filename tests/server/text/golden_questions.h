// The cases of tests/golden/question_prompts.json (make_question_prompts.py), and their keys as a format.
#ifndef ELSERVE_TESTS_SERVER_TEXT_GOLDEN_QUESTIONS_H_
#define ELSERVE_TESTS_SERVER_TEXT_GOLDEN_QUESTIONS_H_

#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/question_format.h"

namespace elserve {

inline nlohmann::json ReadGoldenQuestions(const char* list) {
  std::ifstream file(ELSERVE_SOURCE_DIR "/tests/golden/question_prompts.json");
  return nlohmann::json::parse(file)[list];
}

// The keys of `tasks.questions`. How YAML becomes the same is config_test's.
inline QuestionFormat ToQuestionFormat(const nlohmann::json& keys) {
  QuestionFormat format;
  for (const auto kind :
       {QuestionFormat::Kind::kHighlight, QuestionFormat::Kind::kTemplate, QuestionFormat::Kind::kEndToEnd}) {
    if (keys["format"] == std::string(NameOf(kind))) format.kind = kind;
  }
  for (const auto spaces : {QuestionFormat::Spaces::kNone, QuestionFormat::Spaces::kInside,
                            QuestionFormat::Spaces::kOutside, QuestionFormat::Spaces::kBoth}) {
    if (keys.value("spaces", "inside") == std::string(NameOf(spaces))) format.spaces = spaces;
  }
  format.prefix = keys.value("prefix", format.prefix);
  format.suffix = keys.value("suffix", format.suffix);
  format.highlight = keys.value("highlight", format.highlight);
  format.separator = keys.value("separator", format.separator);
  if (keys.contains("template")) format.pattern = *ParseTemplate(keys["template"].get<std::string>());
  if (keys.contains("item")) format.item = *ParseItem(keys["item"].get<std::string>());
  return format;
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_TEXT_GOLDEN_QUESTIONS_H_
