// Long documents: the plan alone, with results that the test makes up, and as calls on the fake engine.
#include "server/requests/chunked_summary.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/intake.h"
#include "tests/server/requests/fake_model.h"
#include "tests/server/requests/rpc_requests.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Sentences of a few words each, some of them with characters of several bytes.
std::string Sentences(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += "Sentence " + std::to_string(i) + (i % 3 == 0 ? " is about naïve editors" : " has some words") + ". ";
  }
  return text;
}

v1::SummarizeRequest Chunked(const std::string& document, int window_tokens) {
  v1::SummarizeRequest request;
  request.set_document(document);
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_window_tokens(window_tokens);
  request.mutable_chunk()->set_overlap_tokens(0);
  return request;
}

// Takes what a stream would be told.
struct Told {
  std::string text;
  std::vector<v1::Part> parts;
  std::vector<std::string> text_at_part;

  void Take(CallEvents* events) {
    while (std::optional<CallEvent> event = events->Take()) {
      if (const auto* const delta = std::get_if<CallDelta>(&*event)) {
        EXPECT_EQ(delta->output, 0);
        EXPECT_TRUE(delta->tokens.empty());
        text += delta->text;
      } else {
        parts.push_back(std::get<v1::Part>(*event));
        text_at_part.push_back(text);
      }
    }
  }
};

CallOutput Output(const std::string& text, v1::FinishReason reason = v1::FINISH_REASON_EOS) {
  CallOutput output;
  v1::Hypothesis& hypothesis = output.hypotheses.emplace_back();
  hypothesis.set_text(text);
  hypothesis.set_score(-1);
  hypothesis.set_finish_reason(reason);
  output.usage.emplace().set_generated_tokens(3);
  output.usage->set_source_tokens(5);
  output.usage->set_steps(2);
  output.usage->set_decode_seconds(0.5);
  output.usage->set_encode_seconds(0.25);
  output.usage->set_queue_seconds(2);
  return output;
}

absl::Status Late() { return absl::DeadlineExceededError("max_time, 1 s, passed after 1.000 s in the queue"); }
// Stands for a job that had no token when time was over.
CallOutput LateOutput() { return Output("", v1::FINISH_REASON_DEADLINE); }
bool IsLate(const CallOutput& output) {
  const v1::Hypothesis& hypothesis = output.hypotheses.front();
  return hypothesis.text().empty() && hypothesis.finish_reason() == v1::FINISH_REASON_DEADLINE;
}

class ChunkedSummaryTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new ModelRegistry(MakeFakeModels({{.max_source_tokens = 64}})); }
  static void TearDownTestSuite() { delete models_; }

  static const Tokenizer& tokenizer() { return models_->models().front().served->tokenizer(); }
  static PreparedCall Prepared(const v1::SummarizeRequest& request) {
    absl::StatusOr<PreparedCall> call = Prepare(*models_, request, /*stream=*/true);
    EXPECT_TRUE(call.ok()) << call.status();
    return *std::move(call);
  }
  static std::string Refusal(const v1::SummarizeRequest& request) {
    return std::string(Prepare(*models_, request, false).status().message());
  }
  // A plan that failed: no answer, and the error as the model's name.
  static CallAnswer FailedWith(const absl::Status& status) {
    CallAnswer answer;
    answer.model = std::string(status.message());
    return answer;
  }
  // Answers all jobs, in any order and in pieces, until none is left; `say` is what each says.
  static CallAnswer Answer(CallPlan& plan, std::vector<PlannedJob> jobs,
                           const std::function<CallOutput(size_t job)>& say, std::mt19937* random, Told* told) {
    struct Open {
      size_t job;
      CallOutput output;
      size_t sent = 0;
    };
    CallEvents events;
    std::vector<Open> open;
    size_t next = 0;
    for (size_t i = 0; i < jobs.size(); ++i) open.push_back({.job = next, .output = say(next)}), ++next;
    while (!open.empty()) {
      const size_t at = (*random)() % open.size();
      const std::string text = open[at].output.hypotheses.front().text();
      const size_t piece = (*random)() % (text.size() - open[at].sent + 1);
      plan.OnText(open[at].job, text.substr(open[at].sent, piece), {}, &events);
      open[at].sent += piece;
      if (open[at].sent == text.size() || (*random)() % 4 == 0) {
        absl::StatusOr<std::vector<PlannedJob>> more = std::vector<PlannedJob>();
        if (IsLate(open[at].output)) {
          const absl::Status status = plan.OnExpired(open[at].job, Late(), &events);
          if (!status.ok()) more = status;
        } else {
          more = plan.OnResult(open[at].job, std::move(open[at].output), &events);
        }
        if (!more.ok()) return FailedWith(more.status());
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
        for (size_t i = 0; i < more->size(); ++i) open.push_back({.job = next, .output = say(next)}), ++next;
      }
      if ((*random)() % 3 == 0) told->Take(&events);
    }
    told->Take(&events);
    return plan.Fold();
  }
  static CallAnswer AnswerAll(PreparedCall& call, const std::function<CallOutput(size_t job)>& say, Told* told) {
    std::mt19937 random(7);
    return Answer(*call.plan, call.jobs, say, &random, told);
  }

  static inline const ModelRegistry* models_ = nullptr;
};

