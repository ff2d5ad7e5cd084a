// The cpu backend: its operations cut work into tasks for the pool and call the kernels of the chosen instruction set.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_CPU_BACKEND_H_
#define ELSERVE_ENGINE_BACKEND_CPU_CPU_BACKEND_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/aligned_buffer.h"
#include "engine/backend/cpu/buffer_source.h"
#include "engine/backend/cpu/choose_isa.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/backend/cpu/packing.h"
#include "engine/thread_pool.h"

namespace elserve::cpu {

// Memory, products and rows are in cpu_backend.cc; attention over what earlier steps left in cpu_attention.cc, and of
// many positions over their own keys and values in cpu_run_attention.cc; FAVOR+ in cpu_favor_attention.cc; selection in
// cpu_select.cc.
class CpuBackend final : public Backend {
 public:
  // `isa`, `state_type`: instead of what the options leave open.
  CpuBackend(Isa isa, DataType state_type, const CpuBackendOptions& options);

  std::string name() const override { return "cpu"; }
  std::string device_name() const override;
  DataType state_type() const override { return type_; }
  bool has_approximations() const override { return true; }

  bool has_int8() const override { return int8_ != nullptr; }
  PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias, WeightType type) override {
    return PackMatrix(ToolsFor(type, weight.shape[1]), weight, bias);
  }
  PackedWeightPtr PackGatedLinear(const GatedWeights& weights) override {
    return PackGated(ToolsFor(weights.type, weights.gate.shape[1]), weights);
  }
  PackedWeightPtr PackPerHead(const HostTensor& weight, const HostTensor* bias, WeightType type) override {
    return PackHeads(ToolsFor(type, weight.shape[1]), weight, bias);
  }
  PackedWeightPtr PackEmbedding(const HostTensor& table) override {
    return PackTable(ToolsFor(WeightType::kState, 0), table);
  }
  PackedWeightPtr PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) override;
  PackedWeightPtr PackPositionBias(const HostTensor& table) override;

  OperationFigures Figures() const override;
  StepSizes PreferredSizes() const override;
  MemoryCosts Costs(const MemoryShape& shape) const override;
  absl::Status AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                              const StepLimits& limits) override;
  absl::StatusOr<Tensor> AllocateTensor(int64_t rows, int64_t cols, Storage storage) override;
  absl::Status Prepare(Phase phase, absl::FunctionRef<void()> body) override;

  void BeginStep(const StepLayout& layout) override;
  void Replay(absl::FunctionRef<void()> body) override { body(); }

  void Embed(const EmbedArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void PerHeadLinear(const PerHeadLinearArgs& args) override;
  void Norm(const NormArgs& args) override;
  void EncoderAttention(const EncoderAttentionArgs& args) override;
  void FavorAttention(const FavorAttentionArgs& args) override;
  void StoreEncoder(const StoreEncoderArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void PrefillAttention(const PrefillAttentionArgs& args) override;
  void SelectTokens(const SelectTokensArgs& args) override;
  void KeepLargest(const KeepLargestArgs& args) override;
  absl::StatusOr<std::span<const SelectedRow>> Selected() override {
    if (!buffers_.status().ok()) return buffers_.status();
    return std::span<const SelectedRow>(selected_);
  }

  std::vector<float> Read(const Tensor& tensor, int64_t rows) override;
  void Write(const Tensor& tensor, std::span<const float> values) override;

 private:
  // Some of a document's or a run's tokens, or a part of its queries: one task of attention.
  struct DocumentTask {
    int document;  // or run
    int begin;     // the first token or query in it
    int count;
    int length;
  };
  // Consecutive tokens and the queries that attend to them: an encode document, or a prefill row.
  struct Run {
    int64_t keys = 0;     // rows [keys, keys + tokens) of the keys' tensor
    int64_t queries = 0;  // rows [queries, queries + count) of the queries' tensor
    int tokens = 0;
    int count = 0;
    int first = 0;           // the token where the first query stands
    int64_t first_page = 0;  // of packed_
  };
  // Attention of runs_ with each other's keys and values.
  struct RunAttention {
    Tensor queries;              // [.., heads * head_dim] at its column 0
    Tensor keys;                 // states with keys at column `key` and values at column `value`
    int64_t key = 0, value = 0;  // columns
    int heads = 0, head_dim = 0;
    const float* bias = nullptr;  // added to the score of a token by the query that stands there, by head 0
    int64_t bias_head = 0;        // from a head's to the next one's; that of a token n behind it follows n places later
    bool causal = false;          // a query needs no token behind itself: `bias` hides them
    AttentionApproximation approximation = {};
    Tensor output;           // [.., heads * head_dim]
    int64_t most_pages = 0;  // of the phase
  };
  // PositionBias with what stands behind a query hidden.
  struct CausalBias {
    const PackedWeight* table = nullptr;  // what it was made of
    std::vector<float> values;            // [heads, width], or [1, width] for all of them
    int64_t width = 0;
    int64_t zero = 0;  // the column of distance 0
  };
  // What FAVOR+'s features sum up of some documents, a slot for each head of each.
  struct FavorSlots {
    int features = 0;
    int pages = 0;       // of a slot: features as keys and their means as values
    int64_t log_at = 0;  // bytes of a slot's pages; behind them [features] float32: the logarithms of the sums
    int64_t slot_bytes = 0;
    AlignedBuffer values;
  };
  struct RowScratch {
    std::vector<float> attention;
    AlignedBuffer gathered;                // el self-attention: the cells of a row, or of several, side by side
    AlignedBuffer kept;                    // cross el: [kPageTokens] kept states
    AlignedBuffer wide;                    // rows of a product as its kernel widens them
    std::vector<const std::byte*> states;  // [kPageTokens]: of a page that is stored
    std::vector<const uint32_t*> q, pages;
    std::vector<const uint32_t*> next_pages;  // el: the first ones of the document that the thread likely has next
    std::vector<const float*> bias;           // of the queries
    std::vector<std::byte*> out;
    AlignedBuffer scores;       // of approximate attention: of a chunk of queries, over all tokens
    std::vector<float> totals;  // likewise, of the queries
    std::vector<CellRow> rows;  // of one document
  };
  // What SelectTokens works in.
  struct SelectMemory {
    int64_t rows = 0;                     // room for so many
    AlignedBuffer input;                  // [rows]: states
    AlignedBuffer kept;                   // RowLogits [threads, rows]
    AlignedBuffer best;                   // TokenLogit [threads, rows, kMostLogits]
    AlignedBuffer logits;                 // [vocabulary], of one row at a time
    AlignedBuffer whole;                  // [StepLimits::whole_rows]: logits of rows that are wanted whole
    std::vector<SelectRow> ranked;        // the rows that are not
    std::vector<int32_t> places;          // of the ranked rows, then of the whole ones, among all
    std::vector<SumPart> parts;           // [rows, parts of the vocabulary]
    std::vector<int32_t> apart;           // the tokens of each row that stand apart, row by row
    std::vector<float> apart_logits;      // of each
    std::vector<int64_t> apart_end;       // [rows]: where a row's end
    std::vector<SelectOutcome> outcomes;  // [rows]
  };

  // A product's rows of `units` in one task.
  int64_t RowBlock(int64_t units) const {
    return std::max<int64_t>(kernels_.row_block, kernels_.row_block_bytes / (units * 4));
  }
  int64_t StateBytes(int64_t cols) const { return cols * 4 / kernels_.pack; }
  // Bytes from a row to the next. Of states an odd number of cache lines: the rows of a block lie in as many sets.
  int64_t Stride(const Tensor& t) const {
    return t.storage == Storage::kState ? (StateStride(kernels_, t.cols) / 64 | 1) * 64 : RoundUp(t.cols, 32) * 4;
  }
  std::byte* Row(const Tensor& t, int64_t row) const { return t.data + row * Stride(t); }
  int Positions(Phase phase) const {
    return phase == Phase::kEncode ? layout_.encode.positions() : Layout(phase).positions();
  }
  const DecodeLayout& Layout(Phase phase) const { return phase == Phase::kPrefill ? layout_.prefill : layout_.decode; }
  const StateMemory& States(const MemoryShape& s) const { return s.int8 ? int8_->states : attention_.states; }
  int64_t PageBytes(const MemoryShape& shape) const;  // of one layer (kv) or all (el)
  int64_t CellBytes(const MemoryShape& shape) const;

  // At least so many bytes: taken at load, where Prepare runs every operation. What: see BufferSource::TakeBacked.
  void Reserve(int64_t bytes, const char* what, AlignedBuffer* buffer) {
    if (buffer->bytes() < bytes) *buffer = buffers_.TakeBacked(bytes, what);
  }

  // Of a weight with so many inputs: sums of more integers than kMostInt8Inputs would not fit, and stay states.
  PackTools ToolsFor(WeightType type, int64_t inputs) {
    const bool int8 = type == WeightType::kInt8 && inputs <= kMostInt8Inputs;
    packs_int8_ |= int8;
    return {kernels_, int8 ? int8_ : nullptr, pool_, buffers_};
  }
  // Runs f(row) for `rows` rows, some of them in a task.
  template <class F>
  void ForRows(int64_t rows, F&& f) {
    constexpr int64_t kRowsPerTask = 16;
    pool_.Run(RoundUp(rows, kRowsPerTask) / kRowsPerTask, [&](int64_t task, int) {
      const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
      for (int64_t row = task * kRowsPerTask; row < end; ++row) f(row);
    });
  }
  void ReserveIntegers(const PackedMatrix& weight, int64_t rows);
  // int8: the rows of `b`, `rows` of them and the part of each head, become integers.
  void Quantize(const PackedMatrix& weight, int64_t rows, LinearBlock* b);
  // output = input * weight + bias, all rows; Linear and SelectTokens add what else they want.
  LinearBlock BlockOf(const Tensor& input, const PackedMatrix& weight, const Tensor& output) const;
  // The first `rows` rows of `whole`, all heads, cut into tasks. `whole.logits` are the first thread's.
  void RunLinear(const LinearBlock& whole, const PackedMatrix& weight, int64_t rows);
  void PlanPages();
  // The phase's runs have been listed in runs_.
  void AttendRuns(const RunAttention& args);
  void PackRuns(const RunAttention& args);
  uint32_t* RunPage(const Run& run, int page, int head, int heads, int head_dim) const;
  void ReserveFavor(const FavorAttentionArgs& args, int64_t documents);
  void SumFavor(const FavorAttentionArgs& args, std::span<const EncodeDocument> documents);
  void AnswerFavor(const FavorAttentionArgs& args, std::span<const EncodeDocument> documents);
  void CollectHistory(const PrefillAttentionArgs& args);
  const CausalBias& CausalBiasOf(const PositionBias& bias);
  void PlanQueries(const DecodeLayout& layout, int heads);
  // By the exact kernel where the result is exact.
  void AttendPacked(const PackedAttention& packed, const AttentionApproximation& approximation, RowScratch& s) const;
  ElAttention ElOf(RowScratch& s, int queries, int tokens, bool biased) const;
  // What approximate attention over sources needs: `floats` for the longest one.
  void ReserveScores(int64_t (*floats)(int64_t tokens));
  void CrossEl(const CrossAttentionArgs& args);
  void CrossPacked(const CrossAttentionArgs& args);
  void SelfEl(const SelfAttentionArgs& args);
  void SelfPacked(const SelfAttentionArgs& args);
  // How the decode documents are cut into tasks: each one's heads into groups, its rows into parts.
  struct Cut {
    int64_t groups = 1, parts = 1;
    int64_t tasks = 0;  // of all documents
  };
  // Some heads of some rows of a document; perhaps of none.
  struct RowTask {
    const DecodeDocument* document;
    int64_t head;
    int heads;
    int64_t row;  // in the layout
    int rows;
  };
  Cut CutOf(const DecodeLayout& layout) const;
  RowTask TaskOf(const DecodeLayout& layout, const Cut& cut, int64_t i) const;
  void ReserveSelect(int64_t rows, const PackedMatrix& weight);
  void RankTokens(const Tensor& input, const PackedMatrix& weight, size_t before);
  void TakeWholeRows(const Tensor& input, const PackedMatrix& weight, std::span<SelectedRow> selected);
  void ListApart(std::span<const SelectRow> rows, int64_t vocab);
  void ResetKept(std::span<const SelectRow> rows);
  float* RowOfLogits(const Tensor& input, int64_t row, const PackedMatrix& weight);

  const DataType type_;
  const Kernels& kernels_;
  const Int8Kernels* const int8_;  // null: there are none
  bool packs_int8_ = false;        // some weights are int8
  const Kernels& attention_;       // whose layouts pages of states, keys and values have, and what reads them
  ThreadPool& pool_;
  BufferSource buffers_;

  MemoryShape shape_;
  StepLimits limits_;
  std::vector<AlignedBuffer> tensors_;
  std::vector<AlignedBuffer> encoder_;  // cross el: one; kv: one a layer. [pages][PageBytes(shape_)]
  std::vector<AlignedBuffer> decoder_;  // [layers]: [cells][CellBytes(shape_)]
  AlignedBuffer integers_;              // a product's rows, of int8 weights
  AlignedBuffer outliers_;              // RowOutliers [rows, heads]
  AlignedBuffer row_scales_;            // [rows, heads]: of each
  AlignedBuffer weighed_bias_;          // of PerHeadLinear: [positions, heads * out]
  AlignedBuffer packed_;                // the runs' keys and values: grows with the widest attention
  FavorSlots favor_;                    // of the documents at hand
  Tensor history_states_, history_;     // of prefill rows, end to end: cached states (el), keys and values
  CausalBias causal_;                   // of the last prefill attention: all layers have one bias
  std::vector<RowScratch> scratch_;     // [threads]

  StepLayout layout_;
  std::vector<DocumentTask> tasks_;
  std::vector<Run> runs_;
  SelectMemory select_;
  std::vector<Candidate> candidates_;  // [rows of both phases, kMaxCandidates]
  std::vector<SelectedRow> selected_;
  size_t prefill_selected_ = 0;  // the first ones: prefill's
};

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_CPU_BACKEND_H_
