// Long texts, which are taken in parts: what that must not show in, and what it saves. That is counted in memory; time
// follows, since what nobody looks at takes neither.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/text/tokenizer.h"
#include "tests/server/text/tokenizer_folder.h"

// Bytes that were asked for by `new`, all together.
static std::atomic<size_t> asked_bytes = 0;
// Not inlined, so that no compiler takes them for a pair that does not fit.
[[gnu::noinline]] void* operator new(size_t size) {
  asked_bytes += size;
  if (void* const block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
// The sanitizer's own would not fit to these deletes.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  asked_bytes += size;
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, size_t) noexcept { std::free(block); }

namespace elserve {
namespace {

constexpr size_t kTextBytes = 15'000'000;
constexpr size_t kFewBytes = kTextBytes / 2;  // not even one copy of the text

std::string Repeated(const std::string& part) {
  std::string text;
  while (text.size() < kTextBytes) text += part;
  return text;
}

class LongTextCostTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(std::filesystem::path(ELSERVE_SOURCE_DIR) / GetParam());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  // Bytes that encoding a text that is too long asks for.
  size_t Asked(const std::string& text, bool truncate) const {
    const size_t before = asked_bytes;
    const auto encoding = tokenizer_->Encode(text, {.max_tokens = 1024, .truncate = truncate});
    const size_t asked = asked_bytes - before;
    EXPECT_TRUE(encoding->too_long);
    return asked;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

const char kProse[] = "The quick brown fox, 7 years old, jumps over the lazy dog. ";

TEST_P(LongTextCostTest, WhatIsRefusedCostsLittle) {
  EXPECT_LT(Asked(Repeated(kProse), false), kFewBytes) << "prose";
  EXPECT_LT(Asked(">>fra<<" + Repeated(kProse), false), kFewBytes) << "prose with a language's code";
  EXPECT_LT(Asked(Repeated("aeiou"), false), kFewBytes) << "one word";
  EXPECT_LT(Asked(Repeated("--"), false), kFewBytes) << "one run of punctuation";
  EXPECT_LT(Asked(Repeated("龘龘龘龘龘龘 a"), false), kFewBytes) << "few known characters";
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, LongTextCostTest,
                         testing::Values("models/debian-synopsis", "tests/golden/tokenizer/t5",
                                         "tests/golden/tokenizer/t5-json", "tests/golden/tokenizer/pegasus",
                                         "tests/golden/tokenizer/mbart", "tests/golden/tokenizer/mbart50",
                                         "tests/golden/tokenizer/marian", "tests/golden/tokenizer/marian-bpe",
                                         "tests/golden/tokenizer/bpe-json"));

// What is truncated may have to be normalized as a whole, with copies while a string grows; but a unigram model keeps
// the ways that are open, and not those to each place of a word, which would be some 20 bytes for each of the text's.
class UnigramCostTest : public LongTextCostTest {};

TEST_P(UnigramCostTest, WaysAreNotKept) {
  EXPECT_LT(Asked(Repeated(kProse), true), 8 * kTextBytes) << "prose";
  EXPECT_LT(Asked(Repeated("aeiou"), true), 8 * kTextBytes) << "one word";
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, UnigramCostTest,
                         testing::Values("tests/golden/tokenizer/t5", "tests/golden/tokenizer/pegasus",
                                         "tests/golden/tokenizer/mbart", "tests/golden/tokenizer/marian"));

// Where parts are cut, and what is known of a text before it is encoded, leaves no trace in the tokens: of byte-level
// BPE with the tokens a, b, ab, a space and a line feed.
class LongTextPartsTest : public TokenizerFolderTest {
 protected:
  using Ids = std::vector<int32_t>;

  std::unique_ptr<Tokenizer> Load(const Json& added) {
    Json json = GoodTokenizer();
    json["model"]["vocab"]["\u0120"] = 5;
    json["model"]["vocab"]["\u010A"] = 6;
    json["added_tokens"] = Json::array({added});
    Write("tokenizer.json", json);
    Write("tokenizer_config.json", GoodConfig());
    return TokenizerFolderTest::Load();
  }

  // The text is `part` so many times, and so are its tokens.
  static void ExpectTokens(const Tokenizer& tokenizer, const std::string& part, const Ids& part_ids, int times) {
    std::string text;
    Ids ids;
    for (int i = 0; i < times; ++i) {
      text += part;
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
    }
    const auto encoding = tokenizer.Encode(text, {.add_special_tokens = false, .max_tokens = ids.size()});
    EXPECT_FALSE(encoding->too_long);
    EXPECT_TRUE(encoding->ids == ids);
    EXPECT_TRUE(tokenizer.Encode(text, {.add_special_tokens = false, .max_tokens = ids.size() - 1})->too_long);
  }
};

TEST_F(LongTextPartsTest, LongWordsThatJustFitAreTaken) {
  Ids ids(60001, 2);
  ids.back() = 5;
  ExpectTokens(*Load({{"id", 0}, {"content", "<s>"}}), std::string(60000, 'a') + " ", ids, 40);
}

// Though a text may be cut before a space.
TEST_F(LongTextPartsTest, ANormalizedTokenTakesTheSpaceBehindIt) {
  ExpectTokens(*Load({{"id", 3}, {"content", "b"}, {"rstrip", true}}), "ab ", {2, 3}, 70000);
}

TEST_F(LongTextPartsTest, SpacesThatATokenTakesAreNoTokens) {
  ExpectTokens(*Load({{"id", 3}, {"content", "b"}, {"rstrip", true}}), "ab" + std::string(1000, ' '), {2, 3}, 200);
}

// None of it is left before the space that a part begins with.
TEST_F(LongTextPartsTest, ANormalizedTokenTakesAllWhiteSpaceBeforeIt) {
  ExpectTokens(*Load({{"id", 3}, {"content", "b"}, {"lstrip", true}}), "a\n b", {2, 3}, 70000);
}

// A part would end in them, but for the token that takes them.
TEST_F(LongTextPartsTest, SpacesAreNotCutOffTheirToken) {
  Ids ids(65400, 2);
  ids.push_back(3);
  const Json token = {{"id", 3}, {"content", "b"}, {"special", true}, {"normalized", false}, {"lstrip", true}};
  ExpectTokens(*Load(token), std::string(65400, 'a') + std::string(300, ' ') + "b", ids, 3);
}

TEST_F(LongTextPartsTest, AnAddedTokenIsLongerThanThoseOfTheModel) {
  ExpectTokens(*Load({{"id", 7}, {"content", std::string(100, 'a')}}), std::string(100, 'a'), {7}, 2000);
}

}  // namespace
}  // namespace elserve