TEST_F(ChunkedSummaryTest, EachWindowIsTokenizedAsADocumentOfItsOwn) {
  const std::string document = Sentences(30);
  PreparedCall call = Prepared(Chunked(document, 40));
  ASSERT_GT(call.jobs.size(), 5u);
  Told told;
  AnswerAll(
      call, [](size_t) { return Output("x"); }, &told);
  ASSERT_EQ(told.parts.size(), call.jobs.size());
  int64_t end = 0;
  for (size_t i = 0; i < call.jobs.size(); ++i) {
    const v1::Span& source = told.parts[i].source();
    EXPECT_EQ(source.begin(), end);
    end = source.end();
    const std::string part =
        document.substr(static_cast<size_t>(source.begin()), static_cast<size_t>(source.end() - source.begin()));
    EXPECT_EQ(part.substr(part.size() - 2), ". ") << "cut where no sentence ends: " << part;
    EXPECT_EQ(call.jobs[i].source, tokenizer().Encode(part)->ids);
    EXPECT_LE(call.jobs[i].source.size(), 40u);
    EXPECT_EQ(call.jobs[i].source_tokens, static_cast<int>(call.jobs[i].source.size()));
  }
  EXPECT_EQ(end, static_cast<int64_t>(document.size()));
}

TEST_F(ChunkedSummaryTest, WindowsOverlapByWholeSentences) {
  const std::string document = Sentences(30);
  v1::SummarizeRequest request = Chunked(document, 40);
  request.mutable_chunk()->set_overlap_tokens(15);
  PreparedCall call = Prepared(request);
  Told told;
  AnswerAll(
      call, [](size_t) { return Output("x"); }, &told);
  int overlapping = 0;
  for (size_t i = 1; i < told.parts.size(); ++i) {
    const auto begin = static_cast<size_t>(told.parts[i].source().begin());
    const auto before = static_cast<size_t>(told.parts[i - 1].source().end());
    ASSERT_LE(begin, before);
    overlapping += begin < before;
    EXPECT_EQ(document.substr(begin, 8), "Sentence");
    EXPECT_LE(tokenizer().Encode(document.substr(begin, before - begin), {.add_special_tokens = false})->ids.size(),
              15u);
  }
  EXPECT_GT(overlapping, 3);
}

TEST_F(ChunkedSummaryTest, WhatFitsIsOnePart) {
  PreparedCall call = Prepared(Chunked("One sentence.", 0));
  ASSERT_EQ(call.jobs.size(), 1u);
  Told told;
  const CallAnswer answer = AnswerAll(
      call, [](size_t) { return Output("A summary."); }, &told);
  ASSERT_EQ(answer.outputs.size(), 1u);
  ASSERT_EQ(answer.outputs[0].hypotheses.size(), 1u);
  const v1::Hypothesis& joined = answer.outputs[0].hypotheses[0];
  EXPECT_EQ(joined.text(), "A summary.");
  EXPECT_EQ(joined.score(), 0) << "a joined text has none";
  EXPECT_EQ(answer.parts.size(), 1u);
  EXPECT_EQ(answer.parts[0].hypothesis().score(), -1);
}

