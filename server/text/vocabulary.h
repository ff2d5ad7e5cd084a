// A vocabulary: what each token id is called in the tokenizer's files, and back.
#ifndef ELSERVE_SERVER_TEXT_VOCABULARY_H_
#define ELSERVE_SERVER_TEXT_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace elserve {

// The highest token id that is accepted: room for the largest vocabularies there are, four times over.
inline constexpr int32_t kMaxTokenId = (1 << 20) - 1;

// Immutable after Create. Each spelling has one id and each id at most one spelling; there may be ids without (holes).
class Vocabulary {
 public:
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  // INVALID_ARGUMENT, beginning with `source` ("tokenizer.json: model.vocab"), for an id out of range, a spelling or an
  // id that comes twice, or no entries at all.
  static absl::StatusOr<Vocabulary> Create(std::vector<std::pair<std::string, int32_t>> entries,
                                           std::string_view source);

  std::optional<int32_t> TokenId(std::string_view spelling) const;

  // Valid as long as the vocabulary; nullopt: no token has this id. A token may be spelled "".
  std::optional<std::string_view> Spelling(int32_t id) const;

  size_t size() const { return ids_.size(); }                               // tokens, holes not counted
  int32_t end_id() const { return static_cast<int32_t>(entries_.size()); }  // the highest id + 1
  size_t longest_spelling() const { return longest_spelling_; }             // in bytes

 private:
  struct Entry {
    std::string spelling;
    bool used = false;
  };

  Vocabulary() = default;

  std::vector<Entry> entries_;                           // by id
  absl::flat_hash_map<absl::string_view, int32_t> ids_;  // keys are parts of entries_
  size_t longest_spelling_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_VOCABULARY_H_
