// SelectTokens: the select rows' logits, and their best tokens in memory that the host reads.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_SELECTION_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_SELECTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/row_arrays.h"

namespace elserve::cuda {

class Selection {
 public:
  // Room for so many rows of a vocabulary in each phase, so many of decoding's whole; nothing where it is there. True:
  // it moved.
  bool Reserve(Context& context, DataType type, const StepLimits& limits, int64_t vocab, int64_t in);

  // Where rows of states are gathered, [rows, RowStride(in)], and where their logits go, [rows, logits_stride()].
  std::byte* input() const { return input_.data(); }
  float* logits() const { return logits_.as<float>(); }

  // Launches the choice among the logits. Candidates go to page-locked memory as they are found: few numbers, and no
  // copy that would have to know how many.
  void Launch(Context& context, Phase phase, const DecodeArrays& arrays, int rows) const;
  // Behind decoding's launch, with its rows: copies the logits of those that are wanted whole.
  void FetchWhole(Context& context, std::span<const SelectRow> rows) const;
  // After the stream was waited for: the first answers of prefill, then those of decoding's rows.
  std::span<const SelectedRow> Collect(int prefill_rows, std::span<const SelectRow> decode_rows);

 private:
  int64_t rows_ = 0, vocab_ = 0, in_ = 0;
  DeviceBlock input_, logits_, workspace_;
  PinnedBlock candidates_;  // [decoding, prefill][rows, kMaxCandidates]
  PinnedBlock status_;      // [decoding, prefill][rows]: SelectKernelArgs's
  PinnedBlock whole_;       // [StepLimits::whole_rows, vocab]
  std::vector<SelectedRow> selected_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_SELECTION_H_
