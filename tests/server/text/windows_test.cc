#include "server/text/windows.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/sentences.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

uint32_t Offset(size_t offset) { return static_cast<uint32_t>(offset); }

// One token a word, with the space before it; ends of sentences and words by ICU.
TextCuts CutsOf(const std::string& text) {
  TextCuts cuts{.sentence_ends = *SentenceEnds(text), .word_ends = *WordEnds(text)};
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin + 1), text.size());
    cuts.tokens.push_back({Offset(begin), Offset(end)});
    begin = end;
  }
  return cuts;
}

std::string Held(const std::string& text, TextSpan span) { return text.substr(span.begin, span.end - span.begin); }

std::vector<std::string> AllWindows(const std::string& text, const TextWindows& windows, size_t room, size_t overlap) {
  std::vector<std::string> all;
  TextSpan window = windows.From(0, room);
  all.push_back(Held(text, window));
  while (window.end < text.size() && all.size() <= text.size()) {
    window = windows.Next(window, room, overlap);
    all.push_back(Held(text, window));
  }
  return all;
}

std::vector<std::string> AllWindows(const std::string& text, size_t room, size_t overlap) {
  return AllWindows(text, TextWindows(text, CutsOf(text)), room, overlap);
}

TEST(Windows, EndWhereSentencesDo) {
  const std::string text = "A b c. D e. F g h i. J.";
  EXPECT_THAT(AllWindows(text, 5, 0), ElementsAre("A b c. D e. ", "F g h i. J."));
  EXPECT_THAT(AllWindows(text, 4, 0), ElementsAre("A b c. ", "D e. ", "F g h i. ", "J."));
  EXPECT_THAT(AllWindows(text, 10, 0), ElementsAre(text));
  EXPECT_THAT(AllWindows(text, 1000, 500), ElementsAre(text));
}

TEST(Windows, BeginWithTheEndOfTheOneBefore) {
  const std::string text = "A b. C d. E f. G h. I j.";
  EXPECT_THAT(AllWindows(text, 6, 2), ElementsAre("A b. C d. E f. ", "E f. G h. I j."));
  EXPECT_THAT(AllWindows(text, 6, 4), ElementsAre("A b. C d. E f. ", "C d. E f. G h. ", "E f. G h. I j."));
  // Not a part of a sentence, and no more than leaves room for the next one.
  EXPECT_THAT(AllWindows(text, 6, 3), ElementsAre("A b. C d. E f. ", "E f. G h. I j."));
  EXPECT_THAT(AllWindows(text, 6, 1), ElementsAre("A b. C d. E f. ", "G h. I j."));
  EXPECT_THAT(AllWindows("A b. C d. E f g h i j.", 6, 4), ElementsAre("A b. C d. ", "E f g h i j."));
  EXPECT_THAT(AllWindows("A b. C d. E f g h.", 6, 4), ElementsAre("A b. C d. ", "C d. E f g h."));
}

TEST(Windows, TheNextMayBeginAByteFurther) {
  const TextWindows windows(
      "abcd", {.sentence_ends = {1, 2, 3, 4}, .word_ends = {1, 2, 3, 4}, .tokens = {{0, 1}, {1, 2}, {2, 3}, {3, 4}}});
  EXPECT_EQ(windows.Next({0, 3}, 3, 3), (TextSpan{1, 4}));
}

TEST(Windows, ASentenceThatIsTooLongIsCutBetweenWords) {
  EXPECT_THAT(AllWindows("A b. C d e f g h i. J k.", 3, 0), ElementsAre("A b. ", "C d e ", "f g h ", "i. J k."));
  EXPECT_THAT(AllWindows("a b c d e f g", 4, 2), ElementsAre("a b c d ", "c d e f ", "e f g"));
  EXPECT_THAT(AllWindows("A. b c d e f g", 4, 1), ElementsAre("A. b c d ", "d e f g"));
}

