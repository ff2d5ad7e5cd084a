// GPT-2: vocab.json and merges.txt, byte-level BPE, nothing around a text unless it is asked for (GPT2Tokenizer).
#include "server/text/families/byte_level_family.h"

namespace elserve {
namespace {

constexpr char kEndOfText[] = "<|endoftext|>";

// The named token around a text where `flag` asks for it.
std::vector<FrameToken> Framed(const FamilyFiles& files, const char* flag, const char* attribute) {
  const NamedToken* const token = files.special.Find(attribute);
  if (!files.config.Bool(files.config.root(), "", flag, false) || token == nullptr) return {};
  return {{std::nullopt, token->token.content, token->source}};
}

// The flags count here alone: where there is a tokenizer.json, its frame does
// (PreTrainedTokenizerBase._from_pretrained).
absl::Status ReadGpt2(const FamilyFiles& files, TokenizerSpec& spec) {
  if (absl::Status status = ReadVocabAndMerges(files, spec); !status.ok()) return status;
  spec.before = Framed(files, "add_bos_token", "bos_token");
  spec.after = Framed(files, "add_eos_token", "eos_token");
  return absl::OkStatus();
}

void RebuildGpt2(const FamilyFiles& files, TokenizerSpec& spec) { SetByteLevelSteps(files.config, spec); }

}  // namespace

const TokenizerFamily kGpt2Tokenizer = {
    .class_name = "GPT2Tokenizer",
    .tokens = {kEndOfText, kEndOfText, kEndOfText, nullptr, nullptr, nullptr, nullptr},
    .read = ReadGpt2,
    .rebuild = RebuildGpt2,
    .read_languages = nullptr};

}  // namespace elserve
