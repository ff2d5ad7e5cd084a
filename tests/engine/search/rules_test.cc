#include "engine/search/rules.h"

#include <algorithm>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The banned tokens of the row, which are all its edits.
std::vector<int32_t> Banned(const DecodingSpec& spec, const std::vector<int32_t>& tokens) {
  EditBuffer edits(MaxEditsPerRow(spec, 0));
  std::vector<int32_t> banned;
  for (const LogitEdit& edit : RulesFor(spec, {}, tokens, edits).edits) {
    EXPECT_TRUE(edit.ban);
    banned.push_back(edit.token);
  }
  return banned;
}

TEST(RulesTest, GreedyTakesTheBestLogitAndBeamsTheBestLogProbs) {
  DecodingSpec spec;
  spec.eos_token_id = {2, 5};
  EditBuffer edits(0);
  const RowRules greedy = RulesFor(spec, {}, std::vector<int32_t>{0}, edits);
  EXPECT_FALSE(greedy.log_probs);
  EXPECT_EQ(greedy.count, 1);
  EXPECT_THAT(greedy.edits, IsEmpty());
  EXPECT_THAT(greedy.force, IsEmpty());

  spec.num_beams = 4;
  const RowRules beams = RulesFor(spec, {}, std::vector<int32_t>{0}, edits);
  EXPECT_TRUE(beams.log_probs);
  EXPECT_EQ(beams.count, 6);
}

TEST(RulesTest, CandidatesStayWithinTheirLimit) {
  DecodingSpec spec;
  spec.num_beams = kMaxBeams;
  spec.eos_token_id.assign(kMaxEosIds, 1);
  EXPECT_EQ(CandidatesPerRow(spec), kMaxBeams + kMaxEosIds);
  EXPECT_LE(CandidatesPerRow(spec), kMaxCandidates);
  spec.num_beams = 1;
  spec.do_sample = true;
  spec.sampling.top_k = kMaxFewTopK;
  EXPECT_FALSE(NeedsWholeRows(spec));
  EXPECT_EQ(CandidatesPerRow(spec), kMaxFewTopK + kMaxTies);
  spec.sampling.top_k = kMaxFewTopK + 1;
  EXPECT_TRUE(NeedsWholeRows(spec));
}

TEST(RulesTest, MinLengthCountsTheStartToken) {
  DecodingSpec spec;
  spec.eos_token_id = {7, 2};
  spec.min_length = 3;
  EXPECT_THAT(Banned(spec, {0}), ElementsAre(2, 7));
  EXPECT_THAT(Banned(spec, {0, 4}), ElementsAre(2, 7));
  EXPECT_THAT(Banned(spec, {0, 4, 4}), IsEmpty());
}

TEST(RulesTest, MinNewTokensLeavesTheStartTokenOut) {
  DecodingSpec spec;
  spec.eos_token_id = {2};
  spec.min_new_tokens = 2;
  EXPECT_THAT(Banned(spec, {0}), ElementsAre(2));
  EXPECT_THAT(Banned(spec, {0, 4}), ElementsAre(2));
  EXPECT_THAT(Banned(spec, {0, 4, 4}), IsEmpty());
}

TEST(RulesTest, OneEditATokenWhateverBansIt) {
  DecodingSpec spec;
  spec.eos_token_id = {2, 2, 3};
  spec.min_length = 9;
  spec.min_new_tokens = 9;
  spec.no_repeat_ngram_size = 1;
  EXPECT_THAT(Banned(spec, {2, 4, 4, 3, 4}), ElementsAre(2, 3, 4));
}

TEST(RulesTest, UnigramsBanEveryEarlierTokenTheStartTokenToo) {
  DecodingSpec spec;
  spec.no_repeat_ngram_size = 1;
  EXPECT_THAT(Banned(spec, {2}), ElementsAre(2));
  EXPECT_THAT(Banned(spec, {2, 9, 5}), ElementsAre(2, 5, 9));
}

TEST(RulesTest, BigramsBanWhatFollowedTheLastToken) {
  DecodingSpec spec;
  spec.no_repeat_ngram_size = 2;
  EXPECT_THAT(Banned(spec, {4}), IsEmpty());
  EXPECT_THAT(Banned(spec, {4, 4}), ElementsAre(4));  // the bigram overlaps its own repetition
  EXPECT_THAT(Banned(spec, {4, 8, 5, 4}), ElementsAre(8));
  EXPECT_THAT(Banned(spec, {4, 8, 4, 9, 4, 6, 4}), ElementsAre(6, 8, 9));
  EXPECT_THAT(Banned(spec, {4, 8, 5}), IsEmpty());
}

