#include "server/requests/chunked_summary.h"

#include <algorithm>
#include <string_view>

namespace elserve {
namespace {

constexpr std::string_view kBetween = " ";

// Of several hypotheses that are joined: what cut one of them cut the whole.
v1::FinishReason Joined(v1::FinishReason a, v1::FinishReason b) {
  for (const auto reason : {v1::FINISH_REASON_DEADLINE, v1::FINISH_REASON_LENGTH, v1::FINISH_REASON_STOP_STRING}) {
    if (a == reason || b == reason) return reason;
  }
  return v1::FINISH_REASON_EOS;
}

}  // namespace

absl::StatusOr<std::vector<PlannedJob>> ChunkedSummary::StartRound() {
  absl::StatusOr<std::vector<Window>> all =
      WindowJobs(maker_.get(), rules_, text_, "document").All([this](std::string_view part, size_t) {
        return SummaryPrompt(maker_->source_rules().prompt, part);
      });
  if (!all.ok()) return all.status();
  std::vector<PlannedJob> jobs;
  std::vector<Span> sources;
  for (Window& window : *all) {
    if (salience_) salience_->Mark(window.span, maker_->source_rules().prompt.prefix.size(), &window.job);
    jobs.push_back(std::move(window.job));
    sources.push_back(SourceOf(window.span));
  }
  if (salience_) {
    if (const absl::Status status = salience_->CheckMarked(); !status.ok()) return status;
    salience_.reset();
    maker_->WantSpans(false);
  }
  count_ = jobs.size();
  bytes_ = text_.size();
  if (round_ == 1) text_ = {};
  parts_ = OrderedParts(round_, sources);
  return jobs;
}

Span ChunkedSummary::SourceOf(TextSpan window) const {
  if (origins_.empty()) return {.begin = window.begin, .end = window.end};
  const auto first = std::find_if(origins_.begin(), origins_.end() - 1,
                                  [&](const Origin& origin) { return origin.end > window.begin; });
  const auto last = std::find_if(origins_.rbegin(), origins_.rend() - 1,
                                 [&](const Origin& origin) { return origin.begin < window.end; });
  return {.begin = first->source.begin, .end = last->source.end};
}

void ChunkedSummary::OnText(size_t job, std::string text, std::span<const int32_t>, CallEvents* events) {
  parts_.AddText(job - first_job_, text);
  Advance(events);
}

absl::StatusOr<std::vector<PlannedJob>> ChunkedSummary::OnResult(size_t job, CallOutput output, CallEvents* events) {
  parts_.End(job - first_job_, std::move(output));
  Advance(events);
  if (!parts_.all_told()) return std::vector<PlannedJob>();
  return EndRound(events);
}

absl::Status ChunkedSummary::OnExpired(size_t job, absl::Status late, CallEvents* events) {
  parts_.Expire(job - first_job_);
  if (late_.ok()) late_ = std::move(late);
  Advance(events);
  // No round follows.
  return parts_.all_told() ? EndRound(events).status() : absl::OkStatus();
}

absl::StatusOr<std::vector<PlannedJob>> ChunkedSummary::EndRound(CallEvents* events) {
  parts_.MoveTo(&told_);
  const bool blank = joined_.find_first_not_of(' ') == std::string::npos;
  if (reason_ == v1::FINISH_REASON_DEADLINE) return EndLate(blank, events);
  // A text that does not become shorter would never be one window.
  if (IsLast() || blank || joined_.size() >= bytes_) {
    TellJoined(events);
    return std::vector<PlannedJob>();
  }
  const v1::FinishReason reason = std::exchange(reason_, v1::FINISH_REASON_UNSPECIFIED);
  text_ = std::exchange(joined_, {});
  origins_ = std::exchange(joined_origins_, {});
  untold_.reset();
  ++round_;
  first_job_ += count_;
  absl::StatusOr<std::vector<PlannedJob>> jobs = StartRound();
  if (!absl::IsInvalidArgument(jobs.status())) return jobs;
  // What a document may not be, such as more windows than may wait, this text may not be either; and it is an answer.
  reason_ = reason;
  TakeTextBefore(events);
  return std::vector<PlannedJob>();
}

// Time ran out. What was streamed stays; else a whole text of the round before is better than parts of this one's.
absl::StatusOr<std::vector<PlannedJob>> ChunkedSummary::EndLate(bool blank, CallEvents* events) {
  if (round_ == 1 && blank && !late_.ok()) return late_;
  if (round_ > 1 && (blank || !IsLast())) {
    TakeTextBefore(events);
  } else {
    TellJoined(events);
  }
  return std::vector<PlannedJob>();
}

// The round before turns out to have been the last.
void ChunkedSummary::TakeTextBefore(CallEvents* events) {
  joined_ = std::move(text_);
  if (events != nullptr) events->AddDelta(0, joined_, {});
}

// Of a round that turned out to be the last: nothing was told of it while it ran.
void ChunkedSummary::TellJoined(CallEvents* events) {
  if (!IsLast() && events != nullptr) events->AddDelta(0, joined_, {});
}

void ChunkedSummary::Advance(CallEvents* events) {
  while (const std::optional<OrderedParts::News> news = parts_.Next()) {
    const v1::Part& part = parts_[news->part];
    Join(news->text, {.begin = part.source().begin(), .end = part.source().end()}, news->ended, events);
    if (!news->ended) continue;
    reason_ = Joined(reason_, part.hypothesis().finish_reason());
    if (events != nullptr) events->AddPart(part);
  }
}

// `source`: of the part that `text` is more of.
void ChunkedSummary::Join(const std::string& text, Span source, bool ended, CallEvents* events) {
  if (!text.empty()) {
    const std::string between(begun_ || joined_.empty() ? "" : kBetween);
    if (!begun_) {
      const size_t begin = joined_.size() + between.size();
      joined_origins_.push_back(
          {.begin = begin, .end = begin, .source = {.begin = untold_.value_or(source.begin), .end = source.end}});
      untold_.reset();
      begun_ = true;
    }
    joined_ += between;
    joined_ += text;
    joined_origins_.back().end = joined_.size();
    if (IsLast() && events != nullptr) events->AddDelta(0, between + text, {});
  }
  if (!ended) return;
  // Of a part that came to nothing a neighbour tells.
  if (!begun_ && joined_origins_.empty()) untold_ = untold_.value_or(source.begin);
  if (!begun_ && !joined_origins_.empty()) joined_origins_.back().source.end = source.end;
  begun_ = false;
}

CallAnswer ChunkedSummary::Fold() {
  CallAnswer answer;
  CallOutput& output = answer.outputs.emplace_back();
  v1::Hypothesis& hypothesis = output.hypotheses.emplace_back();
  hypothesis.set_text(std::move(joined_));
  hypothesis.set_finish_reason(reason_);
  output.usage = SumOfUsage(told_);
  answer.parts = std::move(told_);
  return answer;
}

}  // namespace elserve
