// Ids and spans must be what the tokenizers and sentencepiece packages answered: tests/golden/text/unigram*.json.
#include "server/text/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/text/golden_text.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;
using Use = UnigramSpec::Piece::Use;

std::unique_ptr<UnigramModel> Make(UnigramSpec spec) {
  auto model = UnigramModel::Create(std::move(spec));
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

std::string Error(UnigramSpec spec) {
  const auto model = UnigramModel::Create(std::move(spec));
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(model.status().message());
}

UnigramSpec FromFile(const SentencePieceModel& file, UnigramArithmetic arithmetic) {
  UnigramSpec spec;
  for (const SentencePieceModel::Piece& piece : file.pieces) {
    Use use = Use::kNormal;
    if (arithmetic == UnigramArithmetic::kSentencePiece) {
      use = piece.type == SentencePieceModel::Type::kNormal        ? Use::kNormal
            : piece.type == SentencePieceModel::Type::kUserDefined ? Use::kUserDefined
                                                                   : Use::kNotText;
    }
    spec.pieces.push_back({piece.text, piece.score, use});
  }
  spec.unk_id = file.unk_id;
  spec.byte_fallback = file.byte_fallback;
  spec.arithmetic = arithmetic;
  return spec;
}

class UnigramGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(UnigramGoldenTest, CutsAsTokenizersAndSentencePiece) {
  const nlohmann::json golden = ReadGoldenText(GetParam());
  const SentencePieceModel file = ReadGoldenModel(golden);
  const auto tokenizers = Make(FromFile(file, UnigramArithmetic::kTokenizers));
  const auto sentencepiece = Make(FromFile(file, UnigramArithmetic::kSentencePiece));
  ASSERT_GE(golden["cases"].size(), 300u);
  for (const auto& test : golden["cases"]) {
    const auto text = test[0].get<std::string>();
    SCOPED_TRACE(test[0].dump());
    const TokenList tokens = EncodeWithSpans(*tokenizers, text);
    EXPECT_EQ(IdsAndEnds(tokens), test[1].get<std::vector<int64_t>>());
    EXPECT_EQ(EncodeIds(*tokenizers, text), tokens.ids);
    EXPECT_EQ(EncodeIds(*sentencepiece, text), test.size() > 2 ? test[2].get<Ids>() : tokens.ids);
    EXPECT_TRUE(FitsIn(*tokenizers, text, tokens.ids.size()));
    EXPECT_EQ(FitsIn(*tokenizers, text, tokens.ids.size() - 1), tokens.ids.empty());
  }
}

// What is decided of a long piece, and kept, is what all of it would have given.
TEST_P(UnigramGoldenTest, TheFirstTokensOfALongPieceAreThePieces) {
  const nlohmann::json golden = ReadGoldenText(GetParam());
  std::string piece;
  while (piece.size() < 20000) {
    for (const auto& test : golden["cases"]) piece += test[0].get<std::string>();
  }
  for (const UnigramArithmetic arithmetic : {UnigramArithmetic::kTokenizers, UnigramArithmetic::kSentencePiece}) {
    const auto model = Make(FromFile(ReadGoldenModel(golden), arithmetic));
    const Ids all = EncodeIds(*model, piece);
    for (const size_t limit : {size_t{0}, size_t{1}, all.size() / 5, all.size() / 2, all.size() - 1}) {
      TokenList first;
      EXPECT_FALSE(model->Encode(piece, limit, *model->MakeScratch(), first));
      ASSERT_GT(first.ids.size(), limit);
      ASSERT_LE(first.ids.size(), all.size());
      EXPECT_TRUE(std::equal(first.ids.begin(), first.ids.end(), all.begin())) << limit;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, UnigramGoldenTest, testing::Values("unigram.json", "unigram-bytes.json"),
                         [](const auto& info) { return info.index == 0 ? "plain" : "bytes"; });

UnigramSpec Letters() {
  UnigramSpec spec;
  spec.pieces = {{"<unk>", 0}, {"a", -1}, {"b", -1}, {"ab", -2}, {"aa", -2}, {"<0xC3>", -9}, {"<0xA9>", -9}};
  return spec;
}

TEST(UnigramTest, TheFirstOfEqualWaysStays) {
  // "ab" begins first and is offered before "b" is; "a" + "b" is as good and does not replace it.
  EXPECT_THAT(EncodeIds(*Make(Letters()), "ab"), ElementsAre(3));
  // The end is offered "ab" before "b".
  EXPECT_THAT(EncodeIds(*Make(Letters()), "aab"), ElementsAre(1, 3));
}

TEST(UnigramTest, Float32AndFloat64DecideForThemselves) {
  // 65536 + 0.001 is 65536 in float32: there "a" + "b" is as good as "ab" and comes second.
  UnigramSpec spec;
  spec.pieces = {{"<unk>", -70000}, {"a", 65536}, {"b", 0.001}, {"ab", 65536}};
  EXPECT_THAT(EncodeIds(*Make(spec), "ab"), ElementsAre(1, 2));
  spec.arithmetic = UnigramArithmetic::kSentencePiece;
  spec.pieces[0].use = Use::kNotText;
  EXPECT_THAT(EncodeIds(*Make(spec), "ab"), ElementsAre(3));
}

TEST(UnigramTest, UnknownCharactersAreOneToken) {
  const auto model = Make(Letters());
  const TokenList tokens = EncodeWithSpans(*model, "aéüb");
  EXPECT_THAT(tokens.ids, ElementsAre(1, 0, 2));
  EXPECT_THAT(tokens.spans, ElementsAre(TextSpan{0, 1}, TextSpan{1, 5}, TextSpan{5, 6}));
  EXPECT_EQ(model->unk_id(), 0);
}

TEST(UnigramTest, BytesOfARunAreTakenAllOrNone) {
  UnigramSpec spec = Letters();
  spec.byte_fallback = true;
  const auto model = Make(spec);
  const TokenList tokens = EncodeWithSpans(*model, "aééb");
  EXPECT_THAT(tokens.ids, ElementsAre(1, 5, 6, 5, 6, 2));
  EXPECT_EQ(tokens.spans[1], (TextSpan{1, 5}));
  EXPECT_EQ(tokens.spans[4], (TextSpan{1, 5}));
  EXPECT_THAT(EncodeIds(*model, "éü"), ElementsAre(0));
}

TEST(UnigramTest, ARunOfUnknownCharactersThatIsAPieceIsIt) {
  // All scores are so high that two unknown characters are better than the piece that they are.
  UnigramSpec spec;
  spec.pieces = {{"<unk>", 30}, {"xy", 30}};
  EXPECT_THAT(EncodeIds(*Make(spec), "xy"), ElementsAre(1));
  EXPECT_THAT(EncodeIds(*Make(spec), "xyx"), ElementsAre(0));
}

TEST(UnigramTest, SentencePieceSeesItsKindsOfPieces) {
  UnigramSpec spec;
  spec.arithmetic = UnigramArithmetic::kSentencePiece;
  spec.pieces = {
      {"<unk>", 0, Use::kNotText},     {"<s>", 0, Use::kNotText}, {"a", -1}, {"ab", -1, Use::kUnused}, {"b", -1},
      {"bbb", -100, Use::kUserDefined}};
  const auto model = Make(spec);
  EXPECT_THAT(EncodeIds(*model, "ab"), ElementsAre(2, 4));
  EXPECT_THAT(EncodeIds(*model, "abbb"), ElementsAre(2, 5));
  EXPECT_THAT(EncodeIds(*model, "<s>"), ElementsAre(0));
}

TEST(UnigramTest, LongPiecesAreCutAsTheirParts) {
  // Longer than a stride, with ways that never meet: "aa" from even and from odd places.
  const auto model = Make(Letters());
  EXPECT_EQ(EncodeIds(*model, std::string(20000, 'a')), Ids(10000, 4));
  EXPECT_EQ(EncodeIds(*model, std::string(20001, 'a')).size(), 10001u);
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "éab";
  const Ids ids = EncodeIds(*model, many);
  EXPECT_EQ(ids.size(), 10000u);
  EXPECT_THAT(Ids(ids.end() - 2, ids.end()), ElementsAre(0, 3));
}

TEST(UnigramTest, SumsOfManyScoresStaySmallInFloat32) {
  UnigramSpec spec = Letters();
  spec.arithmetic = UnigramArithmetic::kSentencePiece;
  spec.pieces[0].use = Use::kNotText;
  spec.pieces[1].score = -1000.25;
  spec.pieces[2].score = -1000.25;
  spec.pieces[3].score = -2000;
  spec.pieces[4].score = -3000;
  std::string text;
  Ids expected;
  for (int i = 0; i < 20000; ++i) {
    text += "ab";
    expected.push_back(3);
  }
  EXPECT_EQ(EncodeIds(*Make(spec), text), expected);
}

// Nothing is decided while what comes may change it: here the end says how all before it is cut.
TEST(UnigramTest, TheEndDecidesOfALongPiece) {
  UnigramSpec spec;
  spec.pieces = {{"<unk>", 0}, {"a", -1}, {"b", -5}, {"ab", -1}, {"ba", -1}, {"b!", -1}};
  constexpr size_t kPairs = 50000;
  std::string text;
  for (size_t i = 0; i < kPairs; ++i) text += "ab";
  EXPECT_EQ(EncodeIds(*Make(spec), text), Ids(kPairs, 3));
  Ids moved(kPairs + 1, 4);
  moved.front() = 1;
  moved.back() = 5;
  EXPECT_EQ(EncodeIds(*Make(spec), text + "!"), moved);
}

TEST(UnigramTest, StopsWhereThereAreTooManyTokens) {
  const auto model = Make(Letters());
  const std::string text(1 << 20, 'a');
  EXPECT_FALSE(FitsIn(*model, text, 1000));
  EXPECT_FALSE(FitsIn(*model, text, (1 << 19) - 1));
  EXPECT_TRUE(FitsIn(*model, text, 1 << 19));
  // Unknown characters are one token, however many.
  EXPECT_TRUE(FitsIn(*model, std::string(1 << 16, 'x') + "a", 2));
  EXPECT_FALSE(FitsIn(*model, std::string(1 << 16, 'x') + "a", 1));
  EXPECT_TRUE(FitsIn(*model, "", 0));
}

TEST(UnigramTest, RefusesBrokenVocabularies) {
  UnigramSpec spec = Letters();
  spec.pieces[2].score = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(Error(spec), HasSubstr("tokenizer.json: model.vocab[2] (\"b\") has the score nan"));
  spec.pieces[2].score = -std::numeric_limits<double>::infinity();
  EXPECT_THAT(Error(spec), HasSubstr("[2] (\"b\") has the score -inf: scores must be from -1e+09 to 1e+09"));
  spec.pieces[2].score = 1e300;
  EXPECT_THAT(Error(spec), HasSubstr("1e+300"));
  spec = Letters();
  spec.pieces.push_back({"ab", -1});
  EXPECT_THAT(Error(spec), HasSubstr("has \"ab\" twice"));
  spec = Letters();
  spec.unk_id = 7;
  EXPECT_THAT(Error(spec), HasSubstr("has 7 pieces, and the unknown one is said to be 7"));
  spec.unk_id = -1;
  EXPECT_THAT(Error(spec), HasSubstr("said to be -1"));
  spec.pieces.clear();
  EXPECT_THAT(Error(spec), HasSubstr("is empty"));
  spec = Letters();
  spec.pieces.push_back({std::string(UnigramModel::kMaxTextBytes, 'x'), 0});
  EXPECT_THAT(Error(spec), HasSubstr("bytes of text: at most 8388608"));
}

}  // namespace
}  // namespace elserve
