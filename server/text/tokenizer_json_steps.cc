#include "server/text/tokenizer_json_steps.h"

#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"

namespace elserve {
namespace {

// A list of steps of at most this many: what a Sequence is unrolled to.
constexpr size_t kMaxSteps = 16;
constexpr int kMaxDepth = 4;  // of Sequences in Sequences

void Unroll(JsonFile& file, const Json& json, std::string_view key, std::string_view list, int depth,
            std::vector<JsonStep>& steps) {
  if (!json.is_object()) return file.Fail(key, "must be an object");
  const std::string prefix = absl::StrFormat("%s.", key);
  const std::string type = file.String(json, prefix, "type").value_or("");
  if (type != "Sequence") {
    steps.push_back({&json, prefix, type});
    if (steps.size() > kMaxSteps) file.Fail(key, absl::StrFormat("has more than %d steps", kMaxSteps));
    return;
  }
  if (depth == kMaxDepth) return file.Fail(key, "has Sequences in each other that are too deep");
  const Json* const items = file.Array(json, prefix, list);
  if (items == nullptr) return file.Fail(absl::StrFormat("%s%s", prefix, list), "is missing");
  if (items->size() > kMaxSteps) {
    return file.Fail(absl::StrFormat("%s%s", prefix, list),
                     absl::StrFormat("has %d steps: at most %d", items->size(), kMaxSteps));
  }
  for (size_t i = 0; i < items->size() && file.status().ok(); ++i) {
    Unroll(file, (*items)[i], absl::StrFormat("%s%s[%d]", prefix, list, i), list, depth + 1, steps);
  }
}

std::string RequiredString(JsonFile& file, const JsonStep& step, std::string_view key) {
  const std::optional<std::string> value = file.String(*step.json, step.prefix, key);
  if (!value) file.Fail(absl::StrFormat("%s%s", step.prefix, key), "is missing");
  return value.value_or("");
}

size_t Count(JsonFile& file, const JsonStep& step, std::string_view key) {
  const Json* const value = JsonFile::Find(*step.json, key);
  if (value != nullptr && value->is_number_unsigned()) return value->get<size_t>();
  file.Fail(absl::StrFormat("%s%s", step.prefix, key), "must be a whole number, 0 or more");
  return 0;
}

// {"String": " "} or {"Regex": " {2,}"}
struct Pattern {
  std::string text;
  bool is_regex = false;
};

Pattern ReadPattern(JsonFile& file, const JsonStep& step) {
  const std::string prefix = absl::StrFormat("%spattern.", step.prefix);
  const Json* const pattern = file.Object(*step.json, step.prefix, "pattern");
  if (pattern != nullptr) {
    if (const auto text = file.String(*pattern, prefix, "String")) return {*text, false};
    if (const auto text = file.String(*pattern, prefix, "Regex")) return {*text, true};
  }
  file.Fail(absl::StrFormat("%spattern", step.prefix), "must be a String or a Regex");
  return {};
}

normalizer::Precompiled ReadPrecompiled(JsonFile& file, const JsonStep& step) {
  // null where a SentencePiece model has no rules of its own.
  const std::string text = file.String(*step.json, step.prefix, "precompiled_charsmap").value_or("");
  std::string charsmap;
  if (!absl::Base64Unescape(text, &charsmap)) {
    file.Fail(absl::StrFormat("%sprecompiled_charsmap", step.prefix), "is not base64");
  }
  return normalizer::Precompiled{charsmap};
}

// False: the type is not known.
bool AddNormalizerStep(JsonFile& file, const JsonStep& step, std::vector<normalizer::Step>& steps) {
  if (step.type == "Precompiled") {
    steps.emplace_back(ReadPrecompiled(file, step));
  } else if (step.type == "NFC") {
    steps.emplace_back(normalizer::Form{NormalForm::kNfc});
  } else if (step.type == "NFD") {
    steps.emplace_back(normalizer::Form{NormalForm::kNfd});
  } else if (step.type == "NFKC") {
    steps.emplace_back(normalizer::Form{NormalForm::kNfkc});
  } else if (step.type == "NFKD") {
    steps.emplace_back(normalizer::Form{NormalForm::kNfkd});
  } else if (step.type == "Lowercase") {
    steps.emplace_back(normalizer::Lowercase{});
  } else if (step.type == "Nmt") {
    steps.emplace_back(normalizer::Nmt{});
  } else if (step.type == "StripAccents") {
    steps.emplace_back(normalizer::StripAccents{});
  } else if (step.type == "Prepend") {
    steps.emplace_back(normalizer::Prepend{RequiredString(file, step, "prepend")});
  } else if (step.type == "Strip") {
    steps.emplace_back(normalizer::Strip{file.Bool(*step.json, step.prefix, "strip_left", true),
                                         file.Bool(*step.json, step.prefix, "strip_right", true)});
  } else if (step.type == "Replace") {
    Pattern pattern = ReadPattern(file, step);
    steps.emplace_back(
        normalizer::Replace{std::move(pattern.text), pattern.is_regex, RequiredString(file, step, "content")});
  } else {
    return false;
  }
  return true;
}

// Metaspace's members are alike in pre-tokenizers and decoders; before prepend_scheme there was add_prefix_space.
pre_tokenizer::Metaspace ReadMetaspace(JsonFile& file, const JsonStep& step) {
  using Prepend = pre_tokenizer::Metaspace::Prepend;
  pre_tokenizer::Metaspace metaspace;
  metaspace.replacement = RequiredString(file, step, "replacement");
  metaspace.split = file.Bool(*step.json, step.prefix, "split", true);
  const bool add = file.Bool(*step.json, step.prefix, "add_prefix_space", true);
  const std::string scheme = file.String(*step.json, step.prefix, "prepend_scheme").value_or(add ? "always" : "never");
  if (scheme == "first") {
    metaspace.prepend = Prepend::kFirst;
  } else if (scheme == "never") {
    metaspace.prepend = Prepend::kNever;
  } else if (scheme != "always") {
    file.Fail(absl::StrFormat("%sprepend_scheme", step.prefix),
              absl::StrFormat("is \"%s\": always, first and never are known", scheme));
  }
  return metaspace;
}

bool AddPreTokenizerStep(JsonFile& file, const JsonStep& step, std::vector<pre_tokenizer::Step>& steps) {
  if (step.type == "WhitespaceSplit") {
    steps.emplace_back(pre_tokenizer::WhitespaceSplit{});
  } else if (step.type == "Metaspace") {
    steps.emplace_back(ReadMetaspace(file, step));
  } else if (step.type == "ByteLevel") {
    steps.emplace_back(pre_tokenizer::ByteLevel{file.Bool(*step.json, step.prefix, "add_prefix_space", true),
                                                file.Bool(*step.json, step.prefix, "use_regex", true)});
  } else {
    return false;
  }
  return true;
}

decoder::Replace ReadReplace(JsonFile& file, const JsonStep& step) {
  Pattern pattern = ReadPattern(file, step);
  if (pattern.is_regex) file.Fail(absl::StrFormat("%spattern.Regex", step.prefix), "is not supported: a String is");
  return {std::move(pattern.text), RequiredString(file, step, "content")};
}

bool AddDecoderStep(JsonFile& file, const JsonStep& step, std::vector<decoder::Step>& steps) {
  if (step.type == "ByteLevel") {
    steps.emplace_back(decoder::ByteLevel{});
  } else if (step.type == "ByteFallback") {
    steps.emplace_back(decoder::ByteFallback{});
  } else if (step.type == "Fuse") {
    steps.emplace_back(decoder::Fuse{});
  } else if (step.type == "Metaspace") {
    const pre_tokenizer::Metaspace metaspace = ReadMetaspace(file, step);
    steps.emplace_back(
        decoder::Metaspace{metaspace.replacement, metaspace.prepend != pre_tokenizer::Metaspace::Prepend::kNever});
  } else if (step.type == "Strip") {
    steps.emplace_back(
        decoder::Strip{RequiredString(file, step, "content"), Count(file, step, "start"), Count(file, step, "stop")});
  } else if (step.type == "Replace") {
    steps.emplace_back(ReadReplace(file, step));
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::vector<JsonStep> ReadSteps(JsonFile& file, std::string_view key, std::string_view list) {
  std::vector<JsonStep> steps;
  if (const Json* const json = file.Object(file.root(), "", key)) Unroll(file, *json, key, list, 0, steps);
  return steps;
}

void FailUnsupported(JsonFile& file, const JsonStep& step, std::string_view supported) {
  file.Fail(absl::StrFormat("%stype", step.prefix),
            absl::StrFormat("\"%s\" is not supported: %s are", step.type, supported));
}

void ReadNormalizer(JsonFile& file, std::vector<normalizer::Step>& steps) {
  for (const JsonStep& step : ReadSteps(file, "normalizer", "normalizers")) {
    if (AddNormalizerStep(file, step, steps)) continue;
    return FailUnsupported(file, step,
                           "Precompiled, NFC, NFD, NFKC, NFKD, Lowercase, Replace, Strip, Prepend, Nmt, StripAccents "
                           "and Sequence");
  }
}

void ReadPreTokenizer(JsonFile& file, std::vector<pre_tokenizer::Step>& steps) {
  for (const JsonStep& step : ReadSteps(file, "pre_tokenizer", "pretokenizers")) {
    if (AddPreTokenizerStep(file, step, steps)) continue;
    return FailUnsupported(file, step, "ByteLevel, Metaspace, WhitespaceSplit and Sequence");
  }
}

void ReadDecoder(JsonFile& file, std::vector<decoder::Step>& steps) {
  const std::vector<JsonStep> read_steps = ReadSteps(file, "decoder", "decoders");
  // The tokenizers library puts spaces between the tokens then, which no model means.
  if (read_steps.empty()) return file.Fail("decoder", "is missing");
  for (const JsonStep& step : read_steps) {
    if (AddDecoderStep(file, step, steps)) continue;
    return FailUnsupported(file, step, "ByteLevel, Metaspace, ByteFallback, Fuse, Strip, Replace and Sequence");
  }
}

}  // namespace elserve
