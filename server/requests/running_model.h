// A model at work: what requests see of it, and the loop that computes for it.
#ifndef ELSERVE_SERVER_REQUESTS_RUNNING_MODEL_H_
#define ELSERVE_SERVER_REQUESTS_RUNNING_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/config/config.h"
#include "server/requests/served_model.h"
#include "server/scheduling/engine_loop.h"

namespace elserve {

// Who owns it ends its loop, and with that all calls of the model: those that come later are refused. No call owns it.
struct RunningModel {
  // The errors are ServedModel::Create's. The observer may be null and must outlive the loop.
  static absl::StatusOr<RunningModel> Create(const ServedModelConfig& config, std::unique_ptr<Engine> engine,
                                             LoopObserver* observer);

  std::shared_ptr<const ServedModel> served;
  std::unique_ptr<EngineLoop> loop;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_RUNNING_MODEL_H_
