// The plan of a Summarize with TRUNCATION_CHUNK: a job for each window, round upon round.
#ifndef ELSERVE_SERVER_REQUESTS_CHUNKED_SUMMARY_H_
#define ELSERVE_SERVER_REQUESTS_CHUNKED_SUMMARY_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/requests/call_plan.h"
#include "server/requests/chunks.h"
#include "server/requests/job_maker.h"
#include "server/requests/ordered_parts.h"
#include "server/requests/salience.h"
#include "server/text/prompts.h"

namespace elserve {

// A round summarizes the windows of a text: the document, or what the round before came to. The last is the one with a
// single window, or as many as are allowed; none follows where time ran out, or where a text did not become shorter.
// Its texts, joined, are the answer. Of a later round that time cut short it is the text of the round before, unless
// the client has the other already.
class ChunkedSummary final : public CallPlan {
 public:
  // `salience`: of the document, so it acts in the first round.
  ChunkedSummary(std::shared_ptr<JobMaker> maker, const ChunkRules& rules, std::string document,
                 std::optional<SalientSpans> salience = std::nullopt)
      : maker_(std::move(maker)), rules_(rules), salience_(std::move(salience)), text_(std::move(document)) {}

  absl::StatusOr<std::vector<PlannedJob>> Start() override { return StartRound(); }
  void OnText(size_t job, std::string text, std::span<const int32_t> tokens, CallEvents* events) override;
  absl::StatusOr<std::vector<PlannedJob>> OnResult(size_t job, CallOutput output, CallEvents* events) override;
  absl::Status OnExpired(size_t job, absl::Status late, CallEvents* events) override;
  CallAnswer Fold() override;

 private:
  // Bytes of a text and what of the document they tell of.
  struct Origin {
    size_t begin = 0, end = 0;
    Span source;
  };

  absl::StatusOr<std::vector<PlannedJob>> StartRound();
  // All parts have ended.
  absl::StatusOr<std::vector<PlannedJob>> EndRound(CallEvents* events);
  absl::StatusOr<std::vector<PlannedJob>> EndLate(bool blank, CallEvents* events);
  void TakeTextBefore(CallEvents* events);
  void TellJoined(CallEvents* events);
  Span SourceOf(TextSpan window) const;
  // Joins what the parts say, in order; tells of it.
  void Advance(CallEvents* events);
  void Join(const std::string& text, Span source, bool ended, CallEvents* events);
  bool IsLast() const { return count_ == 1 || round_ == rules_.max_rounds; }

  const std::shared_ptr<JobMaker> maker_;
  const ChunkRules rules_;
  std::optional<SalientSpans> salience_;  // none once the first round is made
  std::vector<v1::Part> told_;            // of the rounds before

  // This round's.
  int round_ = 1;
  size_t first_job_ = 0, count_ = 0;
  std::string text_;             // what it summarizes; of the first one not kept
  size_t bytes_ = 0;             // of it
  absl::Status late_;            // that of a part for which there was no time
  std::vector<Origin> origins_;  // of text_, ascending; none: it is the document
  OrderedParts parts_;
  std::string joined_;
  std::vector<Origin> joined_origins_;
  bool begun_ = false;             // there is text of the part that comes next
  std::optional<int64_t> untold_;  // where the document's bytes begin that no text tells of, while there is none
  v1::FinishReason reason_ = v1::FINISH_REASON_UNSPECIFIED;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CHUNKED_SUMMARY_H_
