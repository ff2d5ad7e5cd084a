#include "server/text/vocabulary.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace elserve {

absl::StatusOr<Vocabulary> Vocabulary::Create(std::vector<std::pair<std::string, int32_t>> entries,
                                              std::string_view source) {
  if (entries.empty()) return absl::InvalidArgumentError(absl::StrFormat("%s is empty", source));
  int32_t highest = 0;
  for (const auto& [spelling, id] : entries) {
    if (id < 0 || id > kMaxTokenId) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s[\"%s\"] is %d: ids must be from 0 to %d", source, spelling, id, kMaxTokenId));
    }
    highest = std::max(highest, id);
  }
  Vocabulary vocabulary;
  // Of its last size from the start: keys are views of what it holds.
  vocabulary.entries_.resize(static_cast<size_t>(highest) + 1);
  vocabulary.ids_.reserve(entries.size());
  for (auto& [spelling, id] : entries) {
    Entry& entry = vocabulary.entries_[id];
    if (entry.used) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: \"%s\" and \"%s\" have the same id %d", source, entry.spelling, spelling, id));
    }
    entry = {std::move(spelling), true};
    if (!vocabulary.ids_.try_emplace(entry.spelling, id).second) {
      return absl::InvalidArgumentError(absl::StrFormat("%s has \"%s\" twice", source, entry.spelling));
    }
    vocabulary.longest_spelling_ = std::max(vocabulary.longest_spelling_, entry.spelling.size());
  }
  return vocabulary;
}

std::optional<int32_t> Vocabulary::TokenId(std::string_view spelling) const {
  const auto found = ids_.find(absl::string_view(spelling.data(), spelling.size()));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string_view> Vocabulary::Spelling(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= entries_.size() || !entries_[id].used) return std::nullopt;
  return entries_[id].spelling;
}

}  // namespace elserve
