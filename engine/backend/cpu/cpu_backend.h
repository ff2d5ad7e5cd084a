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
#include "engine/backend/cpu/packing.h"
#include "engine/thread_pool.h"

namespace elserve::cpu {

// Memory, products and rows are in cpu_backend.cc, attention is in cpu_attention.cc, selection in cpu_select.cc.
class CpuBackend final : public Backend {
 public:
  CpuBackend(Isa isa, DataType state_type, ThreadPool& pool, std::string host_root);

  std::string name() const override { return "cpu"; }
  std::string device_name() const override {
    return absl::StrCat(ProcessorName(), ", ", pool_.threads(), " threads, ", IsaName(kernels_.isa), " kernels");
  }
  DataType state_type() const override { return type_; }

  PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias) override {
    return PackMatrix(kernels_, pool_, buffers_, weight, bias, false);
  }
  PackedWeightPtr PackGatedLinear(const GatedWeights& weights) override {
    return PackGated(kernels_, pool_, buffers_, weights);
  }
  PackedWeightPtr PackPerHead(const HostTensor& weight) override {
    return PackMatrix(kernels_, pool_, buffers_, weight, nullptr, true);
  }
  PackedWeightPtr PackEmbedding(const HostTensor& table) override {
    return PackTable(kernels_, pool_, buffers_, table);
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
  void StoreEncoder(const StoreEncoderArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void SelectTokens(const SelectTokensArgs& args) override;
  absl::StatusOr<std::span<const SelectedRow>> Selected() override {
    if (!buffers_.status().ok()) return buffers_.status();
    return std::span<const SelectedRow>(selected_);
  }

  std::vector<float> Read(const Tensor& tensor, int64_t rows) override;
  void Write(const Tensor& tensor, std::span<const float> values) override;

 private:
  // A document's keys and values, or a part of its queries: one task of attention.
  struct DocumentTask {
    int document;
    int begin;  // el: the first query; kv and encoder: the first position within the document
    int count;
    int length;
  };
  struct RowScratch {
    std::vector<float> attention;
    AlignedBuffer gathered;                // el self-attention: a row's cells side by side
    AlignedBuffer wide;                    // rows of a product as its kernel widens them
    std::vector<const std::byte*> states;  // [kPageTokens]: of a page that is stored
    std::vector<const uint32_t*> q, pages;
    std::vector<const uint32_t*> next_pages;  // el: the first ones of the document that the thread likely has next
    std::vector<const float*> bias;           // of the queries
    std::vector<std::byte*> out;
    std::vector<CellRow> rows;  // of one document
  };
  // What SelectTokens works in.
  struct SelectMemory {
    int64_t rows = 0;                     // room for so many
    AlignedBuffer input;                  // [rows]: states
    AlignedBuffer kept;                   // RowLogits [threads, rows]
    AlignedBuffer best;                   // TokenLogit [threads, rows, kMostLogits]
    AlignedBuffer logits;                 // [vocabulary], of one row at a time
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
    return phase == Phase::kEncode ? layout_.encode.positions() : layout_.decode.positions();
  }
  int64_t PageBytes(const MemoryShape& shape) const;  // of one layer (kv) or all (el)
  int64_t CellBytes(const MemoryShape& shape) const;

  // At least so many bytes: taken at load, where Prepare runs every operation. What: see BufferSource::TakeBacked.
  void Reserve(int64_t bytes, const char* what, AlignedBuffer* buffer) {
    if (buffer->bytes() < bytes) *buffer = buffers_.TakeBacked(bytes, what);
  }

  // output = input * weight + bias, all rows; Linear and SelectTokens add what else they want.
  LinearBlock BlockOf(const Tensor& input, const PackedMatrix& weight, const Tensor& output) const;
  // The first `rows` rows of `whole`, all heads, cut into tasks. `whole.logits` are the first thread's.
  void RunLinear(const LinearBlock& whole, const PackedMatrix& weight, int64_t rows);
  template <class Page>
  void PackPage(const std::byte* keys, const std::byte* values, int64_t stride, int tokens, int heads, int head_dim,
                const Page& page);
  void PlanPages();
  void PlanEncoderAttention(int heads, int head_dim);
  void PlanQueries(int heads);
  void RunEl(RowScratch& s, int queries, int tokens, bool biased, int next_tokens = 0);
  void CrossEl(const CrossAttentionArgs& args);
  void CrossPacked(const CrossAttentionArgs& args);
  void SelfEl(const SelfAttentionArgs& args);
  void SelfPacked(const SelfAttentionArgs& args);
  // The heads of the decode documents in groups, one of which is a task with one document: no more groups than keep all
  // threads busy.
  struct HeadRange {
    int64_t begin;
    int count;
  };
  int64_t HeadGroups() const;
  HeadRange HeadsOf(int64_t group, int64_t groups) const;
  void ReserveSelect(int64_t rows, const PackedMatrix& weight);
  void ListApart(std::span<const SelectRow> rows, int64_t vocab);
  void ResetKept(std::span<const SelectRow> rows);
  float* RowOfLogits(const Tensor& input, int64_t row, const PackedMatrix& weight);

  const DataType type_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  BufferSource buffers_;

  MemoryShape shape_;
  StepLimits limits_;
  std::vector<AlignedBuffer> tensors_;
  std::vector<AlignedBuffer> encoder_;  // cross el: one; kv: one a layer. [pages][PageBytes(shape_)]
  std::vector<AlignedBuffer> decoder_;  // [layers]: [cells][CellBytes(shape_)]
  AlignedBuffer packed_;                // the encoder's keys and values: grows with the widest encoder attention
  std::vector<RowScratch> scratch_;     // [threads]

  StepLayout layout_;
  std::vector<DocumentTask> tasks_;
  std::vector<int64_t> first_page_;  // [encode documents]: where a document's pages begin in packed_
  SelectMemory select_;
  std::vector<Candidate> candidates_;  // [rows, kMaxCandidates]
  std::vector<SelectedRow> selected_;
};

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_CPU_BACKEND_H_
