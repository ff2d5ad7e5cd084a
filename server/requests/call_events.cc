#include "server/requests/call_events.h"

#include <utility>

namespace elserve {

void CallEvents::AddDelta(int output, std::string_view text, std::span<const int32_t> tokens) {
  any_ = true;
  const std::lock_guard lock(mutex_);
  const auto [found, added] = deltas_.try_emplace(output);
  if (added) {
    waiting_.emplace_back(CallDelta{.output = output, .text = {}, .tokens = {}});
    found->second = &std::get<CallDelta>(waiting_.back());
  }
  CallDelta& delta = *found->second;
  delta.text += text;
  delta.tokens.insert(delta.tokens.end(), tokens.begin(), tokens.end());
}

void CallEvents::AddPart(v1::Part part) {
  any_ = true;
  const std::lock_guard lock(mutex_);
  waiting_.emplace_back(std::move(part));
}

std::optional<CallEvent> CallEvents::Take() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  CallEvent event = std::move(waiting_.front());
  waiting_.pop_front();
  if (const auto* const delta = std::get_if<CallDelta>(&event)) deltas_.erase(delta->output);
  return event;
}

}  // namespace elserve