// Whatever the order in which parts say and end something: the stream is the answer's text, and parts come in order,
// each behind its text.
TEST_F(ChunkedSummaryTest, StreamsInTheOrderOfTheText) {
  const std::string document = Sentences(40);
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    PreparedCall call = Prepared(Chunked(document, 40));
    std::vector<std::string> texts;
    std::string joined;
    for (size_t i = 0; i < call.jobs.size(); ++i) {
      texts.push_back(random() % 4 == 0 ? "" : "part " + std::to_string(i) + ".");
      if (!texts.back().empty()) joined += (joined.empty() ? "" : " ") + texts.back();
    }
    Told told;
    const CallAnswer answer = Answer(
        *call.plan, call.jobs, [&](size_t job) { return Output(texts[job]); }, &random, &told);
    ASSERT_EQ(told.text, joined);
    ASSERT_EQ(answer.outputs[0].hypotheses[0].text(), joined);
    ASSERT_EQ(told.parts.size(), texts.size());
    std::string so_far;
    for (size_t i = 0; i < texts.size(); ++i) {
      ASSERT_EQ(told.parts[i].index(), static_cast<int>(i));
      ASSERT_EQ(told.parts[i].count(), static_cast<int>(texts.size()));
      ASSERT_EQ(told.parts[i].hypothesis().text(), texts[i]);
      if (!texts[i].empty()) so_far += (so_far.empty() ? "" : " ") + texts[i];
      ASSERT_EQ(told.text_at_part[i].substr(0, so_far.size()), so_far);
    }
    ASSERT_EQ(answer.parts.size(), texts.size());
  }
}

TEST_F(ChunkedSummaryTest, UsageIsTheSumOfTheParts) {
  PreparedCall call = Prepared(Chunked(Sentences(30), 40));
  const auto parts = static_cast<int>(call.jobs.size());
  Told told;
  const CallAnswer answer = AnswerAll(
      call, [](size_t) { return Output("x"); }, &told);
  const v1::Usage& usage = *answer.outputs[0].usage;
  EXPECT_EQ(usage.source_tokens(), 5 * parts);
  EXPECT_EQ(usage.generated_tokens(), 3 * parts);
  EXPECT_EQ(usage.steps(), 2 * parts);
  EXPECT_EQ(usage.decode_seconds(), 0.5 * parts);
  EXPECT_EQ(usage.encode_seconds(), 0.25 * parts);
  EXPECT_EQ(usage.queue_seconds(), 2 * parts);
}

TEST_F(ChunkedSummaryTest, OnePartThatWasComputedMakesTheAnswerComputed) {
  constexpr v1::AnsweredBy kComputing = v1::ANSWERED_BY_COMPUTING, kSharing = v1::ANSWERED_BY_SHARING,
                           kCache = v1::ANSWERED_BY_CACHE;
  struct Case {
    v1::AnsweredBy first, second, others, sum;
  };
  for (const Case& c : {Case{kCache, kCache, kCache, kCache}, Case{kCache, kComputing, kSharing, kComputing},
                        Case{kSharing, kCache, kCache, kSharing}, Case{kCache, kSharing, kCache, kSharing},
                        Case{kComputing, kCache, kSharing, kComputing}}) {
    PreparedCall call = Prepared(Chunked(Sentences(30), 40));
    ASSERT_GT(call.jobs.size(), 2u);
    Told told;
    const auto output = [&c](size_t job) {
      CallOutput made = Output("x");
      made.usage->set_answered_by(job == 0 ? c.first : job == 1 ? c.second : c.others);
      return made;
    };
    EXPECT_EQ(AnswerAll(call, output, &told).outputs[0].usage->answered_by(), c.sum);
  }
}

TEST_F(ChunkedSummaryTest, TheWorstReasonIsTheAnswers) {
  for (const auto& [reason, expected] : std::vector<std::pair<v1::FinishReason, v1::FinishReason>>{
           {v1::FINISH_REASON_EOS, v1::FINISH_REASON_EOS},
           {v1::FINISH_REASON_LENGTH, v1::FINISH_REASON_LENGTH},
           {v1::FINISH_REASON_STOP_STRING, v1::FINISH_REASON_STOP_STRING},
           {v1::FINISH_REASON_DEADLINE, v1::FINISH_REASON_DEADLINE}}) {
    PreparedCall call = Prepared(Chunked(Sentences(30), 40));
    Told told;
    const CallAnswer answer = AnswerAll(
        call, [&, r = reason](size_t job) { return Output("x", job == 1 ? r : v1::FINISH_REASON_EOS); }, &told);
    EXPECT_EQ(answer.outputs[0].hypotheses[0].finish_reason(), expected);
  }
}

