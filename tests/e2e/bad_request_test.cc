// Requests that have to be refused: each with the right code, and a message that names what is wrong.
#include <google/protobuf/unknown_field_set.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using v1::DecodingParameters;

struct BadRequest {
  std::string name;
  std::function<grpc::Status(v1::GenerationService::Stub&)> send;
  std::vector<std::string> words;  // in the message
  grpc::StatusCode code = grpc::INVALID_ARGUMENT;
};

grpc::Status Summarize(v1::GenerationService::Stub& stub, const std::function<void(v1::SummarizeRequest&)>& edit) {
  v1::SummarizeRequest request;
  request.set_document(SomeText(10));
  request.mutable_parameters()->set_max_new_tokens(5);
  edit(request);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  return stub.Summarize(&context, request, &response);
}

grpc::Status Generate(v1::GenerationService::Stub& stub, const std::function<void(v1::GenerateRequest&)>& edit) {
  v1::GenerateRequest request;
  edit(request);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  return stub.Generate(&context, request, &response);
}

grpc::Status Ask(v1::GenerationService::Stub& stub, const std::function<void(v1::GenerateQuestionsRequest&)>& edit) {
  v1::GenerateQuestionsRequest request;
  request.set_context("Vim is an éditor.");
  edit(request);
  grpc::ClientContext context;
  v1::GenerateQuestionsResponse response;
  return stub.GenerateQuestions(&context, request, &response);
}

grpc::Status Stream(v1::GenerationService::Stub& stub, const std::function<void(v1::SummarizeRequest&)>& edit) {
  v1::SummarizeRequest request;
  request.set_document(SomeText(10));
  edit(request);
  grpc::ClientContext context;
  const auto reader = stub.StreamSummarize(&context, request);
  v1::GenerateChunk chunk;
  while (reader->Read(&chunk)) {
  }
  return reader->Finish();
}

// A field that no version of the API has.
template <typename Message>
void AddUnknown(Message& message) {
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(99, 1);
}

// A parameter out of range: the message has its name and `words`.
BadRequest Parameter(const std::string& name, const std::function<void(DecodingParameters&)>& edit,
                     std::vector<std::string> words) {
  words.push_back(name.substr(0, name.find(' ')));
  return {.name = name,
          .send =
              [edit](auto& stub) {
                return Summarize(stub, [&](v1::SummarizeRequest& request) { edit(*request.mutable_parameters()); });
              },
          .words = words};
}

BadRequest Answers(const std::string& name, const std::function<void(v1::GenerateQuestionsRequest&)>& edit,
                   std::vector<std::string> words) {
  return {.name = name, .send = [edit](auto& stub) { return Ask(stub, edit); }, .words = std::move(words)};
}

BadRequest Request(const std::string& name, const std::function<void(v1::SummarizeRequest&)>& edit,
                   std::vector<std::string> words, grpc::StatusCode code = grpc::INVALID_ARGUMENT) {
  return {.name = name,
          .send = [edit](auto& stub) { return Summarize(stub, edit); },
          .words = std::move(words),
          .code = code};
}

BadRequest Ids(const std::string& name, const std::vector<int>& ids, std::vector<std::string> words) {
  return {.name = name,
          .send =
              [ids](auto& stub) {
                return Generate(stub, [&](v1::GenerateRequest& request) {
                  request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
                });
              },
          .words = std::move(words)};
}

