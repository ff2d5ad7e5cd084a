// GenerateQuestions by each format: which jobs a request becomes, and what their outputs come to.
#include "server/requests/questions.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/requests/fake_model.h"
#include "tests/server/requests/rpc_requests.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Kind = QuestionFormat::Kind;

std::string Words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "word ";
  return text;
}

std::string Sentences(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "Sentence " + std::to_string(i) + " has naïve words. ";
  return text;
}

class QuestionsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    QuestionFormat pattern{.kind = Kind::kTemplate, .pattern = *ParseTemplate("answer: {answer}  context: {context}")};
    QuestionFormat behind{.kind = Kind::kTemplate, .pattern = *ParseTemplate("{context} [SEP] {answer}")};
    QuestionFormat all{.kind = Kind::kEndToEnd, .prefix = "ask: ", .suffix = " :ask"};
    QuestionFormat pairs = all;
    pairs.separator = " | ";
    pairs.item = *ParseItem("question: {question}, answer: {answer}");
    models_ = new ModelRegistry(MakeFakeModels({{.name = "highlight"},
                                                {.name = "template", .question_format = pattern},
                                                {.name = "behind", .question_format = behind},
                                                {.name = "all", .question_format = all},
                                                {.name = "pairs", .question_format = pairs},
                                                {.name = "none", .questions = false}}));
  }
  static void TearDownTestSuite() { delete models_; }

  static v1::GenerateQuestionsRequest Request(const std::string& model, const std::string& context,
                                              const std::vector<std::string>& answers = {}) {
    v1::GenerateQuestionsRequest request;
    request.set_model(model);
    request.set_context(context);
    for (const std::string& answer : answers) request.add_answers()->set_text(answer);
    return request;
  }
  static const ServedModel& model() { return *models_->models().front().served; }
  static std::vector<int32_t> Ids(const std::string& text) { return model().tokenizer().Encode(text)->ids; }
  static PreparedCall Prepared(const v1::GenerateQuestionsRequest& request) {
    absl::StatusOr<PreparedCall> call = Prepare(*models_, request, /*stream=*/false);
    EXPECT_TRUE(call.ok()) << call.status();
    return *std::move(call);
  }
  static std::string Refusal(const v1::GenerateQuestionsRequest& request) {
    const absl::Status status = Prepare(*models_, request, false).status();
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  }
  static bool Fits(const v1::GenerateQuestionsRequest& request) { return Prepare(*models_, request, false).ok(); }

  static inline const ModelRegistry* models_ = nullptr;
};

TEST_F(QuestionsTest, MarksAnswers) {
  v1::GenerateQuestionsRequest request = Request("highlight", "Vim is an editor.", {"editor"});
  request.add_answers()->mutable_span()->set_end(3);
  const PreparedCall call = Prepared(request);
  ASSERT_EQ(call.jobs.size(), 2u);
  EXPECT_EQ(call.jobs[0].source, Ids("generate question: Vim is an <hl> editor <hl>."));
  EXPECT_EQ(call.jobs[1].source, Ids("generate question: <hl> Vim <hl> is an editor."));
  EXPECT_EQ(call.plan->Fold().answers[1].text(), "Vim");
}

TEST_F(QuestionsTest, FillsTemplates) {
  const PreparedCall call = Prepared(Request("template", "Vim is an editor.", {"editor", "Vim"}));
  ASSERT_EQ(call.jobs.size(), 2u);
  EXPECT_EQ(call.jobs[0].source, Ids("answer: editor  context: Vim is an editor."));
  EXPECT_EQ(call.jobs[1].source, Ids("answer: Vim  context: Vim is an editor."));
}

// A response's answer, sent again, means the same.
TEST_F(QuestionsTest, TakesAnswersWithTextAndSpan) {
  v1::GenerateQuestionsRequest request = Request("highlight", "Vim or vim, Vim.", {"Vim"});
  request.mutable_answers(0)->mutable_span()->set_begin(12);
  request.mutable_answers(0)->mutable_span()->set_end(15);
  const v1::Answer asked = Prepared(request).plan->Fold().answers[0];
  EXPECT_EQ(asked.span().begin(), 12);
  EXPECT_EQ(asked.text(), "Vim");
}

