// TRUNCATION_CHUNK: the windows of a long text as jobs.
#ifndef ELSERVE_SERVER_REQUESTS_CHUNKS_H_
#define ELSERVE_SERVER_REQUESTS_CHUNKS_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_plan.h"
#include "server/requests/generation_request.h"
#include "server/requests/job_maker.h"
#include "server/text/windows.h"

namespace elserve {

// What ChunkOptions come to.
struct ChunkRules {
  size_t window_tokens = 0;  // of a window with its prompt
  size_t overlap_tokens = 0;
  v1::Join join = v1::JOIN_CONCATENATE;
  int max_rounds = 1;
};

// The request's over the model's; nullopt: without TRUNCATION_CHUNK. INVALID_ARGUMENT for what is out of range, for
// `text` of more bytes than the model takes, and for what has no use: options without TRUNCATION_CHUNK, join and
// max_rounds but for summaries.
absl::StatusOr<std::optional<ChunkRules>> ChunkRulesOf(const JobMaker& maker, const GenerationRequest& request,
                                                       std::string_view text);

struct Window {
  TextSpan span;  // of the text
  PlannedJob job;
};

// Makes jobs of a text's windows.
class WindowJobs {
 public:
  // Makes the prompt of a part of the text, which begins at byte `begin` of it.
  using Prompt = std::function<std::string(std::string_view part, size_t begin)>;

  // `text` and `maker` have to outlive it; `field` is what the client calls the text.
  WindowJobs(JobMaker* maker, const ChunkRules& rules, std::string_view text, std::string field)
      : maker_(maker), rules_(rules), text_(text), field_(std::move(field)) {}

  // All windows, which leave no byte out; at least one. INVALID_ARGUMENT for more than a queue can hold, and where not
  // even a character fits.
  absl::StatusOr<std::vector<Window>> All(const Prompt& prompt);
  // The window that holds `inside`, with as much around it as fits. INVALID_ARGUMENT where it does not fit; `what`
  // names it ("answers[2]").
  absl::StatusOr<Window> Around(TextSpan inside, const Prompt& prompt, const std::string& what);

 private:
  // A part of the text for so many of its tokens; nullopt: there is none.
  using Choose = std::function<std::optional<TextSpan>(size_t room)>;

  // Makes windows_, once: a text that fits as a whole needs none.
  absl::Status Cut();
  std::string PromptOf(TextSpan part, const Prompt& prompt) const {
    return prompt(text_.substr(part.begin, part.end - part.begin), part.begin);
  }
  // Tokens left for the text by its prompt; `part` is in it at least. nullopt: none.
  absl::StatusOr<std::optional<size_t>> Room(TextSpan part, const Prompt& prompt) const;
  // The window that is chosen for `room`, or for less until its prompt fits; nullopt: none does.
  absl::StatusOr<std::optional<Window>> Fit(size_t room, const Choose& choose, const Prompt& prompt) const;

  JobMaker* maker_;
  ChunkRules rules_;
  std::string_view text_;
  std::string field_;
  std::optional<TextWindows> windows_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CHUNKS_H_