// Words that overlap are those of the sentence that was cut.
TEST(Windows, OverlapOfWordsStaysInTheirSentence) {
  const std::string text = "A b. C d e f g h i.";
  const TextWindows windows(text, CutsOf(text));
  EXPECT_EQ(Held(text, windows.Next({0, 7}, 4, 4)), "C d e f ");  // behind "A b. C "
}

TEST(Windows, AWordThatIsTooLongIsCutBetweenCharacters) {
  TextCuts cuts{.sentence_ends = {9}, .word_ends = {9}};
  for (uint32_t i = 0; i < 9; ++i) cuts.tokens.push_back({i / 3 * 3, i / 3 * 3 + 3});  // three tokens a character
  const std::string text = "日本語";
  const TextWindows windows(text, cuts);
  EXPECT_THAT(AllWindows(text, windows, 3, 0), ElementsAre("日", "本", "語"));
  EXPECT_THAT(AllWindows(text, windows, 7, 0), ElementsAre("日本", "語"));
  // Less than a character fits: it is taken nevertheless.
  EXPECT_THAT(AllWindows(text, windows, 2, 0), ElementsAre("日", "本", "語"));
  EXPECT_THAT(AllWindows(text, windows, 0, 0), ElementsAre("日", "本", "語"));
  // Tokens that are parts of a character, as byte-level tokenizers make them.
  cuts.tokens.clear();
  for (uint32_t i = 0; i < 9; ++i) cuts.tokens.push_back({i, i + 1});
  EXPECT_THAT(AllWindows(text, TextWindows(text, cuts), 4, 0), ElementsAre("日", "本", "語"));
  EXPECT_THAT(AllWindows(text, TextWindows(text, cuts), 2, 1), ElementsAre("日", "本", "語"));
}

TEST(Windows, AroundGrowsEvenlyByWholeSentences) {
  const std::string text = "A b. C d. E f. G h. I j. K l. M n.";
  const TextWindows windows(text, CutsOf(text));
  const auto around = [&](const std::string& inside, size_t room) {
    const size_t begin = text.find(inside);
    const auto window = windows.Around({Offset(begin), Offset(begin + inside.size())}, room);
    return window ? Held(text, *window) : "none";
  };
  EXPECT_EQ(around("G", 2), "G h. ");
  EXPECT_EQ(around("G", 3), "G h. ");
  EXPECT_EQ(around("G", 4), "E f. G h. ");
  EXPECT_EQ(around("h.", 4), "G h. I j. ");
  EXPECT_EQ(around("G", 6), "E f. G h. I j. ");
  EXPECT_EQ(around("G", 10), "C d. E f. G h. I j. K l. ");
  EXPECT_EQ(around("A", 6), "A b. C d. E f. ");
  EXPECT_EQ(around("n.", 6), "I j. K l. M n.");
  EXPECT_EQ(around("G", 14), text);
  EXPECT_EQ(around("G", 1000), text);
  EXPECT_EQ(around("f. G", 4), "E f. G h. ");
  // Too long with its sentences, and alone.
  EXPECT_EQ(around("f. G", 3), "E f. G ");
  EXPECT_EQ(around("f. G", 2), "f. G ");
  EXPECT_EQ(around("f. G", 1), "none");
  EXPECT_EQ(around("G", 1), "G ");
  EXPECT_EQ(around("G", 0), "none");
}

TEST(Windows, AroundTakesOneSideOnlyWhereTheOtherDoesNotFit) {
  const std::string text = "A b c d e f. G. H. I.";
  const TextWindows windows(text, CutsOf(text));
  const size_t begin = text.find('G');
  EXPECT_EQ(Held(text, *windows.Around({Offset(begin), Offset(begin + 1)}, 3)), "G. H. I.");
  EXPECT_EQ(Held(text, *windows.Around({Offset(begin), Offset(begin + 1)}, 7)), "A b c d e f. G. ");
}

