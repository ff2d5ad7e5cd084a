#include "server/requests/call_events.h"

#include <utility>

namespace elserve {

void CallEvents::AddDelta(int output, std::string_view text, std::span<const int32_t> tokens) {
  const std::lock_guard lock(mutex_);
  const auto [found, added] = deltas_.try_emplace(output);
  if (added) found->second = waiting_.insert(waiting_.end(), {.output = output, .text = {}, .tokens = {}});
  CallDelta& delta = *found->second;
  delta.text += text;
  delta.tokens.insert(delta.tokens.end(), tokens.begin(), tokens.end());
}

std::optional<CallDelta> CallEvents::Take() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  CallDelta delta = std::move(waiting_.front());
  waiting_.pop_front();
  deltas_.erase(delta.output);
  return delta;
}

}  // namespace elserve