TEST(RulesTest, LongerNgramsCompareTheWholePrefix) {
  DecodingSpec spec;
  spec.no_repeat_ngram_size = 3;
  EXPECT_THAT(Banned(spec, {1, 2}), IsEmpty());
  EXPECT_THAT(Banned(spec, {1, 2, 3, 1, 2}), ElementsAre(3));
  EXPECT_THAT(Banned(spec, {1, 2, 3, 4, 2}), IsEmpty());
  EXPECT_THAT(Banned(spec, {7, 7, 7}), ElementsAre(7));
  spec.no_repeat_ngram_size = std::numeric_limits<int>::max();
  EXPECT_THAT(Banned(spec, {7, 7, 7}), IsEmpty());
}

TEST(RulesTest, BadWordsOfOneTokenNeverCome) {
  DecodingSpec spec;
  spec.eos_token_id = {2, 3};
  spec.bad_words_ids = {{7}, {4}, {2}, {7}};  // an end of sequence alone is no bad word
  EXPECT_THAT(Banned(spec, {0}), ElementsAre(4, 7));
  EXPECT_THAT(Banned(spec, {0, 7, 5}), ElementsAre(4, 7));
}

TEST(RulesTest, BadWordsOfSeveralTokensAreBannedBehindTheirBeginning) {
  DecodingSpec spec;
  spec.eos_token_id = {2};
  spec.bad_words_ids = {{5, 6, 7}, {6, 8}, {0, 9}, {5, 2}, {1, 2, 3, 4, 5, 6}};
  EXPECT_THAT(Banned(spec, {0}), ElementsAre(9));  // the start token takes part
  EXPECT_THAT(Banned(spec, {0, 5}), ElementsAre(2));
  EXPECT_THAT(Banned(spec, {0, 5, 6}), ElementsAre(7, 8));
  EXPECT_THAT(Banned(spec, {5, 6, 5}), ElementsAre(2));
  EXPECT_THAT(Banned(spec, {6, 5, 4}), IsEmpty());
}

TEST(RulesTest, BadWordsCountAmongTheEdits) {
  DecodingSpec spec;
  spec.max_length = 4;
  spec.num_beams = 2;
  spec.bad_words_ids = {{7}, {4, 5}};
  EXPECT_EQ(MaxEdits(spec, 0), 4);
  spec.no_repeat_ngram_size = 1;
  EXPECT_EQ(MaxEdits(spec, 0), 10);
}

TEST(RulesTest, RenormalizingFollowsForcingToo) {
  DecodingSpec spec;
  spec.max_length = 3;
  spec.forced_eos_token_id = {2, 3};
  EditBuffer edits(0);
  EXPECT_FALSE(RulesFor(spec, {}, std::vector<int32_t>{0}, edits).renormalize);
  spec.renormalize_logits = true;
  EXPECT_TRUE(RulesFor(spec, {}, std::vector<int32_t>{0}, edits).renormalize);
  EXPECT_TRUE(RulesFor(spec, {}, std::vector<int32_t>{0, 1}, edits).renormalize);
}

TEST(RulesTest, ForcedBosComesFirstAndReplacesBans) {
  DecodingSpec spec;
  spec.num_beams = 2;
  spec.forced_bos_token_id = 0;
  spec.eos_token_id = {2};
  spec.min_length = 5;
  EditBuffer edits(MaxEdits(spec, 0));
  const RowRules first = RulesFor(spec, {}, std::vector<int32_t>{2}, edits);
  EXPECT_THAT(first.force, ElementsAre(0));
  EXPECT_THAT(first.edits, IsEmpty());
  const RowRules second = RulesFor(spec, {}, std::vector<int32_t>{2, 0}, edits);
  EXPECT_THAT(second.force, IsEmpty());
  EXPECT_EQ(second.edits.size(), 1u);
}

TEST(RulesTest, ForcedEosTakesTheLastPlace) {
  DecodingSpec spec;
  spec.max_length = 4;
  spec.forced_eos_token_id = {2, 3};
  EditBuffer edits(0);
  EXPECT_THAT(RulesFor(spec, {}, std::vector<int32_t>{0, 1}, edits).force, IsEmpty());
  EXPECT_THAT(RulesFor(spec, {}, std::vector<int32_t>{0, 1, 1}, edits).force, ElementsAre(2, 3));
  // Where both would force, the later processor wins.
  spec.max_length = 2;
  spec.forced_bos_token_id = 9;
  EXPECT_THAT(RulesFor(spec, {}, std::vector<int32_t>{0}, edits).force, ElementsAre(2, 3));
}