TEST(Windows, AroundAnUnbrokenWordIsThatPartAlone) {
  TextCuts cuts{.sentence_ends = {6}, .word_ends = {6}};
  for (uint32_t i = 0; i < 6; ++i) cuts.tokens.push_back({i, i + 1});
  const TextWindows windows("abcdef", cuts);
  EXPECT_EQ(windows.Around({2, 4}, 2), (TextSpan{2, 4}));
  EXPECT_EQ(windows.Around({2, 4}, 5), (TextSpan{2, 4}));
  EXPECT_EQ(windows.Around({2, 4}, 6), (TextSpan{0, 6}));
  EXPECT_EQ(windows.Around({2, 4}, 1), std::nullopt);
}

TEST(Windows, TokensCountWhereTheyTouch) {
  const TextWindows windows("abcdefgh", {.sentence_ends = {8}, .word_ends = {8}, .tokens = {{0, 2}, {2, 4}, {5, 8}}});
  EXPECT_EQ(windows.TokensOf({0, 8}), 3u);
  EXPECT_EQ(windows.TokensOf({0, 2}), 1u);
  EXPECT_EQ(windows.TokensOf({1, 3}), 2u);
  EXPECT_EQ(windows.TokensOf({2, 5}), 1u);
  EXPECT_EQ(windows.TokensOf({4, 5}), 0u);
  EXPECT_EQ(windows.TokensOf({6, 7}), 1u);
}

TEST(Windows, OddTokensCountOnceAtLeast) {
  // Without bytes, doubled, jumping back.
  const TextWindows windows("abcdefgh", {.sentence_ends = {8},
                                         .word_ends = {8},
                                         .tokens = {{0, 0}, {0, 1}, {1, 1}, {3, 5}, {3, 5}, {2, 4}, {6, 7}, {7, 7}}});
  EXPECT_EQ(windows.TokensOf({0, 8}), 8u);
  EXPECT_EQ(windows.TokensOf({0, 1}) + windows.TokensOf({1, 8}), 8u);
  EXPECT_EQ(windows.TokensOf({2, 3}), 3u);
  EXPECT_EQ(windows.TokensOf({4, 5}), 3u);
  EXPECT_EQ(windows.TokensOf({7, 8}), 0u);
}

TEST(Windows, AnEmptyTextHasNone) {
  const TextWindows windows("", {});
  EXPECT_EQ(windows.From(0, 5), (TextSpan{0, 0}));
  EXPECT_EQ(windows.Around({0, 0}, 5).value_or(TextSpan{0, 0}), (TextSpan{0, 0}));
}

// Random texts and tokens, compared with what the definitions say.
class RandomWindows {
 public:
  explicit RandomWindows(uint32_t seed) : random_(seed) {
    const std::vector<std::vector<std::string>> kinds = {{"word ", "a ", "End. ", "Stop! ", "line\n", "\n\n"},
                                                         {"日", "本", "。", "😀", "é"},
                                                         {"x"},
                                                         {"x", "é"},
                                                         {"word ", "é ", "日本", ". ", "\n\n", "  "}};
    const std::vector<std::string>& parts = kinds[Draw(kinds.size())];
    for (size_t i = 1 + Draw(60); i > 0; --i) text_ += parts[Draw(parts.size())];
    cuts_ = {.sentence_ends = *SentenceEnds(text_), .word_ends = *WordEnds(text_)};
    const bool orderly = Draw(2) == 0;
    for (size_t at = 0; at < text_.size();) {
      const size_t end = std::min(text_.size(), at + Draw(7));
      const size_t begin = orderly ? at : Draw(text_.size());
      cuts_.tokens.push_back({Offset(begin), Offset(orderly ? end : begin + Draw(text_.size() - begin + 1))});
      at = end + Draw(2);
    }
    FillCounted();
  }