std::vector<BadRequest> ParameterCases() {
  return {
      Parameter("num_beams 0", [](auto& p) { p.set_num_beams(0); }, {"0", "32"}),
      Parameter("num_beams 33", [](auto& p) { p.set_num_beams(33); }, {"33", "32"}),
      Parameter("num_beams -1", [](auto& p) { p.set_num_beams(-1); }, {"-1"}),
      Parameter("num_return_sequences 0", [](auto& p) { p.set_num_return_sequences(0); }, {"0"}),
      Parameter("num_return_sequences 5", [](auto& p) { p.set_num_return_sequences(5); }, {"5", "num_beams"}),
      Parameter("max_length 1", [](auto& p) { p.set_max_length(1); }, {"1"}),
      Parameter("max_length 1025", [](auto& p) { p.clear_max_new_tokens(), p.set_max_length(1025); }, {"1025", "1024"}),
      Parameter("max_length -5", [](auto& p) { p.set_max_length(-5); }, {"-5"}),
      Parameter("max_new_tokens 0", [](auto& p) { p.set_max_new_tokens(0); }, {"0"}),
      Parameter("max_new_tokens 1024", [](auto& p) { p.set_max_new_tokens(1024); }, {"1024", "1023"}),
      Parameter("min_length -1", [](auto& p) { p.set_min_length(-1); }, {"-1"}),
      Parameter("min_new_tokens -1", [](auto& p) { p.set_min_new_tokens(-1); }, {"-1"}),
      Parameter("max_time 0", [](auto& p) { p.set_max_time(0); }, {"0", "above 0 to 86400"}),
      Parameter("max_time NaN", [](auto& p) { p.set_max_time(NAN); }, {"nan"}),
      Parameter("length_penalty 101", [](auto& p) { p.set_length_penalty(101); }, {"101", "-10 to 10"}),
      Parameter("length_penalty NaN", [](auto& p) { p.set_length_penalty(NAN); }, {"nan"}),
      Parameter("length_penalty infinite", [](auto& p) { p.set_length_penalty(INFINITY); }, {"inf"}),
      Parameter("early_stopping 9", [](auto& p) { p.set_early_stopping(static_cast<v1::EarlyStopping>(9)); }, {"9"}),
      Parameter("no_repeat_ngram_size -1", [](auto& p) { p.set_no_repeat_ngram_size(-1); }, {"-1"}),
      Parameter("forced_bos_token_id 8192", [](auto& p) { p.set_forced_bos_token_id(8192); }, {"8192", "8191"}),
      Parameter("forced_bos_token_id -2", [](auto& p) { p.set_forced_bos_token_id(-2); }, {"-2"}),
      Parameter("forced_eos_token_id 9000", [](auto& p) { p.add_forced_eos_token_id(9000); }, {"9000", "8191"}),
      Parameter("decoder_start_token_id 8192", [](auto& p) { p.set_decoder_start_token_id(8192); }, {"8192", "8191"}),
      Parameter("decoder_start_token_id -1", [](auto& p) { p.set_decoder_start_token_id(-1); }, {"-1"}),
      Parameter("eos_token_id 8192", [](auto& p) { p.add_eos_token_id(8192); }, {"8192", "8191"}),
      Parameter("eos_token_id 33 ids",
                [](auto& p) {
                  for (int i = 0; i < 33; ++i) p.add_eos_token_id(i);
                },
                {"33", "32"}),
      Parameter("bad_words_ids 8192", [](auto& p) { p.add_bad_words_ids()->add_ids(8192); }, {"8192", "8191"}),
      Parameter("bad_words_ids without ids", [](auto& p) { p.add_bad_words_ids(); },
                {"bad_words_ids[0].ids", "1 to 32"}),
      Parameter("bad_words_ids 257 words",
                [](auto& p) {
                  for (int i = 0; i < 257; ++i) p.add_bad_words_ids()->add_ids(i);
                },
                {"257", "256"}),
      Parameter("reset names", [](auto& p) { p.add_reset("beams"); }, {"beams"}),
      Parameter("field number 99", AddUnknown<DecodingParameters>, {"elserve.v1.DecodingParameters"}),
      Parameter("num_beams with do_sample", [](auto& p) { p.set_do_sample(true), p.set_num_beams(4); },
                {"4", "do_sample"}),
      Parameter("temperature", [](auto& p) { p.set_temperature(0.5); }, {"0.5", "do_sample"}),
      Parameter("temperature 0", [](auto& p) { p.set_do_sample(true), p.set_temperature(0); }, {"0", "1e-05"}),
      Parameter("top_k", [](auto& p) { p.set_top_k(10); }, {"10", "do_sample"}),
      Parameter("top_p", [](auto& p) { p.set_top_p(0.9); }, {"0.9", "do_sample"}),
      Parameter("top_h 2", [](auto& p) { p.set_do_sample(true), p.set_top_h(2); }, {"2", "0 to 1"}),
      Parameter("typical_p 0", [](auto& p) { p.set_do_sample(true), p.set_typical_p(0); }, {"above 0 to 1"}),
      Parameter("seed", [](auto& p) { p.set_seed(7); }, {"7", "do_sample"}),
      Parameter("repetition_penalty 0", [](auto& p) { p.set_repetition_penalty(0); }, {"0.001 to 1000"}),
      Parameter("encoder_no_repeat_ngram_size -1", [](auto& p) { p.set_encoder_no_repeat_ngram_size(-1); }, {"-1"}),
      Parameter("suppress_tokens -7", [](auto& p) { p.add_suppress_tokens(-7); }, {"-7"}),
      Parameter("sequence_bias 8192", [](auto& p) { p.add_sequence_bias()->add_ids(8192); }, {"ids", "8192", "8191"}),
      Parameter("exponential_decay_length_penalty without a factor",
                [](auto& p) { p.mutable_exponential_decay_length_penalty(); }, {"factor", "0.001 to 1000"}),
      Parameter("num_beam_groups 3", [](auto& p) { p.set_num_beams(4), p.set_num_beam_groups(3); }, {"3", "4"}),
      Parameter("diversity_penalty missing", [](auto& p) { p.set_num_beams(4), p.set_num_beam_groups(2); },
                {"above 0"}),
      Parameter("stop_strings with num_beams 4", [](auto& p) { p.set_num_beams(4), p.add_stop_strings("."); }, {"4"}),
      Parameter("stop_strings 17",
                [](auto& p) {
                  for (int i = 0; i < 17; ++i) p.add_stop_strings("x");
                },
                {"17", "16"}),
      Parameter("bad_words 300 bytes", [](auto& p) { p.add_bad_words(std::string(300, 'x')); }, {"300", "256"}),
  };
}

