#include "server/text/families/byte_level_family.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/text/tokenizer_json.h"
#include "server/text/utf8.h"

namespace elserve {

absl::Status ReadVocabAndMerges(const FamilyFiles& files, TokenizerSpec& spec) {
  const std::filesystem::path& directory = files.directory;
  BpeSpec model;
  absl::StatusOr<JsonFile> vocab = JsonFile::Read(directory / "vocab.json");
  if (!vocab.ok()) return vocab.status();
  if (!vocab->exists()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s has neither tokenizer.json nor vocab.json: a tokenizer needs one of them", directory.string()));
  }
  model.vocab.reserve(vocab->root().size());
  for (const auto& [token, id] : vocab->root().items()) {
    model.vocab.emplace_back(token, vocab->Id(id, absl::StrFormat("[\"%s\"]", token)));
  }
  if (!vocab->status().ok()) return vocab->status();
  absl::StatusOr<std::string> merges = ReadTokenizerFile(directory / "merges.txt");
  if (!merges.ok()) return merges.status();
  if (absl::Status status = CheckUtf8(*merges, "merges.txt"); !status.ok()) return status;
  std::string_view rest = *merges;
  for (int line_number = 1; !rest.empty(); ++line_number) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.rfind("#version", 0) == 0) continue;
    if (!SplitMerge(line, model.merges)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("merges.txt: line %d must be two tokens with one space between them", line_number));
    }
  }
  spec.model = std::move(model);
  spec.source = "vocab.json";
  return absl::OkStatus();
}

bool SetByteLevelSteps(JsonFile& config, TokenizerSpec& spec) {
  auto* const bpe = std::get_if<BpeSpec>(&spec.model);
  if (bpe == nullptr) {
    config.Fail("tokenizer_class", "needs a model of the type BPE in tokenizer.json");
    return false;
  }
  bpe->alphabet = BpeAlphabet::kBytes;
  bpe->byte_fallback = false;
  bpe->unk_token.reset();
  bpe->ignore_merges = false;
  spec.normalizer.clear();
  spec.pre_tokenizer.clear();
  spec.pre_tokenizer.emplace_back(pre_tokenizer::ByteLevel{.add_prefix_space = AddsPrefixSpace(config)});
  spec.decoder.clear();
  spec.decoder.emplace_back(decoder::ByteLevel{});
  return true;
}

bool AddsPrefixSpace(JsonFile& config) { return config.Bool(config.root(), "", "add_prefix_space", false); }

}  // namespace elserve