TEST(RulesTest, RowsShareTheBuffer) {
  DecodingSpec spec;
  spec.no_repeat_ngram_size = 1;
  spec.max_length = 4;
  spec.num_beams = 2;
  ASSERT_EQ(MaxEdits(spec, 0), 6);
  EditBuffer edits(MaxEdits(spec, 0));
  const RowRules a = RulesFor(spec, {}, std::vector<int32_t>{6, 5, 4}, edits);
  const RowRules b = RulesFor(spec, {}, std::vector<int32_t>{6, 6, 9}, edits);
  ASSERT_EQ(a.edits.size(), 3u);
  EXPECT_EQ(a.edits[0].token, 4);
  ASSERT_EQ(b.edits.size(), 2u);
  EXPECT_EQ(b.edits[0].token, 6);
}

TEST(EditBufferTest, SpansOutliveTheBuffersGrowth) {
  EditBuffer edits(2);
  std::vector<std::span<const LogitEdit>> rows;
  for (int32_t row = 0; row < 40; ++row) {
    edits.BeginRow();
    for (int32_t i = 0; i < row % 7; ++i) edits.Ban(10 * row + i);
    rows.push_back(edits.FinishRow());
  }
  for (int32_t row = 0; row < 40; ++row) {
    ASSERT_EQ(rows[row].size(), static_cast<size_t>(row % 7));
    for (int32_t i = 0; i < row % 7; ++i) EXPECT_EQ(rows[row][i].token, 10 * row + i);
  }
}

TEST(EditBufferTest, ClearMakesRoomAgain) {
  EditBuffer edits(3);
  const LogitEdit* first = nullptr;
  for (int step = 0; step < 3; ++step) {
    edits.Clear();
    edits.BeginRow();
    for (int32_t token : {5, 4, 3}) edits.Ban(token);
    const std::span<const LogitEdit> row = edits.FinishRow();
    ASSERT_EQ(row.size(), 3u);
    if (first == nullptr) first = row.data();
    EXPECT_EQ(row.data(), first);
  }
}

// What the edit makes of x.
float Applied(const LogitEdit& edit, float x) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  if (edit.ban || x == kBanned) return kBanned;
  x += edit.add;
  return x < 0 ? x * edit.negative : x * edit.positive;
}

TEST(EditBufferTest, EditsThatMeetAreCarriedOutInTheirOrder) {
  const std::vector<LogitEdit> some = {{.token = 1, .add = 0.5f},
                                       {.token = 1, .add = -3.0f, .negative = 2.0f, .positive = 0.5f},
                                       {.token = 1, .negative = 1.5f, .positive = 0.25f},
                                       {.token = 1, .negative = -0.5f, .positive = 4.0f},
                                       {.token = 1, .negative = 1.0f, .positive = -2.0f},
                                       {.token = 1, .ban = true}};
  for (const LogitEdit& first : some) {
    for (const LogitEdit& second : some) {
      const bool multiplies = first.negative != 1.0f || first.positive != 1.0f;
      if (second.add != 0 && multiplies) continue;
      EditBuffer edits(8);
      edits.BeginRow();
      edits.Add({.token = 7, .add = 1.0f});
      edits.Add(first);
      edits.Add({.token = 0, .add = 2.0f});
      edits.Add(second);
      const std::span<const LogitEdit> row = edits.FinishRow();
      ASSERT_EQ(row.size(), 3u);
      EXPECT_EQ(row[0].token, 0);
      EXPECT_EQ(row[0].add, 2.0f);
      EXPECT_EQ(row[2].token, 7);
      ASSERT_EQ(row[1].token, 1);
      for (float x : {-5.0f, -0.25f, 0.25f, 1.0f, 6.0f}) {
        EXPECT_EQ(Applied(row[1], x), Applied(second, Applied(first, x))) << x;
      }
    }
  }
}

// As text: "5 x-2 x0.5" is an edit of token 5 that multiplies negative values by 2 and others by 0.5.
std::vector<std::string> Edits(const DecodingSpec& spec, const std::vector<int32_t>& source,
                               const std::vector<int32_t>& tokens) {
  EditBuffer edits(MaxEditsPerRow(spec, static_cast<int>(source.size())));
  std::vector<std::string> all;
  for (const LogitEdit& e : RulesFor(spec, source, tokens, edits).edits) {
    all.push_back(e.ban ? absl::StrCat(e.token, " banned")
                        : absl::StrCat(e.token, " -", e.negative, " +", e.positive, " add ", e.add));
  }
  return all;
}

