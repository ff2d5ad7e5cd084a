#include "server/text/tokenizer_json.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/text/tokenizer_json_frame.h"
#include "server/text/tokenizer_json_steps.h"

namespace elserve {
namespace {

constexpr char kVocabSource[] = "tokenizer.json: model.vocab";

void ReadMerges(JsonFile& file, const Json& model, BpeSpec& spec) {
  const Json* const merges = file.Array(model, "model.", "merges");
  if (merges == nullptr) return file.Fail("model.merges", "is missing");
  spec.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const Json& merge = (*merges)[i];
    if (merge.is_string()) {
      const auto& line = merge.get_ref<const std::string&>();
      if (line.rfind("#version", 0) == 0) continue;
      if (SplitMerge(line, spec.merges)) continue;
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      spec.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    return file.Fail(absl::StrFormat("model.merges[%d]", i), "must be two tokens: [\"a\", \"b\"] or \"a b\"");
  }
}

void ReadBpe(JsonFile& file, const Json& model, TokenizerSpec& spec) {
  BpeSpec bpe;
  const Json* const dropout = JsonFile::Find(model, "dropout");
  if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
    file.Fail("model.dropout", "must be null: encoding is not random");
  }
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!file.String(model, "model.", key).value_or("").empty()) {
      file.Fail(absl::StrFormat("model.%s", key), "is not supported: encoder-decoder models have none");
    }
  }
  const bool bytes = std::any_of(spec.pre_tokenizer.begin(), spec.pre_tokenizer.end(), [](const auto& step) {
    return std::holds_alternative<pre_tokenizer::ByteLevel>(step);
  });
  bpe.alphabet = bytes ? BpeAlphabet::kBytes : BpeAlphabet::kCharacters;
  bpe.byte_fallback = file.Bool(model, "model.", "byte_fallback", false);
  if (bytes && bpe.byte_fallback) {
    file.Fail("model.byte_fallback", "is not supported with ByteLevel, which has a token for each byte");
  }
  bpe.vocab_source = kVocabSource;
  bpe.merges_source = "tokenizer.json: model.merges";
  bpe.unk_token = file.String(model, "model.", "unk_token");
  bpe.fuse_unk = file.Bool(model, "model.", "fuse_unk", false);
  bpe.ignore_merges = file.Bool(model, "model.", "ignore_merges", false);
  const Json* const vocab = file.Object(model, "model.", "vocab");
  if (vocab == nullptr) return file.Fail("model.vocab", "is missing");
  bpe.vocab.reserve(vocab->size());
  for (const auto& [token, id] : vocab->items()) {
    // The key is spelled out only for an error: vocabularies are long.
    const bool fine = id.is_number_unsigned();
    bpe.vocab.emplace_back(token, file.Id(id, fine ? "model.vocab" : absl::StrFormat("model.vocab[\"%s\"]", token)));
  }
  ReadMerges(file, model, bpe);
  spec.model = std::move(bpe);
}

// [["<unk>", 0.0], ["▁the", -3.5], ...]
void ReadUnigram(JsonFile& file, const Json& model, TokenizerSpec& spec) {
  UnigramSpec unigram;
  unigram.source = kVocabSource;
  unigram.byte_fallback = file.Bool(model, "model.", "byte_fallback", false);
  const Json* const unk = JsonFile::Find(model, "unk_id");
  if (unk == nullptr) return file.Fail("model.unk_id", "is missing: there has to be an unknown token");
  unigram.unk_id = file.Id(*unk, "model.unk_id");
  const Json* const vocab = file.Array(model, "model.", "vocab");
  if (vocab == nullptr) return file.Fail("model.vocab", "is missing");
  unigram.pieces.reserve(vocab->size());
  for (size_t i = 0; i < vocab->size(); ++i) {
    const Json& piece = (*vocab)[i];
    if (!piece.is_array() || piece.size() != 2 || !piece[0].is_string() || !piece[1].is_number()) {
      return file.Fail(absl::StrFormat("model.vocab[%d]", i), "must be a token and its score");
    }
    unigram.pieces.push_back({.text = piece[0].get<std::string>(), .score = piece[1].get<double>()});
  }
  spec.model = std::move(unigram);
}

// The kinds differ in what the vocabulary is; older files do not name theirs (ModelWrapper of the tokenizers library).
void ReadModel(JsonFile& file, TokenizerSpec& spec) {
  const Json* const model = file.Object(file.root(), "", "model");
  if (model == nullptr) return file.Fail("model", "is missing");
  const Json* const vocab = JsonFile::Find(*model, "vocab");
  const bool pieces = vocab != nullptr && vocab->is_array() && JsonFile::Find(*model, "merges") == nullptr;
  const std::string type = file.String(*model, "model.", "type").value_or(pieces ? "Unigram" : "BPE");
  if (type == "BPE") return ReadBpe(file, *model, spec);
  if (type == "Unigram") return ReadUnigram(file, *model, spec);
  file.Fail("model.type", absl::StrFormat("\"%s\" is not supported: BPE and Unigram are", type));
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
  spec.source = file.name();
  ReadNormalizer(file, spec.normalizer);
  ReadPreTokenizer(file, spec.pre_tokenizer);
  ReadModel(file, spec);
  ReadAddedTokens(file, spec);
  ReadDecoder(file, spec.decoder);
  ReadPostProcessor(file, spec);
}

}  // namespace elserve