class ResummarizeTest : public ChunkedSummaryTest {
 protected:
  size_t call_jobs_ = 0;  // of the rounds before

  static v1::SummarizeRequest Rounds(const std::string& document, int most) {
    v1::SummarizeRequest request = Chunked(document, 40);
    request.mutable_chunk()->set_join(v1::JOIN_RESUMMARIZE);
    request.mutable_chunk()->set_max_rounds(most);
    return request;
  }
  // Each round's parts leave no byte of the document out.
  static void ExpectCover(const std::vector<v1::Part>& parts, int64_t bytes) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool first = parts[i].index() == 0;
      if (first) {
        EXPECT_EQ(parts[i].source().begin(), 0);
      } else {
        EXPECT_LE(parts[i].source().begin(), parts[i - 1].source().end());
      }
      if (parts[i].index() == parts[i].count() - 1) {
        EXPECT_EQ(parts[i].source().end(), bytes);
      }
      EXPECT_LT(parts[i].source().begin(), parts[i].source().end());
    }
  }
};

TEST_F(ResummarizeTest, GoesOnUntilOneWindowIsLeft) {
  const std::string document = Sentences(60);
  PreparedCall call = Prepared(Rounds(document, 16));
  const size_t first = call.jobs.size();
  Told told;
  const CallAnswer answer = AnswerAll(
      call, [](size_t job) { return Output("Summary number " + std::to_string(job) + "."); }, &told);
  ASSERT_GT(answer.parts.size(), first + 1);
  const v1::Part& last = answer.parts.back();
  EXPECT_EQ(last.count(), 1);
  EXPECT_GE(last.round(), 3);
  EXPECT_EQ(answer.outputs[0].hypotheses[0].text(), last.hypothesis().text());
  EXPECT_EQ(told.text, last.hypothesis().text()) << "only the last round is streamed";
  EXPECT_EQ(told.parts.size(), answer.parts.size());
  ExpectCover(answer.parts, static_cast<int64_t>(document.size()));
}

TEST_F(ResummarizeTest, TheLastRoundThatIsAllowedIsJoined) {
  const std::string document = Sentences(60);
  for (const int most : {1, 2}) {
    PreparedCall call = Prepared(Rounds(document, most));
    Told told;
    const CallAnswer answer = AnswerAll(
        call, [](size_t) { return Output("A summary of many words that is not short at all."); }, &told);
    EXPECT_EQ(answer.parts.back().round(), most);
    EXPECT_GT(answer.parts.back().count(), 1);
    EXPECT_THAT(answer.outputs[0].hypotheses[0].text(), HasSubstr("at all. A summary"));
    EXPECT_EQ(told.text, answer.outputs[0].hypotheses[0].text());
  }
}

// A part may come to nothing; another tells of its bytes.
TEST_F(ResummarizeTest, NoByteIsLostWithASummaryThatIsEmpty) {
  const std::string document = Sentences(60);
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    PreparedCall call = Prepared(Rounds(document, 16));
    Told told;
    const CallAnswer answer = Answer(
        *call.plan, call.jobs,
        [&](size_t job) { return Output(random() % 2 == 0 ? "" : "Summary number " + std::to_string(job) + "."); },
        &random, &told);
    ExpectCover(answer.parts, static_cast<int64_t>(document.size()));
    ASSERT_EQ(told.text, answer.outputs[0].hypotheses[0].text());
  }
}

TEST_F(ResummarizeTest, NothingFollowsWhereNothingWasSaid) {
  PreparedCall call = Prepared(Rounds(Sentences(60), 16));
  Told told;
  const CallAnswer answer = AnswerAll(
      call, [&](size_t) { return Output(""); }, &told);
  EXPECT_EQ(answer.parts.back().round(), 1);
  EXPECT_EQ(told.text, "");
  EXPECT_EQ(answer.outputs[0].hypotheses[0].text(), "");
}

