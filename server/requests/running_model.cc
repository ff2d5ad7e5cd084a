#include "server/requests/running_model.h"

#include <utility>

namespace elserve {

absl::StatusOr<RunningModel> RunningModel::Create(const ServedModelConfig& config, std::unique_ptr<Engine> engine,
                                                  LoopObserver* observer) {
  auto loop = std::make_unique<EngineLoop>(
      std::move(engine), EngineLoopOptions{.scheduler = {.max_overtakes = config.max_overtakes,
                                                         .admit_only_when_idle = config.admit_only_when_idle,
                                                         .single_flight = config.single_flight,
                                                         .answer_cache_bytes = config.answer_cache_bytes},
                                           .max_queued_requests = config.max_queued_requests,
                                           .observer = observer});
  absl::StatusOr<std::shared_ptr<const ServedModel>> served = ServedModel::Create(config, loop->info(), loop->inbox());
  if (!served.ok()) return served.status();
  return RunningModel{.served = *std::move(served), .loop = std::move(loop)};
}

}  // namespace elserve