TEST_F(QuestionsTest, SpansAreBytesOfTheContext) {
  const v1::Answer asked = Prepared(Request("highlight", "日本 is naïve.", {"naïve"})).plan->Fold().answers[0];
  EXPECT_EQ(asked.text(), "naïve");
  EXPECT_EQ(asked.span().begin(), 10);
  EXPECT_EQ(asked.span().end(), 16);
}

TEST_F(QuestionsTest, ChecksAnswers) {
  v1::GenerateQuestionsRequest request = Request("highlight", "Vim is an éditor.");
  EXPECT_EQ(Refusal(request), "answers is empty; the highlight format needs at least one answer");
  EXPECT_EQ(Refusal(Request("template", "Vim")), "answers is empty; the template format needs at least one answer");
  v1::Answer* answer = request.add_answers();
  EXPECT_EQ(Refusal(request), "answers[0] is empty; it needs text or span");
  answer->set_text("emacs");
  EXPECT_THAT(Refusal(request), HasSubstr("answers[0].text \"emacs\" does not occur"));
  answer->mutable_span()->set_end(3);
  EXPECT_THAT(Refusal(request), HasSubstr("answers[0].text is not what answers[0].span holds, bytes 0 to 3"));
  answer->clear_text();
  answer->mutable_span()->set_begin(3);
  EXPECT_THAT(Refusal(request), HasSubstr("answers[0].span.end is 3"));
  answer->mutable_span()->set_end(12);  // inside é
  answer->mutable_span()->set_begin(11);
  EXPECT_THAT(Refusal(request), HasSubstr("answers[0].span.begin is 11"));
  answer->mutable_span()->set_begin(-1);
  EXPECT_THAT(Refusal(request), HasSubstr("answers[0].span.begin is -1"));
  request.clear_answers();
  for (size_t i = 0; i < kMaxAnswers; ++i) request.add_answers()->set_text("Vim");
  EXPECT_EQ(Refusal(request), "");
  request.add_answers()->set_text("Vim");
  EXPECT_EQ(Refusal(request), "answers has 257 entries; allowed are 1 to 256");
  request.set_model("none");
  EXPECT_THAT(Refusal(request), HasSubstr("not configured for the task questions"));
}

TEST_F(QuestionsTest, AMarkInTheContextIsNoAnswersMark) {
  EXPECT_EQ(Refusal(Request("highlight", "é Vim <hl> is", {"Vim"})),
            "context has \"<hl>\" at byte 7; it is the mark that stands around an answer, and allowed nowhere else");
  EXPECT_EQ(Refusal(Request("template", "é Vim <hl> is", {"Vim"})), "");
}

TEST_F(QuestionsTest, TruncationMustNotCutTheAnswer) {
  for (const char* name : {"highlight", "template", "behind"}) {
    v1::GenerateQuestionsRequest request = Request(name, "first " + Words(3000) + "last", {"first"});
    EXPECT_THAT(Refusal(request),
                HasSubstr("TRUNCATION_TRUNCATE cuts the end off, TRUNCATION_CHUNK takes it in parts"));
    request.set_truncation(v1::TRUNCATION_TRUNCATE);
    // Behind the context the answer itself is cut off.
    EXPECT_EQ(Fits(request), std::string(name) != "behind") << name;
    request.add_answers()->set_text("last");
    EXPECT_THAT(Refusal(request), HasSubstr("is not within the first 1022 tokens of the prompt")) << name;
  }
}

