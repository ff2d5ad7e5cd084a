#include "engine/backend/cuda/encode_arrays.h"

#include <algorithm>

namespace elserve::cuda {

absl::Status EncodeLayoutArrays::Allocate(Context& context, int positions) {
  Places places;
  for (int i = 0; i < 3; ++i) places.Take<int32_t>(positions);
  places.Take<int32_t>(1);
  places.Take<EncodeItem>(BoundEncoderAttention(positions));
  buffer_.Reserve(context, places.end());
  return context.status();
}

void EncodeLayoutArrays::Send(Context& context, const EncodeLayout& layout) {
  arrays_ = {};
  const int64_t positions = layout.positions();
  if (positions == 0 || !context.ok()) return;
  Places places;
  const int64_t tokens = places.Take<int32_t>(positions), ids = places.Take<int32_t>(positions);
  const int64_t slots = places.Take<int32_t>(positions), count = places.Take<int32_t>(1);
  const int64_t items = places.Take<EncodeItem>(BoundEncoderAttention(static_cast<int>(positions)));
  buffer_.Wait(context);
  std::byte* host = buffer_.host();
  std::copy(layout.tokens.begin(), layout.tokens.end(), At<int32_t>(host, tokens));
  std::copy(layout.position_ids.begin(), layout.position_ids.end(), At<int32_t>(host, ids));
  int32_t* slot = At<int32_t>(host, slots);
  for (const EncodeDocument& document : layout.documents) {
    for (int32_t t = 0; t < document.length; ++t) {
      slot[document.begin + t] =
          document.pages.empty() ? -1 : document.pages[t / kPageTokens] * kPageTokens + t % kPageTokens;
    }
  }
  auto* plan = At<EncodeItem>(host, items);
  arrays_.max_items = PlanEncoderAttention(layout, plan);
  *At<int32_t>(host, count) = arrays_.max_items;
  buffer_.Send(context, items + arrays_.max_items * static_cast<int64_t>(sizeof(EncodeItem)),
               context.stream(Phase::kEncode));
  std::byte* device = buffer_.device();
  arrays_.tokens = At<int32_t>(device, tokens);
  arrays_.position_ids = At<int32_t>(device, ids);
  arrays_.token_slots = At<int32_t>(device, slots);
  arrays_.items_count = At<int32_t>(device, count);
  arrays_.items = At<EncodeItem>(device, items);
}

}  // namespace elserve::cuda
