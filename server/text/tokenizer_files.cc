#include "server/text/tokenizer_files.h"

#include <array>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/text/families/family.h"
#include "server/text/json_file.h"
#include "server/text/special_tokens.h"
#include "server/text/tokenizer_json.h"

namespace elserve {
namespace {

class TokenizerFiles {
 public:
  TokenizerFiles(std::filesystem::path directory, JsonFile tokenizer, JsonFile config, JsonFile special_map,
                 JsonFile added)
      : directory_(std::move(directory)),
        tokenizer_(std::move(tokenizer)),
        config_(std::move(config)),
        special_map_(std::move(special_map)),
        added_(std::move(added)),
        special_(config_, special_map_, added_) {}
  TokenizerFiles(const TokenizerFiles&) = delete;  // special_ refers to the files
  TokenizerFiles& operator=(const TokenizerFiles&) = delete;

  absl::StatusOr<TokenizerSpec> Read();

 private:
  absl::Status ReadClass();
  absl::Status ReadModel(TokenizerSpec& spec);
  void ReadFlags(TokenizerSpec& spec);
  void ReadLength(TokenizerSpec& spec);
  void SetDefaults();
  bool Rebuilds() const { return family_ != nullptr && family_->rebuild != nullptr; }
  absl::Status Status() const;

  const std::filesystem::path directory_;
  JsonFile tokenizer_;
  JsonFile config_;
  JsonFile special_map_;
  JsonFile added_;
  SpecialTokens special_;
  const TokenizerFamily* family_ = nullptr;  // nullptr: TokenizersBackend, which is tokenizer.json alone
};

absl::Status TokenizerFiles::Status() const {
  for (const JsonFile* file : {&config_, &tokenizer_, &special_map_, &added_}) {
    if (!file->status().ok()) return file->status();
  }
  return absl::OkStatus();
}

// Which of transformers' classes AutoTokenizer would make.
absl::Status TokenizerFiles::ReadClass() {
  std::optional<std::string> name = config_.String(config_.root(), "", "tokenizer_class");
  if (!config_.status().ok()) return config_.status();
  if (!name) {
    absl::StatusOr<JsonFile> model = JsonFile::Read(directory_ / "config.json");
    if (!model.ok()) return model.status();
    const std::string type = model->String(model->root(), "", "model_type").value_or("bart");
    if (!model->status().ok()) return model->status();
    std::string_view known = TokenizerClassOf(type);
    if (known.empty() && tokenizer_.exists()) known = "TokenizersBackend";
    if (known.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "config.json: model_type \"%s\" has no tokenizer that is known without a tokenizer.json", type));
    }
    name = std::string(known);
  }
  if (absl::EndsWith(*name, "Fast")) name->resize(name->size() - 4);
  family_ = FindTokenizerFamily(*name);
  if (family_ != nullptr || *name == "PreTrainedTokenizer" || *name == "TokenizersBackend") return absl::OkStatus();
  config_.Fail("tokenizer_class",
               absl::StrFormat("\"%s\" is not supported: BartTokenizer, RobertaTokenizer, GPT2Tokenizer, T5Tokenizer, "
                               "PegasusTokenizer, MBartTokenizer, MBart50Tokenizer, MarianTokenizer, TokenizersBackend "
                               "and PreTrainedTokenizerFast are",
                               *name));
  return config_.status();
}

void TokenizerFiles::ReadLength(TokenizerSpec& spec) {
  const Json& root = config_.root();
  const char* const key = root.contains("model_max_length") ? "model_max_length" : "max_len";
  const Json* const length = JsonFile::Find(root, key);
  if (length == nullptr) return;
  // transformers writes "no limit" as int(1e30).
  constexpr double kNoLimit = 1e15;
  const double value = length->is_number() ? length->get<double>() : 0;
  if (!(value >= 1)) return config_.Fail(key, "must be a number of tokens, at least 1");
  if (value < kNoLimit) spec.model_max_length = static_cast<int64_t>(value);
}

