#include "server/config/question_format_keys.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

using Kind = QuestionFormat::Kind;
using Spaces = QuestionFormat::Spaces;

// Whether the key is of this format; one of others that is there is an error.
bool IsOf(std::initializer_list<Kind> owners, const QuestionFormat& format, std::string_view key, YamlMap* keys,
          YamlErrors* errors) {
  if (std::find(owners.begin(), owners.end(), format.kind) != owners.end()) return true;
  const std::optional<YamlValue> value = keys->Take(key);
  if (!value) return false;
  std::string names;
  for (const Kind owner : owners) absl::StrAppend(&names, names.empty() ? "" : " or ", std::string(NameOf(owner)));
  errors->Add(keys->KeyMark(key), absl::StrCat(value->name, " is set with format: ", std::string(NameOf(format.kind)),
                                               "; it is allowed with format: ", names));
  return false;
}

void ReadNotEmpty(std::string_view key, std::string* out, YamlMap* keys, YamlErrors* errors) {
  const std::optional<YamlValue> value = keys->Text(key, out);
  if (value && out->empty()) RefuseYaml(*value, "a text that is not empty", errors);
}

void ReadPattern(std::string_view key, absl::StatusOr<TextPattern> (*parse)(std::string_view),
                 std::optional<TextPattern>* out, YamlMap* keys, YamlErrors* errors) {
  std::string text;
  const std::optional<YamlValue> value = keys->Text(key, &text);
  if (!value) return;
  absl::StatusOr<TextPattern> pattern = parse(text);
  if (!pattern.ok()) return RefuseYaml(*value, std::string(pattern.status().message()), errors);
  *out = *std::move(pattern);
}

}  // namespace

void ReadQuestionFormat(YamlMap* keys, QuestionFormat* format, YamlErrors* errors) {
  keys->Choice<Kind>("format",
                     {{"highlight", Kind::kHighlight}, {"template", Kind::kTemplate}, {"end_to_end", Kind::kEndToEnd}},
                     "", &format->kind);
  const auto is_of = [&](std::initializer_list<Kind> owners, std::string_view key) {
    return IsOf(owners, *format, key, keys, errors);
  };
  if (format->kind == Kind::kEndToEnd) format->prefix = kEndToEndPrefix;
  if (is_of({Kind::kHighlight, Kind::kEndToEnd}, "prefix")) keys->Text("prefix", &format->prefix);
  if (is_of({Kind::kHighlight}, "highlight")) ReadNotEmpty("highlight", &format->highlight, keys, errors);
  if (is_of({Kind::kHighlight}, "spaces")) {
    keys->Choice<Spaces>(
        "spaces",
        {{"inside", Spaces::kInside}, {"outside", Spaces::kOutside}, {"both", Spaces::kBoth}, {"none", Spaces::kNone}},
        "", &format->spaces);
  }
  if (is_of({Kind::kTemplate}, "template")) {
    std::optional<TextPattern> pattern;
    ReadPattern("template", ParseTemplate, &pattern, keys, errors);
    if (pattern) {
      format->pattern = *std::move(pattern);
    } else {
      errors->Add(keys->value().node.Mark(), absl::StrCat(keys->value().name, ".template is missing"));
    }
  }
  if (is_of({Kind::kEndToEnd}, "suffix")) keys->Text("suffix", &format->suffix);
  if (is_of({Kind::kEndToEnd}, "separator")) ReadNotEmpty("separator", &format->separator, keys, errors);
  if (is_of({Kind::kEndToEnd}, "item")) ReadPattern("item", ParseItem, &format->item, keys, errors);
}

}  // namespace elserve
