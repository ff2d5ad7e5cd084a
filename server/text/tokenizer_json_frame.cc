#include "server/text/tokenizer_json_frame.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "server/text/tokenizer_json_steps.h"

namespace elserve {
namespace {

// ["</s>", 2]
std::optional<FrameToken> ReadFrameToken(JsonFile& file, const Json& step, std::string_view prefix,
                                         std::string_view key) {
  const std::string path = absl::StrFormat("%s%s", prefix, key);
  const Json* const pair = file.Array(step, prefix, key);
  if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string()) {
    file.Fail(path, "must be a token and its id");
    return std::nullopt;
  }
  return FrameToken{file.Id((*pair)[1], path), (*pair)[0].get<std::string>(),
                    absl::StrFormat("%s: %s", file.name(), path)};
}

// The ids of one special token of a template: special_tokens[name].ids.
void ReadTemplateToken(JsonFile& file, const Json& step, const std::string& prefix, const std::string& name,
                       std::vector<FrameToken>& frame) {
  const std::string path = absl::StrFormat("%sspecial_tokens[\"%s\"].ids", prefix, name);
  const Json* const tokens = file.Object(step, prefix, "special_tokens");
  const Json* const token = tokens == nullptr ? nullptr : JsonFile::Find(*tokens, name);
  const Json* const ids = token == nullptr ? nullptr : JsonFile::Find(*token, "ids");
  if (ids == nullptr || !ids->is_array()) return file.Fail(path, "must be a list of token ids");
  for (const Json& id : *ids) {
    frame.push_back({file.Id(id, path), name, absl::StrFormat("%s: %s", file.name(), path)});
  }
}

// TemplateProcessing's pattern for one text: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, ...].
void ReadTemplate(JsonFile& file, const Json& step, const std::string& prefix, std::vector<FrameToken>& before,
                  std::vector<FrameToken>& after) {
  const Json* const single = file.Array(step, prefix, "single");
  const std::string path = prefix + "single";
  if (single == nullptr) return file.Fail(path, "is missing");
  bool text_seen = false;
  for (const Json& item : *single) {
    const Json* const special = JsonFile::Find(item, "SpecialToken");
    const Json* const sequence = JsonFile::Find(item, "Sequence");
    const Json* const named = special != nullptr ? special : sequence;
    const Json* const id = named == nullptr ? nullptr : JsonFile::Find(*named, "id");
    if (id == nullptr || !id->is_string())
      return file.Fail(path, "must hold SpecialToken and Sequence objects with an id");
    if (special != nullptr) {
      ReadTemplateToken(file, step, prefix, id->get<std::string>(), text_seen ? after : before);
    } else if (text_seen || *id != "A") {
      return file.Fail(path, "must hold the sequence A once, and no other");
    } else {
      text_seen = true;
    }
  }
  if (!text_seen) file.Fail(path, "must hold the sequence A");
}

}  // namespace

void ReadPostProcessor(JsonFile& file, TokenizerSpec& spec) {
  for (const JsonStep& step : ReadSteps(file, "post_processor", "processors")) {
    std::vector<FrameToken> before;
    std::vector<FrameToken> after;
    const bool roberta = step.type == "RobertaProcessing";
    if (roberta || step.type == "BertProcessing") {
      if (const auto cls = ReadFrameToken(file, *step.json, step.prefix, "cls")) before.push_back(*cls);
      if (const auto sep = ReadFrameToken(file, *step.json, step.prefix, "sep")) after.push_back(*sep);
    } else if (step.type == "TemplateProcessing") {
      ReadTemplate(file, *step.json, step.prefix, before, after);
    } else if (step.type != "ByteLevel") {
      return FailUnsupported(file, step,
                             "RobertaProcessing, BertProcessing, TemplateProcessing, ByteLevel and Sequence");
    }
    if (roberta || step.type == "ByteLevel") {
      const bool add = file.Bool(*step.json, step.prefix, "add_prefix_space", true);
      const bool trim = file.Bool(*step.json, step.prefix, "trim_offsets", true);
      if (trim) spec.span_trims.push_back({.add_prefix_space = add, .tokens_before = spec.before.size()});
    }
    // Each step stands around what the ones before made.
    spec.before.insert(spec.before.begin(), before.begin(), before.end());
    spec.after.insert(spec.after.end(), after.begin(), after.end());
  }
}

}  // namespace elserve
