// What the files beside a vocabulary say about special and added tokens: tokenizer_config.json, special_tokens_map.json
// and added_tokens.json.
#ifndef ELSERVE_SERVER_TEXT_SPECIAL_TOKENS_H_
#define ELSERVE_SERVER_TEXT_SPECIAL_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/text/json_file.h"
#include "server/text/tokenizer_spec.h"

namespace elserve {

// PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES, in its order.
inline constexpr std::array<const char*, 7> kTokenAttributes = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                                "pad_token", "cls_token", "mask_token"};

// A special token as the configuration names it: a string, or an added token with flags of its own.
struct NamedToken {
  AddedToken token;
  std::string source;
  friend bool operator==(const NamedToken& a, const NamedToken& b) { return a.token == b.token; }
};

// A token as a string in the configuration makes it: special, and not normalized.
NamedToken StringToken(std::string content, std::string source);

// Reads to the same effect as transformers' PreTrainedTokenizerBase._from_pretrained and TokenizersBackend.__init__.
class SpecialTokens {
 public:
  // Of one list: far above any model's, and few enough to be compared with each other.
  static constexpr size_t kMaxTokens = 4096;

  SpecialTokens(JsonFile& config, JsonFile& special_map, JsonFile& added)
      : config_(config), special_map_(special_map), added_(added) {}

  // What `attribute` is where no file says it.
  void SetDefault(std::string_view attribute, NamedToken token);

  // The configuration's tokens; then, where it has no added_tokens_decoder, special_tokens_map.json's over them. What
  // is wrong is the files' status.
  void Read();

  // The content of a named token ("pad_token"); nullopt: there is none.
  std::optional<std::string> Content(std::string_view attribute) const;
  const NamedToken* Find(std::string_view attribute) const;

  // Names one more, unless it is there.
  void AddExtra(NamedToken token);
  const std::vector<NamedToken>& extra() const { return extra_; }

  // Adds all of them to the spec's added tokens, which are tokenizer.json's or the vocabulary's own: which are added,
  // in which order, and which of them become special. `from_vocabulary`: the class builds its tokenizer from
  // tokenizer.json's vocabulary alone, and adds the file's tokens anew in the order of their ids.
  void Collect(bool from_vocabulary, TokenizerSpec& spec);

 private:
  void ReadTokens(JsonFile& file, bool from_map);
  void ReadList(JsonFile& file, const Json& list, std::string_view key, bool objects_allowed);
  void ReadAddedDecoder(const TokenizerSpec& spec);
  void ReadAddedFile();
  std::optional<NamedToken> ReadNamed(JsonFile& file, const Json& value, std::string_view key, bool from_map);
  void SetNamed(std::string key, NamedToken token, std::map<std::string, NamedToken>& own);
  // All that are named, extra ones last, and how many of them have a name.
  std::vector<NamedToken> InOrder(size_t& named_count) const;

  JsonFile& config_;
  JsonFile& special_map_;
  JsonFile& added_;
  // By attribute; then the model's own ("hl_token") by name, in the two groups that transformers adds one after the
  // other.
  std::array<std::optional<NamedToken>, kTokenAttributes.size()> attributes_;
  std::map<std::string, NamedToken> own_first_;
  std::map<std::string, NamedToken> own_;
  std::vector<NamedToken> extra_;
  size_t known_to_added_file_ =
      std::numeric_limits<size_t>::max();   // so many of extra_ make added_tokens.json's special
  std::map<int32_t, StatedToken> decoder_;  // the added tokens by the id that the files state
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_SPECIAL_TOKENS_H_
