#include "server/serving/model_watch.h"

#include <spdlog/spdlog.h>

namespace elserve {

void ModelWatch::SetListener(std::function<void()> listener) {
  const std::lock_guard lock(mutex_);
  listener_ = std::move(listener);
}

void ModelWatch::OnUnhealthy(const absl::Status& error) {
  spdlog::error("model={} its device failed, it serves no more: {}", model_, error.ToString());
  metrics_->OnUnhealthy(error);
  const std::lock_guard lock(mutex_);
  if (listener_) listener_();
}

}  // namespace elserve
