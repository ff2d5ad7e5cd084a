// Parts of a request's text that matter become tokens of its jobs' sources.
#ifndef ELSERVE_SERVER_REQUESTS_SALIENCE_H_
#define ELSERVE_SERVER_REQUESTS_SALIENCE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_plan.h"
#include "server/requests/generation_request.h"
#include "server/requests/served_model.h"
#include "server/text/prompts.h"
#include "server/text/token_model.h"

namespace elserve {

// At most so many in one request.
inline constexpr size_t kMaxSalientSpans = 256;

// A request's salient_spans and salience_strength, checked. Jobs are marked by the bytes of their tokens, so the
// JobMaker has to want them (JobMaker::WantSpans).
class SalientSpans {
 public:
  // nullopt: the request has none. INVALID_ARGUMENT names the field, its value and what is allowed.
  static absl::StatusOr<std::optional<SalientSpans>> Create(const ServedModel& model, const GenerationRequest& request);

  // Marks the job's tokens that are in the spans; takes PlannedJob::spans from it. Its prompt has bytes `part` of the
  // text, from byte `at` of the prompt on. A job with no such token is as without salience.
  void Mark(TextSpan part, size_t at, PlannedJob* job);
  // Once all jobs are marked: INVALID_ARGUMENT names a span of which none has a token.
  absl::Status CheckMarked() const;

  v1::Salience Describe() const;

 private:
  // One of the request's.
  struct Asked {
    Span span;
    size_t index;  // in salient_spans
  };

  SalientSpans() = default;
  // Whether some span has bytes of it.
  bool Holds(Span token) const;
  void Found(Span token);

  std::vector<Span> joined_;     // ascending, apart
  std::vector<Asked> unmarked_;  // by their begins: no token of them was seen yet
  double strength_ = 1;
  bool truncated_ = false;  // a job was
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_SALIENCE_H_