// It would never be one window.
TEST_F(ResummarizeTest, EndsWhereATextDoesNotBecomeShorter) {
  PreparedCall call = Prepared(Rounds(Sentences(20), 16));
  std::string longer;
  for (int i = 0; i < 60; ++i) longer += "very ";
  Told told;
  const CallAnswer answer = AnswerAll(
      call, [&](size_t) { return Output(longer); }, &told);
  EXPECT_EQ(answer.parts.back().round(), 1);
  EXPECT_EQ(told.text, answer.outputs[0].hypotheses[0].text());
  EXPECT_THAT(told.text, HasSubstr("very  very"));
}

// As many windows as may wait is the bound of a document. Where the text of a round has more, it is the answer.
TEST_F(ResummarizeTest, ARoundThatCannotBeIsNone) {
  const ModelRegistry few(MakeFakeModels({{.max_queued_requests = 3, .max_source_tokens = 64}}));
  // Numbers have many tokens, and words few.
  std::string document;
  for (int i = 0; i < 70; ++i) document += "library ";
  v1::SummarizeRequest request = Rounds(document, 16);
  absl::StatusOr<PreparedCall> call = Prepare(few, request, true);
  ASSERT_TRUE(call.ok()) << call.status();
  Told told;
  const CallAnswer answer = AnswerAll(
      *call, [&](size_t) { return Output(std::string(document.size() / 4, '7')); }, &told);
  EXPECT_EQ(answer.model, "") << "it failed";
  EXPECT_EQ(answer.parts.back().round(), 1);
  EXPECT_EQ(answer.outputs[0].hypotheses[0].text(), told.text);
  EXPECT_EQ(answer.outputs[0].hypotheses[0].finish_reason(), v1::FINISH_REASON_EOS);
  EXPECT_THAT(told.text, HasSubstr("777"));
}

class LateTest : public ResummarizeTest {
 protected:
  // Of all jobs from `from` on says what `late` says.
  static CallAnswer From(PreparedCall& call, size_t from, const CallOutput& late, Told* told) {
    return AnswerAll(
        call, [&](size_t job) { return job < from ? Output("Summary number " + std::to_string(job) + ".") : late; },
        told);
  }
};

TEST_F(LateTest, WindowsWithoutATokenArePartsWithoutText) {
  for (const bool chunked : {true, false}) {
    PreparedCall call = Prepared(chunked ? Chunked(Sentences(60), 40) : Rounds(Sentences(60), 16));
    const size_t windows = call.jobs.size();
    Told told;
    const CallAnswer answer = From(call, 2, LateOutput(), &told);
    const v1::Hypothesis& joined = answer.outputs[0].hypotheses[0];
    EXPECT_EQ(joined.text(), "Summary number 0. Summary number 1.");
    EXPECT_EQ(joined.finish_reason(), v1::FINISH_REASON_DEADLINE);
    EXPECT_EQ(told.text, joined.text());
    ASSERT_EQ(answer.parts.size(), windows);
    EXPECT_EQ(answer.parts[2].hypothesis().finish_reason(), v1::FINISH_REASON_DEADLINE);
    EXPECT_EQ(answer.parts[1].hypothesis().finish_reason(), v1::FINISH_REASON_EOS);
    ExpectCover(answer.parts, static_cast<int64_t>(Sentences(60).size()));
  }
}

TEST_F(LateTest, IfNoneHasATokenTheCallFails) {
  PreparedCall call = Prepared(Chunked(Sentences(60), 40));
  Told told;
  EXPECT_EQ(From(call, 0, LateOutput(), &told).model, std::string(Late().message()));
}

// Of a later round that is not the last nothing was streamed: the text of the round before is whole.
TEST_F(LateTest, ALaterRoundThatIsCutIsNoAnswer) {
  for (const bool some : {true, false}) {
    PreparedCall call = Prepared(Rounds(Sentences(200), 16));
    const size_t first = call.jobs.size();
    std::string whole;
    for (size_t i = 0; i < first; ++i) absl::StrAppend(&whole, i > 0 ? " " : "", "Summary number ", i, ".");
    Told told;
    const CallAnswer answer =
        From(call, some ? first + 2 : first, some ? Output("cut", v1::FINISH_REASON_DEADLINE) : LateOutput(), &told);
    ASSERT_EQ(answer.outputs.size(), 1u) << answer.model;
    EXPECT_EQ(answer.outputs[0].hypotheses[0].text(), whole);
    EXPECT_EQ(answer.outputs[0].hypotheses[0].finish_reason(), v1::FINISH_REASON_DEADLINE);
    EXPECT_EQ(told.text, whole);
    EXPECT_EQ(answer.parts.back().round(), 2);
  }
}

