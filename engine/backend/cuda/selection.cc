#include "engine/backend/cuda/selection.h"

#include <algorithm>
#include <utility>

#include "engine/backend/cuda/kernels.h"

namespace elserve::cuda {

bool Selection::Reserve(Context& context, DataType type, int rows, int64_t vocab, int64_t in) {
  if (rows <= rows_ && vocab == vocab_ && in == in_) return false;
  context.Synchronize();
  const auto take = [&context](auto block, auto* to) {
    if (block.ok()) {
      *to = *std::move(block);
    } else {
      context.Fail(block.status());
    }
  };
  take(context.Allocate(rows * RowStride(in, type) * SizeOf(type)), &input_);
  take(context.Allocate(rows * RowStride(vocab, DataType::kFloat32) * int64_t{sizeof(float)}), &logits_);
  take(context.AllocateZeroed(SelectWorkspaceBytes(rows, static_cast<int>(vocab))), &workspace_);
  take(context.AllocatePinned(2 * rows * int64_t{kMaxCandidates} * int64_t{sizeof(Candidate)}), &candidates_);
  take(context.AllocatePinned(2 * rows * int64_t{sizeof(int32_t)}), &status_);
  if (!context.ok()) return true;
  selected_.reserve(2 * rows);
  rows_ = rows, vocab_ = vocab, in_ = in;
  return true;
}

void Selection::Launch(Context& context, Phase phase, const DecodeArrays& arrays, int rows) const {
  const int64_t first = phase == Phase::kPrefill ? rows_ : 0;
  const SelectKernelArgs args{.logits = logits(),
                              .logits_stride = RowStride(vocab_, DataType::kFloat32),
                              .items = arrays.select,
                              .force = arrays.force,
                              .edits = arrays.edits,
                              .workspace = workspace_.data(),
                              .candidates = candidates_.as<Candidate>() + first * kMaxCandidates,
                              .status = status_.as<int32_t>() + first,
                              .rows = rows,
                              .vocab = static_cast<int>(vocab_)};
  context.Check(LaunchSelect(args, context.stream(phase)), "SelectTokens");
}

std::span<const SelectedRow> Selection::Collect(int prefill_rows, int decode_rows) {
  selected_.clear();
  const auto collect = [this](int64_t first, int rows) {
    for (int64_t r = first; r < first + rows; ++r) {
      const int32_t found = status_.as<int32_t>()[r];
      const auto* candidates = candidates_.as<Candidate>() + r * kMaxCandidates;
      selected_.push_back({{candidates, static_cast<size_t>(std::clamp(found, 0, kMaxCandidates))}, found >= 0});
    }
  };
  collect(rows_, prefill_rows);
  collect(0, decode_rows);
  return selected_;
}

}  // namespace elserve::cuda
