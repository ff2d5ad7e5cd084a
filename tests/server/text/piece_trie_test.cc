#include "server/text/piece_trie.h"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

PieceTrie Make(const std::map<std::string, int32_t>& pieces) {
  std::vector<std::pair<std::string_view, int32_t>> views(pieces.rbegin(), pieces.rend());
  return PieceTrie(std::move(views));
}

// Values of the pieces that the text begins with, by their length.
std::map<size_t, int32_t> Prefixes(const PieceTrie& trie, std::string_view text) {
  std::map<size_t, int32_t> found;
  uint32_t node = PieceTrie::kRoot;
  for (size_t at = 0; at < text.size() && trie.Step(node, text[at]); ++at) {
    if (trie.Value(node) >= 0) found[at + 1] = trie.Value(node);
  }
  return found;
}

TEST(PieceTrieTest, WithoutPiecesNothingBegins) {
  const PieceTrie trie;
  for (int byte = 0; byte < 256; ++byte) {
    uint32_t node = PieceTrie::kRoot;
    EXPECT_FALSE(trie.Step(node, static_cast<char>(byte))) << byte;
  }
}

TEST(PieceTrieTest, FindsThePrefixesOfAText) {
  const PieceTrie trie = Make({{"a", 0}, {"abc", 1}, {"b", 2}, {std::string("\0x", 2), 3}, {"\xFF\xFE", 4}});
  EXPECT_EQ(Prefixes(trie, "abcd"), (std::map<size_t, int32_t>{{1, 0}, {3, 1}}));
  EXPECT_EQ(Prefixes(trie, "ab"), (std::map<size_t, int32_t>{{1, 0}}));
  EXPECT_EQ(Prefixes(trie, std::string_view("\0x", 2)), (std::map<size_t, int32_t>{{2, 3}}));
  EXPECT_EQ(Prefixes(trie, "\xFF\xFE"), (std::map<size_t, int32_t>{{2, 4}}));
  EXPECT_TRUE(Prefixes(trie, "c").empty());
}

TEST(PieceTrieTest, RandomPiecesAreFoundAsInAMap) {
  std::mt19937 random(3);
  for (const int alphabet : {2, 20, 256}) {
    std::map<std::string, int32_t> pieces;
    const auto make = [&](size_t longest) {
      std::string text(1 + random() % longest, '\0');
      for (char& byte : text) byte = static_cast<char>(random() % alphabet);
      return text;
    };
    for (int i = 0; i < 4000; ++i) pieces.try_emplace(make(8), i);
    const PieceTrie trie = Make(pieces);
    for (const auto& [piece, value] : pieces) EXPECT_EQ(Prefixes(trie, piece)[piece.size()], value);
    for (int i = 0; i < 4000; ++i) {
      const std::string text = make(12);
      std::map<size_t, int32_t> expected;
      for (size_t length = 1; length <= text.size(); ++length) {
        if (const auto found = pieces.find(text.substr(0, length)); found != pieces.end())
          expected[length] = found->second;
      }
      EXPECT_EQ(Prefixes(trie, text), expected);
    }
  }
}

}  // namespace
}  // namespace elserve
