#include "server/requests/chunks.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace elserve {
namespace {

absl::Status OutOfRange(std::string_view name, int64_t value, std::string_view allowed) {
  return absl::InvalidArgumentError(absl::StrFormat("chunk.%s is %d; allowed are %s", name, value, allowed));
}

absl::Status CheckJoin(const v1::ChunkOptions& options, bool summary) {
  if (!summary && options.join() != v1::JOIN_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk.join is ", static_cast<int>(options.join()), "; only Summarize allows it"));
  }
  if (!summary && options.has_max_rounds()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk.max_rounds is ", options.max_rounds(), "; only Summarize allows it"));
  }
  if (!v1::Join_IsValid(options.join())) {
    return absl::InvalidArgumentError(absl::StrCat("chunk.join is ", static_cast<int>(options.join()),
                                                   "; allowed are JOIN_CONCATENATE (1) and JOIN_RESUMMARIZE (2)"));
  }
  if (options.has_max_rounds() && (options.max_rounds() < 1 || options.max_rounds() > kMaxChunkRounds)) {
    return OutOfRange("max_rounds", options.max_rounds(), absl::StrCat("1 to ", kMaxChunkRounds));
  }
  return absl::OkStatus();
}

// Of windows. `answers`: each has a window of its own.
absl::Status SetSizes(const JobMaker& maker, const v1::ChunkOptions& options, const ChunkDefaults& defaults,
                      bool answers, ChunkRules* rules) {
  const auto most = static_cast<int64_t>(maker.source_rules().most_tokens);
  int64_t window = options.has_window_tokens() ? options.window_tokens() : defaults.window_tokens;
  if (window < 0 || (options.has_window_tokens() && window > most)) {
    return OutOfRange("window_tokens", window, absl::StrCat("0 to ", most, maker.source_rules().why));
  }
  // The configuration's may be more than a decoder-only model's answer leaves.
  window = window == 0 ? most : std::min(window, most);
  if (answers && options.has_overlap_tokens()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk.overlap_tokens is ", options.overlap_tokens(),
                     "; questions with answers allow none: each has a window of its own"));
  }
  const int64_t overlap = options.has_overlap_tokens() ? options.overlap_tokens() : defaults.overlap_tokens;
  if (overlap < 0 || (options.has_overlap_tokens() && overlap > window / 2)) {
    return OutOfRange("overlap_tokens", overlap, absl::StrCat("0 to ", window / 2, ", half of a window"));
  }
  rules->window_tokens = static_cast<size_t>(window);
  rules->overlap_tokens = static_cast<size_t>(std::min(overlap, window / 2));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<ChunkRules>> ChunkRulesOf(const JobMaker& maker, const GenerationRequest& request,
                                                       std::string_view text) {
  if (request.truncation != v1::TRUNCATION_CHUNK) {
    if (!request.chunk) return std::nullopt;
    return absl::InvalidArgumentError("chunk is set; it is allowed with truncation TRUNCATION_CHUNK (3) alone");
  }
  const ChunkDefaults& defaults = maker.model().config().chunk;
  const v1::ChunkOptions options = request.chunk.value_or(v1::ChunkOptions());
  const bool summary = request.task == GenerationRequest::Task::kSummarize;
  if (text.size() > static_cast<size_t>(defaults.max_document_bytes)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s has %d bytes; with TRUNCATION_CHUNK model %s takes at most %d (chunk.max_document_bytes)",
        summary ? "document" : "context", text.size(), maker.model().name(), defaults.max_document_bytes));
  }
  if (const absl::Status status = maker.CheckWindows(); !status.ok()) return status;
  if (const absl::Status status = CheckJoin(options, summary); !status.ok()) return status;
  ChunkRules rules;
  if (const absl::Status status = SetSizes(maker, options, defaults, !request.answers.empty(), &rules); !status.ok()) {
    return status;
  }
  if (!summary) return rules;
  rules.join = options.join() != v1::JOIN_UNSPECIFIED ? options.join() : defaults.join;
  if (rules.join == v1::JOIN_CONCATENATE) {
    if (!options.has_max_rounds()) return rules;
    return absl::InvalidArgumentError(
        absl::StrCat("chunk.max_rounds is ", options.max_rounds(), "; only JOIN_RESUMMARIZE allows it"));
  }
  rules.max_rounds = options.has_max_rounds() ? options.max_rounds() : defaults.max_rounds;
  if (request.top_logprobs == 0) return rules;
  return absl::InvalidArgumentError(
      absl::StrCat("top_logprobs is ", request.top_logprobs, "; JOIN_RESUMMARIZE allows 0"));
}

