#include "server/text/tokenizer_spec.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "server/text/json_file.h"
#include "server/text/tokenizer_json.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

// PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES with what RobertaTokenizer has where the configuration is silent.
struct Attribute {
  const char* key;
  const char* roberta;
};
constexpr std::array<Attribute, 7> kAttributes = {{{"bos_token", "<s>"},
                                                   {"eos_token", "</s>"},
                                                   {"unk_token", "<unk>"},
                                                   {"sep_token", "</s>"},
                                                   {"pad_token", "<pad>"},
                                                   {"cls_token", "<s>"},
                                                   {"mask_token", "<mask>"}}};

// Of one list: far above any model's, and few enough to be compared with each other.
constexpr size_t kMaxSpecialTokens = 4096;

bool IsAttribute(std::string_view key) {
  return std::any_of(kAttributes.begin(), kAttributes.end(), [&](const Attribute& a) { return key == a.key; });
}

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// A special token as the configuration names it: a string, or an added token with flags of its own.
struct NamedToken {
  AddedToken token;
  bool is_string = true;
  std::string source;
  friend bool operator==(const NamedToken& a, const NamedToken& b) {
    return a.is_string == b.is_string && a.token == b.token;
  }
};

NamedToken StringToken(std::string content, std::string source) {
  AddedToken token;
  token.content = std::move(content);
  token.special = true;
  token.normalized = false;
  return {std::move(token), true, std::move(source)};
}

// The files of one directory, and what they say about special and added tokens.
class SpecReader {
 public:
  SpecReader(JsonFile tokenizer, JsonFile config, JsonFile special_map, JsonFile added)
      : tokenizer_(std::move(tokenizer)),
        config_(std::move(config)),
        special_map_(std::move(special_map)),
        added_(std::move(added)) {}

  absl::StatusOr<TokenizerSpec> Read(const std::filesystem::path& directory);

 private:
  bool ReadClass();
  void ReadConfigFlags(TokenizerSpec& spec);
  void ReadSpecialTokens();
  void ReadSpecialList(JsonFile& file, const Json& list, std::string_view key, bool objects_allowed);
  void ReadAddedDecoder(const TokenizerSpec& spec);
  void ReadAddedFile();
  std::optional<NamedToken> ReadNamed(JsonFile& file, const Json& value, std::string_view key, bool from_map);
  void SetNamed(std::string key, NamedToken token, std::map<std::string, NamedToken>& own);
  void CollectAdded(TokenizerSpec& spec);
  absl::Status Status() const;

  JsonFile tokenizer_;
  JsonFile config_;
  JsonFile special_map_;
  JsonFile added_;
  bool roberta_ = true;  // false: TokenizersBackend
  // By attribute; then the model's own ("hl_token") by name, in the two groups that transformers adds one after the
  // other.
  std::array<std::optional<NamedToken>, kAttributes.size()> attributes_;
  std::map<std::string, NamedToken> own_first_;
  std::map<std::string, NamedToken> own_;
  std::vector<NamedToken> extra_;
  size_t known_to_added_file_ =
      std::numeric_limits<size_t>::max();   // so many of extra_ make added_tokens.json's special
  std::map<int32_t, StatedToken> decoder_;  // the added tokens by the id that the files state
};

absl::Status SpecReader::Status() const {
  for (const JsonFile* file : {&config_, &tokenizer_, &special_map_, &added_}) {
    if (!file->status().ok()) return file->status();
  }
  return absl::OkStatus();
}

// Which of transformers' classes AutoTokenizer would make; false if it is none that is supported.
bool SpecReader::ReadClass() {
  std::string name = config_.String(config_.root(), "", "tokenizer_class").value_or("RobertaTokenizer");
  if (EndsWith(name, "Fast")) name.resize(name.size() - 4);
  roberta_ = name == "RobertaTokenizer" || name == "BartTokenizer";
  if (roberta_ || name == "PreTrainedTokenizer" || name == "TokenizersBackend") return true;
  config_.Fail("tokenizer_class",
               absl::StrFormat("\"%s\" is not supported: RobertaTokenizer, BartTokenizer, TokenizersBackend "
                               "and PreTrainedTokenizerFast are",
                               name));
  return false;
}

void SpecReader::ReadConfigFlags(TokenizerSpec& spec) {
  const Json& root = config_.root();
  if (roberta_) {
    spec.add_prefix_space = config_.Bool(root, "", "add_prefix_space", false);
    spec.use_regex = true;
  }
  if (config_.Bool(root, "", "split_special_tokens", false)) {
    config_.Fail("split_special_tokens", "must be false: special tokens in the text are kept whole");
  }
  if (config_.Bool(root, "", "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", false)) {
    config_.Fail("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", "must be false");
  }
  const char* const key = root.contains("model_max_length") ? "model_max_length" : "max_len";
  const Json* const length = JsonFile::Find(root, key);
  if (length == nullptr) return;
  // transformers writes "no limit" as int(1e30).
  constexpr double kNoLimit = 1e15;
  const double value = length->is_number() ? length->get<double>() : 0;
  if (!(value >= 1)) return config_.Fail(key, "must be a number of tokens, at least 1");
  if (value < kNoLimit) spec.model_max_length = static_cast<int64_t>(value);
}