  const std::string& text() const { return text_; }
  const TextCuts& cuts() const { return cuts_; }
  size_t Draw(size_t below) { return random_() % below; }
  TextSpan DrawSpan() {
    size_t begin = Draw(text_.size());
    while (!IsCharacterBoundary(text_, begin)) --begin;
    size_t end = begin + 1 + Draw(text_.size() - begin);
    while (!IsCharacterBoundary(text_, end)) ++end;
    return {Offset(begin), Offset(end)};
  }

  size_t Count(size_t begin, size_t end) const {
    return static_cast<size_t>(std::count_if(counted_.begin(), counted_.end(),
                                             [&](TextSpan token) { return token.begin < end && token.end > begin; }));
  }

  size_t From(size_t begin, size_t room) const {
    for (const auto* ends : {&cuts_.sentence_ends, &cuts_.word_ends}) {
      size_t best = 0;
      for (const uint32_t end : *ends) {
        if (end > begin && Count(begin, end) <= room) best = end;
      }
      if (best > 0) return best;
    }
    size_t best = 0;
    for (size_t end = begin + 1; end <= text_.size(); ++end) {
      if (IsCharacterBoundary(text_, end) && (best == 0 || Count(begin, end) <= room)) best = end;
    }
    return best;
  }

 private:
  // The bytes that tokens count with, by the definition.
  void FillCounted() {
    std::vector<TextSpan> own = cuts_.tokens;
    for (TextSpan& token : own) {
      const std::string held = Held(text_, token);
      const size_t spaces = held.find_first_not_of(" \n");
      if (spaces != std::string::npos) token.begin += Offset(spaces);
    }
    uint32_t last = 1;
    for (TextSpan& token : own) {
      last = std::max(last, token.end);
      token = {std::min(token.begin, last - 1), last};
    }
    for (size_t i = 0; i < own.size(); ++i) {
      uint32_t first = own[i].begin;
      for (size_t j = i; j < own.size(); ++j) first = std::min(first, own[j].begin);
      counted_.push_back({first, own[i].end});
    }
  }

  std::mt19937 random_;
  std::string text_;
  TextCuts cuts_;
  std::vector<TextSpan> counted_;
};

bool IsAmong(const std::vector<uint32_t>& ends, size_t at) {
  return at == 0 || std::find(ends.begin(), ends.end(), at) != ends.end();
}

TEST(WindowsProperty, WindowsFollowEachOtherAndLeaveNothingOut) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    RandomWindows given(seed);
    const TextWindows windows(given.text(), given.cuts());
    const size_t room = given.Draw(20);
    const size_t overlap = given.Draw(room + 1);
    SCOPED_TRACE(testing::Message() << seed << " \"" << given.text() << "\" room " << room << " overlap " << overlap);
    TextSpan window = windows.From(0, room);
    EXPECT_EQ(window.begin, 0u);
    for (size_t number = 0;; ++number) {
      ASSERT_LT(number, given.text().size());
      ASSERT_EQ(window.end, given.From(window.begin, room));
      ASSERT_TRUE(IsCharacterBoundary(given.text(), window.begin) && IsCharacterBoundary(given.text(), window.end));
      const size_t character = ReadUtf8(given.text(), window.begin).length;
      if (window.end > window.begin + character) {
        ASSERT_LE(given.Count(window.begin, window.end), room);
      }
      ASSERT_EQ(windows.TokensOf(window), given.Count(window.begin, window.end));
      if (window.end == given.text().size()) break;
      const TextSpan next = windows.Next(window, room, overlap);
      ASSERT_GT(next.begin, window.begin);
      ASSERT_LE(next.begin, window.end);
      ASSERT_GT(next.end, window.end);
      if (next.begin < window.end) {
        ASSERT_LE(given.Count(next.begin, window.end), overlap);
        // A sentence's beginning, or a word's of the sentence that the window ends in.
        if (!IsAmong(given.cuts().sentence_ends, next.begin)) {
          ASSERT_TRUE(IsAmong(given.cuts().word_ends, next.begin));
          for (const uint32_t end : given.cuts().sentence_ends) ASSERT_FALSE(end > next.begin && end <= window.end);
        }
      }
      // Nothing that would have served was left out.
      for (const uint32_t earlier : given.cuts().sentence_ends) {
        if (earlier <= window.begin || earlier >= next.begin) continue;
        const bool serves = given.Count(earlier, window.end) <= overlap && given.From(earlier, room) > window.end &&
                            IsAmong(given.cuts().sentence_ends, given.From(earlier, room));
        ASSERT_FALSE(serves) << earlier;
      }
      window = next;
    }
  }
}

