#include "server/text/families/family.h"

#include <utility>

namespace elserve {

const TokenizerFamily* FindTokenizerFamily(std::string_view class_name) {
  if (class_name == "BartTokenizer") return &kRobertaTokenizer;
  for (const TokenizerFamily* family : {&kRobertaTokenizer, &kGpt2Tokenizer, &kT5Tokenizer, &kPegasusTokenizer,
                                        &kMBartTokenizer, &kMBart50Tokenizer, &kMarianTokenizer}) {
    if (family->class_name == class_name) return family;
  }
  return nullptr;
}

std::string_view TokenizerClassOf(std::string_view model_type) {
  constexpr std::pair<std::string_view, std::string_view> kClasses[] = {{"bart", "BartTokenizer"},
                                                                        {"gpt2", "GPT2Tokenizer"},
                                                                        {"t5", "T5Tokenizer"},
                                                                        {"mt5", "T5Tokenizer"},
                                                                        {"umt5", "T5Tokenizer"},
                                                                        {"pegasus", "PegasusTokenizer"},
                                                                        {"pegasus_x", "PegasusTokenizer"},
                                                                        {"mbart", "MBartTokenizer"},
                                                                        {"marian", "MarianTokenizer"}};
  for (const auto& [type, class_name] : kClasses) {
    if (type == model_type) return class_name;
  }
  return "";
}

}  // namespace elserve
