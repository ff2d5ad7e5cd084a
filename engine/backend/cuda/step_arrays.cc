#include "engine/backend/cuda/step_arrays.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

namespace elserve::cuda {
namespace {

constexpr int64_t kAlign = 16;

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Hands out places one after the other.
class Places {
 public:
  template <typename T>
  int64_t Take(int64_t count) {
    const int64_t at = end_;
    end_ = RoundUp(end_ + count * static_cast<int64_t>(sizeof(T)), kAlign);
    return at;
  }
  int64_t end() const { return end_; }

 private:
  int64_t end_ = 0;
};

template <typename T>
T* At(std::byte* base, int64_t byte) {
  return reinterpret_cast<T*>(base + byte);
}

void Copy(std::span<const int32_t> from, int32_t* to) { std::copy(from.begin(), from.end(), to); }

}  // namespace

UploadBuffer::~UploadBuffer() {
  if (sent_ != nullptr) cudaEventDestroy(sent_);
}

bool UploadBuffer::Reserve(Context& context, int64_t bytes) {
  if (bytes <= device_.bytes()) return false;
  context.Synchronize();
  absl::StatusOr<DeviceBlock> device = context.Allocate(bytes);
  absl::StatusOr<PinnedBlock> host = context.AllocatePinned(bytes);
  for (const absl::Status& status : {device.status(), host.status()}) {
    if (!status.ok()) context.Fail(status);
  }
  if (sent_ == nullptr) context.Check(cudaEventCreateWithFlags(&sent_, cudaEventDisableTiming), "cudaEventCreate");
  if (!context.ok()) return false;
  device_ = *std::move(device);
  host_ = *std::move(host);
  return true;
}

void UploadBuffer::Wait(Context& context) {
  if (sent_ != nullptr) context.Check(cudaEventSynchronize(sent_), "the step before");
}

void UploadBuffer::Send(Context& context, int64_t bytes, cudaStream_t stream) {
  context.Check(
      cudaMemcpyAsync(device_.data(), host_.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
      "cudaMemcpyAsync");
  context.Check(cudaEventRecord(sent_, stream), "cudaEventRecord");
}

// Where a bucket's arrays begin.
struct StepArrays::Offsets {
  int64_t tokens, position_ids, cells, select_positions, select, counts, cross_items, self_items, page_list,
      document_biases, tail;
  int max_cross_items, max_self_items;
};

StepArrays::Offsets StepArrays::OffsetsOf(const DecodeBucket& bucket) const {
  Offsets at;
  at.max_cross_items = static_cast<int>(BoundCrossAttention(cross_, bucket.positions, limits_.source_length).items);
  at.max_self_items = static_cast<int>(BoundSelfAttention(self_, bucket.positions, limits_.decoder_length).items);
  Places places;
  at.tokens = places.Take<int32_t>(bucket.positions);
  at.position_ids = places.Take<int32_t>(bucket.positions);
  at.cells = places.Take<int32_t>(bucket.positions);
  at.select_positions = places.Take<int32_t>(bucket.select_rows);
  at.select = places.Take<SelectItem>(bucket.select_rows);
  at.counts = places.Take<int32_t>(2);
  at.cross_items = places.Take<AttentionItem>(at.max_cross_items);
  at.self_items = places.Take<AttentionItem>(at.max_self_items);
  const int64_t document_pages = (limits_.source_length + kPageTokens - 1) / kPageTokens;
  at.page_list = places.Take<int32_t>(bucket.positions * document_pages);
  at.document_biases = places.Take<DocumentBias>(bucket.positions);
  at.tail = places.end();
  return at;
}

absl::Status StepArrays::Allocate(Context& context, const AttentionGeometry& cross, const AttentionGeometry& self,
                                  const StepLimits& limits) {
  cross_ = cross;
  self_ = self;
  limits_ = limits;
  Places encode;
  for (int i = 0; i < 3; ++i) encode.Take<int32_t>(limits.encode_positions);
  encode.Take<int32_t>(1);
  encode.Take<EncodeItem>(BoundEncoderAttention(limits.encode_positions));
  encode_buffer_.Reserve(context, encode.end());

  const Offsets at = OffsetsOf({limits.decode_positions, limits.select_rows});
  Places tail;
  tail.Take<int32_t>(int64_t{limits.decode_positions} * limits.decoder_length);
  tail.Take<int32_t>(int64_t{limits.select_rows} * kMaxEosIds);
  tail.Take<LogitEdit>(limits.edits + 2);
  decode_buffer_.Reserve(context, at.tail + tail.end());
  return context.status();
}

void StepArrays::Send(Context& context, const EncodeLayout& layout) {
  encode_ = {};
  const int64_t positions = layout.positions();
  if (positions == 0 || !context.ok()) return;
  Places places;
  const int64_t tokens = places.Take<int32_t>(positions), ids = places.Take<int32_t>(positions);
  const int64_t slots = places.Take<int32_t>(positions), count = places.Take<int32_t>(1);
  const int64_t items = places.Take<EncodeItem>(BoundEncoderAttention(static_cast<int>(positions)));
  encode_buffer_.Wait(context);
  std::byte* host = encode_buffer_.host();
  Copy(layout.tokens, At<int32_t>(host, tokens));
  Copy(layout.position_ids, At<int32_t>(host, ids));
  int32_t* slot = At<int32_t>(host, slots);
  for (const EncodeDocument& document : layout.documents) {
    for (int32_t t = 0; t < document.length; ++t) {
      slot[document.begin + t] =
          document.pages.empty() ? -1 : document.pages[t / kPageTokens] * kPageTokens + t % kPageTokens;
    }
  }
  auto* plan = At<EncodeItem>(host, items);
  encode_.max_items = PlanEncoderAttention(layout, plan);
  *At<int32_t>(host, count) = encode_.max_items;
  encode_buffer_.Send(context, items + encode_.max_items * static_cast<int64_t>(sizeof(EncodeItem)),
                      context.stream(Phase::kEncode));
  std::byte* device = encode_buffer_.device();
  encode_.tokens = At<int32_t>(device, tokens);
  encode_.position_ids = At<int32_t>(device, ids);
  encode_.token_slots = At<int32_t>(device, slots);
  encode_.items_count = At<int32_t>(device, count);
  encode_.items = At<EncodeItem>(device, items);
}

DecodeArrays StepArrays::decode(const DecodeBucket& bucket) const {
  const Offsets at = OffsetsOf(bucket);
  std::byte* device = decode_buffer_.device();
  DecodeArrays arrays;
  arrays.tokens = At<int32_t>(device, at.tokens);
  arrays.position_ids = At<int32_t>(device, at.position_ids);
  arrays.cells = At<int32_t>(device, at.cells);
  arrays.select_positions = At<int32_t>(device, at.select_positions);
  arrays.select = At<SelectItem>(device, at.select);
  arrays.document_biases = At<DocumentBias>(device, at.document_biases);
  // Counted from the beginning, wherever in the tail they are.
  arrays.force = At<int32_t>(device, 0);
  arrays.edits = At<LogitEdit>(device, 0);
  arrays.biases = At<float>(device, 0);
  const int32_t* counts = At<int32_t>(device, at.counts);
  arrays.cross = {.list = At<int32_t>(device, at.page_list),
                  .items = At<AttentionItem>(device, at.cross_items),
                  .items_count = counts,
                  .max_items = at.max_cross_items};
  arrays.self = {.list = At<int32_t>(device, at.tail),
                 .items = At<AttentionItem>(device, at.self_items),
                 .items_count = counts + 1,
                 .max_items = at.max_self_items};
  return arrays;
}

int64_t StepArrays::WriteTail(const DecodeLayout& layout, const Offsets& at) const {
  std::byte* host = decode_buffer_.host();
  auto* const select = At<SelectItem>(host, at.select);
  auto* const biases = At<DocumentBias>(host, at.document_biases);
  int32_t* to = At<int32_t>(host, at.tail);
  for (int p = 0; p < layout.positions(); ++p) {
    const int32_t cells = layout.position_ids[p] + 1;
    to = std::copy_n(layout.ancestry + p * layout.ancestry_stride, cells, to);
  }
  const int32_t* const base = At<int32_t>(host, 0);
  for (size_t r = 0; r < layout.select.size(); ++r) {
    const SelectRow& row = layout.select[r];
    select[r] = {.space = static_cast<int32_t>(row.space),
                 .count = row.count,
                 .renormalize = row.renormalize ? 1 : 0,
                 .force_begin = static_cast<int32_t>(to - base),
                 .force_count = static_cast<int32_t>(row.force.size()),
                 .edits_begin = 0,
                 .edits_count = static_cast<int32_t>(row.edits.size()),
                 .reserved = 0};
    to = std::copy(row.force.begin(), row.force.end(), to);
  }
  for (const DecodeDocument& document : layout.documents) {
    const DocumentBias bias = {document.bias.empty() ? -1 : static_cast<int32_t>(to - base), document.length};
    std::fill_n(biases + document.begin, document.positions, bias);
    to =
        reinterpret_cast<int32_t*>(std::copy(document.bias.begin(), document.bias.end(), reinterpret_cast<float*>(to)));
  }
  int64_t edit =
      (reinterpret_cast<std::byte*>(to) - host + int64_t{sizeof(LogitEdit)} - 1) / int64_t{sizeof(LogitEdit)};
  auto* const edits = At<LogitEdit>(host, 0);
  for (size_t r = 0; r < layout.select.size(); ++r) {
    select[r].edits_begin = static_cast<int32_t>(edit);
    for (const LogitEdit& each : layout.select[r].edits) edits[edit++] = each;
  }
  return edit * static_cast<int64_t>(sizeof(LogitEdit));
}

bool StepArrays::Send(Context& context, const DecodeLayout& layout, const DecodeBucket& bucket) {
  if (bucket.positions == 0 || !context.ok()) return false;
  const Offsets at = OffsetsOf(bucket);
  int64_t room = at.tail + int64_t{layout.positions()} * limits_.decoder_length * int64_t{sizeof(int32_t)};
  for (const SelectRow& row : layout.select) {
    room += static_cast<int64_t>(row.force.size_bytes() + row.edits.size_bytes());
  }
  for (const DecodeDocument& document : layout.documents) room += static_cast<int64_t>(document.bias.size_bytes());
  const bool moved = decode_buffer_.Reserve(context, room + 2 * int64_t{sizeof(LogitEdit)});
  if (!context.ok()) return moved;
  decode_buffer_.Wait(context);
  std::byte* host = decode_buffer_.host();
  std::memset(host, 0, at.counts);
  Copy(layout.tokens, At<int32_t>(host, at.tokens));
  Copy(layout.position_ids, At<int32_t>(host, at.position_ids));
  int32_t* cells = At<int32_t>(host, at.cells);
  std::fill_n(cells, bucket.positions, -1);
  Copy(layout.cells, cells);
  for (size_t r = 0; r < layout.select.size(); ++r) {
    At<int32_t>(host, at.select_positions)[r] = layout.select[r].position;
  }
  int32_t* counts = At<int32_t>(host, at.counts);
  counts[0] = PlanCrossAttention(cross_, layout, At<AttentionItem>(host, at.cross_items));
  counts[1] = PlanSelfAttention(self_, layout, At<AttentionItem>(host, at.self_items));
  int32_t* pages = At<int32_t>(host, at.page_list);
  for (const DecodeDocument& document : layout.documents) {
    pages = std::copy(document.pages.begin(), document.pages.end(), pages);
  }
  const int64_t end = WriteTail(layout, at);
  decode_buffer_.Send(context, end, context.stream(Phase::kDecode));
  return moved;
}

}  // namespace elserve::cuda