TEST(RulesTest, PenaltiesCountATokenOnce) {
  DecodingSpec spec;
  spec.repetition_penalty = 2;
  EXPECT_THAT(Edits(spec, {}, {0, 7, 5, 7, 7}), ElementsAre("0 -2 +0.5 add 0", "5 -2 +0.5 add 0", "7 -2 +0.5 add 0"));
  // The source's is the other way round, and both meet.
  spec.encoder_repetition_penalty = 4;
  EXPECT_THAT(Edits(spec, {7, 9, 9}, {0, 7}), ElementsAre("0 -2 +0.5 add 0", "7 -0.5 +2 add 0", "9 -0.25 +4 add 0"));
}

TEST(RulesTest, NgramsOfTheSourceAreBanned) {
  DecodingSpec spec;
  spec.encoder_no_repeat_ngram_size = 3;
  EXPECT_THAT(Edits(spec, {4, 5, 6, 4, 5, 7}, {0, 4, 5}), ElementsAre("6 banned", "7 banned"));
  EXPECT_THAT(Edits(spec, {4, 5, 6, 4, 5, 7}, {5}), IsEmpty());
  EXPECT_THAT(Edits(spec, {4, 5}, {0, 4, 5}), IsEmpty());
  spec.encoder_no_repeat_ngram_size = 1;
  EXPECT_THAT(Edits(spec, {4, 5, 4}, {0}), ElementsAre("4 banned", "5 banned"));
}

// Against a plain search for each place, with texts that repeat themselves.
TEST(RulesTest, NgramsAreFoundWhereverTheyOverlap) {
  std::mt19937 rng(3);
  for (int round = 0; round < 2000; ++round) {
    DecodingSpec spec;
    spec.max_length = 100;
    spec.no_repeat_ngram_size = 1 + static_cast<int>(rng() % 6);
    std::vector<int32_t> tokens(1 + rng() % 24);
    for (int32_t& token : tokens) token = static_cast<int32_t>(rng() % 2);
    const size_t n = static_cast<size_t>(spec.no_repeat_ngram_size) - 1;
    std::set<int32_t> expected;
    for (size_t i = 0; tokens.size() >= n && i + n < tokens.size(); ++i) {
      if (std::equal(tokens.end() - static_cast<std::ptrdiff_t>(n), tokens.end(),
                     tokens.begin() + static_cast<std::ptrdiff_t>(i))) {
        expected.insert(tokens[i + n]);
      }
    }
    const std::vector<int32_t> banned = Banned(spec, tokens);
    EXPECT_EQ(std::set<int32_t>(banned.begin(), banned.end()), expected) << round;
  }
}

TEST(RulesTest, SuppressedTokensDoNotComeEvenWhereTheyAreForced) {
  DecodingSpec spec;
  spec.forced_bos_token_id = 6;
  spec.suppress_tokens = {6, 3};
  spec.begin_suppress_tokens = {8};
  EXPECT_THAT(Edits(spec, {}, {0}), ElementsAre("3 banned", "6 banned"));
  // Behind the forced token, or first where there is none, or where it does not act.
  EXPECT_THAT(Edits(spec, {}, {0, 6}), ElementsAre("3 banned", "6 banned", "8 banned"));
  EXPECT_THAT(Edits(spec, {}, {0, 6, 1}), ElementsAre("3 banned", "6 banned"));
  spec.forced_bos_token_id = -1;
  EXPECT_THAT(Edits(spec, {}, {0}), ElementsAre("3 banned", "6 banned", "8 banned"));
  EXPECT_THAT(Edits(spec, {}, {0, 6}), ElementsAre("3 banned", "6 banned"));
  spec.forced_bos_token_id = 6;
  spec.prefix = {0, 4};
  EXPECT_THAT(Edits(spec, {}, {0, 4}), ElementsAre("3 banned", "6 banned", "8 banned"));
}

