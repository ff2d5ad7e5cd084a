#include "engine/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/cpu/aligned_buffer.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/packing.h"

namespace elserve {
namespace {

using namespace cpu;  // NOLINT(google-build-using-namespace): this file is the namespace's front

// The kernels read whole vectors: up to this many bytes behind a head's last value.
constexpr int64_t kReadAhead = 256;

const PackedMatrix& Matrix(const PackedWeight* weight) { return *static_cast<const PackedMatrix*>(weight); }

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuBackendOptions& options)
      : isa_(options.isa),
        type_(options.state_type),
        kernels_(KernelsFor(options.isa, options.state_type)),
        pool_(*options.pool) {}

  std::string name() const override { return "cpu"; }
  std::string device_name() const override {
    return absl::StrCat(ProcessorName(), ", ", pool_.threads(), " threads, ", IsaName(isa_), " kernels");
  }
  DataType state_type() const override { return type_; }

  PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias) override {
    return PackMatrix(kernels_, pool_, weight, bias, false);
  }
  PackedWeightPtr PackPerHead(const HostTensor& weight) override {
    return PackMatrix(kernels_, pool_, weight, nullptr, true);
  }
  PackedWeightPtr PackEmbedding(const HostTensor& table) override { return PackTable(kernels_, pool_, table); }
  PackedWeightPtr PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) override;

  MemoryCosts Costs(const MemoryShape& shape) const override;
  absl::Status AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                              const StepLimits& limits) override;
  absl::StatusOr<Tensor> AllocateTensor(int64_t rows, int64_t cols, Storage storage) override;

  void BeginStep(const StepLayout& layout) override;
  void Replay(uint64_t, absl::FunctionRef<void()> body) override { body(); }

  void Embed(const EmbedArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void PerHeadLinear(const PerHeadLinearArgs& args) override;
  void Norm(const NormArgs& args) override;
  void EncoderAttention(const EncoderAttentionArgs& args) override;
  void StoreEncoder(const StoreEncoderArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void SelectTokens(const SelectTokensArgs& args) override;
  absl::StatusOr<std::span<const SelectedRow>> Selected() override { return std::span<const SelectedRow>(selected_); }

  std::vector<float> Read(const Tensor& tensor, int64_t rows) override;
  void Write(const Tensor& tensor, std::span<const float> values) override;

 private:
  // A document's keys and values, or a part of its queries: one task of attention.
  struct DocumentTask {
    int document;
    int begin;  // el: the first lane; kv and encoder: the first position within the document
    int count;
    int length;
  };
  struct RowScratch {
    std::vector<float> attention;
    AlignedBuffer gathered;  // el self-attention: a row's cells side by side
    std::vector<std::byte*> out;
    std::vector<const uint32_t*> q, pages;
    std::vector<float> raw;  // [edits of a row]
  };

  // Takes the buffer's memory from the system now, on all threads: no step has to wait for it, or finds that there is
  // none.
  void Touch(const AlignedBuffer& buffer) {
    constexpr int64_t kPart = int64_t{8} << 20;
    pool_.Run(RoundUp(buffer.bytes(), kPart) / kPart, [&](int64_t i, int) { buffer.Touch(i * kPart, kPart); });
  }
  int64_t StateBytes(int64_t cols) const { return cols * 4 / kernels_.pack; }
  int64_t Stride(const Tensor& t) const {
    return t.storage == Storage::kState ? StateStride(kernels_, t.cols) : RoundUp(t.cols, 32) * 4;
  }
  std::byte* Row(const Tensor& t, int64_t row) const { return t.data + row * Stride(t); }
  int Positions(Phase phase) const {
    return phase == Phase::kEncode ? layout_.encode.positions() : layout_.decode.positions();
  }
  int64_t PageUnits() const {
    return KeyPageUnits(kernels_, shape_.head_dim) + ValuePageUnits(kernels_, shape_.head_dim);
  }
  int64_t PageBytes() const;  // of one layer (kv) or all (el)
  int64_t CellBytes() const { return StateStride(kernels_, shape_.el ? shape_.d : 2 * shape_.heads * shape_.head_dim); }

  // The product of `rows` rows at `input`, cut into tasks.
  void RunLinear(const LinearBlock& whole, const PackedMatrix& weight, int64_t rows, int64_t residual_stride,
                 int64_t out_bytes, int64_t in_head_bytes, int64_t out_head_bytes);
  void PlanLanes(int heads);
  void CrossStates(const CrossAttentionArgs& args);
  void CrossPacked(const CrossAttentionArgs& args);
  void ReserveSelect(int64_t rows, const PackedMatrix& weight, int64_t edits);

  const Isa isa_;
  const DataType type_;
  const Kernels& kernels_;
  ThreadPool& pool_;

  MemoryShape shape_;
  StepLimits limits_;
  std::vector<AlignedBuffer> tensors_;
  std::vector<AlignedBuffer> encoder_;  // el: one; kv: one a layer. [pages][PageBytes()]
  std::vector<AlignedBuffer> decoder_;  // [layers]: [cells][CellBytes()]
  AlignedBuffer packed_;                // the encoder's keys and values: grows with the widest encoder attention
  std::vector<RowScratch> scratch_;     // [threads]

  StepLayout layout_;
  std::vector<DocumentTask> tasks_;
  std::vector<int64_t> first_page_;  // [encode documents]: where a document's pages begin in packed_
  AlignedBuffer select_input_, logits_;
  std::vector<Candidate> candidates_;
  std::vector<SelectedRow> selected_;
};

int64_t CpuBackend::PageBytes() const {
  if (shape_.el) return kPageTokens * StateStride(kernels_, shape_.d);
  return shape_.heads * PageUnits() * 4;
}

PackedWeightPtr CpuBackend::PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) {
  auto packed = std::make_unique<PackedNormWeight>();
  packed->kind = kind;
  packed->epsilon = epsilon;
  packed->gamma.resize(gamma.size());
  ReadFloats(gamma, 0, gamma.size(), packed->gamma.data());
  if (beta) {
    packed->beta.resize(beta->size());
    ReadFloats(*beta, 0, beta->size(), packed->beta.data());
  }
  return packed;
}

