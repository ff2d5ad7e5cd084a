#include "server/requests/salience.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/requests/request_checks.h"

namespace elserve {
namespace {

bool Overlap(Span a, Span b) { return a.begin < b.end && b.begin < a.end; }

absl::Status CheckStrength(const GenerationRequest& request) {
  if (!request.salience_strength) return absl::OkStatus();
  const double strength = *request.salience_strength;
  if (!(strength > 0 && strength <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("salience_strength is ", strength, "; allowed is above 0 and up to 1"));
  }
  if (!request.salient_spans.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("salience_strength is ", strength, "; it is allowed with salient_spans alone, which are not set"));
}

// Whether the model and the input can have spans at all; the text that they are of.
absl::StatusOr<const std::string*> TextOf(const ServedModel& model, const GenerationRequest& request) {
  if (model.info().decoder_only) {
    return absl::InvalidArgumentError(
        absl::StrCat("salient_spans has ", request.salient_spans.size(), " entries; model ", model.name(),
                     " is decoder-only and allows none: it has no cross-attention, where they would act"));
  }
  if (request.salient_spans.size() > kMaxSalientSpans) {
    return absl::InvalidArgumentError(absl::StrCat("salient_spans has ", request.salient_spans.size(),
                                                   " entries; allowed are at most ", kMaxSalientSpans));
  }
  const auto* const text = std::get_if<std::string>(&request.input);
  if (text != nullptr) return text;
  return absl::InvalidArgumentError(absl::StrCat("salient_spans has ", request.salient_spans.size(),
                                                 " entries; without a text none are allowed: they are bytes of it"));
}

}  // namespace

absl::StatusOr<std::optional<SalientSpans>> SalientSpans::Create(const ServedModel& model,
                                                                 const GenerationRequest& request) {
  if (const absl::Status status = CheckStrength(request); !status.ok()) return status;
  if (request.salient_spans.empty()) return std::nullopt;
  const absl::StatusOr<const std::string*> text = TextOf(model, request);
  if (!text.ok()) return text.status();
  const std::string name = request.task == GenerationRequest::Task::kSummarize ? "document" : "text";
  if (const absl::Status status = CheckText(**text, name); !status.ok()) return status;
  SalientSpans out;
  out.strength_ = request.salience_strength.value_or(1.0);
  for (const Span& span : request.salient_spans) {
    const size_t index = out.unmarked_.size();
    const absl::Status status = CheckSpan(**text, span, absl::StrCat("salient_spans[", index, "]"), name);
    if (!status.ok()) return status;
    out.unmarked_.push_back({span, index});
  }
  std::stable_sort(out.unmarked_.begin(), out.unmarked_.end(),
                   [](const Asked& a, const Asked& b) { return a.span.begin < b.span.begin; });
  for (const Asked& asked : out.unmarked_) {
    if (!out.joined_.empty() && asked.span.begin <= out.joined_.back().end) {
      out.joined_.back().end = std::max(out.joined_.back().end, asked.span.end);
    } else {
      out.joined_.push_back(asked.span);
    }
  }
  return out;
}

bool SalientSpans::Holds(Span token) const {
  const auto span = std::partition_point(joined_.begin(), joined_.end(),
                                         [&token](const Span& other) { return other.end <= token.begin; });
  return span != joined_.end() && Overlap(*span, token);
}

void SalientSpans::Found(Span token) {
  const auto behind = std::partition_point(unmarked_.begin(), unmarked_.end(),
                                           [&token](const Asked& asked) { return asked.span.begin < token.end; });
  const auto left =
      std::remove_if(unmarked_.begin(), behind, [&token](const Asked& asked) { return Overlap(asked.span, token); });
  unmarked_.erase(left, behind);
}

void SalientSpans::Mark(TextSpan part, size_t at, PlannedJob* job) {
  truncated_ |= job->truncated;
  const std::vector<TextSpan> spans = std::exchange(job->spans, {});
  const int64_t shift = int64_t{part.begin} - static_cast<int64_t>(at);
  Salience salience;
  for (size_t i = 0; i < spans.size(); ++i) {
    // What a token has of the prompt around the text is not the text's.
    const Span token = {.begin = std::max<int64_t>(spans[i].begin + shift, part.begin),
                        .end = std::min<int64_t>(spans[i].end + shift, part.end)};
    if (spans[i].begin == spans[i].end || token.begin >= token.end || !Holds(token)) continue;
    Found(token);
    const auto number = static_cast<int32_t>(i);
    if (!salience.tokens.empty() && salience.tokens.back().end == number) {
      ++salience.tokens.back().end;
    } else {
      salience.tokens.push_back({.begin = number, .end = number + 1});
    }
  }
  if (salience.tokens.empty()) return;
  salience.addition = static_cast<float>(std::log1p(-strength_));
  job->decoding.salience = std::move(salience);
}

absl::Status SalientSpans::CheckMarked() const {
  if (unmarked_.empty()) return absl::OkStatus();
  const Asked& asked = unmarked_.front();
  return absl::InvalidArgumentError(absl::StrCat(
      "salient_spans[", asked.index, "] is bytes ", asked.span.begin, " to ", asked.span.end, ", which hold no token",
      truncated_ ? " of what truncation leaves" : "", "; allowed are spans with at least one token of the source"));
}

v1::Salience SalientSpans::Describe() const {
  v1::Salience salience;
  for (const Span& span : joined_) {
    v1::Span* const out = salience.add_spans();
    out->set_begin(span.begin);
    out->set_end(span.end);
  }
  salience.set_strength(strength_);
  return salience;
}

}  // namespace elserve
