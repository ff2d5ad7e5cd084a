// The golden cases of normalizer_test.cc compare all of this with the tokenizers library; here is what it means.
#include "server/text/aligned_text.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using Spans = std::vector<TextSpan>;

TEST(AlignedTextTest, EachByteComesFromItsCharacter) {
  const AlignedText text("aé");
  EXPECT_EQ(text.text(), "aé");
  EXPECT_THAT(text.alignment(), ElementsAre(TextSpan{0, 1}, TextSpan{1, 3}, TextSpan{1, 3}));
  EXPECT_EQ(text.Original({0, 2}), (TextSpan{0, 3}));
}

TEST(AlignedTextTest, TransformReplacesAddsAndRemoves) {
  AlignedText text("abcde");
  // Without "a"; "b" becomes "xy", "c" goes with "b"; "d" stays, "e" becomes "é".
  text.Transform({{U'x', -1}, {U'y', 1}, {U'd', 0}, {U'é', 0}}, 1);
  EXPECT_EQ(text.text(), "xydé");
  EXPECT_THAT(text.alignment(),
              ElementsAre(TextSpan{1, 2}, TextSpan{2, 3}, TextSpan{3, 4}, TextSpan{4, 5}, TextSpan{4, 5}));
}

TEST(AlignedTextTest, WhatIsNewBeforeAllComesFromNothing) {
  AlignedText text("a");
  text.Transform({{U'x', 1}, {U'a', 0}});
  EXPECT_EQ(text.text(), "xa");
  EXPECT_THAT(text.alignment(), ElementsAre(TextSpan{0, 0}, TextSpan{0, 1}));
}

TEST(AlignedTextTest, ChangesBeyondTheEndComeFromTheLastCharacter) {
  AlignedText text("ab");
  text.Transform({{U'a', 0}, {U'b', -5}, {U'c', 0}});
  EXPECT_EQ(text.text(), "abc");
  EXPECT_EQ(text.alignment()[2], (TextSpan{1, 2}));
}

TEST(AlignedTextTest, AnEmptyTextStaysEmpty) {
  AlignedText text("");
  text.Transform({{U'x', 0}});
  text.Prepend("y");
  EXPECT_EQ(text.text(), "");
}

TEST(AlignedTextTest, PrependComesFromTheFirstCharacter) {
  AlignedText text("éa");
  text.Prepend("▁");
  EXPECT_EQ(text.text(), "▁éa");
  EXPECT_EQ(text.Original({0, 3}), (TextSpan{0, 2}));
  EXPECT_EQ(text.Original({0, 6}), (TextSpan{0, 3}));
}

TEST(AlignedTextTest, ReplaceComesFromTheLastCharacterOfThePart) {
  AlignedText text("a  bé");
  text.Replace({{1, 3}, {4, 6}}, "▁▁");
  EXPECT_EQ(text.text(), "a▁▁b▁▁");
  EXPECT_EQ(text.Original({1, 7}), (TextSpan{2, 3}));
  EXPECT_EQ(text.Original({8, 14}), (TextSpan{4, 6}));
  text.Replace({{0, 1}}, "");
  EXPECT_EQ(text.Original({0, 3}), (TextSpan{2, 3}));
}

TEST(AlignedTextTest, KeepTakesOffTheEnds) {
  AlignedText text(" ab ");
  text.Keep(1, 3);
  EXPECT_EQ(text.text(), "ab");
  EXPECT_THAT(text.alignment(), ElementsAre(TextSpan{1, 2}, TextSpan{2, 3}));
}

TEST(AlignedTextTest, BecomeGoesThroughWhatWasThere) {
  AlignedText text(" ab");
  text.Keep(1, 3);
  text.Become("_xb!", {{0, 0}, {0, 2}, {1, 2}, {2, 2}});
  EXPECT_EQ(text.text(), "_xb!");
  EXPECT_THAT(text.alignment(), ElementsAre(TextSpan{1, 1}, TextSpan{1, 3}, TextSpan{2, 3}, TextSpan{3, 3}));
}

}  // namespace
}  // namespace elserve
