#include "server/text/decoder.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

// What the tokens give, one after the other, and what the end gives, by itself.
std::vector<std::string> Deltas(std::vector<decoder::Step> steps, const std::vector<std::string>& tokens) {
  const auto decoder = Decoder::Create(std::move(steps));
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  Decoder::Stream stream(*decoder);
  std::vector<std::string> deltas;
  for (const std::string& token : tokens) {
    deltas.emplace_back();
    stream.Add(token, 0, false, deltas.back());
  }
  deltas.emplace_back();
  stream.End(deltas.back());
  return deltas;
}

using Strings = std::vector<std::string>;

TEST(DecoderTest, WithoutStepsTokensStandSideBySide) { EXPECT_EQ(Deltas({}, {"a", "b"}), (Strings{"a", "b", ""})); }

TEST(DecoderTest, MetaspaceDropsTheSpaceOfTheFirstToken) {
  EXPECT_EQ(Deltas({decoder::Metaspace{}}, {"▁▁a▁", "▁b"}), (Strings{"a", " b", ""}));
  EXPECT_EQ(Deltas({decoder::Metaspace{.drops_first = false}}, {"▁a", "▁b"}), (Strings{" a", " b", ""}));
}

TEST(DecoderTest, ARunOfByteTokensWaitsForItsEnd) {
  EXPECT_EQ(Deltas({decoder::ByteFallback{}}, {"<0xC3>", "<0xA9>", "x", "<0x41>"}), (Strings{"", "", "éx", "", "A"}));
  // One byte that is out of place spoils the whole run; what only looks like a byte is text.
  EXPECT_EQ(Deltas({decoder::ByteFallback{}}, {"<0x41>", "<0xC3>", "<0xG1>", "<0x+f>"}),
            (Strings{"", "", "\uFFFD\uFFFD<0xG1>", "", "\x0F"}));
}

TEST(DecoderTest, ReplaceSeesOneTokenUntilTheyAreJoined) {
  const decoder::Replace replace{"ab", "-"};
  EXPECT_EQ(Deltas({replace}, {"xab", "a", "b"}), (Strings{"x-", "a", "b", ""}));
  EXPECT_EQ(Deltas({decoder::Fuse{}, replace}, {"xab", "a", "b", "a"}), (Strings{"x-", "", "-", "", "a"}));
  EXPECT_EQ(Deltas({decoder::Fuse{}, decoder::Replace{"aab", "-"}}, {"a", "a", "a", "b"}),
            (Strings{"", "", "a", "-", ""}));
}

TEST(DecoderTest, StripTakesSoManyCharactersOffBothEnds) {
  const decoder::Strip strip{"é", 2, 1};
  EXPECT_EQ(Deltas({strip}, {"éééaéé", "é"}), (Strings{"éaé", "", ""}));
  EXPECT_EQ(Deltas({decoder::Fuse{}, strip}, {"é", "éé", "aé", "é", "b", "é"}),
            (Strings{"", "", "éa", "é", "éb", "", ""}));
}

TEST(DecoderTest, TrimsTheWholeTextAsPythonDoes) {
  EXPECT_EQ(Deltas({decoder::Fuse{}, decoder::TrimWhiteSpace{}}, {" ", "\u00A0a ", "\x1F", "b\n"}),
            (Strings{"", "a", "",
                     " \x1F"
                     "b",
                     ""}));
}

TEST(DecoderTest, ByteLevelHoldsBackHalfCharacters) {
  EXPECT_EQ(Deltas({decoder::ByteLevel{}}, {"Ã", "©Ġ", "Ã", "日", "Ã"}),
            (Strings{"", "é ", "", "\uFFFD日", "", "\uFFFD"}));
}

TEST(DecoderTest, RefusesStepsThatCannotFollow) {
  const auto error = [](std::vector<decoder::Step> steps) {
    return std::string(Decoder::Create(std::move(steps)).status().message());
  };
  EXPECT_THAT(error({decoder::Fuse{}, decoder::Metaspace{}}), HasSubstr("Metaspace behind a step that joins"));
  EXPECT_THAT(error({decoder::ByteLevel{}, decoder::ByteFallback{}}), HasSubstr("ByteFallback behind"));
  EXPECT_THAT(error({decoder::Replace{"", "x"}}), HasSubstr("empty pattern"));
  EXPECT_THAT(error({decoder::TrimWhiteSpace{}}), HasSubstr("TrimWhiteSpace"));
  EXPECT_THAT(error(std::vector<decoder::Step>(33, decoder::Fuse{})), HasSubstr("33 steps: at most 32"));
}

}  // namespace
}  // namespace elserve
