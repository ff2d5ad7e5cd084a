// Pegasus: spiece.model, whose pieces stand `offset` places higher than in the file; before them the padding and end
// tokens, the two masks and <unk_2> ... (PegasusConverter, PegasusTokenizerFast).
#include <algorithm>

#include "absl/strings/str_format.h"
#include "server/text/families/sentencepiece_family.h"

namespace elserve {
namespace {

constexpr char kFile[] = "spiece.model";
constexpr int32_t kOffset = 103;
constexpr char kSentenceMask[] = "<mask_1>";
constexpr size_t kModelSpecials = 2;  // pieces of the file that the padding and end tokens take the place of

std::string UnusedToken(int32_t i) { return absl::StrFormat("<unk_%d>", i); }

// mask_token_sent: null says that there is none.
std::optional<std::string> SentenceMask(JsonFile& config) {
  const bool stated = config.root().contains("mask_token_sent");
  std::optional<std::string> mask = config.String(config.root(), "", "mask_token_sent");
  if (!stated) mask = kSentenceMask;
  return mask;
}

// additional_special_tokens: the sentence's mask first, and unused tokens up to the offset where there are fewer.
void NameUnused(const std::optional<std::string>& sentence_mask, int32_t offset, SpecialTokens& special) {
  const char* const source = "tokenizer_config.json: offset";
  const auto is_named = [&](const std::string& content) {
    return std::any_of(special.extra().begin(), special.extra().end(),
                       [&](const NamedToken& token) { return token.token.content == content; });
  };
  const bool stated = !special.extra().empty();
  if (sentence_mask && !is_named(*sentence_mask)) special.AddExtra(StringToken(*sentence_mask, source));
  const auto named = static_cast<int32_t>(special.extra().size());
  const int32_t begin = stated ? named : 2;
  const int32_t end = stated ? offset - 1 : offset;
  for (int32_t i = begin; i < end; ++i) special.AddExtra(StringToken(UnusedToken(i), source));
}

absl::Status ReadPegasus(const FamilyFiles& files, TokenizerSpec& spec) {
  absl::StatusOr<SentencePieceModel> model = ReadFamilyModel(files, kFile);
  if (!model.ok()) return model.status();
  const int32_t offset = ReadCount(files.config, "offset", kOffset);
  const std::optional<std::string> sentence_mask = SentenceMask(files.config);
  const std::string end = files.special.Content("eos_token").value_or("</s>");
  ScoredPieces pieces = {{files.special.Content("pad_token").value_or("<pad>"), 0.0}, {end, 0.0}};
  if (sentence_mask) {
    pieces.emplace_back(*sentence_mask, 0.0);
    // Without the sentence's mask the other one is a piece of the file.
    if (const auto mask = files.special.Content("mask_token")) pieces.emplace_back(*mask, 0.0);
  }
  for (int32_t i = 2; i < offset; ++i) pieces.emplace_back(UnusedToken(i), -100.0);
  AppendPieces(*model, kModelSpecials, pieces);
  absl::Status filled = FillFromModel(*model, kFile, std::move(pieces), model->trainer_unk_id + offset, spec);
  if (!filled.ok()) return filled;
  spec.pre_tokenizer.clear();
  spec.pre_tokenizer.emplace_back(pre_tokenizer::WhitespaceSplit{});
  spec.pre_tokenizer.emplace_back(pre_tokenizer::Metaspace{});
  spec.after = {NamedFrameToken(end, kFile)};
  NameUnused(sentence_mask, offset, files.special);
  return absl::OkStatus();
}

}  // namespace

const TokenizerFamily kPegasusTokenizer = {.class_name = "PegasusTokenizer",
                                           .tokens = {nullptr, "</s>", "<unk>", nullptr, "<pad>", nullptr, "<mask_2>"},
                                           .read = ReadPegasus,
                                           .read_languages = nullptr};

}  // namespace elserve