std::optional<NamedToken> SpecReader::ReadNamed(JsonFile& file, const Json& value, std::string_view key,
                                                bool from_map) {
  std::string source = absl::StrFormat("%s: %s", file.name(), key);
  if (value.is_string()) return StringToken(value.get<std::string>(), std::move(source));
  if (!value.is_object() || (!from_map && JsonFile::Find(value, "__type") == nullptr)) {
    file.Fail(key, "must be a string or an added token");
    return std::nullopt;
  }
  AddedToken token = ReadAddedToken(file, value, key, from_map);
  if (from_map) {
    // special_tokens_map.json's own "special" does not count: all of its tokens are.
    token.special = true;
    if (JsonFile::Find(value, "normalized") == nullptr) token.normalized = false;
  }
  return NamedToken{std::move(token), false, std::move(source)};
}

void SpecReader::SetNamed(std::string key, NamedToken token, std::map<std::string, NamedToken>& own) {
  for (size_t i = 0; i < kAttributes.size(); ++i) {
    if (key == kAttributes[i].key) {
      attributes_[i] = std::move(token);
      return;
    }
  }
  own.insert_or_assign(std::move(key), std::move(token));
}

void SpecReader::ReadSpecialList(JsonFile& file, const Json& list, std::string_view key, bool objects_allowed) {
  if (list.is_object()) {  // named tokens of the model's own
    for (const auto& [name, value] : list.items()) {
      if (auto token = ReadNamed(file, value, absl::StrFormat("%s.%s", key, name), false))
        SetNamed(name, std::move(*token), own_);
    }
    return;
  }
  if (!list.is_array()) return file.Fail(key, "must be a list of tokens");
  if (list.size() > kMaxSpecialTokens) {
    return file.Fail(key, absl::StrFormat("has %d tokens: at most %d", list.size(), kMaxSpecialTokens));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    auto token = ReadNamed(file, list[i], absl::StrFormat("%s[%d]", key, i), objects_allowed);
    if (!token) return;
    if (std::find(extra_.begin(), extra_.end(), *token) == extra_.end()) extra_.push_back(std::move(*token));
  }
}

// The configuration's special tokens; then, where it has no added_tokens_decoder, special_tokens_map.json's over them.
void SpecReader::ReadSpecialTokens() {
  if (roberta_) {
    for (size_t i = 0; i < kAttributes.size(); ++i) {
      attributes_[i] = StringToken(kAttributes[i].roberta, absl::StrFormat("the default of %s", kAttributes[i].key));
    }
  }
  const Json& config = config_.root();
  const auto read_tokens = [&](JsonFile& file, bool from_map) {
    for (const auto& [key, value] : file.root().items()) {
      if (!EndsWith(key, "_token") || value.is_null()) continue;
      // Keys such as add_bos_token end alike and hold no token.
      if (!IsAttribute(key) && !value.is_string() && !value.is_object()) continue;
      if (auto token = ReadNamed(file, value, key, from_map)) {
        // The configuration's strings are set apart before its added tokens are known as such.
        SetNamed(key, std::move(*token), !from_map && value.is_string() ? own_ : own_first_);
      }
    }
  };
  read_tokens(config_, false);
  const Json* extra = JsonFile::Find(config, "extra_special_tokens");
  const bool has_extra_key = extra != nullptr;
  if (extra != nullptr && extra->empty()) extra = nullptr;
  const Json* const additional = JsonFile::Find(config, "additional_special_tokens");
  if (extra != nullptr) {
    ReadSpecialList(config_, *extra, "extra_special_tokens", false);
  } else if (additional != nullptr) {
    ReadSpecialList(config_, *additional, "additional_special_tokens", false);
  }
  if (config.contains("added_tokens_decoder")) return;
  read_tokens(special_map_, true);
  const Json* const map_extra = JsonFile::Find(special_map_.root(), "extra_special_tokens");
  const Json* const map_additional = JsonFile::Find(special_map_.root(), "additional_special_tokens");
  if (map_extra != nullptr) {
    ReadSpecialList(special_map_, *map_extra, "extra_special_tokens", true);
  } else if (map_additional != nullptr && !has_extra_key && additional == nullptr) {
    // transformers takes these for special only after it has read added_tokens.json.
    known_to_added_file_ = extra_.size();
    ReadSpecialList(special_map_, *map_additional, "additional_special_tokens", false);
    return;
  }
}