MemoryCosts CpuBackend::Costs(const MemoryShape& s) const {
  const int64_t inner = static_cast<int64_t>(s.heads) * s.head_dim;
  MemoryCosts costs;
  if (s.el) {
    costs.per_encoder_page = kPageTokens * StateStride(kernels_, s.d);
    costs.per_decoder_block = kBlockCells * s.layers * StateStride(kernels_, s.d);
  } else {
    const int64_t page = (KeyPageUnits(kernels_, s.head_dim) + ValuePageUnits(kernels_, s.head_dim)) * 4;
    costs.per_encoder_page = s.layers * s.heads * page;
    costs.per_decoder_block = kBlockCells * s.layers * StateStride(kernels_, 2 * inner);
  }
  return costs;
}

absl::Status CpuBackend::AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                                        const StepLimits& limits) {
  if (kernels_.pack == 2 && (shape.d % 2 != 0 || shape.head_dim % 2 != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("bfloat16 on the cpu needs even widths: d_model is ", shape.d,
                                                   ", head_dim ", shape.head_dim, "; use precision: float32"));
  }
  shape_ = shape;
  limits_ = limits;
  const auto add = [this](std::vector<AlignedBuffer>& to, int64_t bytes) {
    to.emplace_back(bytes);
    Touch(to.back());
    return to.back().data() ? absl::OkStatus()
                            : absl::ResourceExhaustedError(absl::StrCat("no room for ", bytes, " bytes"));
  };
  for (int i = 0; i < (shape.el ? 1 : shape.layers); ++i) {
    if (absl::Status s = add(encoder_, encoder_pages * PageBytes()); !s.ok()) return s;
  }
  for (int i = 0; i < shape.layers; ++i) {
    if (absl::Status s = add(decoder_, decoder_blocks * kBlockCells * CellBytes() + kReadAhead); !s.ok()) return s;
  }
  scratch_.resize(pool_.threads());
  const int64_t cells = RoundUp(std::max(limits.decoder_length, 1), kPageTokens);
  const int64_t pages =
      RoundUp(std::max({limits.source_length, limits.decoder_length, limits.encode_positions}), kPageTokens) /
      kPageTokens;
  for (RowScratch& s : scratch_) {
    s.attention.resize(
        std::max({StateScratchFloats(shape.d), PackedScratchFloats(shape.heads, shape.head_dim), cells + 64}));
    if (shape.el) s.gathered = AlignedBuffer(cells * CellBytes());
    s.out.resize(kMaxLanes);
    s.q.resize(kMaxLanes);
    s.pages.resize(pages);
  }
  tasks_.reserve(static_cast<size_t>(limits.decode_positions + limits.encode_positions) * std::max(1, shape.heads));
  first_page_.reserve(limits.encode_positions + 1);
  candidates_.resize(static_cast<size_t>(limits.select_rows) * kMaxCandidates);
  selected_.reserve(limits.select_rows);
  return absl::OkStatus();
}