std::vector<BadRequest> TextCases() {
  return {
      Request("no document", [](auto& r) { r.clear_document(); }, {"document", "empty"}),
      Request("document not UTF-8", [](auto& r) { r.set_document("ab\xff"); }, {"document", "2"}),
      Request("document too long", [](auto& r) { r.set_document(SomeText(3000)); }, {"document", "tokens", "1024"}),
      Request(
          "model unknown", [](auto& r) { r.set_model("gpt"); }, {"gpt", "debian-synopsis"}, grpc::NOT_FOUND),
      Request("model not UTF-8", [](auto& r) { r.set_model("\xc3("); }, {"model", "0"}),
      Request("truncation 5", [](auto& r) { r.set_truncation(static_cast<v1::Truncation>(5)); }, {"truncation", "5"}),
      Request("on_deadline 3", [](auto& r) { r.set_on_deadline(static_cast<v1::OnDeadline>(3)); },
              {"on_deadline", "3"}),
      Request("top_logprobs 21", [](auto& r) { r.set_top_logprobs(21); }, {"top_logprobs", "21", "0 to 20"}),
      Request("request_id too long", [](auto& r) { r.set_request_id(std::string(200, 'i')); }, {"request_id", "128"}),
      Request("request_id with a line break", [](auto& r) { r.set_request_id("a\nb"); }, {"request_id"}),
      Request(
          "message too large", [](auto& r) { r.set_document(std::string(2 << 20, 'x')); }, {"larger than max"},
          grpc::RESOURCE_EXHAUSTED),
      {.name = "stream of two answers",
       .send =
           [](auto& stub) {
             return Stream(stub, [](auto& r) {
               r.mutable_parameters()->set_num_beams(2);
               r.mutable_parameters()->set_num_return_sequences(2);
             });
           },
       .words = {"num_return_sequences", "2"}},
      {.name = "stream of nothing",
       .send = [](auto& stub) { return Stream(stub, [](auto& r) { r.clear_document(); }); },
       .words = {"document", "empty"}},
      {.name = "no input", .send = [](auto& stub) { return Generate(stub, [](auto&) {}); }, .words = {"token_ids"}},
      {.name = "empty text",
       .send = [](auto& stub) { return Generate(stub, [](auto& r) { r.set_text(""); }); },
       .words = {"text", "empty"}},
      Ids("no ids", {}, {"token_ids", "empty"}),
      Ids("id beyond the vocabulary", {0, 8192, 2}, {"token_ids", "[1]", "8192", "8191"}),
      Ids("negative id", {0, 5, -3}, {"token_ids", "[2]", "-3"}),
      Ids("too many ids", std::vector<int>(1025, 7), {"token_ids", "1025", "1024"}),
  };
}

