// mBART and mBART-50: sentencepiece.bpe.model with fairseq's ids: <s> <pad> </s> <unk>, the model's pieces from the
// fourth on, a code for each language, <mask> (MBartConverter, MBart50Converter and their fast tokenizers).
#include <algorithm>
#include <array>

#include "server/text/families/sentencepiece_family.h"

namespace elserve {
namespace {

constexpr char kFile[] = "sentencepiece.bpe.model";
constexpr size_t kModelSpecials = 3;  // of the file: <unk> <s> </s>
constexpr int32_t kUnkId = 3;
constexpr char kSourceLanguage[] = "en_XX";

// fairseq's order: mBART has the first 25.
constexpr std::array<const char*, 52> kLanguages = {
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT",
    "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK",
    "tr_TR", "vi_VN", "zh_CN", "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE",
    "km_KH", "mk_MK", "ml_IN", "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN",
    "te_IN", "th_TH", "tl_XX", "uk_UA", "ur_PK", "xh_ZA", "gl_ES", "sl_SI"};
constexpr size_t kFirstLanguages = 25;

absl::Status ReadPieces(const FamilyFiles& files, size_t languages, TokenizerSpec& spec) {
  absl::StatusOr<SentencePieceModel> model = ReadFamilyModel(files, kFile);
  if (!model.ok()) return model.status();
  ScoredPieces pieces = {{"<s>", 0.0}, {"<pad>", 0.0}, {"</s>", 0.0}, {"<unk>", 0.0}};
  AppendPieces(*model, kModelSpecials, pieces);
  for (size_t i = 0; i < languages; ++i) pieces.emplace_back(kLanguages[i], 0.0);
  pieces.emplace_back("<mask>", 0.0);
  absl::Status filled = FillFromModel(*model, kFile, std::move(pieces), kUnkId, spec);
  if (!filled.ok()) return filled;
  for (size_t i = 0; i < languages; ++i) files.special.AddExtra(StringToken(kLanguages[i], kFile));
  return absl::OkStatus();
}

absl::Status ReadMBart(const FamilyFiles& files, TokenizerSpec& spec) {
  spec.after = {NamedFrameToken("</s>", kFile), NamedFrameToken(kSourceLanguage, kFile)};
  return ReadPieces(files, kFirstLanguages, spec);
}

absl::Status ReadMBart50(const FamilyFiles& files, TokenizerSpec& spec) {
  spec.before = {NamedFrameToken(kSourceLanguage, kFile)};
  spec.after = {NamedFrameToken("</s>", kFile)};
  return ReadPieces(files, kLanguages.size(), spec);
}

void ReadLanguages(JsonFile& config, size_t count, TargetLanguageUse use, LanguageSpec& languages) {
  for (size_t i = 0; i < count; ++i) languages.tokens.emplace_back(kLanguages[i], kLanguages[i]);
  languages.target_use = use;
  languages.source_in_frame = true;
  languages.source = config.String(config.root(), "", "src_lang");
  languages.source_key = config.name() + ": src_lang";
}

void ReadMBartLanguages(JsonFile& config, LanguageSpec& languages) {
  ReadLanguages(config, kFirstLanguages, TargetLanguageUse::kDecoderStart, languages);
}

void ReadMBart50Languages(JsonFile& config, LanguageSpec& languages) {
  ReadLanguages(config, kLanguages.size(), TargetLanguageUse::kForcedBos, languages);
}

}  // namespace

const TokenizerFamily kMBartTokenizer = {.class_name = "MBartTokenizer",
                                         .tokens = {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
                                         .mask_takes_space = true,
                                         .read = ReadMBart,
                                         .read_languages = ReadMBartLanguages};

const TokenizerFamily kMBart50Tokenizer = {.class_name = "MBart50Tokenizer",
                                           .tokens = {nullptr, "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
                                           .mask_takes_space = true,
                                           .read = ReadMBart50,
                                           .read_languages = ReadMBart50Languages};

}  // namespace elserve
