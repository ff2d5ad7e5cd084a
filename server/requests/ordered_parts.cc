#include "server/requests/ordered_parts.h"

#include <utility>

namespace elserve {

OrderedParts::OrderedParts(int round, std::span<const Span> sources) : parts_(sources.size()) {
  for (size_t i = 0; i < sources.size(); ++i) {
    v1::Part& part = parts_[i].message;
    part.mutable_source()->set_begin(sources[i].begin);
    part.mutable_source()->set_end(sources[i].end);
    part.set_round(round);
    part.set_index(static_cast<int>(i));
    part.set_count(static_cast<int>(sources.size()));
  }
}

void OrderedParts::AddText(size_t part, std::string_view text) {
  parts_[part].waiting += text;
  parts_[part].received += text.size();
}

void OrderedParts::End(size_t part, CallOutput output) {
  Entry& entry = parts_[part];
  *entry.message.mutable_hypothesis() = std::move(output.hypotheses.front());
  *entry.message.mutable_usage() = *std::move(output.usage);
  AddText(part, std::string_view(entry.message.hypothesis().text()).substr(entry.received));
  entry.ended = true;
}

void OrderedParts::Expire(size_t part) {
  parts_[part].message.mutable_hypothesis()->set_finish_reason(v1::FINISH_REASON_DEADLINE);
  parts_[part].ended = true;
}

std::optional<OrderedParts::News> OrderedParts::Next() {
  if (all_told()) return std::nullopt;
  Entry& entry = parts_[told_];
  if (entry.waiting.empty() && !entry.ended) return std::nullopt;
  News news{.part = told_, .text = std::exchange(entry.waiting, {}), .ended = entry.ended};
  if (entry.ended) ++told_;
  return news;
}

void OrderedParts::MoveTo(std::vector<v1::Part>* parts) {
  for (Entry& entry : parts_) parts->push_back(std::move(entry.message));
  *this = {};
}

v1::Usage SumOfUsage(std::span<const v1::Part> parts) {
  v1::Usage sum;
  for (const v1::Part& part : parts) {
    const v1::Usage& usage = part.usage();
    sum.set_source_tokens(sum.source_tokens() + usage.source_tokens());
    sum.set_generated_tokens(sum.generated_tokens() + usage.generated_tokens());
    sum.set_queue_seconds(sum.queue_seconds() + usage.queue_seconds());
    sum.set_encode_seconds(sum.encode_seconds() + usage.encode_seconds());
    sum.set_decode_seconds(sum.decode_seconds() + usage.decode_seconds());
    sum.set_steps(sum.steps() + usage.steps());
    // The kinds stand in the order of what they cost, the most first; a part that expired has none.
    if (usage.answered_by() == v1::ANSWERED_BY_UNSPECIFIED) continue;
    const bool first = sum.answered_by() == v1::ANSWERED_BY_UNSPECIFIED;
    if (first || usage.answered_by() < sum.answered_by()) sum.set_answered_by(usage.answered_by());
  }
  return sum;
}

}  // namespace elserve
