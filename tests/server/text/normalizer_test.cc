// Normalized texts, and where each character comes from, must be what the tokenizers and sentencepiece packages
// answered: tests/golden/text/normalizers.json and sentencepiece_normalizer.json.
#include "server/text/normalizer.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/utf8.h"
#include "tests/server/text/golden_text.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
namespace n = normalizer;
using Steps = std::vector<n::Step>;

Normalizer Make(const Steps& steps) {
  auto made = Normalizer::Create(steps);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : *Normalizer::Create({});
}

std::string Normalized(const Normalizer& normalizer, const std::string& text) {
  std::string buffer = "what was there";
  return std::string(normalizer.Normalize(text, buffer));
}

// The text taken in parts of at least `size` bytes.
std::string NormalizedByParts(const Normalizer& normalizer, const std::string& text, size_t size) {
  std::string joined;
  std::string buffer;
  size_t at = 0;
  do {
    const size_t cut = normalizer.NextCut(text, std::min(at + size, text.size()));
    joined += normalizer.Normalize(std::string_view(text).substr(at, cut - at), {at == 0, cut == text.size()}, buffer);
    at = cut;
  } while (at < text.size());
  return joined;
}

// Where each character of the normalized text comes from: begin and end in characters of the original, flat.
std::vector<int> Origins(const Normalizer& normalizer, const std::string& text) {
  std::vector<int> characters(text.size() + 1);  // before each byte
  for (size_t i = 0; i < text.size(); ++i)
    characters[i + 1] = characters[i] + (IsCharacterBoundary(text, i + 1) ? 1 : 0);
  AlignedText aligned(text);
  normalizer.Normalize(aligned);
  EXPECT_EQ(aligned.text(), Normalized(normalizer, text));
  std::vector<int> flat;
  for (uint32_t at = 0; at < aligned.text().size();) {
    const auto end = static_cast<uint32_t>(at + ReadUtf8(aligned.text(), at).length);
    const TextSpan origin = aligned.Original({at, end});
    flat.insert(flat.end(), {characters[origin.begin], characters[origin.end]});
    at = end;
  }
  return flat;
}

// The normalizers of make_text_cases.py's sequences().
std::map<std::string, Steps> Sequences(const std::string& charsmap) {
  const n::Replace spaces = {.pattern = " {2,}", .is_regex = true, .content = " "};
  return {
      {"precompiled", {n::Precompiled{charsmap}}},
      {"nfc", {n::Form{NormalForm::kNfc}}},
      {"nfd", {n::Form{NormalForm::kNfd}}},
      {"nfkc", {n::Form{NormalForm::kNfkc}}},
      {"nfkd", {n::Form{NormalForm::kNfkd}}},
      {"lowercase", {n::Lowercase{}}},
      {"nmt", {n::Nmt{}}},
      {"strip_accents", {n::StripAccents{}}},
      {"strip", {n::Strip{}}},
      {"strip_right", {n::Strip{.left = false, .right = true}}},
      {"prepend", {n::Prepend{"▁"}}},
      {"replace", {n::Replace{.pattern = "``", .content = "\""}}},
      {"replace_spaces", {spaces}},
      {"replace_blanks", {n::Replace{.pattern = "\\s{2,}|[\\n\\r\\t]", .is_regex = true, .content = " "}}},
      {"t5",
       {n::Precompiled{charsmap}, n::Strip{.left = false, .right = true},
        n::Replace{.pattern = " {2,}", .is_regex = true, .content = "▁"}}},
      {"llama", {n::Prepend{"▁"}, n::Replace{.pattern = " ", .content = "▁"}}},
      {"all",
       {n::Nmt{}, n::Form{NormalForm::kNfkc}, n::Precompiled{charsmap}, n::Lowercase{}, n::Form{NormalForm::kNfd},
        n::StripAccents{}, spaces, n::Strip{}}},
  };
}

TEST(NormalizerGoldenTest, NormalizesAsTokenizers) {
  const nlohmann::json golden = ReadGoldenText("normalizers.json");
  std::map<std::string, Normalizer> normalizers;
  for (const auto& [name, steps] : Sequences(ReadGoldenModel(golden).charsmap)) normalizers.emplace(name, Make(steps));
  ASSERT_GE(golden["cases"].size(), 2000u);
  for (const auto& test : golden["cases"]) {
    const auto text = golden["texts"][test[1].get<size_t>()].get<std::string>();
    SCOPED_TRACE(test.dump() + nlohmann::json(text).dump());
    const Normalizer& normalizer = normalizers.at(test[0].get<std::string>());
    EXPECT_EQ(Normalized(normalizer, text), test.size() == 2 ? text : test[2].get<std::string>());
    std::vector<int> origins;
    if (test.size() > 2) {
      origins = test[3].get<std::vector<int>>();
    } else {
      for (size_t at = 0; at < text.size(); at += ReadUtf8(text, at).length) {
        const int index = static_cast<int>(origins.size()) / 2;
        origins.insert(origins.end(), {index, index + 1});
      }
    }
    EXPECT_EQ(Origins(normalizer, text), origins);
  }
}

TEST(NormalizerGoldenTest, PartsBecomeWhatTheWholeBecomes) {
  const nlohmann::json golden = ReadGoldenText("normalizers.json");
  std::string all;
  for (const auto& text : golden["texts"]) all += text.get<std::string>();
  for (const auto& [name, steps] : Sequences(ReadGoldenModel(golden).charsmap)) {
    SCOPED_TRACE(name);
    const Normalizer normalizer = Make(steps);
    EXPECT_LT(normalizer.NextCut(all, 10), 1000u);
    for (const size_t size : {1, 5, 100}) {
      EXPECT_EQ(NormalizedByParts(normalizer, all, size), Normalized(normalizer, all));
      for (const auto& text : golden["texts"]) {
        const auto one = text.get<std::string>();
        EXPECT_EQ(NormalizedByParts(normalizer, one, size), Normalized(normalizer, one)) << text.dump();
      }
    }
  }
}