std::vector<BadRequest> AnswerCases() {
  const auto span = [](int64_t begin, int64_t end) {
    return [begin, end](v1::GenerateQuestionsRequest& request) {
      v1::Span* out = request.add_answers()->mutable_span();
      out->set_begin(begin);
      out->set_end(end);
    };
  };
  return {
      Answers("no answers", [](auto&) {}, {"answers", "empty"}),
      Answers("unknown field in a span", [](auto& r) { AddUnknown(*r.add_answers()->mutable_span()); },
              {"elserve.v1.Span", "99"}),
      Answers("no context", [](auto& r) { r.clear_context(), r.add_answers()->set_text("a"); }, {"context", "empty"}),
      Answers("answer not set", [](auto& r) { r.add_answers(); }, {"answers[0]"}),
      Answers("empty answer", [](auto& r) { r.add_answers()->set_text(""); }, {"answers[0]", "text or span"}),
      Answers("answer that does not occur", [](auto& r) { r.add_answers()->set_text("Emacs"); }, {"answers[0].text"}),
      Answers("answer not UTF-8", [](auto& r) { r.add_answers()->set_text("\xff"); }, {"answers.text", "0"}),
      Answers("second answer bad",
              [](auto& r) { r.add_answers()->set_text("Vim"), r.add_answers()->set_text("Emacs"); },
              {"answers[1].text"}),
      Answers("span beyond the end", span(0, 1000), {"answers[0].span", "1000"}),
      Answers("span before the start", span(-4, 3), {"answers[0].span", "-4"}),
      Answers("span backwards", span(5, 3), {"answers[0].span", "3"}),
      Answers("span empty", span(5, 5), {"answers[0].span", "5"}),
      Answers("span inside a character", span(10, 11), {"answers[0].span"}),
      Answers("span of another text",
              [](auto& r) { r.add_answers()->set_text("editor"), r.mutable_answers(0)->mutable_span()->set_end(3); },
              {"answers[0].text", "answers[0].span", "0 to 3"}),
      Answers("too many answers",
              [](auto& r) {
                for (int i = 0; i < 257; ++i) r.add_answers()->set_text("Vim");
              },
              {"answers", "257", "256"}),
  };
}

class BadRequestTest : public ::testing::Test {
 protected:
  static void Run(const std::vector<BadRequest>& cases) {
    const ServerUnderTest server({.server = {"max_message_bytes: 1MiB"}});
    for (const BadRequest& bad : cases) {
      SCOPED_TRACE(bad.name);
      const grpc::Status status = bad.send(server.stub());
      EXPECT_EQ(status.error_code(), bad.code) << status.error_message();
      for (const std::string& word : bad.words) EXPECT_THAT(status.error_message(), HasSubstr(word));
    }
    // It still works, and every refusal was counted as one.
    EXPECT_TRUE(Summarize(server.stub(), [](auto&) {}).ok());
    EXPECT_TRUE(server.WaitUntilIdle());
  }
};

TEST_F(BadRequestTest, ThereAreFiftyOfThem) {
  EXPECT_GE(ParameterCases().size() + TextCases().size() + AnswerCases().size(), 50u);
}
TEST_F(BadRequestTest, Parameters) { Run(ParameterCases()); }
TEST_F(BadRequestTest, Texts) { Run(TextCases()); }
TEST_F(BadRequestTest, AnswersOfQuestions) { Run(AnswerCases()); }

}  // namespace
}  // namespace elserve