// Of the last one the client may have what there is.
TEST_F(LateTest, WhatTheLastRoundSaidStays) {
  for (const bool some : {true, false}) {
    PreparedCall call = Prepared(Rounds(Sentences(200), 2));
    const size_t first = call.jobs.size();
    Told told;
    const CallAnswer answer = From(call, some ? first + 1 : first, LateOutput(), &told);
    ASSERT_EQ(answer.outputs.size(), 1u) << answer.model;
    const std::string& text = answer.outputs[0].hypotheses[0].text();
    EXPECT_EQ(told.text, text);
    if (some) {
      EXPECT_EQ(text, "Summary number " + std::to_string(first) + ".");
    } else {
      EXPECT_THAT(text, ::testing::StartsWith("Summary number 0. Summary number 1."));
    }
  }
}

// Prefix and suffix stand around each window, of every round.
TEST_F(ResummarizeTest, EachWindowHasThePromptOfTheTask) {
  const ModelRegistry models(
      MakeFakeModels({{.max_source_tokens = 64, .summarize_prefix = "summarize: ", .summarize_suffix = "\nTL;DR:"}}));
  absl::StatusOr<PreparedCall> call = Prepare(models, Rounds(Sentences(60), 16), true);
  ASSERT_TRUE(call.ok()) << call.status();
  std::vector<PlannedJob> jobs = std::move(call->jobs);
  for (int round = 1; round <= 2; ++round) {
    std::vector<PlannedJob> next;
    for (size_t i = 0; i < jobs.size(); ++i) {
      const std::string prompt = tokenizer().Decode(jobs[i].source);
      EXPECT_EQ(prompt.substr(0, 19), round == 1 ? "summarize: Sentence" : "summarize: Summary ");
      EXPECT_EQ(prompt.substr(prompt.size() - 7), "\nTL;DR:");
      EXPECT_LE(jobs[i].source.size(), 40u);
    }
    const size_t first = round == 1 ? 0 : call_jobs_;
    for (size_t i = 0; i < jobs.size(); ++i) {
      auto more = call->plan->OnResult(first + i, Output("Summary of some words that says little."), nullptr);
      ASSERT_TRUE(more.ok()) << more.status();
      if (!more->empty()) next = *std::move(more);
    }
    call_jobs_ = jobs.size();
    jobs = std::move(next);
  }
}

// With its prompt a text may have as many tokens as a window, to the last: it is then one part.
TEST_F(ChunkedSummaryTest, ATextThatJustFitsIsNotCut) {
  const ModelRegistry models(MakeFakeModels({{.max_source_tokens = 64, .summarize_prefix = "summarize: "}}));
  for (int words = 10; words < 60; ++words) {
    std::string text = "Sentence. ";
    for (int i = 0; i < words; ++i) text += "word ";
    v1::SummarizeRequest request;
    request.set_document(text);
    const bool fits = Prepare(models, request, false).ok();
    request.set_truncation(v1::TRUNCATION_CHUNK);
    EXPECT_EQ(Prepare(models, request, false)->jobs.size() == 1, fits) << words;
  }
}

// Words without a beginning that the vocabulary knows: at a window's own beginning they have other tokens.
TEST_F(ChunkedSummaryTest, WindowsFitWhateverTheirTokensAloneAre) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    std::string text;
    for (int i = 0; i < 400; ++i) {
      for (unsigned letters = 1 + random() % 9; letters > 0; --letters) text += static_cast<char>('a' + random() % 26);
      text += random() % 9 == 0 ? ". " : " ";
    }
    const auto call = Prepare(*models_, Chunked(text, 20 + static_cast<int>(random() % 30)), false);
    ASSERT_TRUE(call.ok()) << call.status();
  }
}