void TokenizerFiles::ReadFlags(TokenizerSpec& spec) {
  const Json& root = config_.root();
  if (config_.Bool(root, "", "split_special_tokens", false)) {
    config_.Fail("split_special_tokens", "must be false: special tokens in the text are kept whole");
  }
  if (config_.Bool(root, "", "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", false)) {
    config_.Fail("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", "must be false");
  }
  ReadLength(spec);
  const std::string side = config_.String(root, "", "truncation_side").value_or("right");
  if (side == "left") {
    spec.truncation_side = TruncationSide::kLeft;
  } else if (side != "right") {
    config_.Fail("truncation_side", absl::StrFormat("is \"%s\": right and left are known", side));
  }
  // transformers does so for all models but BPE (clean_up_tokenization).
  if (config_.Bool(root, "", "clean_up_tokenization_spaces", false) && !std::holds_alternative<BpeSpec>(spec.model)) {
    constexpr std::pair<const char*, const char*> kCleaned[] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    spec.decoder.emplace_back(decoder::Fuse{});
    for (const auto& [pattern, content] : kCleaned) spec.decoder.emplace_back(decoder::Replace{pattern, content});
  }
}

// What a class names where no file does. tokenizer.json has all that is needed, unless the class rebuilds it.
void TokenizerFiles::SetDefaults() {
  if (family_ == nullptr || (tokenizer_.exists() && !Rebuilds())) return;
  for (size_t i = 0; i < kTokenAttributes.size(); ++i) {
    if (family_->tokens[i] == nullptr) continue;
    NamedToken token = StringToken(family_->tokens[i], absl::StrFormat("the default of %s", kTokenAttributes[i]));
    if (family_->mask_takes_space && std::string_view(kTokenAttributes[i]) == "mask_token") {
      token.token.lstrip = true;
      token.token.normalized = true;
    }
    special_.SetDefault(kTokenAttributes[i], std::move(token));
  }
}

absl::Status TokenizerFiles::ReadModel(TokenizerSpec& spec) {
  if (tokenizer_.exists()) {
    ReadTokenizerJson(tokenizer_, spec);
    return absl::OkStatus();
  }
  if (family_ == nullptr) {
    return absl::NotFoundError(
        absl::StrFormat("%s has no tokenizer.json, which its tokenizer_class needs", directory_.string()));
  }
  return family_->read({directory_, config_, special_}, spec);
}

absl::StatusOr<TokenizerSpec> TokenizerFiles::Read() {
  if (absl::Status status = ReadClass(); !status.ok()) return status;
  SetDefaults();
  special_.Read();
  TokenizerSpec spec;
  if (absl::Status status = ReadModel(spec); !status.ok()) return status;
  if (Rebuilds() && Status().ok()) family_->rebuild({directory_, config_, special_}, spec);
  ReadFlags(spec);
  if (family_ != nullptr && family_->read_languages != nullptr) family_->read_languages(config_, spec.languages);
  if (absl::Status status = Status(); !status.ok()) return status;
  special_.Collect(Rebuilds(), spec);
  // Python's tokenizer looks for all added tokens alike, in the text as it is.
  if (family_ == &kMarianTokenizer && !tokenizer_.exists()) {
    for (StatedToken& token : spec.added) token.token.normalized = false;
  }
  if (absl::Status status = Status(); !status.ok()) return status;
  return spec;
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerFiles(const std::filesystem::path& directory) {
  std::vector<JsonFile> files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    absl::StatusOr<JsonFile> file = JsonFile::Read(directory / name);
    if (!file.ok()) return file.status();
    files.push_back(std::move(*file));
  }
  return TokenizerFiles(directory, std::move(files[0]), std::move(files[1]), std::move(files[2]), std::move(files[3]))
      .Read();
}

}  // namespace elserve
