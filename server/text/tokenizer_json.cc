#include "server/text/tokenizer_json.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace elserve {
namespace {

// A list of steps of at most this many: what a Sequence is unrolled to.
constexpr size_t kMaxSteps = 16;

std::string TypeOf(JsonFile& file, const Json& step, std::string_view prefix) {
  return file.String(step, prefix, "type").value_or("");
}

// The steps of `key`: none, one, or those of a Sequence (whose list is called `list`), each with its key.
std::vector<std::pair<const Json*, std::string>> Steps(JsonFile& file, std::string_view key, std::string_view list) {
  std::vector<std::pair<const Json*, std::string>> steps;
  const Json* const step = file.Object(file.root(), "", key);
  if (step == nullptr) return steps;
  const std::string prefix = absl::StrFormat("%s.", key);
  if (TypeOf(file, *step, prefix) != "Sequence") return {{step, prefix}};
  const Json* const items = file.Array(*step, prefix, list);
  if (items == nullptr) return steps;
  if (items->size() > kMaxSteps) {
    file.Fail(absl::StrFormat("%s%s", prefix, list),
              absl::StrFormat("has %d steps: at most %d", items->size(), kMaxSteps));
    return steps;
  }
  for (size_t i = 0; i < items->size(); ++i) {
    steps.emplace_back(&(*items)[i], absl::StrFormat("%s%s[%d].", prefix, list, i));
    if (!(*items)[i].is_object()) file.Fail(steps.back().second, "must be an object");
  }
  return steps;
}

void Unsupported(JsonFile& file, std::string_view prefix, std::string_view type, std::string_view supported) {
  file.Fail(absl::StrFormat("%stype", prefix), absl::StrFormat("\"%s\" is not supported: %s is", type, supported));
}

void ReadMerges(JsonFile& file, const Json& model, TokenizerSpec& spec) {
  const Json* const merges = file.Array(model, "model.", "merges");
  if (merges == nullptr) return file.Fail("model.merges", "is missing");
  spec.model.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const Json& merge = (*merges)[i];
    if (merge.is_string()) {
      const auto& line = merge.get_ref<const std::string&>();
      if (line.rfind("#version", 0) == 0) continue;
      if (SplitMerge(line, spec.model.merges)) continue;
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      spec.model.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    return file.Fail(absl::StrFormat("model.merges[%d]", i), "must be two tokens: [\"a\", \"b\"] or \"a b\"");
  }
}

void ReadModel(JsonFile& file, TokenizerSpec& spec) {
  const Json* const model = file.Object(file.root(), "", "model");
  if (model == nullptr) return file.Fail("model", "is missing");
  const std::string type = file.String(*model, "model.", "type").value_or("BPE");
  if (type != "BPE") return Unsupported(file, "model.", type, "BPE");
  const Json* const dropout = JsonFile::Find(*model, "dropout");
  if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
    file.Fail("model.dropout", "must be null: encoding is not random");
  }
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!file.String(*model, "model.", key).value_or("").empty()) {
      file.Fail(absl::StrFormat("model.%s", key), "is not supported: byte-level BPE has none");
    }
  }
  if (file.Bool(*model, "model.", "byte_fallback", false)) {
    file.Fail("model.byte_fallback", "is not supported: byte-level BPE has a token for each byte");
  }
  spec.model.vocab_source = "tokenizer.json: model.vocab";
  spec.model.merges_source = "tokenizer.json: model.merges";
  spec.model.unk_token = file.String(*model, "model.", "unk_token");
  spec.model.fuse_unk = file.Bool(*model, "model.", "fuse_unk", false);
  spec.model.ignore_merges = file.Bool(*model, "model.", "ignore_merges", false);
  const Json* const vocab = file.Object(*model, "model.", "vocab");
  if (vocab == nullptr) return file.Fail("model.vocab", "is missing");
  spec.model.vocab.reserve(vocab->size());
  for (const auto& [token, id] : vocab->items()) {
    // The key is spelled out only for an error: vocabularies are long.
    const bool fine = id.is_number_unsigned();
    spec.model.vocab.emplace_back(token,
                                  file.Id(id, fine ? "model.vocab" : absl::StrFormat("model.vocab[\"%s\"]", token)));
  }
  ReadMerges(file, *model, spec);
}

