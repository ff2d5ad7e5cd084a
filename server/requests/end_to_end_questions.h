// The plan of GenerateQuestions for a model that asks all its questions in one output.
#ifndef ELSERVE_SERVER_REQUESTS_END_TO_END_QUESTIONS_H_
#define ELSERVE_SERVER_REQUESTS_END_TO_END_QUESTIONS_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/requests/call_plan.h"
#include "server/requests/chunks.h"
#include "server/requests/job_maker.h"
#include "server/requests/ordered_parts.h"
#include "server/text/question_format.h"
#include "server/text/question_splitter.h"

namespace elserve {

// One job, or one for each window. Questions come in the order of the context, each once; a stream gets each when it is
// whole.
class EndToEndQuestions final : public CallPlan {
 public:
  // `rules`: set with TRUNCATION_CHUNK.
  EndToEndQuestions(std::shared_ptr<JobMaker> maker, const QuestionFormat& format, std::optional<ChunkRules> rules,
                    std::string context)
      : maker_(std::move(maker)),
        format_(format),
        rules_(rules),
        context_(std::move(context)),
        splitter_(format.separator) {}

  absl::StatusOr<std::vector<PlannedJob>> Start() override;
  void OnText(size_t job, std::string text, std::span<const int32_t> tokens, CallEvents* events) override;
  absl::StatusOr<std::vector<PlannedJob>> OnResult(size_t job, CallOutput output, CallEvents* events) override;
  absl::Status OnExpired(size_t job, absl::Status late, CallEvents* events) override;
  CallAnswer Fold() override;

 private:
  absl::StatusOr<std::vector<Window>> Windows();
  // Takes what the parts say, in order.
  void Advance(CallEvents* events);
  void Add(const std::string& written, const v1::Span& window, CallEvents* events);

  const std::shared_ptr<JobMaker> maker_;
  const QuestionFormat format_;
  const std::optional<ChunkRules> rules_;
  const std::string context_;
  OrderedParts parts_;
  QuestionSplitter splitter_;  // of the part whose turn it is
  absl::flat_hash_set<std::string> asked_;
  std::vector<WrittenQuestion> questions_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_END_TO_END_QUESTIONS_H_