TEST(WindowsProperty, AroundHoldsWhatItIsAskedFor) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    RandomWindows given(seed);
    const TextWindows windows(given.text(), given.cuts());
    const size_t room = given.Draw(30);
    const TextSpan inside = given.DrawSpan();
    SCOPED_TRACE(testing::Message() << seed << " \"" << given.text() << "\" room " << room << " inside " << inside.begin
                                    << " " << inside.end);
    const std::optional<TextSpan> window = windows.Around(inside, room);
    ASSERT_EQ(window.has_value(), given.Count(inside.begin, inside.end) <= room);
    if (!window) continue;
    ASSERT_LE(window->begin, inside.begin);
    ASSERT_GE(window->end, inside.end);
    ASSERT_LE(given.Count(window->begin, window->end), room);
    const auto whole = [&](const std::vector<uint32_t>& ends) {
      return IsAmong(ends, window->begin) && IsAmong(ends, window->end);
    };
    ASSERT_TRUE(*window == inside || whole(given.cuts().sentence_ends) || whole(given.cuts().word_ends));
    // Neither side has room for the next sentence.
    if (!whole(given.cuts().sentence_ends)) continue;
    const auto& ends = given.cuts().sentence_ends;
    const auto behind = std::upper_bound(ends.begin(), ends.end(), window->end);
    if (behind != ends.end()) {
      ASSERT_GT(given.Count(window->begin, *behind), room);
    }
    auto before = std::lower_bound(ends.begin(), ends.end(), window->begin);
    if (window->begin > 0) {
      const size_t begin = before == ends.begin() ? 0 : *(before - 1);
      ASSERT_GT(given.Count(begin, window->end), room);
    }
  }
}

class TokenizedWindowsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(std::filesystem::path(ELSERVE_SOURCE_DIR) / GetParam());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizedWindowsTest, WindowsHaveAboutAsManyTokensAlone) {
  std::string text;
  while (text.size() < 20000) {
    text +=
        "The quick brown fox, 7 years old, jumps over the lazy dog. L'été, \"où\" naïve?\nwrapped 日本語。\n\nNext: ";
  }
  const auto windows = TextWindows::Create(*tokenizer_, text);
  ASSERT_TRUE(windows.ok()) << windows.status();
  size_t room = 100;
  TextSpan window = windows->From(0, room);
  while (true) {
    const auto alone = tokenizer_->Encode(Held(text, window), {.add_special_tokens = false});
    EXPECT_LE(alone->ids.size(), room + 3);
    EXPECT_GE(alone->ids.size() + 3, windows->TokensOf(window));
    if (window.end == text.size()) break;
    window = windows->Next(window, room, 20);
  }
}

TEST_P(TokenizedWindowsTest, BadTextIsAnError) {
  EXPECT_EQ(TextWindows::Create(*tokenizer_, "a\xff").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(TextWindows::Create(*tokenizer_, "").ok());
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizedWindowsTest,
                         testing::Values("models/debian-synopsis", "tests/golden/tokenizer/t5",
                                         "tests/golden/tokenizer/pegasus", "tests/golden/tokenizer/mbart",
                                         "tests/golden/tokenizer/marian"));

}  // namespace
}  // namespace elserve
