// Tokens that are added to a vocabulary and found in the text before it is cut into words, as the tokenizers library's
// AddedVocabulary does it.
#ifndef ELSERVE_SERVER_TEXT_ADDED_TOKENS_H_
#define ELSERVE_SERVER_TEXT_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "server/text/vocabulary.h"

namespace elserve {

struct AddedToken {
  std::string content;
  bool single_word = false;  // found only where no word character stands beside it
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;       // and on its right
  bool normalized = true;    // looked for after all that are not
  bool special = false;      // left out of decoded text
  friend bool operator==(const AddedToken&, const AddedToken&) = default;
};

// A part of a text: an added token, or text (id -1) that the model encodes.
struct TextPiece {
  size_t begin;  // in bytes
  size_t end;
  int32_t id;
};

// Built by Add, then constant.
class AddedTokens {
 public:
  static constexpr size_t kMaxContentBytes = 512;
  static constexpr size_t kMaxTokens = 1 << 16;

  // Adds a token, or changes the flags of one that was added. It has its id in the model's vocabulary, or else the next
  // one: the vocabulary's size at least, and above all added before. Returns that id; INVALID_ARGUMENT (to be completed
  // with the file) for empty or too long contents, or where the next id is another token's because the vocabulary has
  // holes.
  absl::StatusOr<int32_t> Add(const AddedToken& token, const Vocabulary& vocabulary);

  bool contains(std::string_view content) const;
  bool is_special(std::string_view content) const;
  std::optional<int32_t> TokenId(std::string_view content) const;
  const absl::flat_hash_map<int32_t, AddedToken>& by_id() const { return by_id_; }

  // Makes Split ready; after the last Add.
  void Prepare();

  // The pieces of the whole text in order, none of them empty: tokens found leftmost first and longest first, those
  // that are not normalized in the text, then the others in what is left.
  std::vector<TextPiece> Split(std::string_view text) const;

 private:
  // Finds the longest of a set of strings at a place.
  class Trie {
   public:
    void Insert(std::string_view content, int32_t id);
    // The end of the longest string that begins at `begin`, and its id; id -1: none does.
    std::pair<size_t, int32_t> Longest(std::string_view text, size_t begin) const;
    bool empty() const { return nodes_.size() == 1; }

   private:
    std::array<bool, 256> first_ = {};
    std::vector<int32_t> nodes_ = {-1};              // the id that ends at the node, or -1
    absl::flat_hash_map<uint64_t, uint32_t> edges_;  // node << 8 | byte -> node
  };

  void SplitBy(const Trie& trie, std::string_view text, size_t offset, std::vector<TextPiece>& pieces) const;

  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<int32_t, AddedToken> by_id_;
  absl::flat_hash_set<std::string> special_;
  // The order in which each content was first seen, and whether it was normalized then: what decides which pass looks
  // for it, even where a later Add changed that flag.
  std::vector<AddedToken> special_in_order_;
  std::vector<AddedToken> others_in_order_;
  int32_t highest_id_ = -1;
  Trie raw_;
  Trie normalized_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_ADDED_TOKENS_H_
