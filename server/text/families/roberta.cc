// BART and RoBERTa: vocab.json and merges.txt, byte-level BPE (RobertaTokenizer).
#include "absl/strings/str_format.h"
#include "server/text/families/family.h"
#include "server/text/tokenizer_json.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

// vocab.json: {"token": id}; merges.txt: a line for each merge, after an optional "#version" line.
absl::Status ReadVocabAndMerges(const std::filesystem::path& directory, BpeSpec& model) {
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
  return absl::OkStatus();
}

absl::Status ReadRoberta(const FamilyFiles& files, TokenizerSpec& spec) {
  BpeSpec bpe;
  if (absl::Status status = ReadVocabAndMerges(files.directory, bpe); !status.ok()) return status;
  spec.model = std::move(bpe);
  spec.source = "vocab.json";
  return absl::OkStatus();
}

}  // namespace

const TokenizerFamily kRobertaTokenizer = {.class_name = "RobertaTokenizer",
                                           .tokens = {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
                                           .read = ReadRoberta,
                                           .read_languages = nullptr};

}  // namespace elserve