absl::StatusOr<Tensor> CpuBackend::AllocateTensor(int64_t rows, int64_t cols, Storage storage) {
  Tensor t{nullptr, rows, cols, storage};
  AlignedBuffer buffer(rows * Stride(t));
  if (!buffer.data())
    return absl::ResourceExhaustedError(absl::StrCat("no room for ", rows, " x ", cols, " activations"));
  Touch(buffer);
  t.data = buffer.data();
  tensors_.push_back(std::move(buffer));
  return t;
}

void CpuBackend::BeginStep(const StepLayout& layout) {
  layout_ = layout;
  selected_.clear();
}

void CpuBackend::Embed(const EmbedArgs& args) {
  const auto& tokens = *static_cast<const PackedTable*>(args.tokens);
  const auto* positions = static_cast<const PackedTable*>(args.positions);
  const bool encode = args.phase == Phase::kEncode;
  const std::span<const int32_t> ids = encode ? layout_.encode.tokens : layout_.decode.tokens;
  const std::span<const int32_t> places = encode ? layout_.encode.position_ids : layout_.decode.position_ids;
  for (int p = 0; p < Positions(args.phase); ++p) {
    const std::byte* place =
        positions ? positions->values.data() + (places[p] + args.position_offset) * positions->stride : nullptr;
    kernels_.embed(tokens.values.data() + ids[p] * tokens.stride, args.scale, place, tokens.d,
                   reinterpret_cast<float*>(Row(args.output, p)));
  }
}

void CpuBackend::RunLinear(const LinearBlock& whole, const PackedMatrix& weight, int64_t rows, int64_t residual_stride,
                           int64_t out_bytes, int64_t in_head_bytes, int64_t out_head_bytes) {
  const int64_t blocks = RoundUp(rows, kRowBlock) / kRowBlock;
  // Enough tasks to balance, panels enough to keep the input warm. A group of panels is taken for all blocks of rows
  // before the next group, so that it comes from memory once.
  const int64_t wanted = 8 * pool_.threads();
  const int64_t group = std::clamp<int64_t>(weight.heads * weight.panels * blocks / wanted, 1, 16);
  const int64_t groups = RoundUp(weight.panels, group) / group;
  pool_.Run(weight.heads * groups * blocks, [&](int64_t i, int) {
    const int64_t block = i % blocks, head = i / blocks / groups;
    const int64_t first = block * rows / blocks, last = (block + 1) * rows / blocks;
    LinearBlock b = whole;
    b.rows = static_cast<int>(last - first);
    b.a = whole.a + first * whole.a_stride + head * in_head_bytes / 4;
    b.panels = weight.values.as<uint32_t>() + head * weight.panels * weight.units * kernels_.panel;
    b.panel_begin = static_cast<int>(i / blocks % groups * group);
    b.panel_end = static_cast<int>(std::min<int64_t>(b.panel_begin + group, weight.panels));
    if (whole.residual) b.residual = whole.residual + first * residual_stride;
    b.out = whole.out + first * out_bytes + head * out_head_bytes;
    kernels_.linear(b);
  });
}

void CpuBackend::Linear(const LinearArgs& args) {
  const PackedMatrix& w = Matrix(args.weight);
  const bool state = args.output.storage == Storage::kState;
  LinearBlock b{};
  b.a = reinterpret_cast<const uint32_t*>(args.input.data);
  b.a_stride = Stride(args.input) / 4;
  b.units = w.units;
  b.bias = w.bias.data();
  b.activation = args.activation;
  b.residual = args.residual ? reinterpret_cast<const float*>(args.residual->data) : nullptr;
  b.residual_stride = args.residual ? Stride(*args.residual) / 4 : 0;
  b.out = args.output.data;
  b.out_state = state;
  b.out_stride = Stride(args.output) / (state ? 4 / kernels_.pack : 4);
  b.cols = w.out;
  RunLinear(b, w, Positions(args.phase), b.residual_stride, Stride(args.output), 0, 0);
}

