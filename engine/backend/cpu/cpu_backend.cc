#include "engine/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/backend/cpu/thread_figures.h"

namespace elserve {
namespace cpu {
namespace {

// The kernels read whole vectors: up to this many bytes behind a head's last value.
constexpr int64_t kReadAhead = 256;

// Blocks of rows of a product begin at multiples of so many.
constexpr int64_t kRowStep = 32;

const PackedMatrix& Matrix(const PackedWeight* weight) { return *static_cast<const PackedMatrix*>(weight); }

}  // namespace

CpuBackend::CpuBackend(Isa isa, DataType state_type, const CpuBackendOptions& options)
    : type_(state_type),
      kernels_(KernelsFor(isa, state_type)),
      int8_(state_type == DataType::kBFloat16 ? Int8KernelsFor(isa) : nullptr),
      attention_(options.approximate ? KernelsFor(std::min(isa, Isa::kAvx512Bf16), state_type) : kernels_),
      pool_(*options.pool),
      buffers_(pool_, options.host_root) {}

std::string CpuBackend::device_name() const {
  std::string kernels = absl::StrCat(IsaName(kernels_.isa), " kernels");
  if (packs_int8_) absl::StrAppend(&kernels, ", ", int8_->name, " for int8 weights");
  if (shape_.int8) absl::StrAppend(&kernels, ", ", int8_->states_name, " for int8 states");
  return absl::StrCat(ProcessorName(), ", ", pool_.threads(), " threads, ", kernels);
}

int64_t CpuBackend::PageBytes(const MemoryShape& s) const {
  return s.cross == AttentionForm::kEl ? States(s).page_bytes(s.d) : s.heads * attention_.page_units(s.head_dim) * 4;
}

int64_t CpuBackend::CellBytes(const MemoryShape& s) const {
  return s.self == AttentionForm::kEl ? States(s).kept_bytes(s.d)
                                      : StateStride(kernels_, int64_t{2} * s.heads * s.head_dim);
}

PackedWeightPtr CpuBackend::PackPositionBias(const HostTensor& table) {
  auto packed = std::make_unique<PackedPositionBias>();
  packed->distances = table.shape[1];
  packed->values.resize(table.size());
  ReadFloats(table, 0, table.size(), packed->values.data());
  return packed;
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

OperationFigures CpuBackend::Figures() const {
  OperationFigures all = FiguresOf(kernels_.isa, type_).operations;
  for (double* figure : {&all.product_flops, &all.el_attention_flops, &all.kv_attention_flops,
                         &all.el_self_attention_flops, &all.kv_self_attention_flops, &all.int8_el_attention_flops,
                         &all.int8_el_self_attention_flops, &all.bytes_per_second}) {
    *figure *= pool_.threads();
  }
  return all;
}

StepSizes CpuBackend::PreferredSizes() const {
  const ThreadFigures& figures = FiguresOf(kernels_.isa, type_);
  // A single request has up to kMaxBeams rows.
  return {.max_rows = std::clamp(figures.rows * pool_.threads(), kMaxBeams, 256),
          .encode_tokens_per_step = std::clamp(figures.encode_tokens * pool_.threads(), 256, 4096)};
}

MemoryCosts CpuBackend::Costs(const MemoryShape& s) const {
  return {.per_encoder_page = PageBytes(s) * s.encoder_layers(),
          .per_decoder_block = kBlockCells * s.layers * CellBytes(s)};
}

absl::Status CpuBackend::AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                                        const StepLimits& limits) {
  if (kernels_.pack == 2 && (shape.d % 2 != 0 || shape.head_dim % 2 != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("bfloat16 on the cpu needs even widths: d_model is ", shape.d,
                                                   ", head_dim ", shape.head_dim, "; use precision: float32"));
  }
  if (shape.int8 && int8_ == nullptr) return absl::InvalidArgumentError("this processor has no memory in int8");
  if (shape.int8 && shape.d > kMostInt8Inputs) {
    return absl::InvalidArgumentError(absl::StrCat("memory_precision: int8 on the cpu is for a d_model of up to ",
                                                   kMostInt8Inputs, "; it is ", shape.d));
  }
  shape_ = shape;
  limits_ = limits;
  const char* what = "encoder and decoder memory (memory, encoder_memory_tokens, decoder_memory_tokens)";
  const MemoryCosts costs = Costs(shape);
  // All of it, before a part is touched.
  if (!buffers_.Has(encoder_pages * costs.per_encoder_page + decoder_blocks * costs.per_decoder_block, what)) {
    return buffers_.status();
  }
  for (int i = 0; i < shape.encoder_layers(); ++i) {
    encoder_.push_back(buffers_.TakeBacked(encoder_pages * PageBytes(shape), what));
  }
  for (int i = 0; i < shape.layers; ++i) {
    decoder_.push_back(buffers_.TakeBacked(decoder_blocks * kBlockCells * CellBytes(shape) + kReadAhead, what));
  }
  scratch_.resize(pool_.threads());
  const int64_t cells = RoundUp(std::max(limits.decoder_length, 1), kPageTokens);
  const int64_t pages =
      RoundUp(std::max({limits.source_length, limits.decoder_length, limits.encode_positions}), kPageTokens) /
      kPageTokens;
  const StateMemory& states = States(shape);
  for (RowScratch& s : scratch_) {
    s.attention.resize(
        std::max({states.scratch_floats(shape.d), attention_.packed_scratch_floats(shape.heads, shape.head_dim),
                  kernels_.cell_scratch_floats(shape.heads, shape.head_dim, cells)}));
    if (shape.self == AttentionForm::kEl) {
      s.gathered =
          buffers_.TakeBacked(cells / kPageTokens * states.page_bytes(shape.d), "a row's cells (max_decoder_tokens)");
    }
    if (shape.cross == AttentionForm::kEl) {
      s.kept = buffers_.TakeBacked(kPageTokens * states.kept_bytes(shape.d), "a page of states");
    }
    s.states.resize(kPageTokens);
    s.out.resize(states.most_queries);
    s.q.resize(states.most_queries);
    s.bias.resize(states.most_queries);
    s.totals.resize(states.most_queries);
    s.pages.resize(pages);
    s.next_pages.resize(2 * kStripTokens / kPageTokens);
    s.rows.resize(limits.decode_positions);
  }
  if (limits.prefill_history > 0) {
    const auto take = [&](int64_t cols, Tensor* to) {
      if (absl::StatusOr<Tensor> t = AllocateTensor(limits.prefill_history, cols, Storage::kState); t.ok()) *to = *t;
    };
    if (shape.self == AttentionForm::kEl) take(shape.d, &history_states_);
    take(int64_t{2} * shape.heads * shape.head_dim, &history_);
  }
  const int positions = std::max(limits.decode_positions, limits.prefill_positions);
  tasks_.reserve(static_cast<size_t>(positions + limits.encode_positions) * std::max(1, shape.heads));
  runs_.reserve(std::max(limits.encode_positions, limits.prefill_positions));
  // Of both phases.
  candidates_.resize(2 * static_cast<size_t>(limits.select_rows) * kMaxCandidates);
  selected_.reserve(2 * static_cast<size_t>(limits.select_rows));
  return buffers_.status();
}

absl::StatusOr<Tensor> CpuBackend::AllocateTensor(int64_t rows, int64_t cols, Storage storage) {
  Tensor t{nullptr, rows, cols, storage};
  AlignedBuffer buffer = buffers_.TakeBacked(
      (rows + kernels_.rows_ahead) * Stride(t),
      absl::StrCat("activations of ", rows, " positions (max_rows, or max_source_tokens and encode_tokens_per_step)"));
  if (!buffers_.status().ok()) return buffers_.status();
  t.data = buffer.data();
  tensors_.push_back(std::move(buffer));
  return t;
}

// On a step without positions: each operation takes the memory that it will need, and computes nothing.
absl::Status CpuBackend::Prepare(Phase, absl::FunctionRef<void()> body) {
  BeginStep({});
  body();
  return buffers_.status();
}

void CpuBackend::BeginStep(const StepLayout& layout) {
  layout_ = layout;
  selected_.clear();
  prefill_selected_ = 0;
}

void CpuBackend::Embed(const EmbedArgs& args) {
  const auto& tokens = *static_cast<const PackedTable*>(args.tokens);
  const auto* positions = static_cast<const PackedTable*>(args.positions);
  const bool encode = args.phase == Phase::kEncode;
  const std::span<const int32_t> ids = encode ? layout_.encode.tokens : Layout(args.phase).tokens;
  const std::span<const int32_t> places = encode ? layout_.encode.position_ids : Layout(args.phase).position_ids;
  for (int p = 0; p < Positions(args.phase); ++p) {
    const std::byte* place =
        positions ? positions->values.data() + (places[p] + args.position_offset) * positions->stride : nullptr;
    kernels_.embed({.token = tokens.values.data() + ids[p] * tokens.stride,
                    .scale = args.scale,
                    .position = place,
                    .d = tokens.d,
                    .out = reinterpret_cast<float*>(Row(args.output, p))});
  }
}

LinearBlock CpuBackend::BlockOf(const Tensor& input, const PackedMatrix& weight, const Tensor& output) const {
  const bool state = output.storage == Storage::kState;
  return {.a = reinterpret_cast<const uint32_t*>(input.data),
          .a_room = input.rows,
          .a_stride = Stride(input) / 4,
          .units = weight.units,
          .bias = weight.bias.data(),
          .out = output.data,
          .out_state = state,
          .out_stride = Stride(output) / (state ? 4 / kernels_.pack : 4),
          .cols = weight.out,
          .gated = weight.gated};
}

void CpuBackend::ReserveIntegers(const PackedMatrix& weight, int64_t rows) {
  const int64_t room = rows + kernels_.rows_ahead;
  const char* const what = "integers of activations (max_rows, or max_source_tokens and encode_tokens_per_step)";
  Reserve(room * weight.heads * weight.units * 4, what, &integers_);
  Reserve(room * weight.heads * 4, what, &row_scales_);
  Reserve(room * weight.heads * static_cast<int64_t>(sizeof(RowOutliers)), what, &outliers_);
}

void CpuBackend::Quantize(const PackedMatrix& weight, int64_t rows, LinearBlock* b) {
  ReserveIntegers(weight, b->a_room);
  if (!buffers_.status().ok()) return;
  const int64_t row_units = weight.heads * weight.units;
  ForRows(rows, [&](int64_t row) {
    for (int64_t head = 0; head < weight.heads; ++head) {
      const auto* const from = reinterpret_cast<const std::byte*>(b->a + row * b->a_stride);
      int8_->quantize({.states = from + head * StateBytes(weight.in),
                       .n = weight.in,
                       .units = integers_.as<uint32_t>() + row * row_units + head * weight.units,
                       .scale = row_scales_.as<float>() + row * weight.heads + head,
                       .outliers = outliers_.as<RowOutliers>() + row * weight.heads + head});
    }
  });
  b->a = integers_.as<uint32_t>();
  b->a_stride = row_units;
  b->row_scales = row_scales_.as<float>();
  b->outliers = outliers_.as<RowOutliers>();
  b->row_stride = weight.heads;
  b->column_scales = weight.scales.data();
  b->offsets = weight.offsets.data();
}

void CpuBackend::RunLinear(const LinearBlock& states, const PackedMatrix& weight, int64_t rows) {
  const bool int8 = weight.type == WeightType::kInt8;
  LinearBlock whole = states;
  if (int8) Quantize(weight, rows, &whole);
  const int64_t row_block = RowBlock(whole.units), blocks = std::max<int64_t>(1, RoundUp(rows, row_block) / row_block);
  // Blocks of whole tiles, as even as can be.
  const int64_t block_rows = RoundUp((rows + blocks - 1) / blocks, kRowStep);
  // Enough tasks to balance, panels enough to keep the input warm. A group of panels is taken for all blocks of rows
  // before the next group, so that it comes from memory once. (Groups of half of the second-level cache were 3 to 5 %
  // slower with AVX2: the input is read more often.)
  const int64_t wanted = 8 * pool_.threads(), panel_units = weight.panel_units * (weight.gated ? 2 : 1);
  constexpr int64_t kMostPanels = 16;
  // The parts of a row's sum are the same whatever the rows and threads.
  const int64_t group =
      whole.logits ? kSumPanels : std::clamp<int64_t>(weight.heads * weight.panels * blocks / wanted, 1, kMostPanels);
  for (RowScratch& s : scratch_) {
    if (!int8) Reserve(4 * kernels_.wide_numbers(row_block, whole.units), "rows of a product in float32", &s.wide);
  }
  if (!buffers_.status().ok()) return;
  const int64_t groups = RoundUp(weight.panels, group) / group, tasks = weight.heads * groups * blocks;
  const int64_t out_bytes = whole.out_stride * (whole.out_state ? 4 / kernels_.pack : 4);
  const auto panels_at = [&](int64_t task) {
    const int64_t head = task / blocks / groups, first = task / blocks % groups * group;
    return weight.values.as<uint32_t>() + (head * weight.panels + first) * panel_units;
  };
  pool_.RunInShares(tasks, [&](int64_t i, int thread) {
    const int64_t head = i / blocks / groups, first = i % blocks * block_rows;
    LinearBlock b = whole;
    b.rows = static_cast<int>(std::min(rows - first, block_rows));
    if (b.rows <= 0) return;
    b.a = whole.a + first * whole.a_stride + head * (int8 ? weight.units : StateBytes(weight.in) / 4);
    if (int8) {
      b.row_scales = whole.row_scales + first * whole.row_stride + head;
      b.outliers = whole.outliers + first * whole.row_stride + head;
      b.column_scales = whole.column_scales + head * weight.panels * kernels_.panel;
      b.offsets = whole.offsets + head * weight.panels * kernels_.panel;
    }
    b.wide = scratch_[thread].wide.as<uint32_t>();
    b.panels = weight.values.as<uint32_t>() + head * weight.panels * panel_units;
    b.panel_begin = static_cast<int>(i / blocks % groups * group);
    b.panel_end = static_cast<int>(std::min<int64_t>(b.panel_begin + group, weight.panels));
    if (i + 1 < tasks) b.next_panels = panels_at(i + 1);
    if (whole.residual) b.residual = whole.residual + first * whole.residual_stride + head * weight.out;
    if (whole.logits) {
      b.logits = whole.logits + thread * select_.rows + first;
      b.parts = whole.parts + first * whole.parts_stride + b.panel_begin / kSumPanels;
    } else {
      b.out = whole.out + first * out_bytes + head * StateBytes(weight.out);
    }
    (int8 ? int8_->linear : kernels_.linear)(b);
  });
}

void CpuBackend::Linear(const LinearArgs& args) {
  const PackedMatrix& w = Matrix(args.weight);
  LinearBlock b = BlockOf(args.input, w, args.output);
  b.activation = args.activation;
  if (args.residual) {
    b.residual = reinterpret_cast<const float*>(args.residual->data);
    b.residual_stride = Stride(*args.residual) / 4;
  }
  RunLinear(b, w, Positions(args.phase));
}

void CpuBackend::PerHeadLinear(const PerHeadLinearArgs& args) {
  const PackedMatrix& w = Matrix(args.weight);
  LinearBlock b = BlockOf(args.input, w, args.output);
  if (args.totals) {
    const int64_t cols = w.heads * w.out;
    Reserve(args.totals->rows * cols * 4, "biases of a product for each head (max_rows)", &weighed_bias_);
    if (!buffers_.status().ok()) return;
    for (int p = 0; p < Positions(args.phase); ++p) {
      const auto* totals = reinterpret_cast<const float*>(Row(*args.totals, p));
      float* to = weighed_bias_.as<float>() + p * cols;
      for (int64_t i = 0; i < cols; ++i) to[i] = totals[i / w.out] * w.head_bias[i];
    }
    b.residual = weighed_bias_.as<float>();
    b.residual_stride = cols;
  }
  RunLinear(b, w, Positions(args.phase));
}

void CpuBackend::KeepLargest(const KeepLargestArgs& args) {
  for (RowScratch& s : scratch_) {
    Reserve(RoundUp(args.values.cols, kPageTokens) * 4, "a row of activations in float32", &s.wide);
  }
  if (!buffers_.status().ok()) return;
  pool_.Run(Positions(args.phase), [&](int64_t p, int thread) {
    kernels_.keep_largest({.states = Row(args.values, p),
                           .n = args.values.cols,
                           .count = args.count,
                           .scratch = scratch_[thread].wide.as<float>()});
  });
}

void CpuBackend::Norm(const NormArgs& args) {
  const auto* w = static_cast<const PackedNormWeight*>(args.weight);
  ForRows(Positions(args.phase), [&](int64_t p) {
    const auto* x = reinterpret_cast<const float*>(Row(args.input, p));
    if (w == nullptr) return kernels_.to_state(x, args.input.cols, Row(args.state, p));
    kernels_.norm({.kind = w->kind,
                   .x = x,
                   .d = args.input.cols,
                   .gamma = w->gamma.data(),
                   .beta = w->beta.empty() ? nullptr : w->beta.data(),
                   .epsilon = w->epsilon,
                   .residual = args.residual ? reinterpret_cast<float*>(Row(*args.residual, p)) : nullptr,
                   .state = Row(args.state, p)});
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

}  // namespace cpu

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options) {
  const absl::StatusOr<cpu::Isa> isa = options.isa ? *options.isa : cpu::ChooseIsa(std::getenv("ELSERVE_ISA"));
  if (!isa.ok()) return isa.status();
  const DataType best = *isa >= cpu::Isa::kAvx512Bf16 ? DataType::kBFloat16 : DataType::kFloat32;
  return std::make_unique<cpu::CpuBackend>(*isa, options.state_type.value_or(best), options);
}

}  // namespace elserve
