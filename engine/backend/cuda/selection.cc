#include "engine/backend/cuda/selection.h"

#include <algorithm>
#include <utility>

#include "engine/backend/cuda/kernels.h"

namespace elserve::cuda {

bool Selection::Reserve(Context& context, DataType type, const StepLimits& limits, int64_t vocab, int64_t in) {
  const int rows = limits.select_rows;
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
  take(context.AllocatePinned(limits.whole_rows * vocab * int64_t{sizeof(float)}), &whole_);
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

void Selection::FetchWhole(Context& context, std::span<const SelectRow> rows) const {
  float* to = whole_.as<float>();
  for (size_t r = 0; r < rows.size(); ++r) {
    if (!rows[r].whole) continue;
    const float* from = logits() + static_cast<int64_t>(r) * RowStride(vocab_, DataType::kFloat32);
    context.Check(
        cudaMemcpyAsync(to, from, vocab_ * sizeof(float), cudaMemcpyDeviceToHost, context.stream(Phase::kDecode)),
        "copying logits");
    to += vocab_;
  }
}

std::span<const SelectedRow> Selection::Collect(int prefill_rows, std::span<const SelectRow> decode_rows) {
  selected_.clear();
  const auto candidates = [this](int64_t row) -> SelectedRow {
    const int32_t found = status_.as<int32_t>()[row];
    return {.candidates = {candidates_.as<Candidate>() + row * kMaxCandidates,
                           static_cast<size_t>(std::clamp(found, 0, kMaxCandidates))},
            .finite = found >= 0};
  };
  for (int64_t row = 0; row < prefill_rows; ++row) selected_.push_back(candidates(rows_ + row));
  const float* whole = whole_.as<float>();
  for (size_t row = 0; row < decode_rows.size(); ++row) {
    if (decode_rows[row].whole) {
      selected_.push_back({.logits = {whole, static_cast<size_t>(vocab_)}});
      whole += vocab_;
    } else {
      selected_.push_back(candidates(static_cast<int64_t>(row)));
    }
  }
  return selected_;
}

}  // namespace elserve::cuda
