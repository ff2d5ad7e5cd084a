// The golden cases of tests/golden/text/ (make_text_cases.py) and the models that they were made with.
#ifndef ELSERVE_TESTS_SERVER_TEXT_GOLDEN_TEXT_H_
#define ELSERVE_TESTS_SERVER_TEXT_GOLDEN_TEXT_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/sentencepiece_model.h"
#include "server/text/token_model.h"

namespace elserve {

inline std::filesystem::path GoldenText() {
  return std::filesystem::path(ELSERVE_SOURCE_DIR) / "tests" / "golden" / "text";
}

inline nlohmann::json ReadGoldenText(const std::string& name) {
  std::ifstream file(GoldenText() / name);
  return nlohmann::json::parse(file);
}

inline SentencePieceModel ReadGoldenModel(const nlohmann::json& golden) {
  auto model = ReadSentencePieceModel(GoldenText() / golden["model"].get<std::string>());
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : SentencePieceModel();
}

// id and end of each token, one after the other, as the cases have them; spans must go on from each other as there.
inline std::vector<int64_t> IdsAndEnds(const TokenList& tokens) {
  std::vector<int64_t> flat;
  TextSpan before;
  EXPECT_EQ(tokens.ids.size(), tokens.spans.size());
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    const TextSpan span = tokens.spans[i];
    EXPECT_EQ(span.begin, span.end == before.end ? before.begin : before.end);
    before = span;
    flat.push_back(tokens.ids[i]);
    flat.push_back(span.end);
  }
  return flat;
}

inline TokenList EncodeWithSpans(const TokenModel& model, std::string_view piece, size_t max_tokens = SIZE_MAX) {
  const auto scratch = model.MakeScratch();
  TokenList tokens;
  tokens.with_spans = true;
  EXPECT_TRUE(model.Encode(piece, max_tokens, *scratch, tokens));
  return tokens;
}

inline std::vector<int32_t> EncodeIds(const TokenModel& model, std::string_view piece) {
  const auto scratch = model.MakeScratch();
  TokenList tokens;
  EXPECT_TRUE(model.Encode(piece, SIZE_MAX, *scratch, tokens));
  EXPECT_TRUE(tokens.spans.empty());
  return tokens.ids;
}

// Whether the piece has at most so many tokens.
inline bool FitsIn(const TokenModel& model, std::string_view piece, size_t max_tokens) {
  const auto scratch = model.MakeScratch();
  TokenList tokens;
  return model.Encode(piece, max_tokens, *scratch, tokens);
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_TEXT_GOLDEN_TEXT_H_
