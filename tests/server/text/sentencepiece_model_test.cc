#include "server/text/sentencepiece_model.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/sentencepiece_model.pb.h"
#include "tests/server/text/golden_text.h"

namespace elserve {
namespace {

using sentencepiece::Piece;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using Type = SentencePieceModel::Type;

void AppendField(int number, const std::string& bytes, std::string& file) {
  file.push_back(static_cast<char>(number << 3 | 2));
  for (size_t size = bytes.size();; size >>= 7) {
    file.push_back(static_cast<char>(size < 0x80 ? size : (size & 0x7F) | 0x80));
    if (size < 0x80) break;
  }
  file += bytes;
}

void AppendPiece(const std::string& text, float score, Piece::Type type, std::string& file) {
  Piece piece;
  piece.set_piece(text);
  piece.set_score(score);
  piece.set_type(type);
  AppendField(1, piece.SerializeAsString(), file);
}

// <unk>, a, b, ab.
std::string Small() {
  std::string file;
  AppendPiece("<unk>", 0, Piece::UNKNOWN, file);
  AppendPiece("a", -1, Piece::NORMAL, file);
  AppendPiece("b", -2, Piece::NORMAL, file);
  AppendPiece("ab", -3, Piece::NORMAL, file);
  return file;
}

std::string Error(const std::string& file) {
  const auto model = ParseSentencePieceModel(file, "spiece.model");
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << model.status();
  return std::string(model.status().message());
}

TEST(SentencePieceModelTest, ReadsWhatSentencePieceWrote) {
  const auto unigram = ReadSentencePieceModel(GoldenText() / "unigram-bytes.model");
  ASSERT_TRUE(unigram.ok()) << unigram.status();
  EXPECT_EQ(unigram->kind, SentencePieceModel::Kind::kUnigram);
  EXPECT_GT(unigram->pieces.size(), 500u);
  EXPECT_EQ(unigram->unk_id, 0);
  EXPECT_EQ(unigram->trainer_unk_id, 0);
  EXPECT_EQ(unigram->bos_id, 1);
  EXPECT_EQ(unigram->eos_id, 2);
  EXPECT_EQ(unigram->pad_id, -1);
  EXPECT_EQ(unigram->pieces[0].text, "<unk>");
  EXPECT_EQ(unigram->pieces[0].type, Type::kUnknown);
  EXPECT_EQ(unigram->pieces[1].type, Type::kControl);
  EXPECT_EQ(unigram->pieces[3].text, "<hl>");
  EXPECT_EQ(unigram->pieces[3].type, Type::kUserDefined);
  EXPECT_EQ(unigram->pieces[5].text, "<0x00>");
  EXPECT_EQ(unigram->pieces[5].type, Type::kByte);
  EXPECT_TRUE(unigram->byte_fallback);
  EXPECT_TRUE(unigram->add_dummy_prefix);
  EXPECT_TRUE(unigram->remove_extra_whitespaces);
  EXPECT_TRUE(unigram->escape_whitespaces);
  EXPECT_FALSE(unigram->treat_whitespace_as_suffix);
  EXPECT_FALSE(unigram->charsmap.empty());
  const auto bpe = ReadSentencePieceModel(GoldenText() / "bpe.model");
  ASSERT_TRUE(bpe.ok()) << bpe.status();
  EXPECT_EQ(bpe->kind, SentencePieceModel::Kind::kBpe);
}

TEST(SentencePieceModelTest, ReadsEveryField) {
  std::string file = Small();
  sentencepiece::TrainerSpec trainer;
  trainer.set_model_type(sentencepiece::TrainerSpec::BPE);
  trainer.set_treat_whitespace_as_suffix(true);
  trainer.set_unk_id(3);
  trainer.set_bos_id(-1);
  trainer.set_eos_id(1);
  trainer.set_pad_id(2);
  AppendField(2, trainer.SerializeAsString(), file);
  sentencepiece::NormalizerSpec normalizer;
  normalizer.set_add_dummy_prefix(false);
  normalizer.set_remove_extra_whitespaces(false);
  normalizer.set_escape_whitespaces(false);
  normalizer.set_precompiled_charsmap("any");
  AppendField(3, normalizer.SerializeAsString(), file);
  AppendField(5, "not looked at", file);
  const auto model = ParseSentencePieceModel(file, "spiece.model");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->kind, SentencePieceModel::Kind::kBpe);
  EXPECT_TRUE(model->treat_whitespace_as_suffix);
  EXPECT_EQ(model->unk_id, 0);
  EXPECT_EQ(model->trainer_unk_id, 3);
  EXPECT_EQ(model->bos_id, -1);
  EXPECT_EQ(model->eos_id, 1);
  EXPECT_EQ(model->pad_id, 2);
  EXPECT_FALSE(model->add_dummy_prefix || model->remove_extra_whitespaces || model->escape_whitespaces);
  EXPECT_EQ(model->charsmap, "any");
  EXPECT_EQ(model->pieces[3].score, -3);
}

TEST(SentencePieceModelTest, DerivesMerges) {
  std::string file = Small();
  AppendPiece("aab", -4, Piece::NORMAL, file);
  AppendPiece("aa", -5, Piece::NORMAL, file);
  const auto model = ParseSentencePieceModel(file, "spiece.model");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto merges = DeriveMerges(*model);
  ASSERT_TRUE(merges.ok()) << merges.status();
  EXPECT_THAT(*merges, ElementsAre(Pair("a", "b"), Pair("a", "ab"), Pair("aa", "b"), Pair("a", "a")));
}

TEST(SentencePieceModelTest, TooManyMergesAreRefused) {
  SentencePieceModel model;
  for (char letter = 'a'; letter < 'a' + 20; ++letter) {
    for (size_t length = 1; length <= SentencePieceModel::kMaxPieceBytes; ++length) {
      model.pieces.push_back({std::string(length, letter)});
    }
  }
  EXPECT_EQ(DeriveMerges(model).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SentencePieceModelTest, RefusesBrokenPieces) {
  const auto with = [](const std::string& text, float score, Piece::Type type = Piece::NORMAL) {
    std::string file = Small();
    AppendPiece(text, score, type, file);
    return Error(file);
  };
  EXPECT_THAT(with("", 0), HasSubstr("spiece.model has a piece of 0 bytes (id 4)"));
  EXPECT_THAT(with(std::string(513, 'x'), 0), HasSubstr("has a piece of 513 bytes (id 4): pieces must have 1 to 512"));
  EXPECT_THAT(with("\xC3(", 0), HasSubstr("has a piece that is not valid UTF-8 (id 4)"));
  EXPECT_THAT(with("ab", 0), HasSubstr("has the piece \"ab\" twice (id 4)"));
  EXPECT_THAT(with("x", std::numeric_limits<float>::quiet_NaN()), HasSubstr("\"x\" (id 4) with the score nan"));
  EXPECT_THAT(with("x", std::numeric_limits<float>::infinity()), HasSubstr("with the score inf"));
  EXPECT_THAT(with("x", 0, Piece::UNKNOWN), HasSubstr("has two unknown pieces (ids 0 and 4)"));
  std::string file;
  EXPECT_THAT(Error(file), HasSubstr("has no pieces"));
  AppendPiece("a", 0, Piece::NORMAL, file);
  EXPECT_THAT(Error(file), HasSubstr("spiece.model has"));
}

TEST(SentencePieceModelTest, RefusesBrokenSpecs) {
  sentencepiece::TrainerSpec trainer;
  trainer.set_model_type(sentencepiece::TrainerSpec::WORD);
  std::string file = Small();
  AppendField(2, trainer.SerializeAsString(), file);
  EXPECT_THAT(Error(file), HasSubstr("has the model type word: unigram and bpe are supported"));
  trainer.set_model_type(sentencepiece::TrainerSpec::UNIGRAM);
  trainer.set_eos_id(4);
  file = Small();
  AppendField(2, trainer.SerializeAsString(), file);
  EXPECT_THAT(Error(file), HasSubstr("has the eos_id 4 in its trainer_spec, and 4 pieces"));
}

TEST(SentencePieceModelTest, RefusesBrokenMessages) {
  EXPECT_THAT(Error("\x0A"), HasSubstr("is not a SentencePiece model"));
  EXPECT_THAT(Error("\x0A\x05"), HasSubstr("is not a SentencePiece model"));
  EXPECT_THAT(Error("\x0A\xFF\xFF\xFF\xFF\x0F"), HasSubstr("is not a SentencePiece model"));
  EXPECT_THAT(Error("{\"model\": {}}"), HasSubstr("is not a SentencePiece model"));
  EXPECT_THAT(Error(Small() + "\x0C"), HasSubstr("is not a SentencePiece model"));
  EXPECT_THAT(Error(std::string(100, '\0')), HasSubstr("is not a SentencePiece model"));
  std::string many;
  for (size_t i = 0; i <= SentencePieceModel::kMaxPieces; ++i) many += std::string("\x0A\x00", 2);
  EXPECT_THAT(Error(many), HasSubstr("has more than 1048576 pieces"));
}

TEST(SentencePieceModelTest, AMissingFileIsNotFound) {
  EXPECT_EQ(ReadSentencePieceModel(GoldenText() / "none.model").status().code(), absl::StatusCode::kNotFound);
}

TEST(SentencePieceModelTest, CutAndChangedFilesAreReadOrRefused) {
  std::ifstream file(GoldenText() / "unigram.model", std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_GT(good.size(), 1000u);
  for (size_t size = 0; size < good.size(); size += 7) (void)ParseSentencePieceModel(good.substr(0, size), "cut");
  std::mt19937 random(11);
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string changed = good;
    for (int k = 0; k < 3; ++k) changed[random() % changed.size()] = static_cast<char>(random());
    refused += ParseSentencePieceModel(changed, "changed").ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace elserve