void CpuBackend::PerHeadLinear(const PerHeadLinearArgs& args) {
  const PackedMatrix& w = Matrix(args.weight);
  LinearBlock b{};
  b.a = reinterpret_cast<const uint32_t*>(args.input.data);
  b.a_stride = Stride(args.input) / 4;
  b.units = w.units;
  b.bias = w.bias.data();
  b.out = args.output.data;
  b.out_state = true;
  b.out_stride = Stride(args.output) / (4 / kernels_.pack);
  b.cols = w.out;
  RunLinear(b, w, Positions(args.phase), 0, Stride(args.output), StateBytes(w.in), StateBytes(w.out));
}

void CpuBackend::Norm(const NormArgs& args) {
  const auto& w = *static_cast<const PackedNormWeight*>(args.weight);
  const int positions = Positions(args.phase);
  constexpr int kRowsPerTask = 16;
  pool_.Run(RoundUp(positions, kRowsPerTask) / kRowsPerTask, [&](int64_t i, int) {
    const int end = std::min<int>(positions, static_cast<int>(i + 1) * kRowsPerTask);
    for (int p = static_cast<int>(i) * kRowsPerTask; p < end; ++p) {
      kernels_.norm(w.kind, reinterpret_cast<const float*>(Row(args.input, p)), args.input.cols, w.gamma.data(),
                    w.beta.empty() ? nullptr : w.beta.data(), w.epsilon,
                    args.residual ? reinterpret_cast<float*>(Row(*args.residual, p)) : nullptr, Row(args.state, p));
    }
  });
}

void CpuBackend::EncoderAttention(const EncoderAttentionArgs& args) {
  const EncodeLayout& e = layout_.encode;
  const int64_t inner = static_cast<int64_t>(args.heads) * args.head_dim;
  const int64_t key_units = KeyPageUnits(kernels_, args.head_dim),
                page_units = key_units + ValuePageUnits(kernels_, args.head_dim);
  // Keys and values, packed: for each document [head][page][keys, values]. A head's pages are neighbours: at a large
  // power of two from each other they would fall into the same few sets of the caches.
  int64_t pages = 0;
  first_page_.clear();
  for (const EncodeDocument& d : e.documents) {
    first_page_.push_back(pages);
    pages += RoundUp(d.length, kPageTokens) / kPageTokens;
  }
  if (packed_.bytes() < pages * args.heads * page_units * 4) {
    const int64_t most =
        RoundUp(limits_.encode_positions, kPageTokens) / kPageTokens + limits_.encode_positions / kPageTokens + 1;
    packed_ = AlignedBuffer(std::max(pages, most) * args.heads * page_units * 4);
  }
  for (RowScratch& s : scratch_) {
    // The encoder's heads may be wider than the decoder's.
    const auto floats = static_cast<size_t>(PackedScratchFloats(1, args.head_dim));
    if (s.attention.size() < floats) s.attention.resize(floats);
  }
  const int64_t stride = Stride(args.qkv);
  const auto page_at = [&](int document, int page, int head) {
    const int64_t pages = RoundUp(e.documents[document].length, kPageTokens) / kPageTokens;
    return packed_.as<uint32_t>() + (first_page_[document] * args.heads + head * pages + page) * page_units;
  };
  tasks_.clear();
  for (int d = 0; d < static_cast<int>(e.documents.size()); ++d) {
    for (int begin = 0; begin < e.documents[d].length; begin += kPageTokens) {
      tasks_.push_back({d, begin, std::min(kPageTokens, e.documents[d].length - begin), 0});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int) {
    const DocumentTask& t = tasks_[i];
    const std::byte* rows = Row(args.qkv, e.documents[t.document].begin + t.begin);
    for (int head = 0; head < args.heads; ++head) {
      uint32_t* page = page_at(t.document, t.begin / kPageTokens, head);
      kernels_.pack_keys(rows + StateBytes(inner + head * args.head_dim), stride, t.count, args.head_dim, page);
      kernels_.pack_values(rows + StateBytes(2 * inner + head * args.head_dim), stride, t.count, args.head_dim,
                           page + key_units);
    }
  });
  // Queries in parts that keep all threads busy to the end.
  constexpr int kQueries = 192;
  tasks_.clear();
  for (int d = 0; d < static_cast<int>(e.documents.size()); ++d) {
    for (int begin = 0; begin < e.documents[d].length; begin += kQueries) {
      tasks_.push_back({d, begin, std::min(kQueries, e.documents[d].length - begin), e.documents[d].length});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()) * args.heads, [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i / args.heads];
    const int head = static_cast<int>(i % args.heads);
    RowScratch& s = scratch_[thread];
    const int n = static_cast<int>(RoundUp(t.length, kPageTokens) / kPageTokens);
    for (int page = 0; page < n; ++page) {
      s.pages[page] = page_at(t.document, page, head);
    }
    const int64_t row = e.documents[t.document].begin + t.begin, column = StateBytes(head * args.head_dim);
    kernels_.packed_attention({reinterpret_cast<const uint32_t*>(Row(args.qkv, row) + column), stride / 4, t.count,
                               /*heads=*/1, args.head_dim, t.length, kAttentionTile, s.pages.data(),
                               Row(args.output, row) + column, Stride(args.output), s.attention.data()});
  });
}