TEST(RulesTest, BiasesAddUpAndComeBeforePenalties) {
  DecodingSpec spec;
  spec.biased_sequences = {{7}, {5, 7}, {0, 5, 9}, {4, 5, 8}};
  spec.sequence_bias = {1, 2, -3, 4};
  EXPECT_THAT(Edits(spec, {}, {0}), ElementsAre("7 -1 +1 add 1"));
  EXPECT_THAT(Edits(spec, {}, {0, 5}), ElementsAre("7 -1 +1 add 3", "9 -1 +1 add -3"));
  EXPECT_THAT(Edits(spec, {}, {4, 5}), ElementsAre("7 -1 +1 add 3", "8 -1 +1 add 4"));
  spec.repetition_penalty = 2;
  EXPECT_THAT(Edits(spec, {}, {7, 0}), ElementsAre("0 -2 +0.5 add 0", "7 -2 +0.5 add 1"));
  spec.bad_words_ids = {{7}};
  EXPECT_THAT(Edits(spec, {}, {0}), ElementsAre("0 -2 +0.5 add 0", "7 banned"));
  spec.forced_bos_token_id = 3;
  EXPECT_THAT(Edits(spec, {}, {0}), IsEmpty());
}

TEST(RulesTest, GroupsOfBeamsLookAtNoSequenceThatIsLongerThanTheTokens) {
  DecodingSpec spec;
  spec.bad_words_ids = {{0, 5}, {7}};
  EXPECT_THAT(Edits(spec, {}, {0}), ElementsAre("5 banned", "7 banned"));
  spec.num_beams = 4;
  spec.num_beam_groups = 2;
  EXPECT_THAT(Edits(spec, {}, {0}), ElementsAre("7 banned"));
  EXPECT_THAT(Edits(spec, {}, {9, 0}), ElementsAre("5 banned", "7 banned"));
}

TEST(RulesTest, EosGrowsBehindItsStartUnlessItIsBanned) {
  DecodingSpec spec;
  spec.prefix = {0, 1};
  spec.eos_token_id = {2, 3};
  spec.exponential_decay_length_penalty = {.start_index = 1, .factor = 1.5};
  EXPECT_THAT(Edits(spec, {}, {0, 1, 5}), IsEmpty());
  // x + |x| * (1.5 - 1), then (1.5 * 1.5 - 1).
  EXPECT_THAT(Edits(spec, {}, {0, 1, 5, 6}), ElementsAre("2 -0.5 +1.5 add 0", "3 -0.5 +1.5 add 0"));
  EXPECT_THAT(Edits(spec, {}, {0, 1, 5, 6, 7}), ElementsAre("2 --0.25 +2.25 add 0", "3 --0.25 +2.25 add 0"));
  spec.suppress_tokens = {3};
  EXPECT_THAT(Edits(spec, {}, {0, 1, 5, 6}), ElementsAre("2 -0.5 +1.5 add 0", "3 banned"));
  spec.min_length = 5;
  EXPECT_THAT(Edits(spec, {}, {0, 1, 5, 6}), ElementsAre("2 banned", "3 banned"));
}

TEST(RulesTest, MaxEditsIsTheWorstCase) {
  DecodingSpec spec;
  EXPECT_EQ(MaxEdits(spec, 0), 0);
  spec.num_beams = 3;
  spec.eos_token_id = {1, 2};
  EXPECT_EQ(MaxEdits(spec, 0), 0) << "EOS is never banned";
  spec.min_length = 1;
  EXPECT_EQ(MaxEdits(spec, 0), 0) << "the start token has this length";
  spec.min_length = 2;
  EXPECT_EQ(MaxEdits(spec, 0), 6);
  spec.min_length = 0;
  spec.min_new_tokens = 1;
  EXPECT_EQ(MaxEdits(spec, 0), 6);
  spec.max_length = 10;
  spec.no_repeat_ngram_size = 3;
  EXPECT_EQ(MaxEditsPerRow(spec, 0), 2 + 7);
  spec.no_repeat_ngram_size = 100;
  EXPECT_EQ(MaxEditsPerRow(spec, 0), 2);
  spec.encoder_no_repeat_ngram_size = 4;
  EXPECT_EQ(MaxEditsPerRow(spec, 20), 2 + 17);
  spec.repetition_penalty = 1.5f;
  EXPECT_EQ(MaxEditsPerRow(spec, 20), 2 + 17 + 9);
  spec.encoder_repetition_penalty = 1.5f;
  EXPECT_EQ(MaxEditsPerRow(spec, 20), 2 + 17 + 9 + 20);
  spec.suppress_tokens = {1, 2, 3};
  spec.begin_suppress_tokens = {1};
  EXPECT_EQ(MaxEditsPerRow(spec, 20), 2 + 17 + 9 + 20 + 4);
  spec.exponential_decay_length_penalty.factor = 1.1;
  spec.biased_sequences = {{1}, {2, 3}, {4}};
  EXPECT_EQ(MaxEditsPerRow(spec, 20), 2 + 17 + 9 + 20 + 4 + 2 + 3);
}

}  // namespace
}  // namespace elserve
