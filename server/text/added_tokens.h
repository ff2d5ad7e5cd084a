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
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/text/normalizer.h"
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
  size_t begin = 0;  // in bytes
  size_t end = 0;
  int32_t id = -1;
  // False where text was cut in two for its length alone.
  bool begins = true;
  bool ends = true;
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
  // What an id is decoded as: the content, as the normalizer makes it where the token is normalized. Valid after
  // Prepare; nullopt: it is no added token's.
  std::optional<std::string_view> DecodedText(int32_t id) const;

  int32_t end_id() const { return highest_id_ + 1; }

  // Makes scanning ready; after the last Add. Tokens that are normalized are looked for as `normalizer` makes them.
  void Prepare(const Normalizer& normalizer);

  // Which tokens a text is scanned for: those that are not normalized come first, in the text as it is; then, in what
  // became of the rest, the others.
  enum class Pass { kRaw, kNormalized };
  bool has_any(Pass pass) const { return !trie(pass).empty(); }
  // Some normalized token has a space in it or takes those behind it. Valid after Prepare.
  bool takes_spaces_behind() const { return takes_spaces_behind_; }
  // Bytes of the longest normalized token, as the normalizer makes it. Valid after Prepare.
  size_t longest_normalized() const { return longest_normalized_; }

  class Scanner;

 private:
  // Finds the longest of a set of strings at a place.
  class Trie {
   public:
    void Insert(std::string_view content, int32_t id);
    // The end of the longest string that begins at `begin`, and its id; id -1: none does.
    std::pair<size_t, int32_t> Longest(std::string_view text, size_t begin) const;
    bool begins(char byte) const { return first_[static_cast<uint8_t>(byte)] != 0; }
    bool empty() const { return nodes_.size() == 1; }

   private:
    std::array<uint32_t, 256> first_ = {};           // the node of each first byte; 0: no string begins so
    std::vector<int32_t> nodes_ = {-1};              // the id that ends at the node, or -1
    absl::flat_hash_map<uint64_t, uint32_t> edges_;  // node << 8 | byte -> node
  };

  const Trie& trie(Pass pass) const { return pass == Pass::kRaw ? raw_ : normalized_; }

  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<int32_t, AddedToken> by_id_;
  absl::flat_hash_map<int32_t, std::string> decoded_;
  absl::flat_hash_set<std::string> special_;
  // The order in which each content was first seen, and whether it was normalized then: what decides which pass looks
  // for it, even where a later Add changed that flag.
  std::vector<AddedToken> special_in_order_;
  std::vector<AddedToken> others_in_order_;
  int32_t highest_id_ = -1;
  Trie raw_;
  Trie normalized_;
  bool takes_spaces_behind_ = false;
  size_t longest_normalized_ = 0;
};

// Cuts a text into added tokens and what stands between them: tokens are found leftmost first and longest first.
class AddedTokens::Scanner {
 public:
  // Text is cut in two once it has so many bytes and may be.
  static constexpr size_t kPartBytes = 1 << 16;
  // Bytes between looks for a place to cut at: no multiple of a character's, so that not all are inside one.
  static constexpr size_t kLookBytes = 61;

  // Says whether text may be cut at this place: no token begins before it that has not ended.
  using MayCut = absl::FunctionRef<bool(size_t at)>;

  // `tokens` and the text must outlive this.
  Scanner(const AddedTokens& tokens, Pass pass, std::string_view text)
      : tokens_(tokens), trie_(tokens.trie(pass)), text_(text) {}

  // The next piece, none of them empty; false: there is none.
  bool Next(TextPiece& piece) { return Next(piece, nullptr); }
  bool Next(TextPiece& piece, MayCut may_cut) { return Next(piece, &may_cut); }

 private:
  bool Next(TextPiece& piece, MayCut* may_cut);
  // The token at at_, in its own bounds and with the white space that it takes; false: none begins there. at_ moves on.
  bool Find(TextPiece& token);
  TextPiece Text(size_t end, bool ends);

  const AddedTokens& tokens_;
  const Trie& trie_;
  std::string_view text_;
  size_t at_ = 0;
  size_t done_ = 0;                // where the last piece ended
  bool begins_ = true;             // of the text from done_ on
  size_t next_look_ = 0;           // where a cut is tried next
  std::optional<TextPiece> next_;  // was found behind the text that came last
  size_t space_begin_ = 0;         // the white space that was looked through last, so that none is looked through twice
  size_t space_end_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_ADDED_TOKENS_H_
