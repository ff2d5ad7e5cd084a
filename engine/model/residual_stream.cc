#include "engine/model/residual_stream.h"

#include "engine/model/allocate.h"

namespace elserve {

absl::Status ResidualStream::TakeMemory(int positions, int ffn) {
  return Allocate(backend_, positions,
                  {{&residual_, config_.d_model, Storage::kResidual},
                   {&state_, config_.d_model, Storage::kState},
                   {&hidden_, ffn, Storage::kState}});
}

void ResidualStream::Norm(const PackedNorm& norm) {
  backend_.Norm({.phase = phase_,
                 .input = residual_,
                 .weight = norm.weight.get(),
                 .residual = norm.to_residual ? &residual_ : nullptr,
                 .state = state_});
}

void ResidualStream::Embed(const PackedWeight* tokens, const PackedEmbedding& embedding) {
  backend_.Embed({.phase = phase_,
                  .tokens = tokens,
                  .scale = config_.embedding_scale,
                  .positions = embedding.positions.get(),
                  .position_offset = config_.position_offset,
                  .output = residual_});
  for (const PackedNorm& norm : embedding.norms) Norm(norm);
}

void ResidualStream::Add(const Tensor& input, const PackedWeightPtr& weight, const PackedNorm& norm) {
  backend_.Linear(
      {.phase = phase_, .input = input, .weight = weight.get(), .residual = &residual_, .output = residual_});
  Norm(norm);
}

void ResidualStream::FeedForward(const PackedFeedForward& w) {
  backend_.Linear(
      {.phase = phase_, .input = state_, .weight = w.fc1.get(), .activation = config_.activation, .output = hidden_});
  if (w.top_k > 0) backend_.KeepLargest({.phase = phase_, .values = hidden_, .count = w.top_k});
  Add(hidden_, w.fc2, w.norm);
}

}  // namespace elserve