// To the token: the last answer that truncation leaves whole, and the first that it does not.
TEST_F(QuestionsTest, TruncationKeepsTheLastAnswerThatFits) {
  v1::GenerateQuestionsRequest request = Request("highlight", Words(3000));
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  v1::Span* span = request.add_answers()->mutable_span();
  const size_t kept = model().KeptTokens(1024, {});
  bool last_fitted = true;
  for (int64_t begin = 5 * 980; begin < 5 * 1030; begin += 5) {
    span->set_begin(begin);
    span->set_end(begin + 4);
    const std::string head =
        "generate question: " + request.context().substr(0, static_cast<size_t>(begin)) + "<hl> word <hl>";
    const bool fits = model().tokenizer().Encode(head, {.add_special_tokens = false})->ids.size() <= kept;
    EXPECT_EQ(Fits(request), fits) << begin;
    EXPECT_TRUE(last_fitted || !fits);
    last_fitted = fits;
  }
  EXPECT_FALSE(last_fitted);
}

TEST_F(QuestionsTest, BoundsThePromptsOfARequest) {
  const std::vector<std::string> answers(100, "a");
  EXPECT_THAT(Refusal(Request("highlight", std::string(1 << 20, 'a'), answers)),
              HasSubstr("context has 1048576 bytes and answers 100 entries; allowed are 67108864 bytes"));
  // A template has the answer beside the context, and it may be all of it.
  const std::vector<std::string> fewer(40, "a");
  EXPECT_THAT(Refusal(Request("template", std::string(1 << 20, 'a'), fewer)), HasSubstr("bytes of prompts"));
  EXPECT_THAT(Refusal(Request("highlight", std::string(1 << 20, 'a'), fewer)), HasSubstr("more than 1024 tokens"));
}

// The window that holds the answer, with whole sentences on both sides, in every format.
TEST_F(QuestionsTest, WindowsHoldTheirAnswers) {
  const std::string context = Sentences(300);
  for (const char* name : {"highlight", "template", "behind"}) {
    v1::GenerateQuestionsRequest request = Request(name, context, {"Sentence 0 ", "Sentence 150", "Sentence 299"});
    request.set_truncation(v1::TRUNCATION_CHUNK);
    request.mutable_chunk()->set_window_tokens(100);
    const PreparedCall call = Prepared(request);
    ASSERT_EQ(call.jobs.size(), 3u);
    for (const int at : {0, 150, 299}) {
      const auto job = static_cast<size_t>(at) / 149 % 3;
      const std::string prompt = model().tokenizer().Decode(call.jobs[job].source);
      EXPECT_LE(call.jobs[job].source.size(), 100u);
      EXPECT_GT(call.jobs[job].source.size(), 75u) << "a sentence more would have fitted";
      EXPECT_FALSE(call.jobs[job].truncated);
      EXPECT_THAT(prompt, HasSubstr("Sentence " + std::to_string(at)));
      for (const int beside : {at - 1, at + 1}) {
        const bool exists = beside >= 0 && beside < 300;
        EXPECT_TRUE(!exists || prompt.find("Sentence " + std::to_string(beside)) != std::string::npos) << name;
      }
    }
    // Places are the context's.
    const CallAnswer answer = call.plan->Fold();
    EXPECT_EQ(answer.answers[1].span().begin(), static_cast<int64_t>(context.find("Sentence 150")));
  }
}

// The answer's own tokens are part of what fits.
TEST_F(QuestionsTest, WindowsOfLongAnswersAreFull) {
  const std::string context = Sentences(300);
  v1::GenerateQuestionsRequest request =
      Request("highlight", context, {context.substr(context.find("Sentence 150"), 75)});
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_window_tokens(100);
  EXPECT_GT(Prepared(request).jobs[0].source.size(), 75u);
}

TEST_F(QuestionsTest, AnAnswerHasToFitIntoAWindow) {
  const std::string context = Sentences(300);
  v1::GenerateQuestionsRequest request = Request("highlight", context, {"Sentence 1 ", context.substr(0, 1000)});
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_window_tokens(100);
  EXPECT_EQ(Refusal(request),
            "answers[1] does not fit into a window of 100 tokens (chunk.window_tokens) beside the prompt of the task");
}