void CpuBackend::StoreEncoder(const StoreEncoderArgs& args) {
  const EncodeLayout& e = layout_.encode;
  const int64_t stride = Stride(args.states), inner = static_cast<int64_t>(shape_.heads) * shape_.head_dim;
  std::byte* memory = encoder_[shape_.el ? 0 : args.layer].data();
  const int64_t key_units = KeyPageUnits(kernels_, shape_.head_dim);
  tasks_.clear();
  for (int d = 0; d < static_cast<int>(e.documents.size()); ++d) {
    for (size_t page = 0; page < e.documents[d].pages.size(); ++page) {
      const int begin = static_cast<int>(page) * kPageTokens;
      tasks_.push_back({d, begin, std::min(kPageTokens, e.documents[d].length - begin), 0});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int) {
    const DocumentTask& t = tasks_[i];
    const EncodeDocument& d = e.documents[t.document];
    const std::byte* rows = Row(args.states, d.begin + t.begin);
    std::byte* page = memory + d.pages[t.begin / kPageTokens] * PageBytes();
    if (shape_.el) {
      std::memcpy(page, rows, t.count * stride);
      // Products take tokens in pairs: the row after the last is zeros.
      if (t.count < kPageTokens) std::memset(page + t.count * stride, 0, stride);
      return;
    }
    for (int head = 0; head < shape_.heads; ++head) {
      auto* keys = reinterpret_cast<uint32_t*>(page) + head * PageUnits();
      kernels_.pack_keys(rows + StateBytes(head * shape_.head_dim), stride, t.count, shape_.head_dim, keys);
      kernels_.pack_values(rows + StateBytes(inner + head * shape_.head_dim), stride, t.count, shape_.head_dim,
                           keys + key_units);
    }
  });
}

// Cuts the decode documents' lanes (position x head) into tasks: wide ones read the states less often, narrow ones keep
// more threads busy. A lane's bits do not depend on the cut. Longest first.
void CpuBackend::PlanLanes(int heads) {
  for (int width = kMaxLanes; width >= 16; width -= 16) {
    tasks_.clear();
    for (int d = 0; d < static_cast<int>(layout_.decode.documents.size()); ++d) {
      const DecodeDocument& document = layout_.decode.documents[d];
      const int lanes = document.positions * heads, parts = (lanes + width - 1) / width;
      for (int part = 0; part < parts; ++part) {
        const int begin = part * lanes / parts;
        tasks_.push_back({d, begin, (part + 1) * lanes / parts - begin, document.length});
      }
    }
    if (static_cast<int>(tasks_.size()) >= 4 * pool_.threads()) break;
  }
  std::sort(tasks_.begin(), tasks_.end(),
            [](const DocumentTask& a, const DocumentTask& b) { return a.length > b.length; });
}