void ReadPreTokenizer(JsonFile& file, TokenizerSpec& spec) {
  const auto steps = Steps(file, "pre_tokenizer", "pretokenizers");
  if (steps.size() != 1) {
    return file.Fail("pre_tokenizer", absl::StrFormat("has %d steps: one, ByteLevel, is supported", steps.size()));
  }
  const auto& [step, prefix] = steps[0];
  if (const std::string type = TypeOf(file, *step, prefix); type != "ByteLevel") {
    return Unsupported(file, prefix, type, "ByteLevel");
  }
  spec.add_prefix_space = file.Bool(*step, prefix, "add_prefix_space", true);
  spec.use_regex = file.Bool(*step, prefix, "use_regex", true);
}

void CheckDecoder(JsonFile& file) {
  const auto steps = Steps(file, "decoder", "decoders");
  if (steps.size() != 1) {
    return file.Fail("decoder", absl::StrFormat("has %d steps: one, ByteLevel, is supported", steps.size()));
  }
  if (const std::string type = TypeOf(file, *steps[0].first, steps[0].second); type != "ByteLevel") {
    Unsupported(file, steps[0].second, type, "ByteLevel");
  }
}

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

void ReadPostProcessor(JsonFile& file, TokenizerSpec& spec) {
  for (const auto& [step, prefix] : Steps(file, "post_processor", "processors")) {
    std::vector<FrameToken> before;
    std::vector<FrameToken> after;
    const std::string type = TypeOf(file, *step, prefix);
    if (type == "RobertaProcessing" || type == "BertProcessing") {
      if (const auto cls = ReadFrameToken(file, *step, prefix, "cls")) before.push_back(*cls);
      if (const auto sep = ReadFrameToken(file, *step, prefix, "sep")) after.push_back(*sep);
    } else if (type == "TemplateProcessing") {
      ReadTemplate(file, *step, prefix, before, after);
    } else if (type != "ByteLevel") {  // which changes offsets alone
      Unsupported(file, prefix, type, "RobertaProcessing, BertProcessing, TemplateProcessing or ByteLevel");
    }
    // Each step stands around what the ones before made.
    spec.before.insert(spec.before.begin(), before.begin(), before.end());
    spec.after.insert(spec.after.end(), after.begin(), after.end());
  }
}

void ReadAddedTokens(JsonFile& file, TokenizerSpec& spec) {
  const Json* const tokens = file.Array(file.root(), "", "added_tokens");
  if (tokens == nullptr) return;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const std::string key = absl::StrFormat("added_tokens[%d]", i);
    const Json& value = (*tokens)[i];
    AddedToken token = ReadAddedToken(file, value, key, false);
    const Json* const id = JsonFile::Find(value, "id");
    if (id == nullptr) file.Fail(key, "has no id");
    if (!file.status().ok()) return;
    spec.added.push_back({std::move(token), file.Id(*id, key + ".id"), absl::StrFormat("%s: %s", file.name(), key)});
  }
}

}  // namespace

bool SplitMerge(std::string_view line, std::vector<std::pair<std::string, std::string>>& merges) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) return false;
  merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  return true;
}

AddedToken ReadAddedToken(JsonFile& file, const Json& value, std::string_view key, bool special) {
  AddedToken token;
  if (!value.is_object()) {
    file.Fail(key, "must be an object with the content of an added token");
    return token;
  }
  const std::string prefix = absl::StrFormat("%s.", key);
  const std::optional<std::string> content = file.String(value, prefix, "content");
  if (!content) file.Fail(prefix + "content", "is missing");
  token.content = content.value_or("");
  token.special = file.Bool(value, prefix, "special", special);
  token.single_word = file.Bool(value, prefix, "single_word", false);
  token.lstrip = file.Bool(value, prefix, "lstrip", false);
  token.rstrip = file.Bool(value, prefix, "rstrip", false);
  token.normalized = file.Bool(value, prefix, "normalized", !token.special);
  return token;
}

void ReadTokenizerJson(JsonFile& file, TokenizerSpec& spec) {
  const auto normalizers = Steps(file, "normalizer", "normalizers");
  if (!normalizers.empty()) {
    Unsupported(file, normalizers[0].second, TypeOf(file, *normalizers[0].first, normalizers[0].second), "none");
  }
  ReadModel(file, spec);
  ReadAddedTokens(file, spec);
  ReadPreTokenizer(file, spec);
  CheckDecoder(file);
  ReadPostProcessor(file, spec);
}

}  // namespace elserve