TEST_F(QuestionsTest, ChunkOptionsWithoutUseAreRefused) {
  const auto with = [](const std::string& model, const std::vector<std::string>& answers, auto change) {
    v1::GenerateQuestionsRequest request = Request(model, "Vim is an editor.", answers);
    request.set_truncation(v1::TRUNCATION_CHUNK);
    change(request.mutable_chunk());
    return Refusal(request);
  };
  EXPECT_EQ(with("highlight", {"Vim"}, [](v1::ChunkOptions*) {}), "");
  EXPECT_THAT(with("highlight", {"Vim"}, [](v1::ChunkOptions* c) { c->set_overlap_tokens(0); }),
              HasSubstr("chunk.overlap_tokens is 0; questions with answers allow none"));
  EXPECT_EQ(with("all", {}, [](v1::ChunkOptions* c) { c->set_overlap_tokens(5); }), "");
  EXPECT_THAT(with("all", {}, [](v1::ChunkOptions* c) { c->set_join(v1::JOIN_CONCATENATE); }),
              HasSubstr("chunk.join is 1; only Summarize allows it"));
  EXPECT_THAT(with("all", {}, [](v1::ChunkOptions* c) { c->set_max_rounds(2); }),
              HasSubstr("chunk.max_rounds is 2; only Summarize allows it"));
}

class EndToEndTest : public QuestionsTest {
 protected:
  static CallOutput Output(const std::string& text) {
    CallOutput output;
    output.hypotheses.emplace_back().set_text(text);
    output.usage.emplace().set_steps(1);
    return output;
  }
  static std::vector<std::string> TextsOf(const CallAnswer& answer) {
    std::vector<std::string> texts;
    for (const CallOutput& output : answer.outputs) {
      EXPECT_EQ(output.hypotheses.size(), 1u);
      EXPECT_FALSE(output.usage.has_value());
      texts.push_back(output.hypotheses[0].text());
    }
    EXPECT_EQ(answer.answers.size(), texts.size());
    return texts;
  }
};

TEST_F(EndToEndTest, OneOutputIsManyQuestions) {
  const PreparedCall call = Prepared(Request("all", "Vim is an editor."));
  ASSERT_EQ(call.jobs.size(), 1u);
  EXPECT_EQ(call.jobs[0].source, Ids("ask: Vim is an editor. :ask"));
  ASSERT_TRUE(call.plan->OnResult(0, Output("What is Vim?<sep> Who?  <sep><sep>Who?<sep>"), nullptr).ok());
  const CallAnswer answer = call.plan->Fold();
  EXPECT_THAT(TextsOf(answer), ElementsAre("What is Vim?", "Who?"));
  EXPECT_EQ(answer.answers[0].text(), "");
  ASSERT_EQ(answer.parts.size(), 1u);
  EXPECT_EQ(answer.parts[0].hypothesis().text(), "What is Vim?<sep> Who?  <sep><sep>Who?<sep>");
  EXPECT_EQ(answer.parts[0].source().end(), 17);
  EXPECT_EQ(answer.parts[0].usage().steps(), 1);
}

TEST_F(EndToEndTest, AnswersThatAreWrittenAreFoundInTheContext) {
  const PreparedCall call = Prepared(Request("pairs", "日本: Vim is an editor."));
  ASSERT_TRUE(call.plan
                  ->OnResult(0,
                             Output("question: What is Vim?, answer: an editor | question: Who?, answer: Emacs | odd"),
                             nullptr)
                  .ok());
  const CallAnswer answer = call.plan->Fold();
  EXPECT_THAT(TextsOf(answer), ElementsAre("What is Vim?", "Who?", "odd"));
  EXPECT_EQ(answer.answers[0].text(), "an editor");
  EXPECT_EQ(answer.answers[0].span().begin(), 15);
  EXPECT_EQ(answer.answers[0].span().end(), 24);
  EXPECT_EQ(answer.answers[1].text(), "Emacs");
  EXPECT_FALSE(answer.answers[1].has_span());
  EXPECT_EQ(answer.answers[2].text(), "");
}

