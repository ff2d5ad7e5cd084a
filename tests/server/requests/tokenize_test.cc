#include "server/requests/tokenize.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

class TokenizeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new ModelRegistry(MakeFakeModels()); }
  static void TearDownTestSuite() { delete models_; }

  template <typename Response>
  static void ExpectError(const absl::StatusOr<Response>& answer, absl::StatusCode code,
                          const std::vector<std::string>& words) {
    EXPECT_EQ(answer.status().code(), code) << answer.status();
    for (const std::string& word : words) EXPECT_THAT(std::string(answer.status().message()), HasSubstr(word));
  }

  static inline const ModelRegistry* models_ = nullptr;
};

TEST_F(TokenizeTest, GivesIdsAndWhereTheyComeFrom) {
  const Tokenizer& tokenizer = models_->models().front().served->tokenizer();
  v1::TokenizeRequest request;
  request.set_text("the é <hl>");
  const auto answer = Tokenize(*models_, request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const std::vector<int32_t> ids(answer->token_ids().begin(), answer->token_ids().end());
  EXPECT_EQ(ids, tokenizer.Encode("the é <hl>")->ids);
  ASSERT_EQ(answer->begin_size(), answer->token_ids_size());
  ASSERT_EQ(answer->end_size(), answer->token_ids_size());
  EXPECT_EQ(answer->begin(0), answer->end(0)) << "<s>";
  EXPECT_EQ(answer->begin(1), 0);
  const int mark = answer->token_ids_size() - 2;
  EXPECT_EQ(answer->token_ids(mark), tokenizer.TokenId("<hl>"));
  EXPECT_EQ(answer->begin(mark), 7);
  EXPECT_EQ(answer->end(mark), 11);

  request.set_add_special_tokens(false);
  EXPECT_EQ(Tokenize(*models_, request)->token_ids_size(), answer->token_ids_size() - 2);
  request.set_text("");
  EXPECT_EQ(Tokenize(*models_, request)->token_ids_size(), 0);
}

TEST_F(TokenizeTest, RefusesWhatItCannotDo) {
  v1::TokenizeRequest request;
  request.set_text("a\xff");
  ExpectError(Tokenize(*models_, request), absl::StatusCode::kInvalidArgument, {"text", "byte offset 1"});
  request.set_text(std::string(kMaxTokenizeBytes + 1, 'a'));
  ExpectError(Tokenize(*models_, request), absl::StatusCode::kInvalidArgument, {"text has 1048577 bytes", "1048576"});
  request.set_text(std::string(kMaxTokenizeBytes, 'a'));
  EXPECT_TRUE(Tokenize(*models_, request).ok());
  request.set_source_language("en_XX");
  ExpectError(Tokenize(*models_, request), absl::StatusCode::kInvalidArgument, {"source_language", "takes none"});
  request.set_add_special_tokens(false);
  ExpectError(Tokenize(*models_, request), absl::StatusCode::kInvalidArgument, {"source_language", "takes none"});
  request.set_model("other");
  ExpectError(Tokenize(*models_, request), absl::StatusCode::kNotFound, {"other"});
}

TEST_F(TokenizeTest, GivesTextBack) {
  v1::TokenizeRequest text;
  text.set_text("the <hl> fox");
  v1::DetokenizeRequest request;
  *request.mutable_token_ids() = Tokenize(*models_, text)->token_ids();
  EXPECT_EQ(Detokenize(*models_, request)->text(), "the  fox");
  request.set_skip_special_tokens(false);
  EXPECT_EQ(Detokenize(*models_, request)->text(), "<s>the <hl> fox</s>");
  request.add_token_ids(8192);
  ExpectError(Detokenize(*models_, request), absl::StatusCode::kInvalidArgument,
              {"token_ids[", "is 8192", "0 to 8191"});
  request.clear_token_ids();
  request.add_token_ids(-1);
  ExpectError(Detokenize(*models_, request), absl::StatusCode::kInvalidArgument, {"token_ids[0] is -1"});
  request.set_model("other");
  ExpectError(Detokenize(*models_, request), absl::StatusCode::kNotFound, {"other"});
}

}  // namespace
}  // namespace elserve
