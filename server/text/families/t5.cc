// T5: spiece.model, and behind its pieces <extra_id_99> ... <extra_id_0> (T5Converter, T5TokenizerFast).
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/text/families/sentencepiece_family.h"

namespace elserve {
namespace {

constexpr char kFile[] = "spiece.model";
constexpr int32_t kExtraIds = 100;

std::string ExtraId(int32_t i) { return absl::StrFormat("<extra_id_%d>", i); }

// The extra ids are special, unless the configuration has a list of its own with some of them.
void NameExtraIds(int32_t count, SpecialTokens& special) {
  for (const NamedToken& token : special.extra()) {
    if (absl::StrContains(token.token.content, "<extra_id_")) return;
  }
  for (int32_t i = 0; i < count; ++i) special.AddExtra(StringToken(ExtraId(i), "tokenizer_config.json: extra_ids"));
}

absl::Status ReadT5(const FamilyFiles& files, TokenizerSpec& spec) {
  absl::StatusOr<SentencePieceModel> model = ReadFamilyModel(files, kFile);
  if (!model.ok()) return model.status();
  const int32_t extra_ids = ReadCount(files.config, "extra_ids", kExtraIds);
  ScoredPieces pieces;
  AppendPieces(*model, 0, pieces);
  for (int32_t i = extra_ids - 1; i >= 0; --i) pieces.emplace_back(ExtraId(i), 0.0);
  absl::Status filled = FillFromModel(*model, kFile, std::move(pieces), model->trainer_unk_id, spec);
  if (!filled.ok()) return filled;
  using Prepend = pre_tokenizer::Metaspace::Prepend;
  // Before `legacy` was false, a space was put behind every special token too.
  Prepend prepend = files.config.Bool(files.config.root(), "", "legacy", true) ? Prepend::kAlways : Prepend::kFirst;
  if (!files.config.Bool(files.config.root(), "", "add_prefix_space", true)) prepend = Prepend::kNever;
  spec.pre_tokenizer.clear();
  spec.pre_tokenizer.emplace_back(pre_tokenizer::Metaspace{.prepend = prepend});
  spec.decoder.clear();
  spec.decoder.emplace_back(decoder::Metaspace{.drops_first = prepend != Prepend::kNever});
  spec.after = {NamedFrameToken("</s>", kFile)};
  NameExtraIds(extra_ids, files.special);
  return absl::OkStatus();
}

}  // namespace

const TokenizerFamily kT5Tokenizer = {.class_name = "T5Tokenizer",
                                      .tokens = {nullptr, "</s>", "<unk>", nullptr, "<pad>", nullptr, nullptr},
                                      .read = ReadT5,
                                      .read_languages = nullptr};

}  // namespace elserve