// Windows end in any order; questions come in the context's, each when it is whole.
TEST_F(EndToEndTest, WindowsAskInOrder) {
  const std::string context = Sentences(40);
  v1::GenerateQuestionsRequest request = Request("pairs", context);
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_window_tokens(300);
  request.mutable_chunk()->set_overlap_tokens(0);
  const PreparedCall call = Prepared(request);
  ASSERT_EQ(call.jobs.size(), 2u);
  CallEvents events;
  const std::string first = "question: A?, answer: Sentence 1 | question: B?, answer: x";
  const std::string second = "question: B?, answer: y | question: C?, answer: Sentence 39";
  call.plan->OnText(1, second, {}, &events);
  EXPECT_FALSE(events.Take().has_value()) << "the first window has not spoken";
  call.plan->OnText(0, first.substr(0, 34), {}, &events);
  EXPECT_FALSE(events.Take().has_value()) << "the separator is not whole";
  call.plan->OnText(0, first.substr(34, 3), {}, &events);
  const std::optional<CallEvent> event = events.Take();
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(std::get<CallDelta>(*event).text, "A?");
  EXPECT_EQ(std::get<CallDelta>(*event).output, 0);
  ASSERT_TRUE(call.plan->OnResult(1, Output(second), &events).ok());
  EXPECT_FALSE(events.Take().has_value());
  ASSERT_TRUE(call.plan->OnResult(0, Output(first), &events).ok());
  std::vector<std::string> told;
  while (const std::optional<CallEvent> next = events.Take()) {
    const auto* const delta = std::get_if<CallDelta>(&*next);
    told.push_back(delta != nullptr ? delta->text : "part " + std::to_string(std::get<v1::Part>(*next).index()));
  }
  EXPECT_THAT(told, ElementsAre("B?", "part 0", "C?", "part 1"));
  const CallAnswer answer = call.plan->Fold();
  EXPECT_THAT(TextsOf(answer), ElementsAre("A?", "B?", "C?"));
  EXPECT_EQ(answer.answers[1].text(), "x") << "the window before asked it first";
  // Of the second window, at its place in the whole context.
  EXPECT_EQ(answer.answers[2].span().begin(), static_cast<int64_t>(context.find("Sentence 39")));
  EXPECT_EQ(answer.answers[2].span().end(), answer.answers[2].span().begin() + 11);
}

TEST_F(EndToEndTest, ATruncatedContextKeepsTheSuffix) {
  v1::GenerateQuestionsRequest request = Request("all", Words(3000));
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  const PreparedCall call = Prepared(request);
  EXPECT_TRUE(call.jobs[0].truncated);
  EXPECT_THAT(model().tokenizer().Decode(call.jobs[0].source), ::testing::EndsWith(" :ask"));
}

TEST_F(EndToEndTest, ASeparatorThatTextsLeaveOutIsRefused) {
  FakeModelOptions options;
  options.question_format = {.kind = Kind::kEndToEnd, .separator = " </s> "};
  const auto model = RunningModel::Create(FakeModelConfig(options), MakeFakeEngine(options), nullptr);
  EXPECT_THAT(std::string(model.status().message()),
              HasSubstr("tasks.questions.separator is \" </s> \", which has the special token </s>"));
}

TEST_F(EndToEndTest, TakesNoAnswersAndOneHypothesis) {
  EXPECT_THAT(Refusal(Request("all", "Vim", {"Vim"})),
              HasSubstr("answers has 1 entries; the end_to_end format allows none"));
  v1::GenerateQuestionsRequest request = Request("all", "Vim");
  request.mutable_parameters()->set_num_beams(2);
  request.mutable_parameters()->set_num_return_sequences(2);
  EXPECT_EQ(Refusal(request), "num_return_sequences is 2; the end_to_end format allows 1");
  request.clear_parameters();
  request.set_prefix_text("a");
  EXPECT_EQ(Refusal(request), "answer_prefix is set; the end_to_end format allows none");
}

}  // namespace
}  // namespace elserve