void CpuBackend::CrossAttention(const CrossAttentionArgs& args) { shape_.el ? CrossStates(args) : CrossPacked(args); }

void CpuBackend::CrossStates(const CrossAttentionArgs& args) {
  const int heads = shape_.heads;
  PlanLanes(heads);
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i];
    const DecodeDocument& d = layout_.decode.documents[t.document];
    RowScratch& s = scratch_[thread];
    for (int j = 0; j < t.count; ++j) {
      const int lane = t.begin + j;
      const int64_t row = d.begin + lane / heads, column = StateBytes(static_cast<int64_t>(lane % heads) * shape_.d);
      s.q[j] = reinterpret_cast<const uint32_t*>(Row(args.query, row) + column);
      s.out[j] = Row(args.output, row) + column;
    }
    for (size_t page = 0; page < d.pages.size(); ++page) {
      s.pages[page] = reinterpret_cast<const uint32_t*>(encoder_[0].data() + d.pages[page] * PageBytes());
    }
    kernels_.state_attention({s.q.data(), t.count, RoundUp(shape_.d, kernels_.pack) / kernels_.pack, shape_.d, d.length,
                              s.pages.data(), StateStride(kernels_, shape_.d) / 4, s.out.data(), s.attention.data()});
  });
}

void CpuBackend::CrossPacked(const CrossAttentionArgs& args) {
  const auto& documents = layout_.decode.documents;
  // A task reads its heads' keys and values page after page, so memory streams; as many heads as leave all threads
  // busy.
  const int64_t wanted = 4 * pool_.threads();
  const int64_t groups =
      std::clamp<int64_t>(RoundUp(wanted, documents.size()) / static_cast<int64_t>(documents.size()), 1, shape_.heads);
  pool_.Run(static_cast<int64_t>(documents.size()) * groups, [&](int64_t i, int thread) {
    const DecodeDocument& d = documents[i / groups];
    const int64_t group = i % groups, head = group * shape_.heads / groups;
    const int heads = static_cast<int>((group + 1) * shape_.heads / groups - head);
    RowScratch& s = scratch_[thread];
    for (size_t page = 0; page < d.pages.size(); ++page) {
      s.pages[page] = reinterpret_cast<const uint32_t*>(encoder_[args.layer].data() + d.pages[page] * PageBytes()) +
                      head * PageUnits();
    }
    const int64_t column = StateBytes(head * shape_.head_dim);
    kernels_.packed_attention({reinterpret_cast<const uint32_t*>(Row(args.query, d.begin) + column),
                               Stride(args.query) / 4, d.positions, heads, shape_.head_dim, d.length, kPageTokens,
                               s.pages.data(), Row(args.output, d.begin) + column, Stride(args.output),
                               s.attention.data()});
  });
}

void CpuBackend::SelfAttention(const SelfAttentionArgs& args) {
  const DecodeLayout& l = layout_.decode;
  std::byte* cells = decoder_[args.layer].data();
  const int64_t cell_bytes = CellBytes();
  for (int p = 0; p < l.positions(); ++p) std::memcpy(cells + l.cells[p] * cell_bytes, Row(args.states, p), cell_bytes);
  const int heads = shape_.heads;
  pool_.Run(l.positions(), [&](int64_t p, int thread) {
    RowScratch& s = scratch_[thread];
    const int tokens = l.position_ids[p] + 1;
    const int32_t* ancestry = l.ancestry + p * l.ancestry_stride;
    if (!shape_.el) {
      kernels_.cell_attention({Row(args.query, p), heads, shape_.head_dim, tokens, cells, cell_bytes, ancestry,
                               Row(args.output, p), s.attention.data()});
      return;
    }
    std::byte* rows = s.gathered.data();
    for (int t = 0; t < tokens; ++t) std::memcpy(rows + t * cell_bytes, cells + ancestry[t] * cell_bytes, cell_bytes);
    if (tokens % 2 != 0) std::memset(rows + tokens * cell_bytes, 0, cell_bytes);
    for (int page = 0; page * kPageTokens < tokens; ++page) {
      s.pages[page] = reinterpret_cast<const uint32_t*>(rows + page * kPageTokens * cell_bytes);
    }
    for (int begin = 0; begin < heads; begin += kMaxLanes) {
      const int count = std::min(kMaxLanes, heads - begin);
      for (int j = 0; j < count; ++j) {
        const int64_t column = StateBytes(static_cast<int64_t>(begin + j) * shape_.d);
        s.q[j] = reinterpret_cast<const uint32_t*>(Row(args.query, p) + column);
        s.out[j] = Row(args.output, p) + column;
      }
      kernels_.state_attention({s.q.data(), count, RoundUp(shape_.d, kernels_.pack) / kernels_.pack, shape_.d, tokens,
                                s.pages.data(), cell_bytes / 4, s.out.data(), s.attention.data()});
    }
  });
}