void SpecReader::ReadAddedFile() {
  absl::flat_hash_set<std::string> special;
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    for (const JsonFile* file : {&config_, &special_map_}) {
      const Json* const value = JsonFile::Find(file->root(), key);
      const Json* const content = value != nullptr && value->is_object() ? JsonFile::Find(*value, "content") : value;
      if (content != nullptr && content->is_string()) special.insert(content->get<std::string>());
    }
  }
  for (size_t i = 0; i < std::min(extra_.size(), known_to_added_file_); ++i) special.insert(extra_[i].token.content);
  for (const auto& [content, value] : added_.root().items()) {
    const std::string key = absl::StrFormat("[\"%s\"]", content);
    AddedToken token;
    token.content = content;
    token.special = special.contains(content);
    token.normalized = !token.special;
    const int32_t id = added_.Id(value, key);
    decoder_.insert_or_assign(id, StatedToken{std::move(token), id, absl::StrFormat("%s: %s", added_.name(), key)});
  }
}

// The added tokens by id: the configuration's added_tokens_decoder alone, or those of added_tokens.json and
// tokenizer.json.
void SpecReader::ReadAddedDecoder(const TokenizerSpec& spec) {
  if (!config_.root().contains("added_tokens_decoder")) {
    ReadAddedFile();
    for (const StatedToken& token : spec.added) decoder_.insert_or_assign(*token.id, token);
    return;
  }
  const Json* const tokens = config_.Object(config_.root(), "", "added_tokens_decoder");
  if (tokens == nullptr) return;
  for (const auto& [id_text, value] : tokens->items()) {
    const std::string key = absl::StrFormat("added_tokens_decoder[\"%s\"]", id_text);
    int32_t id = -1;
    const char* const end = id_text.data() + id_text.size();
    const auto parsed = std::from_chars(id_text.data(), end, id);
    if (parsed.ec != std::errc() || parsed.ptr != end || id < 0 || id > kMaxTokenId) {
      return config_.Fail(key, absl::StrFormat("must be a token id from 0 to %d", kMaxTokenId));
    }
    AddedToken token = ReadAddedToken(config_, value, key, false);
    decoder_.insert_or_assign(id, StatedToken{std::move(token), id, absl::StrFormat("%s: %s", config_.name(), key)});
  }
}

// TokenizersBackend.__init__: which tokens are added, in which order, and which of them become special.
void SpecReader::CollectAdded(TokenizerSpec& spec) {
  absl::flat_hash_set<std::string> known;
  if (roberta_) spec.added.clear();  // the class starts from the vocabulary; decoder_ has them
  for (const StatedToken& token : spec.added) known.insert(token.token.content);
  absl::flat_hash_set<std::string> named_contents;
  std::vector<NamedToken> named;
  for (const auto& token : attributes_) {
    if (token) named.push_back(*token);
  }
  for (const auto& [key, token] : own_first_) {
    const auto better = own_.find(key);
    named.push_back(better == own_.end() ? token : better->second);
  }
  for (const auto& [key, token] : own_) {
    if (!own_first_.contains(key)) named.push_back(token);
  }
  for (const NamedToken& token : named) named_contents.insert(token.token.content);
  named.insert(named.end(), extra_.begin(), extra_.end());

  std::vector<StatedToken> adding;
  for (auto& [id, token] : decoder_) {
    known.insert(token.token.content);
    adding.push_back(std::move(token));
  }
  std::vector<NamedToken> seen;
  for (const NamedToken& token : named) {
    if (known.contains(token.token.content) || std::find(seen.begin(), seen.end(), token) != seen.end()) continue;
    seen.push_back(token);
    adding.push_back({token.token, std::nullopt, token.source});
  }
  for (StatedToken& token : adding) {
    if (named_contents.contains(token.token.content)) token.token.special = true;
    spec.added.push_back(std::move(token));
  }
}

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
    if (EndsWith(line, "\r")) line.remove_suffix(1);
    if (line.rfind("#version", 0) == 0) continue;
    if (!SplitMerge(line, model.merges)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("merges.txt: line %d must be two tokens with one space between them", line_number));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerSpec> SpecReader::Read(const std::filesystem::path& directory) {
  TokenizerSpec spec;
  if (!ReadClass()) return config_.status();
  if (tokenizer_.exists()) {
    ReadTokenizerJson(tokenizer_, spec);
  } else if (!roberta_) {
    return absl::NotFoundError(
        absl::StrFormat("%s has no tokenizer.json, which its tokenizer_class needs", directory.string()));
  } else if (absl::Status status = ReadVocabAndMerges(directory, spec.model); !status.ok()) {
    return status;
  }
  ReadConfigFlags(spec);
  ReadSpecialTokens();
  ReadAddedDecoder(spec);
  if (absl::Status status = Status(); !status.ok()) return status;
  CollectAdded(spec);
  if (roberta_) {
    // RobertaTokenizer gives its model no unknown token, and puts its own post-processor in place.
    spec.model.unk_token.reset();
    spec.model.fuse_unk = false;
    spec.model.ignore_merges = false;
    const NamedToken& cls = *attributes_[5];
    const NamedToken& sep = *attributes_[3];
    spec.before = {{std::nullopt, cls.token.content, cls.source}};
    spec.after = {{std::nullopt, sep.token.content, sep.source}};
  }
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
  return SpecReader(std::move(files[0]), std::move(files[1]), std::move(files[2]), std::move(files[3])).Read(directory);
}

}  // namespace elserve
