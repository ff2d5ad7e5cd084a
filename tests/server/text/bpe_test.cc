// Ids and spans must be what the tokenizers package answered: tests/golden/text/bpe.json.
#include "server/text/bpe.h"

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
using ::testing::IsEmpty;

std::unique_ptr<BpeModel> Make(BpeSpec spec) {
  auto model = BpeModel::Create(std::move(spec));
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

TEST(BpeGoldenTest, MergesCharactersAsTokenizers) {
  const nlohmann::json golden = ReadGoldenText("bpe.json");
  const SentencePieceModel file = ReadGoldenModel(golden);
  ASSERT_EQ(file.kind, SentencePieceModel::Kind::kBpe);
  BpeSpec spec;
  spec.alphabet = BpeAlphabet::kCharacters;
  spec.unk_token = "<unk>";
  for (const SentencePieceModel::Piece& piece : file.pieces) {
    spec.vocab.emplace_back(piece.text, static_cast<int32_t>(spec.vocab.size()));
  }
  const auto merges = DeriveMerges(file);
  ASSERT_TRUE(merges.ok()) << merges.status();
  spec.merges = *merges;
  EXPECT_EQ(spec.merges.size(), golden["merges"].get<size_t>());
  for (const auto& merge : golden["some_merges"]) {
    EXPECT_EQ(spec.merges[merge[0].get<size_t>()],
              std::make_pair(merge[1].get<std::string>(), merge[2].get<std::string>()));
  }
  ASSERT_GE(golden["cases"].size(), 300u);
  for (size_t i = 0; i < golden["settings"].size(); ++i) {
    const auto& settings = golden["settings"][i];
    SCOPED_TRACE(settings.dump());
    spec.fuse_unk = settings["fuse_unk"].get<bool>();
    spec.byte_fallback = settings["byte_fallback"].get<bool>();
    spec.ignore_merges = settings["ignore_merges"].get<bool>();
    const auto model = Make(spec);
    for (const auto& test : golden["cases"]) {
      const auto text = test[0].get<std::string>();
      SCOPED_TRACE(test[0].dump());
      const TokenList tokens = EncodeWithSpans(*model, text);
      EXPECT_EQ(IdsAndEnds(tokens), test[test[i + 1].is_null() ? 1 : i + 1].get<std::vector<int64_t>>());
      EXPECT_EQ(EncodeIds(*model, text), tokens.ids);
      EXPECT_TRUE(FitsIn(*model, text, tokens.ids.size()));
      EXPECT_EQ(FitsIn(*model, text, tokens.ids.size() - 1), tokens.ids.empty());
    }
  }
}

BpeSpec Letters(BpeAlphabet alphabet) {
  BpeSpec spec;
  spec.alphabet = alphabet;
  spec.vocab = {{"<unk>", 0}, {"a", 1}, {"b", 2}, {"ab", 3}, {"é", 4}, {"<0xC3>", 5}, {"<0xBC>", 6}, {"aé", 7}};
  spec.merges = {{"a", "b"}, {"a", "é"}};
  return spec;
}

TEST(BpeTest, CharactersWithoutATokenFallBackOrAreUnknownOrLeftOut) {
  BpeSpec spec = Letters(BpeAlphabet::kCharacters);
  EXPECT_THAT(EncodeIds(*Make(spec), "aéxxb"), ElementsAre(7, 2));
  spec.unk_token = "<unk>";
  EXPECT_THAT(EncodeIds(*Make(spec), "aéxxb"), ElementsAre(7, 0, 0, 2));
  spec.fuse_unk = true;
  const TokenList fused = EncodeWithSpans(*Make(spec), "aéxxb");
  EXPECT_THAT(fused.ids, ElementsAre(7, 0, 2));
  EXPECT_THAT(fused.spans, ElementsAre(TextSpan{0, 3}, TextSpan{3, 5}, TextSpan{5, 6}));
  spec.byte_fallback = true;
  EXPECT_THAT(EncodeIds(*Make(spec), "aüb"), ElementsAre(1, 5, 6, 2));
  // Bytes go before an unknown token that waits, as in tokenizers.
  EXPECT_THAT(EncodeIds(*Make(spec), "xüb"), ElementsAre(5, 6, 0, 2));
}

TEST(BpeTest, BytesAreSpelledByTheirCharacters) {
  BpeSpec spec = Letters(BpeAlphabet::kBytes);
  // "é" spells the byte 0xE9, and no character of these is that byte.
  EXPECT_THAT(EncodeIds(*Make(spec), "ab\xC3\xA9"), ElementsAre(3));
  spec.unk_token = "<unk>";
  const TokenList tokens = EncodeWithSpans(*Make(spec), "ab\xC3\xA9");
  EXPECT_THAT(tokens.ids, ElementsAre(3, 0, 0));
  EXPECT_THAT(tokens.spans, ElementsAre(TextSpan{0, 2}, TextSpan{2, 3}, TextSpan{3, 4}));
}

TEST(BpeTest, StopsWhereThereAreTooManyTokens) {
  for (const BpeAlphabet alphabet : {BpeAlphabet::kBytes, BpeAlphabet::kCharacters}) {
    BpeSpec spec = Letters(alphabet);
    const std::string text(1 << 20, 'a');
    EXPECT_FALSE(FitsIn(*Make(spec), text, 100));
    EXPECT_TRUE(FitsIn(*Make(spec), text, 1 << 20));
    // What is left out or becomes one token counts for nothing.
    EXPECT_TRUE(FitsIn(*Make(spec), std::string(1 << 20, 'x') + "a", 1));
    spec.unk_token = "<unk>";
    EXPECT_FALSE(FitsIn(*Make(spec), std::string(1 << 20, 'x') + "a", 2));
    spec.fuse_unk = true;
    EXPECT_TRUE(FitsIn(*Make(spec), std::string(1 << 20, 'x') + "a", 2));
    EXPECT_FALSE(FitsIn(*Make(spec), std::string(1 << 20, 'x') + "a", 1));
  }
}

TEST(BpeTest, WholePiecesWithoutMerging) {
  BpeSpec spec = Letters(BpeAlphabet::kCharacters);
  spec.merges.clear();
  EXPECT_THAT(EncodeIds(*Make(spec), "ab"), ElementsAre(1, 2));
  spec.ignore_merges = true;
  EXPECT_THAT(EncodeIds(*Make(spec), "ab"), ElementsAre(3));
  EXPECT_THAT(EncodeIds(*Make(spec), ""), IsEmpty());
}

TEST(BpeTest, RefusesBrokenVocabularies) {
  const auto error = [](BpeSpec spec) { return std::string(BpeModel::Create(std::move(spec)).status().message()); };
  BpeSpec spec = Letters(BpeAlphabet::kCharacters);
  spec.merges.emplace_back("b", "b");
  EXPECT_THAT(error(spec), HasSubstr("merges.txt[2] (\"b\", \"b\") needs the token \"bb\""));
  spec = Letters(BpeAlphabet::kCharacters);
  spec.unk_token = "<none>";
  EXPECT_THAT(error(spec), HasSubstr("\"<none>\" is not in vocab.json, which has no token for some characters"));
  spec = Letters(BpeAlphabet::kCharacters);
  spec.vocab.emplace_back("c", 3);
  EXPECT_THAT(error(spec), HasSubstr("\"ab\" and \"c\" have the same id 3"));
}

}  // namespace
}  // namespace elserve