TEST_F(ChunkedSummaryTest, OptionsAreChecked) {
  const std::string document = Sentences(30);
  const auto with = [&](const std::function<void(v1::SummarizeRequest*)>& change) {
    v1::SummarizeRequest request = Chunked(document, 40);
    change(&request);
    return Refusal(request);
  };
  EXPECT_EQ(with([](auto*) {}), "");
  EXPECT_EQ(with([](auto* r) { r->mutable_chunk()->set_window_tokens(65); }),
            "chunk.window_tokens is 65; allowed are 0 to 64");
  EXPECT_EQ(with([](auto* r) { r->mutable_chunk()->set_window_tokens(64); }), "");
  EXPECT_THAT(with([](auto* r) { r->mutable_chunk()->set_window_tokens(-1); }), HasSubstr("window_tokens is -1"));
  EXPECT_THAT(with([](auto* r) { r->mutable_chunk()->set_window_tokens(2); }),
              HasSubstr("chunk.window_tokens is 2; allowed are so many that text fits"));
  EXPECT_EQ(with([](auto* r) { r->mutable_chunk()->set_overlap_tokens(21); }),
            "chunk.overlap_tokens is 21; allowed are 0 to 20, half of a window");
  EXPECT_EQ(with([](auto* r) { r->mutable_chunk()->set_overlap_tokens(20); }), "");
  EXPECT_THAT(with([](auto* r) { r->mutable_chunk()->set_join(static_cast<v1::Join>(3)); }),
              HasSubstr("chunk.join is 3; allowed are JOIN_CONCATENATE (1) and JOIN_RESUMMARIZE (2)"));
  for (const int rounds : {0, 17}) {
    EXPECT_EQ(with([=](auto* r) { r->mutable_chunk()->set_max_rounds(rounds); }),
              "chunk.max_rounds is " + std::to_string(rounds) + "; allowed are 1 to 16");
  }
  EXPECT_EQ(with([](auto* r) {
              r->mutable_parameters()->set_num_beams(2), r->mutable_parameters()->set_num_return_sequences(2);
            }),
            "num_return_sequences is 2; TRUNCATION_CHUNK allows 1");
  EXPECT_EQ(with([](auto* r) { r->set_prefix_text("a"); }), "answer_prefix is set; TRUNCATION_CHUNK allows none");
  EXPECT_THAT(with([](auto* r) { r->set_truncation(v1::TRUNCATION_TRUNCATE); }), HasSubstr("chunk is set"));
  EXPECT_EQ(with([](auto* r) {
              r->mutable_chunk()->set_join(v1::JOIN_CONCATENATE);
              r->mutable_chunk()->set_max_rounds(2);
            }),
            "chunk.max_rounds is 2; only JOIN_RESUMMARIZE allows it");
  EXPECT_EQ(with([](auto* r) { r->set_top_logprobs(2); }), "");
  EXPECT_EQ(with([](auto* r) {
              r->mutable_chunk()->set_join(v1::JOIN_RESUMMARIZE);
              r->set_top_logprobs(2);
            }),
            "top_logprobs is 2; JOIN_RESUMMARIZE allows 0");
  EXPECT_THAT(with([](auto* r) { r->set_document(std::string((1 << 20) + 1, 'a')); }),
              HasSubstr("document has 1048577 bytes; with TRUNCATION_CHUNK model fake takes at most 1048576"));
}

TEST_F(ChunkedSummaryTest, OtherTasksHaveNoWindows) {
  v1::GenerateRequest request;
  request.set_text("text");
  request.set_truncation(v1::TRUNCATION_CHUNK);
  EXPECT_THAT(std::string(Prepare(*models_, request, false).status().message()),
              HasSubstr("TRUNCATION_CHUNK is for Summarize and GenerateQuestions"));
}

TEST_F(ChunkedSummaryTest, AsManyWindowsAsMayWait) {
  const ModelRegistry few(MakeFakeModels({{.max_queued_requests = 3, .max_source_tokens = 64}}));
  EXPECT_THAT(std::string(Prepare(few, Chunked(Sentences(30), 40), false).status().message()),
              HasSubstr("document has more than 3 windows of 40 tokens"));
}

}  // namespace
}  // namespace elserve