void CpuBackend::ReserveSelect(int64_t rows, const PackedMatrix& w, int64_t edits) {
  const int64_t most = std::max<int64_t>(rows, limits_.select_rows);
  if (const int64_t bytes = most * w.panels * kernels_.panel * 4; logits_.bytes() < bytes)
    logits_ = AlignedBuffer(bytes);
  if (const int64_t bytes = most * StateStride(kernels_, w.in); select_input_.bytes() < bytes)
    select_input_ = AlignedBuffer(bytes);
  for (RowScratch& s : scratch_) {
    // At most one edit a token.
    if (static_cast<int64_t>(s.raw.size()) < edits) s.raw.resize(std::max(edits, w.out));
  }
}

void CpuBackend::SelectTokens(const SelectTokensArgs& args) {
  const PackedMatrix& w = Matrix(args.weight);
  const std::span<const SelectRow> rows = layout_.decode.select;
  int64_t edits = 0;
  for (const SelectRow& row : rows) edits = std::max<int64_t>(edits, static_cast<int64_t>(row.edits.size()));
  ReserveSelect(static_cast<int64_t>(rows.size()), w, edits);
  const int64_t in_stride = Stride(args.input), logits_stride = w.panels * kernels_.panel;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(select_input_.data() + i * in_stride, Row(args.input, rows[i].position), in_stride);
  }
  LinearBlock b{};
  b.a = select_input_.as<uint32_t>();
  b.a_stride = in_stride / 4;
  b.units = w.units;
  b.bias = w.bias.data();
  b.out = logits_.data();
  b.out_stride = logits_stride;
  b.cols = w.out;
  RunLinear(b, w, static_cast<int64_t>(rows.size()), 0, logits_stride * 4, 0, 0);
  selected_.resize(rows.size());
  pool_.Run(static_cast<int64_t>(rows.size()), [&](int64_t i, int thread) {
    Candidate* out = candidates_.data() + i * kMaxCandidates;
    const SelectOutcome outcome = kernels_.select(
        {logits_.as<float>() + i * logits_stride, static_cast<int>(w.out), &rows[i], out, scratch_[thread].raw.data()});
    selected_[i] = {std::span<const Candidate>(out, outcome.count), outcome.finite};
  });
}

std::vector<float> CpuBackend::Read(const Tensor& tensor, int64_t rows) {
  std::vector<float> values(rows * tensor.cols);
  for (int64_t r = 0; r < rows; ++r) {
    float* to = values.data() + r * tensor.cols;
    if (tensor.storage == Storage::kState) {
      kernels_.from_state(Row(tensor, r), tensor.cols, to);
    } else {
      std::memcpy(to, Row(tensor, r), tensor.cols * sizeof(float));
    }
  }
  return values;
}

void CpuBackend::Write(const Tensor& tensor, std::span<const float> values) {
  for (int64_t r = 0; r * tensor.cols < static_cast<int64_t>(values.size()); ++r) {
    const float* from = values.data() + r * tensor.cols;
    if (tensor.storage == Storage::kState) {
      kernels_.to_state(from, tensor.cols, Row(tensor, r));
    } else {
      std::memcpy(Row(tensor, r), from, tensor.cols * sizeof(float));
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options) {
  if (!cpu::HasAvx2()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the cpu backend needs AVX2 and FMA; this processor is ", cpu::ProcessorName()));
  }
  if (options.isa > cpu::DetectIsa()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this processor has no ", cpu::IsaName(options.isa), ": it is ", cpu::ProcessorName()));
  }
  return std::make_unique<CpuBackend>(options);
}

}  // namespace elserve
