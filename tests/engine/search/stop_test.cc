#include "engine/search/stop.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/search/search.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;

// 0: "", 1: "a", 2: "b", 3: "ab", 4: "xaby", 5: "\n", 6: half of a character, 7: its other half.
std::shared_ptr<const TokenBytes> Texts() {
  auto texts = std::make_shared<TokenBytes>();
  for (const char* text : {"", "a", "b", "ab", "xaby", "\n", "\xc3", "\xa9"}) texts->Add(text);
  return texts;
}

bool Completes(std::vector<std::string> strings, const std::vector<int32_t>& tokens) {
  size_t most = 0;
  for (const std::string& string : strings) most = std::max(most, string.size());
  const StopStrings stop{.texts = Texts(), .strings = std::move(strings), .most_tokens = most};
  std::string window;
  return CompletesStopString(stop, tokens, &window);
}

TEST(StopTest, AStringEndsWithinTheLastToken) {
  EXPECT_TRUE(Completes({"a"}, {1}));
  EXPECT_TRUE(Completes({"ab"}, {5, 1, 2}));
  EXPECT_TRUE(Completes({"ab"}, {4}));
  EXPECT_TRUE(Completes({"bxab"}, {1, 2, 4}));
  EXPECT_TRUE(Completes({"ababab"}, {3, 3, 3}));
  EXPECT_TRUE(Completes({"aba"}, {3, 1}));
  EXPECT_TRUE(Completes({"ab\n"}, {3, 0, 5})) << "a token without text lies between";
  EXPECT_FALSE(Completes({"aa"}, {1, 0, 1})) << "more tokens than the string has characters";
  EXPECT_FALSE(Completes({"ab"}, {1, 2, 5})) << "it was complete before";
  EXPECT_FALSE(Completes({"ab"}, {3, 0})) << "nothing came";
  EXPECT_FALSE(Completes({"ab"}, {2}));
  EXPECT_FALSE(Completes({"ab"}, {1}));
  EXPECT_FALSE(Completes({"ab"}, {99}));
}

TEST(StopTest, AnyOfTheStringsDoes) {
  EXPECT_TRUE(Completes({"zzzzzzzz", "b"}, {1, 2}));
  EXPECT_TRUE(Completes({"b", "zzzzzzzz"}, {1, 2}));
  EXPECT_FALSE(Completes({"bb", "aa"}, {1, 2}));
}

TEST(StopTest, CharactersOfSeveralTokensAreMatchedByTheirBytes) {
  EXPECT_TRUE(Completes({"\xc3\xa9"}, {6, 7}));
  EXPECT_FALSE(Completes({"\xc3\xa9"}, {6, 6}));
}

TEST(StopTest, HypothesesEndAtTheTokenThatCompletesOne) {
  for (const bool sample : {false, true}) {
    DecodingSpec spec;
    spec.prefix = {1};
    spec.max_length = 10;
    spec.eos_token_id = {2};
    spec.do_sample = sample;
    spec.sampling.top_k = 1;
    spec.stop_strings =
        std::make_shared<StopStrings>(StopStrings{.texts = Texts(), .strings = {"aa\n"}, .most_tokens = 3});
    Search search;
    search.Start(spec);
    RowWorkspace workspace;
    for (const int32_t token : {1, 5}) {
      EXPECT_FALSE(search.state().done());
      const std::vector<Candidate> candidates = {{token, 0, -1}};
      search.state().Advance(std::vector<DecodedRow>{{candidates}}, workspace);
    }
    ASSERT_TRUE(search.state().done());
    std::vector<Hypothesis> answers;
    search.state().Finalize(&answers);
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_THAT(answers[0].tokens, ElementsAre(1, 5));  // its beginning is the prefix's
    EXPECT_EQ(answers[0].reason, FinishReason::kStopString);
  }
}

}  // namespace
}  // namespace elserve
