#include "engine/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/backend/cuda/buckets.h"
#include "engine/backend/cuda/cuda_device.h"

namespace elserve {
namespace cuda {
namespace {

AttentionGeometry Geometry(const MemoryShape& shape, AttentionForm form) {
  return {.el = form == AttentionForm::kEl, .heads = shape.heads, .d = shape.d, .head_dim = shape.head_dim};
}

// A step of one token, for running everything once at load. Points to itself.
struct Rehearsal {
  Rehearsal(bool cross_attention, int heads) {
    if (!cross_attention) {
      decode_documents[0] = {.begin = 0, .positions = 1, .length = 0, .pages = {}};
    } else {
      no_bias.resize(heads);
      decode_documents[0].bias = no_bias;
    }
  }

  std::array<int32_t, 1> zero = {0};
  std::array<EncodeDocument, 1> encode_documents = {{{.begin = 0, .length = 1, .pages = zero}}};
  std::array<DecodeDocument, 1> decode_documents = {{{.begin = 0, .positions = 1, .length = 1, .pages = zero}}};
  std::array<DecodeRow, 1> rows = {{{.ancestry = zero}}};
  std::array<SelectRow, 1> select = {SelectRow{}};
  std::vector<float> no_bias;  // as one: so the kernels for it run, too

  StepLayout Layout(Phase phase) const {
    StepLayout layout;
    if (phase == Phase::kEncode) {
      layout.encode = {.tokens = zero, .position_ids = zero, .documents = encode_documents};
    } else if (phase == Phase::kPrefill) {
      layout.prefill = {zero, zero, rows, decode_documents, select};
    } else {
      layout.decode = {zero, zero, rows, decode_documents, select};
    }
    return layout;
  }
};

bool HasBias(const DecodeLayout& layout) {
  return std::any_of(layout.documents.begin(), layout.documents.end(),
                     [](const DecodeDocument& document) { return !document.bias.empty(); });
}

}  // namespace

int64_t CudaBackend::PageBytes(const MemoryShape& shape) const {
  const int64_t width = StateWidth(shape, shape.cross);
  const int64_t row = shape.cross == AttentionForm::kEl ? RowStride(width, type_) : width;
  return kPageTokens * row * SizeOf(type_);
}

MemoryCosts CudaBackend::Costs(const MemoryShape& shape) const {
  return {.per_encoder_page = PageBytes(shape) * shape.encoder_layers(),
          .per_decoder_block = kBlockCells * CellBytes(shape) * shape.layers};
}

absl::Status CudaBackend::AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                                         const StepLimits& limits) {
  if (!context_->ok()) return context_->status();
  shape_ = shape;
  limits_ = limits;
  absl::Status status;
  const auto take = [&status](absl::StatusOr<DeviceBlock> block, DeviceBlock* to) {
    status.Update(block.status());
    if (block.ok()) *to = *std::move(block);
  };
  encoder_.resize(shape.encoder_layers());
  for (DeviceBlock& pages : encoder_) take(context_->Allocate(encoder_pages * PageBytes(shape)), &pages);
  decoder_.resize(shape.layers);
  for (DeviceBlock& cells : decoder_) {
    take(context_->Allocate(decoder_blocks * kBlockCells * CellBytes(shape)), &cells);
  }
  // Without cross-attention no document has tokens, and its bounds are zero in any form.
  RowArrays::Limits rows{.cross = Geometry(shape, shape.cross.value_or(AttentionForm::kEl)),
                         .self = Geometry(shape, shape.self),
                         .bucket = {limits.decode_positions, limits.select_rows},
                         .cells = int64_t{limits.decode_positions} * limits.decoder_length,
                         .decoder_length = limits.decoder_length,
                         .source_length = limits.source_length,
                         .edits = limits.edits,
                         .biases = limits.biases};
  RowArrays::Limits prefill = rows;
  prefill.self = Geometry(shape, AttentionForm::kKv);
  prefill.bucket = {limits.prefill_positions, limits.select_rows};
  prefill.cells = limits.prefill_history;
  prefill.edits = 0;
  AttentionBounds most;
  for (const RowArrays::Limits& l : {rows, prefill}) {
    for (const AttentionBounds& bounds : {BoundCrossAttention(l.cross, l.bucket.positions, l.source_length),
                                          BoundSelfAttention(l.self, l.bucket.positions, l.decoder_length)}) {
      most.sums = std::max(most.sums, bounds.sums);
      most.partial_rows = std::max(most.partial_rows, bounds.partial_rows);
      most.arrivals = std::max(most.arrivals, bounds.arrivals);
    }
  }
  take(context_->Allocate(most.sums * int64_t{sizeof(float)}), &sums_);
  take(context_->Allocate(most.partial_rows * int64_t{sizeof(float2)}), &scales_);
  take(context_->AllocateZeroed(most.arrivals * int64_t{sizeof(int32_t)}), &arrivals_);
  status.Update(AllocatePrefill());
  status.Update(encode_arrays_.Allocate(*context_, limits.encode_positions));
  status.Update(prefill_arrays_.Allocate(*context_, prefill));
  status.Update(decode_arrays_.Allocate(*context_, rows));
  return status;
}

// Over keys and values that lie in cells, prefill needs nothing of its own.
absl::Status CudaBackend::AllocatePrefill() {
  if (shape_.self == AttentionForm::kKv || limits_.prefill_history == 0) return absl::OkStatus();
  const int64_t rows = limits_.prefill_history, inner = int64_t{2} * shape_.heads * shape_.head_dim;
  absl::StatusOr<DeviceBlock> states = context_->Allocate(rows * RowStride(shape_.d, type_) * SizeOf(type_));
  absl::StatusOr<DeviceBlock> made = context_->Allocate(rows * RowStride(inner, type_) * SizeOf(type_));
  absl::StatusOr<DeviceBlock> numbers = context_->Allocate(rows * int64_t{sizeof(int32_t)});
  for (const absl::Status& status : {states.status(), made.status(), numbers.status()}) {
    if (!status.ok()) return status;
  }
  history_states_ = *std::move(states);
  history_ = *std::move(made);
  history_rows_ = *std::move(numbers);
  std::vector<int32_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  context_->Upload(order.data(), rows * int64_t{sizeof(int32_t)}, history_rows_.data());
  return context_->status();
}

absl::StatusOr<Tensor> CudaBackend::AllocateTensor(int64_t rows, int64_t cols, Storage storage) {
  Tensor tensor{.data = nullptr, .rows = rows, .cols = cols, .storage = storage};
  absl::StatusOr<DeviceBlock> block = context_->Allocate(rows * RowBytes(tensor));
  if (!block.ok()) return block.status();
  tensor.data = block->data();
  tensors_.push_back(*std::move(block));
  return tensor;
}

void CudaBackend::Plan(Phase phase, absl::FunctionRef<void()> body) {
  const DecodeBucket bucket = bucket_;
  const int encode_positions = encode_positions_, prefill_positions = prefill_positions_;
  const int prefill_select_rows = prefill_select_rows_;
  planning_ = true;
  if (phase == Phase::kEncode) {
    encode_positions_ = limits_.encode_positions;
  } else if (phase == Phase::kPrefill) {
    prefill_positions_ = limits_.prefill_positions;
    prefill_select_rows_ = limits_.select_rows;
  } else {
    bucket_ = {limits_.decode_positions, limits_.select_rows};
  }
  body();
  planning_ = false;
  bucket_ = bucket;
  encode_positions_ = encode_positions;
  prefill_positions_ = prefill_positions;
  prefill_select_rows_ = prefill_select_rows;
}

absl::Status CudaBackend::Prepare(Phase phase, absl::FunctionRef<void()> body) {
  context_->Bind();
  Plan(phase, body);
  // Loads every kernel, which capturing must not have to, and shows at load what does not run.
  const Rehearsal rehearsal(shape_.cross.has_value(), shape_.heads);
  BeginStep(rehearsal.Layout(phase));
  body();
  if (const auto selected = Selected(); !selected.ok()) return selected.status();
  if (phase != Phase::kDecode) return context_->status();
  for (const int positions : Buckets(limits_.decode_positions)) {
    for (const bool biased : {false, true}) {
      if (biased && !has_biased_layers_) continue;
      const DecodeBucket one = BucketOf(positions, positions, biased), two = BucketOf(positions, 2 * positions, biased);
      Capture(one, body);
      if (two != one) Capture(two, body);
    }
  }
  context_->Synchronize();
  return context_->status();
}

DecodeBucket CudaBackend::BucketOf(int positions, int select_rows, bool biased) const {
  const int rows = cuda::Bucket(positions, limits_.decode_positions), once = std::min(rows, limits_.select_rows);
  return {rows, select_rows <= once ? once : std::min(2 * rows, limits_.select_rows), biased};
}

void CudaBackend::Capture(const DecodeBucket& bucket, absl::FunctionRef<void()> body) {
  if (!context_->ok()) return;
  bucket_ = bucket;
  decode_ = decode_arrays_.Of(bucket);
  graphs_.Capture(*context_, bucket, body);
}

void CudaBackend::BeginStep(const StepLayout& layout) {
  context_->Bind();
  if (!decoding_waited_) {
    decoded_.Record(*context_, stream(Phase::kDecode));
    decoded_.Wait(*context_, stream(Phase::kEncode));
  }
  stored_.Wait(*context_, stream(Phase::kDecode));
  encode_positions_ = layout.encode.positions();
  prefill_positions_ = layout.prefill.positions();
  prefill_history_ = 0;
  for (const DecodeRow& row : layout.prefill.rows) prefill_history_ += row.first + row.positions;
  decode_positions_ = layout.decode.positions();
  decode_select_ = layout.decode.select;
  bucket_ = BucketOf(decode_positions_, static_cast<int>(decode_select_.size()), HasBias(layout.decode));
  encode_arrays_.Send(*context_, layout.encode);
  prefill_select_rows_ = static_cast<int>(layout.prefill.select.size());
  prefill_bucket_ = {prefill_positions_, prefill_select_rows_, HasBias(layout.prefill)};
  prefill_arrays_.Send(*context_, layout.prefill, prefill_bucket_);
  prefill_ = prefill_arrays_.Of(prefill_bucket_);
  if (decode_arrays_.Send(*context_, layout.decode, bucket_)) graphs_.Forget();
  decode_ = decode_arrays_.Of(bucket_);
  decoding_waited_ = decode_positions_ == 0 && prefill_positions_ == 0;
}

void CudaBackend::Replay(absl::FunctionRef<void()> body) {
  if (!context_->ok() || bucket_.positions == 0) return;
  if (!graphs_.Has(bucket_)) {
    Plan(Phase::kDecode, body);
    Capture(bucket_, body);
  }
  graphs_.Launch(*context_, bucket_);
}

absl::StatusOr<std::span<const SelectedRow>> CudaBackend::Selected() {
  if (context_->ok()) {
    if (decode_positions_ > 0) selection_.FetchWhole(*context_, decode_select_);
    const Phase awaited = decode_positions_ > 0 || prefill_positions_ > 0 ? Phase::kDecode : Phase::kEncode;
    context_->Check(cudaStreamSynchronize(stream(awaited)), awaited == Phase::kDecode ? "decoding" : "encoding");
    decoding_waited_ = true;
  }
  if (!context_->ok()) return context_->status();
  return selection_.Collect(prefill_select_rows_, decode_select_);
}

std::vector<float> CudaBackend::Read(const Tensor& tensor, int64_t rows) {
  const int64_t row_bytes = RowBytes(tensor);
  std::vector<std::byte> bytes(rows * row_bytes);
  context_->Bind();
  context_->Download(tensor.data, rows * row_bytes, bytes.data());
  std::vector<float> values(rows * tensor.cols);
  for (int64_t r = 0; r < rows; ++r) {
    ToFloats(bytes.data() + r * row_bytes, tensor.cols, TypeOf(tensor.storage), values.data() + r * tensor.cols);
  }
  return values;
}

void CudaBackend::Write(const Tensor& tensor, std::span<const float> values) {
  const int64_t row_bytes = RowBytes(tensor);
  const auto rows = static_cast<int64_t>(values.size()) / std::max<int64_t>(tensor.cols, 1);
  std::vector<std::byte> bytes(rows * row_bytes);
  for (int64_t r = 0; r < rows; ++r) {
    FromFloats(values.data() + r * tensor.cols, tensor.cols, TypeOf(tensor.storage), bytes.data() + r * row_bytes);
  }
  context_->Bind();
  context_->Upload(bytes.data(), rows * row_bytes, tensor.data);
}

}  // namespace cuda

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  absl::StatusOr<std::unique_ptr<cuda::Context>> context = cuda::Context::Create(options.device);
  if (!context.ok()) return context.status();
  return std::make_unique<cuda::CudaBackend>(*std::move(context), options.state_type);
}

}  // namespace elserve
