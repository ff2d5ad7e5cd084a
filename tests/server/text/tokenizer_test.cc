#include "server/text/tokenizer.h"

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

using Ids = std::vector<int32_t>;

class TokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(std::filesystem::path(ELSERVE_SOURCE_DIR) / "models/debian-synopsis");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenizerTest, LooksTokensUp) {
  EXPECT_EQ(tokenizer_->TokenId("<s>"), 0);
  EXPECT_EQ(tokenizer_->TokenId("</s>"), 2);
  EXPECT_EQ(tokenizer_->TokenId("<hl>"), 8191);
  EXPECT_EQ(tokenizer_->TokenId("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer_->TokenText(8191), "<hl>");
  EXPECT_EQ(tokenizer_->vocab_size(), 8192);
  EXPECT_EQ(tokenizer_->model_max_length(), 1024);
  EXPECT_TRUE(tokenizer_->is_special(8191));
  EXPECT_FALSE(tokenizer_->is_special(5));
}

TEST_F(TokenizerTest, IdsOutsideTheVocabularyAreNothing) {
  for (const int32_t id : {-1, -2147483647 - 1, 8192, 2147483647}) {
    EXPECT_EQ(tokenizer_->TokenText(id), std::nullopt);
    EXPECT_FALSE(tokenizer_->is_special(id));
    EXPECT_EQ(tokenizer_->Decode(Ids{id, 5, id}), "!");
  }
}

TEST_F(TokenizerTest, RefusesInvalidUtf8WithItsOffset) {
  const auto ids = tokenizer_->Encode("some text \xC3(");
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("byte offset 10 (0xC3)"));
  EXPECT_FALSE(tokenizer_->Encode("\xED\xA0\x80").ok());
  EXPECT_FALSE(tokenizer_->Encode("abc\xE6\x97").ok());
}

// What has no known answer here still has to come back whole.
TEST_F(TokenizerTest, HugeWordsComeBack) {
  std::string random_letters;
  uint32_t state = 1;
  for (int i = 0; i < 300000; ++i) {
    state = state * 1664525 + 1013904223;
    random_letters.push_back(static_cast<char>('a' + (state >> 16) % 26));
  }
  for (const std::string& text : {random_letters, std::string(1 << 20, 'a'), std::string(1 << 20, ' '),
                                  std::string(1 << 20, '\n'), std::string(1 << 20, '='), std::string(1 << 20, '\'')}) {
    const auto ids = tokenizer_->Encode(text);
    ASSERT_TRUE(ids.ok());
    EXPECT_TRUE(tokenizer_->Decode(ids->ids) == text) << text.substr(0, 10);
  }
}

TEST_F(TokenizerTest, RepeatedWordsEncodeAsAlone) {
  // More distinct words than the cache of a call holds, then all of them again.
  std::string once;
  for (int i = 0; i < 40000; ++i) once += " w" + std::to_string(i) + "q";
  const Ids alone = tokenizer_->Encode(once, {.add_special_tokens = false})->ids;
  Ids twice = alone;
  twice.insert(twice.end(), alone.begin(), alone.end());
  EXPECT_EQ(tokenizer_->Encode(once + once, {.add_special_tokens = false})->ids, twice);
}

TEST_F(TokenizerTest, ManyThreadsGetTheSameIds) {
  const std::string text = "This package contains the <hl> header files <hl> and 日本語 👍 libraries.";
  const Ids expected = tokenizer_->Encode(text)->ids;
  std::vector<int> differ(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (tokenizer_->Encode(text)->ids != expected) ++differ[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(differ, std::vector<int>(4, 0));
}

TEST_F(TokenizerTest, AStreamHoldsBackHalfCharacters) {
  const Ids thumb = tokenizer_->Encode("👍", {.add_special_tokens = false})->ids;
  ASSERT_GT(thumb.size(), 1u);
  Detokenizer detokenizer = tokenizer_->NewDetokenizer();
  for (size_t i = 0; i + 1 < thumb.size(); ++i) EXPECT_EQ(detokenizer.Push(thumb[i]), "");
  EXPECT_EQ(detokenizer.Push(thumb.back()), "👍");
  EXPECT_EQ(detokenizer.Finish(), "");
  // One that never becomes whole is a U+FFFD, at once if the next byte does not continue it, or else at the end.
  EXPECT_EQ(detokenizer.Push(thumb[0]), "");
  EXPECT_EQ(detokenizer.Push(*tokenizer_->TokenId("!")), "\uFFFD!");
  EXPECT_EQ(detokenizer.Push(thumb[0]), "");
  EXPECT_EQ(detokenizer.Push(2), "");  // </s> is skipped
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.Finish(), "");
}

TEST_F(TokenizerTest, RandomIdsStreamAsTheyDecode) {
  uint32_t state = 7;
  const auto next = [&](uint32_t below) { return (state = state * 1664525 + 1013904223, (state >> 8) % below); };
  for (int round = 0; round < 300; ++round) {
    Ids ids(1 + next(30));
    // Mostly bytes: ids 5 to 260 are the alphabet.
    for (int32_t& id : ids) id = static_cast<int32_t>(next(4) == 0 ? next(8200) : next(261));
    Detokenizer detokenizer = tokenizer_->NewDetokenizer(round % 2 == 0);
    std::string text;
    for (const int32_t id : ids) {
      const std::string delta = detokenizer.Push(id);
      ASSERT_FALSE(FirstInvalidUtf8(delta));
      text += delta;
      // Nothing that was given out is taken back: it begins the text of every continuation.
      ASSERT_EQ(tokenizer_->Decode(ids, round % 2 == 0).rfind(text, 0), 0u);
    }
    EXPECT_EQ(text + detokenizer.Finish(), tokenizer_->Decode(ids, round % 2 == 0));
  }
}

}  // namespace
}  // namespace elserve
