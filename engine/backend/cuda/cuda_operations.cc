// The operations: their arguments as the kernels take them, on the stream of their phase.
#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "engine/backend/cuda/cuda_device.h"

namespace elserve::cuda {
namespace {

const float* Floats(const Tensor& tensor) { return reinterpret_cast<const float*>(tensor.data); }
float* MutableFloats(const Tensor& tensor) { return reinterpret_cast<float*>(tensor.data); }

template <typename Weight>
const Weight& As(const PackedWeight* weight) {
  return *static_cast<const Weight*>(weight);
}

// position_ids: of the decode rows; null: the encoder's.
ScoreBias BiasOf(const PositionBias& bias, const int32_t* position_ids) {
  if (bias.table == nullptr) return {};
  const auto& table = As<PackedBiasTable>(bias.table);
  return {.table = table.values.as<float>(),
          .distances = static_cast<int>(table.distances),
          .zero = bias.zero,
          .position_ids = position_ids};
}

}  // namespace

CudaBackend::RowCount CudaBackend::RowsOf(Phase phase) const {
  return {Rows(phase), phase == Phase::kEncode    ? limits_.encode_positions
                       : phase == Phase::kPrefill ? limits_.prefill_positions
                                                  : limits_.decode_positions};
}

Product* CudaBackend::ProductOf(const PackedMatrix& weight, Phase phase, int most_rows, DataType output, bool relu,
                                bool residual) {
  const ProductShape shape{.phase = phase,
                           .type = type_,
                           .output = output,
                           .heads = weight.heads,
                           .out = weight.out,
                           .in = weight.in,
                           .bias = weight.bias.bytes() > 0,
                           .relu = relu,
                           .residual = residual};
  for (const std::unique_ptr<Product>& product : weight.products) {
    if (product->shape().Key() == shape.Key()) return product.get();
  }
  const bool state = output != DataType::kFloat32;
  absl::StatusOr<std::unique_ptr<Product>> product =
      planner_.Make(shape, weight.values.data(), (state ? weight.state_bias : weight.bias).data(), most_rows);
  if (!product.ok()) {
    context_->Fail(product.status());
    return nullptr;
  }
  weight.products.push_back(*std::move(product));
  return weight.products.back().get();
}

void CudaBackend::Multiply(const PackedMatrix& weight, Phase phase, RowCount rows, const void* input,
                           DataType output_type, bool relu, const void* residual, void* output) {
  if (!context_->ok()) return;
  Product* product = ProductOf(weight, phase, rows.most, output_type, relu, residual != nullptr);
  if (product == nullptr || !Launches() || rows.now == 0) return;
  context_->Check(product->Run(*context_, rows.now, input, residual, output), "cublasLtMatmul");
}

float* CudaBackend::Scratch(Phase phase, int64_t cols) {
  const bool encode = phase == Phase::kEncode;
  DeviceBlock& scratch = encode ? encode_scratch_ : decode_scratch_;
  const int64_t rows =
      encode ? limits_.encode_positions : std::max(limits_.decode_positions, limits_.prefill_positions);
  const int64_t bytes = rows * RowStride(cols, DataType::kFloat32) * int64_t{sizeof(float)};
  if (scratch.bytes() >= bytes) return scratch.as<float>();
  context_->Synchronize();
  absl::StatusOr<DeviceBlock> block = context_->Allocate(bytes);
  if (!block.ok()) {
    context_->Fail(block.status());
    return nullptr;
  }
  scratch = *std::move(block);
  graphs_.Forget();
  return scratch.as<float>();
}

void CudaBackend::Embed(const EmbedArgs& args) {
  const auto& tokens = As<PackedTable>(args.tokens);
  const auto* places = static_cast<const PackedTable*>(args.positions);
  if (!Launches() || Rows(args.phase) == 0) return;
  const bool encode = args.phase == Phase::kEncode;
  const EmbedKernelArgs kernel{
      .type = type_,
      .ids = encode ? encode_arrays_.arrays().tokens : Arrays(args.phase).tokens,
      .place_ids = encode ? encode_arrays_.arrays().position_ids : Arrays(args.phase).position_ids,
      .tokens = tokens.values.data(),
      .places = places != nullptr ? places->values.data() : nullptr,
      .scale = args.scale,
      .place_offset = args.position_offset,
      .output = MutableFloats(args.output),
      .rows = Rows(args.phase),
      .d = static_cast<int>(tokens.d)};
  context_->Check(LaunchEmbed(kernel, stream(args.phase)), "Embed");
}

// cublasLt's epilogue adds the bias and, to float32, the residual, and does ReLU. Its GELU is the tanh form, which is
// not what most checkpoints mean by it; so the other activations are a kernel's, in place. Gates take a detour; so do
// residuals behind an activation, or into a state, which no model here has.
void CudaBackend::Linear(const LinearArgs& args) {
  const auto& weight = As<PackedMatrix>(args.weight);
  const DataType type = TypeOf(args.output.storage);
  const int rows = Rows(args.phase);
  const bool gated = weight.gates > 0;
  const bool detour =
      gated || (args.residual != nullptr && (args.activation != Activation::kNone || type != DataType::kFloat32));
  const bool relu = args.activation == Activation::kRelu && !detour;
  EpilogueKernelArgs epilogue{.input_type = type,
                              .input = args.output.data,
                              .factor_begin = 0,
                              .bias = nullptr,
                              .activation = args.activation,
                              .residual = nullptr,
                              .output_type = type,
                              .output = args.output.data,
                              .rows = rows,
                              .cols = static_cast<int>(gated ? weight.gates : weight.out)};
  if (detour) {
    float* scratch = Scratch(args.phase, weight.out);
    Multiply(weight, args.phase, RowsOf(args.phase), args.input.data, DataType::kFloat32, false, nullptr, scratch);
    epilogue.input_type = DataType::kFloat32;
    epilogue.input = scratch;
    if (gated) epilogue.factor_begin = static_cast<int>(weight.out - weight.gates);
    if (args.residual != nullptr) epilogue.residual = Floats(*args.residual);
  } else {
    const void* residual = args.residual != nullptr ? args.residual->data : nullptr;
    Multiply(weight, args.phase, RowsOf(args.phase), args.input.data, type, relu, residual, args.output.data);
    if (relu || args.activation == Activation::kNone) return;
  }
  if (Launches() && rows > 0) context_->Check(LaunchEpilogue(epilogue, stream(args.phase)), "Linear");
}

void CudaBackend::PerHeadLinear(const PerHeadLinearArgs& args) {
  Multiply(As<PackedMatrix>(args.weight), args.phase, RowsOf(args.phase), args.input.data, type_, false, nullptr,
           args.output.data);
}

void CudaBackend::Norm(const NormArgs& args) {
  if (!Launches() || Rows(args.phase) == 0) return;
  if (args.weight == nullptr) {
    const EpilogueKernelArgs round{.input_type = DataType::kFloat32,
                                   .input = args.input.data,
                                   .factor_begin = 0,
                                   .bias = nullptr,
                                   .activation = Activation::kNone,
                                   .residual = nullptr,
                                   .output_type = type_,
                                   .output = args.state.data,
                                   .rows = Rows(args.phase),
                                   .cols = static_cast<int>(args.input.cols)};
    context_->Check(LaunchEpilogue(round, stream(args.phase)), "Norm");
    return;
  }
  const auto& weight = As<PackedNormWeight>(args.weight);
  const NormKernelArgs kernel{.type = type_,
                              .kind = weight.kind,
                              .input = Floats(args.input),
                              .gamma = weight.gamma.as<float>(),
                              .beta = weight.beta.as<float>(),
                              .epsilon = weight.epsilon,
                              .residual = args.residual != nullptr ? MutableFloats(*args.residual) : nullptr,
                              .state = args.state.data,
                              .rows = Rows(args.phase),
                              .d = static_cast<int>(weight.d)};
  context_->Check(LaunchNorm(kernel, stream(args.phase)), "Norm");
}

void CudaBackend::EncoderAttention(const EncoderAttentionArgs& args) {
  const EncodeArrays& arrays = encode_arrays_.arrays();
  if (!Launches() || arrays.max_items == 0) return;
  const EncoderAttentionKernelArgs kernel{.device = context_->device(),
                                          .type = type_,
                                          .qkv = args.qkv.data,
                                          .heads = args.heads,
                                          .head_dim = args.head_dim,
                                          .output = args.output.data,
                                          .items = arrays.items,
                                          .items_count = arrays.items_count,
                                          .max_items = arrays.max_items,
                                          .bias = BiasOf(args.bias, nullptr)};
  context_->Check(LaunchEncoderAttention(kernel, stream(Phase::kEncode)), "EncoderAttention");
}

void CudaBackend::StoreEncoder(const StoreEncoderArgs& args) {
  if (!Launches() || encode_positions_ == 0) return;
  const StoreEncoderKernelArgs kernel{.type = type_,
                                      .states = args.states.data,
                                      .token_slots = encode_arrays_.arrays().token_slots,
                                      .el = shape_.cross == AttentionForm::kEl,
                                      .d = shape_.d,
                                      .heads = shape_.heads,
                                      .head_dim = shape_.head_dim,
                                      .pages = encoder_[args.layer].data(),
                                      .positions = encode_positions_};
  context_->Check(LaunchStoreEncoder(kernel, stream(Phase::kEncode)), "StoreEncoder");
  stored_.Record(*context_, stream(Phase::kEncode));
}

DecodeAttentionKernelArgs CudaBackend::DecodeAttention(AttentionForm form, const Tensor& query, const Tensor& output,
                                                       const DeviceBlock& memory, const AttentionWork& work) const {
  return {.device = context_->device(),
          .type = type_,
          .el = form == AttentionForm::kEl,
          .heads = shape_.heads,
          .d = shape_.d,
          .head_dim = shape_.head_dim,
          .query = query.data,
          .query_stride = RowStride(query.cols, type_),
          .output = output.data,
          .memory = memory.data(),
          .work = work,
          .workspace = {.sums = sums_.as<float>(), .scales = scales_.as<float2>(), .arrivals = arrivals_.as<int32_t>()},
          .bias = {}};
}

// Biases have a slower kernel, with other bits: it takes the documents that have some, and no other, so that these
// are what they are in any company. A step in which none has any launches what it would without them.
void CudaBackend::CrossAttention(const CrossAttentionArgs& args) {
  has_biased_layers_ |= args.biased;
  if (!Launches() || Rows(args.phase) == 0) return;
  const DecodeArrays& arrays = Arrays(args.phase);
  const DeviceBlock& pages = encoder_[shape_.cross == AttentionForm::kEl ? 0 : args.layer];
  DecodeAttentionKernelArgs kernel = DecodeAttention(*shape_.cross, args.query, args.output, pages, arrays.cross);
  const bool apart = args.biased && Bucket(args.phase).biased;
  if (apart) kernel.work = arrays.plain_cross;
  if (!context_->Check(LaunchCrossAttention(kernel, stream(args.phase)), "CrossAttention") || !apart) return;
  kernel.work = arrays.biased_cross;
  kernel.bias = {.values = arrays.biases, .documents = arrays.document_biases};
  context_->Check(LaunchCrossAttention(kernel, stream(args.phase)), "CrossAttention");
}

bool CudaBackend::StoreCells(Phase phase, const Tensor& states, const DeviceBlock& cells) {
  const bool kv = shape_.self == AttentionForm::kKv;
  const StoreCellsKernelArgs store{.type = type_,
                                   .states = states.data,
                                   .cells = Arrays(phase).cells,
                                   .memory = cells.data(),
                                   .column = kv ? shape_.heads * shape_.head_dim : 0,
                                   .width = static_cast<int>(StateWidth(shape_, shape_.self)),
                                   .rows = Rows(phase)};
  return context_->Check(LaunchStoreCells(store, stream(phase)), "StoreCells");
}

void CudaBackend::SelfAttention(const SelfAttentionArgs& args) {
  if (!Launches() || bucket_.positions == 0) return;
  const DeviceBlock& cells = decoder_[args.layer];
  if (!StoreCells(Phase::kDecode, args.states, cells)) return;
  const Tensor& query = shape_.self == AttentionForm::kKv ? args.states : args.query;
  DecodeAttentionKernelArgs kernel = DecodeAttention(shape_.self, query, args.output, cells, decode_.self);
  kernel.bias = BiasOf(args.bias, decode_.position_ids);
  context_->Check(LaunchSelfAttention(kernel, stream(Phase::kDecode)), "SelfAttention");
}

// Each position attends over keys and values in rows of their own: its cells, or what is made of them, row after row.
void CudaBackend::PrefillAttention(const PrefillAttentionArgs& args) {
  constexpr Phase kPhase = Phase::kPrefill;
  const bool el = shape_.self == AttentionForm::kEl, launches = Launches() && prefill_positions_ > 0;
  const DeviceBlock& cells = decoder_[args.layer];
  if (launches && !StoreCells(kPhase, args.states, cells)) return;
  AttentionWork work = prefill_.self;
  if (el) {
    const GatherKernelArgs gather{.type = type_,
                                  .input = cells.data(),
                                  .rows = work.list,
                                  .output = history_states_.data(),
                                  .count = prefill_history_,
                                  .cols = shape_.d};
    if (launches && !context_->Check(LaunchGather(gather, stream(kPhase)), "PrefillAttention")) return;
    Multiply(As<PackedMatrix>(args.keys_values), kPhase, {prefill_history_, limits_.prefill_history},
             history_states_.data(), type_, false, nullptr, history_.data());
    work.list = history_rows_.as<int32_t>();
  }
  if (!launches) return;
  DecodeAttentionKernelArgs kernel =
      DecodeAttention(AttentionForm::kKv, el ? args.query : args.states, args.output, el ? history_ : cells, work);
  kernel.bias = BiasOf(args.bias, prefill_.position_ids);
  context_->Check(LaunchSelfAttention(kernel, stream(kPhase)), "PrefillAttention");
}

void CudaBackend::SelectTokens(const SelectTokensArgs& args) {
  const auto& weight = As<PackedMatrix>(args.weight);
  if (!context_->ok()) return;
  if (selection_.Reserve(*context_, type_, limits_, weight.out, weight.in)) graphs_.Forget();
  const int rows = args.phase == Phase::kPrefill ? prefill_select_rows_ : bucket_.select_rows;
  const DecodeArrays& arrays = Arrays(args.phase);
  if (Launches() && rows > 0) {
    const GatherKernelArgs gather{.type = type_,
                                  .input = args.input.data,
                                  .rows = arrays.select_positions,
                                  .output = selection_.input(),
                                  .count = rows,
                                  .cols = static_cast<int>(weight.in)};
    context_->Check(LaunchGather(gather, stream(args.phase)), "SelectTokens");
  }
  Multiply(weight, args.phase, {rows, limits_.select_rows}, selection_.input(), DataType::kFloat32, false, nullptr,
           selection_.logits());
  if (Launches() && rows > 0) selection_.Launch(*context_, args.phase, arrays, rows);
}

}  // namespace elserve::cuda