absl::Status WindowJobs::Cut() {
  if (windows_) return absl::OkStatus();
  absl::StatusOr<TextWindows> windows = TextWindows::Create(maker_->model().tokenizer(), text_);
  if (!windows.ok()) {
    return absl::Status(windows.status().code(), absl::StrCat(field_, ": ", windows.status().message()));
  }
  windows_ = *std::move(windows);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<size_t>> WindowJobs::Room(TextSpan part, const Prompt& prompt) const {
  const absl::StatusOr<std::optional<EncodedSource>> source =
      EncodeIfItFits(maker_->model(), maker_->source_rules(), PromptOf(part, prompt), field_, rules_.window_tokens);
  if (!source.ok()) return source.status();
  if (!*source) return std::nullopt;
  return rules_.window_tokens - (*source)->ids.size() + windows_->TokensOf(part);
}

absl::StatusOr<std::optional<Window>> WindowJobs::Fit(size_t room, const Choose& choose, const Prompt& prompt) const {
  // Beside its prompt a part may have a few tokens more than in the whole text.
  for (; room > 0; room -= (room + 15) / 16) {
    const std::optional<TextSpan> span = choose(room);
    if (!span) return std::nullopt;
    absl::StatusOr<std::optional<PlannedJob>> job =
        maker_->OfTextIfItFits(PromptOf(*span, prompt), field_, rules_.window_tokens);
    if (!job.ok()) return job.status();
    if (*job) return Window{.span = *span, .job = **std::move(job)};
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<Window>> WindowJobs::All(const Prompt& prompt) {
  std::vector<Window> all;
  // Not by windows: alone a prompt may have a token more than in front of a text.
  absl::StatusOr<std::optional<PlannedJob>> whole =
      maker_->OfTextIfItFits(prompt(text_, 0), field_, rules_.window_tokens);
  if (!whole.ok()) return whole.status();
  if (*whole) {
    all.push_back({.span = {0, static_cast<uint32_t>(text_.size())}, .job = **std::move(whole)});
    return all;
  }
  if (const absl::Status status = Cut(); !status.ok()) return status;
  const auto most = static_cast<size_t>(maker_->model().config().max_queued_requests);
  const absl::StatusOr<std::optional<size_t>> room = Room({}, prompt);
  if (!room.ok()) return room.status();
  const size_t overlap = std::min(rules_.overlap_tokens, room->value_or(0) / 2);
  const Choose next = [&](size_t less) {
    return all.empty() ? windows_->From(0, less) : windows_->Next(all.back().span, less, overlap);
  };
  while (all.empty() || all.back().span.end < text_.size()) {
    if (all.size() == most) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s has more than %d windows of %d tokens (chunk.window_tokens); allowed are as many as may wait "
          "(max_queued_requests)",
          field_, most, rules_.window_tokens));
    }
    absl::StatusOr<std::optional<Window>> window = Fit(room->value_or(0), next, prompt);
    if (!window.ok()) return window.status();
    if (!*window) {
      return absl::InvalidArgumentError(
          absl::StrFormat("chunk.window_tokens is %d; allowed are so many that text fits beside the prompt of the task",
                          rules_.window_tokens));
    }
    all.push_back(**std::move(window));
  }
  return all;
}

absl::StatusOr<Window> WindowJobs::Around(TextSpan inside, const Prompt& prompt, const std::string& what) {
  if (const absl::Status status = Cut(); !status.ok()) return status;
  const absl::StatusOr<std::optional<size_t>> room = Room(inside, prompt);
  if (!room.ok()) return room.status();
  absl::StatusOr<std::optional<Window>> window = Fit(
      room->value_or(0), [&](size_t less) { return windows_->Around(inside, less); }, prompt);
  if (!window.ok()) return window.status();
  if (*window) return **std::move(window);
  return absl::InvalidArgumentError(
      absl::StrFormat("%s does not fit into a window of %d tokens (chunk.window_tokens) beside the prompt of the task",
                      what, rules_.window_tokens));
}

}  // namespace elserve