TEST(NormalizerGoldenTest, NormalizesAsSentencePiece) {
  const nlohmann::json golden = ReadGoldenText("sentencepiece_normalizer.json");
  const std::string charsmap = ReadGoldenModel(golden).charsmap;
  ASSERT_GE(golden["cases"].size(), 300u);
  for (const auto& test : golden["cases"]) {
    const int bits = test[0].get<int>();
    const auto text = golden["texts"][test[1].get<size_t>()].get<std::string>();
    SCOPED_TRACE(test.dump() + nlohmann::json(text).dump());
    const Normalizer normalizer = Make({n::SentencePiece{.charsmap = charsmap,
                                                         .add_dummy_prefix = (bits & 1) != 0,
                                                         .remove_extra_whitespaces = (bits & 2) != 0,
                                                         .escape_whitespaces = (bits & 4) != 0,
                                                         .treat_whitespace_as_suffix = (bits & 8) != 0}});
    const auto expected = test[2].get<std::string>();
    EXPECT_EQ(Normalized(normalizer, text), expected);
    EXPECT_EQ(NormalizedByParts(normalizer, text, 1), expected);
    EXPECT_EQ(Origins(normalizer, text).size() / 2,
              std::u32string::size_type(
                  std::count_if(expected.begin(), expected.end(), [](char c) { return (c & 0xC0) != 0x80; })));
  }
}

TEST(NormalizerTest, WithoutStepsTheTextIsItself) {
  const Normalizer normalizer = Make({});
  const std::string text = "  any\ttext é ";
  std::string buffer;
  EXPECT_EQ(normalizer.Normalize(text, buffer).data(), text.data());
  EXPECT_EQ(normalizer.NextCut(text, 3), 3u);
  EXPECT_EQ(normalizer.NextCut(text, 12), 13u);
  EXPECT_EQ(normalizer.NextCut(text, 1000), text.size());
}

TEST(NormalizerTest, TextThatDoesNotChangeIsNotCopied) {
  const std::string text = "plain text, as most of it";
  for (const Steps& steps :
       {Steps{n::Lowercase{}}, Steps{n::Form{NormalForm::kNfkc}}, Steps{n::Nmt{}}, Steps{n::Strip{}},
        Steps{n::Replace{.pattern = "  ", .content = " "}}, Steps{n::StripAccents{}}}) {
    std::string buffer;
    EXPECT_EQ(Make(steps).Normalize(text, buffer).data(), text.data());
  }
}

TEST(NormalizerTest, WhatJoinsIsNotCut) {
  // No cut beside a letter of the pattern.
  const Normalizer normalizer = Make({n::Replace{.pattern = "abcd", .content = "x"}});
  const std::string text = "abcdabcdefghij";
  EXPECT_EQ(normalizer.NextCut(text, 1), 9u);
  EXPECT_EQ(NormalizedByParts(normalizer, text, 1), "xxefghij");
  // No cut inside a piece that is kept as it is, of whatever length.
  const std::string kept(200, 'k');
  const Normalizer user_defined = Make({n::SentencePiece{.user_defined = {"ef", kept}}});
  EXPECT_EQ(user_defined.NextCut(text, 1), 2u);
  EXPECT_EQ(user_defined.NextCut(text, 9), 10u);
  EXPECT_EQ(user_defined.NextCut("ab" + kept + "cdef", 3), 202u);
}

TEST(NormalizerTest, SentencePieceKeepsUserDefinedPieces) {
  const std::string charsmap = ReadGoldenModel(ReadGoldenText("normalizers.json")).charsmap;
  n::SentencePiece spec{.charsmap = charsmap};
  EXPECT_EQ(Normalized(Make({spec}), "Q™ Q"), "▁qTM▁q");
  spec.user_defined = {"Q™", "Q"};
  EXPECT_EQ(Normalized(Make({spec}), "Q™ ™Q"), "▁Q™▁TMQ");
}

TEST(NormalizerTest, RefusesWhatIsBroken) {
  const auto error = [](const Steps& steps) {
    const auto made = Normalizer::Create(steps);
    EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(made.status().message());
  };
  EXPECT_THAT(error(Steps(17, n::Nmt{})), HasSubstr("has 17 steps: at most 16"));
  EXPECT_THAT(error({n::Nmt{}, n::Precompiled{"abc"}}), HasSubstr("step 1: the character map is cut short"));
  EXPECT_THAT(error({n::Replace{.pattern = ""}}), HasSubstr("step 0: the pattern has 0 bytes"));
  EXPECT_THAT(error({n::Replace{.pattern = "(a|b)*", .is_regex = true}}), HasSubstr("\"(a|b)*\" is not supported"));
  EXPECT_THAT(error({n::Replace{.pattern = "a", .content = std::string(257, 'x')}}),
              HasSubstr("content has 257 bytes"));
  EXPECT_THAT(error({n::Prepend{std::string(257, 'x')}}), HasSubstr("content has 257 bytes"));
  EXPECT_THAT(error({n::Prepend{"\xFF"}}), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(error({n::SentencePiece{.user_defined = {""}}}), HasSubstr("a user-defined piece is empty"));
}

}  // namespace
}  // namespace elserve
