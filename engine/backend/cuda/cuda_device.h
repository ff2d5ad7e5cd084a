// The cuda backend's inside: operations are launched on their phase's stream; what a step's decoding launches is
// captured once for each bucket and replayed.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_CUDA_DEVICE_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/encode_arrays.h"
#include "engine/backend/cuda/graphs.h"
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/packed_weights.h"
#include "engine/backend/cuda/product.h"
#include "engine/backend/cuda/row_arrays.h"
#include "engine/backend/cuda/selection.h"

namespace elserve::cuda {

// Memory, steps and graphs are in cuda_backend.cc, operations in cuda_operations.cc. One thread at a time.
class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<Context> context, DataType type)
      : context_(std::move(context)), type_(type), planner_(*context_) {}
  ~CudaBackend() override { context_->Synchronize(); }

  std::string name() const override { return "cuda"; }
  std::string device_name() const override { return context_->name(); }
  DataType state_type() const override { return type_; }
  OperationFigures Figures() const override { return AssumedFigures(context_->Clocks(), type_); }
  std::optional<int64_t> FreeBytes() const override { return context_->FreeBytes(); }

  // It has no int8.
  PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias, WeightType) override {
    return PackMatrix(*context_, type_, weight, bias);
  }
  PackedWeightPtr PackGatedLinear(const GatedWeights& weights) override {
    return PackGatedMatrix(*context_, type_, weights);
  }
  // Without biases: those come with approximations, which it has none of.
  PackedWeightPtr PackPerHead(const HostTensor& weight, const HostTensor*, WeightType) override {
    return PackHeads(*context_, type_, weight);
  }
  PackedWeightPtr PackEmbedding(const HostTensor& table) override { return PackTable(*context_, type_, table); }
  PackedWeightPtr PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) override {
    return PackNormWeight(*context_, kind, gamma, beta, epsilon);
  }
  PackedWeightPtr PackPositionBias(const HostTensor& table) override { return PackBiasTable(*context_, table); }

  // Assumed, to be measured: a card multiplies hundreds of rows in the time of one.
  StepSizes PreferredSizes() const override { return {.max_rows = 256, .encode_tokens_per_step = 2048}; }
  MemoryCosts Costs(const MemoryShape& shape) const override;
  absl::Status AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                              const StepLimits& limits) override;
  absl::StatusOr<Tensor> AllocateTensor(int64_t rows, int64_t cols, Storage storage) override;
  // Chooses the products' algorithms, and captures the decode phase for every bucket.
  absl::Status Prepare(Phase phase, absl::FunctionRef<void()> body) override;

  void BeginStep(const StepLayout& layout) override;
  void Replay(absl::FunctionRef<void()> body) override;

  void Embed(const EmbedArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void PerHeadLinear(const PerHeadLinearArgs& args) override;
  void Norm(const NormArgs& args) override;
  void EncoderAttention(const EncoderAttentionArgs& args) override;
  void StoreEncoder(const StoreEncoderArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void PrefillAttention(const PrefillAttentionArgs& args) override;
  void SelectTokens(const SelectTokensArgs& args) override;
  absl::StatusOr<std::span<const SelectedRow>> Selected() override;

  std::vector<float> Read(const Tensor& tensor, int64_t rows) override;
  void Write(const Tensor& tensor, std::span<const float> values) override;

  // For benchmarks: where operations of the phase run, and what the card is.
  cudaStream_t stream(Phase phase) const { return context_->stream(phase); }
  const Context& context() const { return *context_; }

 private:
  DataType TypeOf(Storage storage) const { return storage == Storage::kResidual ? DataType::kFloat32 : type_; }
  int64_t RowBytes(const Tensor& t) const { return RowStride(t.cols, TypeOf(t.storage)) * SizeOf(TypeOf(t.storage)); }
  // Values of a source token (of the form `shape.cross`) or a cell (`shape.self`) in one layer's memory, and bytes of a
  // page and a cell there.
  static int64_t StateWidth(const MemoryShape& s, std::optional<AttentionForm> form) {
    return form == AttentionForm::kEl ? s.d : int64_t{2} * s.heads * s.head_dim;
  }
  int64_t PageBytes(const MemoryShape& shape) const;
  int64_t CellBytes(const MemoryShape& shape) const {
    return RowStride(StateWidth(shape, shape.self), type_) * SizeOf(type_);
  }

  // Rows that the phase's operations compute in this step: a bucket, for decoding.
  int Rows(Phase phase) const {
    return phase == Phase::kEncode    ? encode_positions_
           : phase == Phase::kPrefill ? prefill_positions_
                                      : bucket_.positions;
  }
  const DecodeBucket& Bucket(Phase phase) const { return phase == Phase::kPrefill ? prefill_bucket_ : bucket_; }
  const DecodeArrays& Arrays(Phase phase) const { return phase == Phase::kPrefill ? prefill_ : decode_; }
  // False: nothing is to be launched, because the device failed, or only products are asked for.
  bool Launches() const { return context_->ok() && !planning_; }
  // Runs `body` without launching anything: products are made, and what they need is allocated.
  void Plan(Phase phase, absl::FunctionRef<void()> body);
  // The bucket of a decode step: as many select rows as positions, or twice as many where alternatives are asked for.
  DecodeBucket BucketOf(int positions, int select_rows, bool biased) const;
  void Capture(const DecodeBucket& bucket, absl::FunctionRef<void()> body);
  // Of a product: in this step, and the most of any.
  struct RowCount {
    int now;
    int most;
  };
  // All positions of the phase.
  RowCount RowsOf(Phase phase) const;
  // The weight's product in this form; made where it is used for the first time, for as many rows as it will ever have.
  // Null: the device failed.
  Product* ProductOf(const PackedMatrix& weight, Phase phase, int most_rows, DataType output, bool relu, bool residual);
  // Runs it, unless only products are asked for.
  void Multiply(const PackedMatrix& weight, Phase phase, RowCount rows, const void* input, DataType output_type,
                bool relu, const void* residual, void* output);
  // A float32 matrix for products whose epilogue is a kernel's.
  float* Scratch(Phase phase, int64_t cols);
  // Writes the phase's states into their cells.
  bool StoreCells(Phase phase, const Tensor& states, const DeviceBlock& cells);
  absl::Status AllocatePrefill();
  DecodeAttentionKernelArgs DecodeAttention(AttentionForm form, const Tensor& query, const Tensor& output,
                                            const DeviceBlock& memory, const AttentionWork& work) const;

  const std::unique_ptr<Context> context_;
  const DataType type_;
  ProductPlanner planner_;

  MemoryShape shape_;
  StepLimits limits_;
  std::vector<DeviceBlock> tensors_;
  std::vector<DeviceBlock> encoder_;      // cross el: one; kv: one a layer. Pages
  std::vector<DeviceBlock> decoder_;      // [layers]: cells
  DeviceBlock sums_, scales_, arrivals_;  // AttentionWorkspace's
  DeviceBlock encode_scratch_, decode_scratch_;
  // Of prefill rows over el's cells, row after row: what the cells hold, and the keys and values that are made of it.
  // `history_rows_`: 0, 1, ...
  DeviceBlock history_states_, history_, history_rows_;
  EncodeLayoutArrays encode_arrays_;
  RowArrays prefill_arrays_, decode_arrays_;
  Selection selection_;
  Graphs graphs_;

  bool planning_ = false;
  bool has_biased_layers_ = false;  // a cross-attention was seen that adds biases
  int encode_positions_ = 0;
  int prefill_positions_ = 0;
  int prefill_history_ = 0;  // cells of the prefill rows
  int prefill_select_rows_ = 0;
  int decode_positions_ = 0;
  std::span<const SelectRow> decode_select_;
  DecodeBucket bucket_, prefill_bucket_;
  DecodeArrays prefill_;
  DecodeArrays decode_;          // the bucket's
  Event stored_;                 // the last StoreEncoder: decoding reads pages after it
  Event decoded_;                // decoding of the step before: encoding may write into its pages
  bool decoding_waited_ = true;  // Selected waited for it
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_CUDA_DEVICE_H_
