#include "server/text/charsmap.h"

#include <cstring>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/text/golden_text.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

std::string Golden() {
  const auto model = ReadSentencePieceModel(GoldenText() / "unigram.model");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? model->charsmap : "";
}

// Units and texts as a file has them.
std::string Bytes(const std::vector<uint32_t>& units, const std::string& texts) {
  std::string bytes;
  const auto put = [&](uint32_t value) {
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(value >> 8 * i));
  };
  put(static_cast<uint32_t>(units.size() * 4));
  for (const uint32_t unit : units) put(unit);
  return bytes + texts;
}

// "a" becomes the text at `value`; the key's children stand at unit `children`.
std::vector<uint32_t> OneKey(uint32_t value, uint32_t children = 2) {
  std::vector<uint32_t> units(256);
  units[0] = 0;
  units['a'] = 'a' | 1u << 8 | ('a' ^ children) << 10;
  if (children < units.size()) units[children] = value | 0x80000000;
  return units;
}

std::string Error(const std::string& bytes) {
  const auto map = Charsmap::Parse(bytes);
  EXPECT_EQ(map.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(map.status().message());
}

TEST(CharsmapTest, FindsTheShortestAndTheLongestKey) {
  const auto map = Charsmap::Parse(Golden());
  ASSERT_TRUE(map.ok()) << map.status();
  // "Q" becomes "q" and "Q" with an acute accent "Q'".
  const std::string text = "Q\xCC\x81x";
  ASSERT_TRUE(map->Shortest(text));
  EXPECT_EQ(map->Shortest(text)->length, 1u);
  EXPECT_EQ(map->Shortest(text)->becomes, "q");
  ASSERT_TRUE(map->Longest(text));
  EXPECT_EQ(map->Longest(text)->length, 3u);
  EXPECT_EQ(map->Longest(text)->becomes, "Q'");
  EXPECT_EQ(map->Reach(text), 3u);
  EXPECT_EQ(map->Longest("Q")->becomes, "q");
  EXPECT_EQ(map->Shortest("\xC2\xAD")->becomes, "");
  EXPECT_FALSE(map->Shortest("y"));
  EXPECT_FALSE(map->Longest(""));
  EXPECT_FALSE(map->Longest(std::string_view("\0Q", 2)));
  EXPECT_EQ(map->Reach("y"), 0u);
}

TEST(CharsmapTest, ReadsAMapMadeByHand) {
  const auto map = Charsmap::Parse(Bytes(OneKey(2), std::string("x\0yz\0", 5)));
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->Shortest("ab")->becomes, "yz");
}

TEST(CharsmapTest, RefusesWhatPointsOutside) {
  const std::string texts("x\0yz\0", 5);
  EXPECT_THAT(Error(Bytes(OneKey(5), texts)), HasSubstr("points to byte 5 of the texts, which have 5"));
  EXPECT_THAT(Error(Bytes(OneKey(0x7FFFFFFF), texts)), HasSubstr("points to byte 2147483647"));
  EXPECT_THAT(Error(Bytes(OneKey(0, 4096), texts)), HasSubstr("points to unit 4096 of 256"));
  std::vector<uint32_t> far(256);
  far[0] = 0x3FFFFF << 10;
  EXPECT_THAT(Error(Bytes(far, texts)), HasSubstr("of 256"));
  // A node that no key ends at, with children outside.
  std::vector<uint32_t> child(256);
  child['a'] = 'a' | 1024 << 10;
  EXPECT_THAT(Error(Bytes(child, texts)), HasSubstr("of 256"));
  // In the middle of a character.
  EXPECT_THAT(Error(Bytes(OneKey(1), std::string("\xC3\xA9\0", 3))), HasSubstr("points to byte 1 of the texts"));
}

TEST(CharsmapTest, RefusesBrokenParts) {
  EXPECT_THAT(Error(""), HasSubstr("is cut short"));
  EXPECT_THAT(Error("abc"), HasSubstr("is cut short"));
  EXPECT_THAT(Error(Bytes({}, "x")), HasSubstr("its array has 0 bytes"));
  EXPECT_THAT(Error(Bytes(std::vector<uint32_t>(255), std::string(1, '\0'))), HasSubstr("its array has 1020 bytes"));
  EXPECT_THAT(Error(std::string("\xFF\xFF\xFF\xFF", 4)), HasSubstr("its array has 4294967295 bytes"));
  EXPECT_THAT(Error(Bytes(std::vector<uint32_t>(256), "")), HasSubstr("do not end with 0"));
  EXPECT_THAT(Error(Bytes(std::vector<uint32_t>(256), "x")), HasSubstr("do not end with 0"));
  EXPECT_THAT(Error(Bytes(std::vector<uint32_t>(256), std::string("x\xFF\0", 3))), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(Error(std::string(Charsmap::kMaxBytes + 1, '\0')), HasSubstr("at most 8388608"));
}

TEST(CharsmapTest, CyclesEnd) {
  // Any number of "a" is the begin of a key, and a key of its own.
  std::vector<uint32_t> units(256);
  units['a'] = 'a' | static_cast<uint32_t>('a') << 10;
  const auto map = Charsmap::Parse(Bytes(units, std::string(1, '\0')));
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->Reach(std::string(1000, 'a')), Charsmap::kMaxKeyBytes);
}

TEST(CharsmapTest, ChangedMapsAreRefusedOrHarmless) {
  const std::string good = Golden();
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    std::string changed = good;
    for (int k = 0; k < 40; ++k) changed[random() % changed.size()] = static_cast<char>(random());
    const auto map = Charsmap::Parse(changed);
    refused += map.ok() ? 0 : 1;
    for (int first = 1; map.ok() && first < 256; ++first) {
      const std::string text = {static_cast<char>(first), static_cast<char>(random()), static_cast<char>(random()),
                                'Q'};
      (void)map->Shortest(text);
      (void)map->Longest(text);
    }
  }
  EXPECT_GT(refused, 20);
}

}  // namespace
}  // namespace elserve
