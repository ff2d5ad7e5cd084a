#include "server/text/special_tokens.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/text/tokenizer_json.h"

namespace elserve {
namespace {

size_t AttributeIndex(std::string_view key) {
  return static_cast<size_t>(std::find(kTokenAttributes.begin(), kTokenAttributes.end(), key) -
                             kTokenAttributes.begin());
}

bool IsAttribute(std::string_view key) { return AttributeIndex(key) < kTokenAttributes.size(); }

}  // namespace

NamedToken StringToken(std::string content, std::string source) {
  AddedToken token;
  token.content = std::move(content);
  token.special = true;
  token.normalized = false;
  return {std::move(token), std::move(source)};
}

void SpecialTokens::SetDefault(std::string_view attribute, NamedToken token) {
  attributes_[AttributeIndex(attribute)] = std::move(token);
}

const NamedToken* SpecialTokens::Find(std::string_view attribute) const {
  const std::optional<NamedToken>& token = attributes_[AttributeIndex(attribute)];
  return token ? &*token : nullptr;
}

std::optional<std::string> SpecialTokens::Content(std::string_view attribute) const {
  const NamedToken* const token = Find(attribute);
  if (token == nullptr) return std::nullopt;
  return token->token.content;
}

void SpecialTokens::AddExtra(NamedToken token) {
  if (std::find(extra_.begin(), extra_.end(), token) == extra_.end()) extra_.push_back(std::move(token));
}

std::optional<NamedToken> SpecialTokens::ReadNamed(JsonFile& file, const Json& value, std::string_view key,
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
  return NamedToken{std::move(token), std::move(source)};
}

void SpecialTokens::SetNamed(std::string key, NamedToken token, std::map<std::string, NamedToken>& own) {
  if (IsAttribute(key)) {
    attributes_[AttributeIndex(key)] = std::move(token);
  } else {
    own.insert_or_assign(std::move(key), std::move(token));
  }
}

void SpecialTokens::ReadList(JsonFile& file, const Json& list, std::string_view key, bool objects_allowed) {
  if (list.is_object()) {  // named tokens of the model's own
    for (const auto& [name, value] : list.items()) {
      if (auto token = ReadNamed(file, value, absl::StrFormat("%s.%s", key, name), false))
        SetNamed(name, std::move(*token), own_);
    }
    return;
  }
  if (!list.is_array()) return file.Fail(key, "must be a list of tokens");
  if (list.size() > kMaxTokens) {
    return file.Fail(key, absl::StrFormat("has %d tokens: at most %d", list.size(), kMaxTokens));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    auto token = ReadNamed(file, list[i], absl::StrFormat("%s[%d]", key, i), objects_allowed);
    if (!token) return;
    AddExtra(std::move(*token));
  }
}

void SpecialTokens::ReadTokens(JsonFile& file, bool from_map) {
  for (const auto& [key, value] : file.root().items()) {
    if (!absl::EndsWith(key, "_token") || value.is_null()) continue;
    // Keys such as add_bos_token end alike and hold no token.
    if (!IsAttribute(key) && !value.is_string() && !value.is_object()) continue;
    if (auto token = ReadNamed(file, value, key, from_map)) {
      // The configuration's strings are set apart before its added tokens are known as such.
      SetNamed(key, std::move(*token), !from_map && value.is_string() ? own_ : own_first_);
    }
  }
}

void SpecialTokens::Read() {
  const Json& config = config_.root();
  ReadTokens(config_, false);
  const Json* extra = JsonFile::Find(config, "extra_special_tokens");
  const bool has_extra_key = extra != nullptr;
  if (extra != nullptr && extra->empty()) extra = nullptr;
  const Json* const additional = JsonFile::Find(config, "additional_special_tokens");
  if (extra != nullptr) {
    ReadList(config_, *extra, "extra_special_tokens", false);
  } else if (additional != nullptr) {
    ReadList(config_, *additional, "additional_special_tokens", false);
  }
  if (config.contains("added_tokens_decoder")) return;
  ReadTokens(special_map_, true);
  const Json* const map_extra = JsonFile::Find(special_map_.root(), "extra_special_tokens");
  const Json* const map_additional = JsonFile::Find(special_map_.root(), "additional_special_tokens");
  if (map_extra != nullptr) {
    ReadList(special_map_, *map_extra, "extra_special_tokens", true);
  } else if (map_additional != nullptr && !has_extra_key && additional == nullptr) {
    // transformers takes these for special only after it has read added_tokens.json.
    known_to_added_file_ = extra_.size();
    ReadList(special_map_, *map_additional, "additional_special_tokens", false);
  }
}

void SpecialTokens::ReadAddedFile() {
  absl::flat_hash_set<std::string> special;
  for (const char* key : kTokenAttributes) {
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
void SpecialTokens::ReadAddedDecoder(const TokenizerSpec& spec) {
  if (!config_.root().contains("added_tokens_decoder")) {
    ReadAddedFile();
    for (const StatedToken& token : spec.added) {
      if (token.id) decoder_.insert_or_assign(*token.id, token);
    }
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

std::vector<NamedToken> SpecialTokens::InOrder(size_t& named_count) const {
  std::vector<NamedToken> tokens;
  for (const auto& token : attributes_) {
    if (token) tokens.push_back(*token);
  }
  for (const auto& [key, token] : own_first_) {
    const auto better = own_.find(key);
    tokens.push_back(better == own_.end() ? token : better->second);
  }
  for (const auto& [key, token] : own_) {
    if (!own_first_.contains(key)) tokens.push_back(token);
  }
  named_count = tokens.size();
  tokens.insert(tokens.end(), extra_.begin(), extra_.end());
  return tokens;
}

void SpecialTokens::Collect(bool from_vocabulary, TokenizerSpec& spec) {
  ReadAddedDecoder(spec);
  if (from_vocabulary) spec.added.clear();  // decoder_ has them
  size_t named_count = 0;
  const std::vector<NamedToken> named = InOrder(named_count);
  absl::flat_hash_set<std::string> named_contents;
  for (size_t i = 0; i < named_count; ++i) named_contents.insert(named[i].token.content);
  absl::flat_hash_set<std::string> known;
  for (const StatedToken& token : spec.added) known.insert(token.token.content);
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

}  // namespace elserve
