#include "engine/backend/cuda/row_arrays.h"

#include <algorithm>
#include <cstring>

namespace elserve::cuda {

// Where a bucket's arrays begin.
struct RowArrays::Offsets {
  int64_t tokens, position_ids, cells, select_positions, select, counts, cross_items, self_items, biased_items,
      plain_items, page_list, document_biases, tail;
  int max_cross_items, max_self_items;
};

RowArrays::Offsets RowArrays::OffsetsOf(const DecodeBucket& bucket) const {
  Offsets at;
  at.max_cross_items =
      static_cast<int>(BoundCrossAttention(limits_.cross, bucket.positions, limits_.source_length).items);
  at.max_self_items =
      static_cast<int>(BoundSelfAttention(limits_.self, bucket.positions, limits_.decoder_length).items);
  Places places;
  at.tokens = places.Take<int32_t>(bucket.positions);
  at.position_ids = places.Take<int32_t>(bucket.positions);
  at.cells = places.Take<int32_t>(bucket.positions);
  at.select_positions = places.Take<int32_t>(bucket.select_rows);
  at.select = places.Take<SelectItem>(bucket.select_rows);
  at.counts = places.Take<int32_t>(4);
  at.cross_items = places.Take<AttentionItem>(at.max_cross_items);
  at.self_items = places.Take<AttentionItem>(at.max_self_items);
  at.biased_items = places.Take<AttentionItem>(bucket.biased ? at.max_cross_items : 0);
  at.plain_items = places.Take<AttentionItem>(bucket.biased ? at.max_cross_items : 0);
  const int64_t document_pages = (limits_.source_length + kPageTokens - 1) / kPageTokens;
  at.page_list = places.Take<int32_t>(bucket.positions * document_pages);
  at.document_biases = places.Take<DocumentBias>(bucket.positions);
  at.tail = places.end();
  return at;
}

absl::Status RowArrays::Allocate(Context& context, const Limits& limits) {
  limits_ = limits;
  limits_.bucket.biased = true;  // what takes the most
  const Offsets at = OffsetsOf(limits_.bucket);
  Places tail;
  tail.Take<int32_t>(limits.cells);
  tail.Take<int32_t>(int64_t{limits.bucket.select_rows} * kMaxEosIds);
  tail.Take<float>(limits.biases);
  tail.Take<LogitEdit>(limits.edits + 2);
  buffer_.Reserve(context, at.tail + tail.end());
  return context.status();
}

DecodeArrays RowArrays::Of(const DecodeBucket& bucket) const {
  const Offsets at = OffsetsOf(bucket);
  std::byte* device = buffer_.device();
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
  if (!bucket.biased) return arrays;
  arrays.biased_cross = arrays.plain_cross = arrays.cross;
  arrays.biased_cross.items = At<AttentionItem>(device, at.biased_items);
  arrays.biased_cross.items_count = counts + 2;
  arrays.plain_cross.items = At<AttentionItem>(device, at.plain_items);
  arrays.plain_cross.items_count = counts + 3;
  return arrays;
}

int64_t RowArrays::WriteTail(const DecodeLayout& layout, const Offsets& at) const {
  std::byte* host = buffer_.host();
  auto* const select = At<SelectItem>(host, at.select);
  auto* const biases = At<DocumentBias>(host, at.document_biases);
  int32_t* to = At<int32_t>(host, at.tail);
  for (const DecodeRow& row : layout.rows) to = std::copy(row.ancestry.begin(), row.ancestry.end(), to);
  const int32_t* const base = At<int32_t>(host, 0);
  for (size_t r = 0; r < layout.select.size(); ++r) {
    const SelectRow& row = layout.select[r];
    select[r] = {.space = static_cast<int32_t>(row.space),
                 .count = row.whole ? 0 : row.count,
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

void RowArrays::WriteRows(const DecodeLayout& layout, const DecodeBucket& bucket, const Offsets& at) const {
  std::byte* host = buffer_.host();
  std::memset(host, 0, at.counts);
  std::copy(layout.tokens.begin(), layout.tokens.end(), At<int32_t>(host, at.tokens));
  std::copy(layout.position_ids.begin(), layout.position_ids.end(), At<int32_t>(host, at.position_ids));
  int32_t* cells = At<int32_t>(host, at.cells);
  std::fill_n(cells, bucket.positions, -1);
  for (const DecodeRow& row : layout.rows)
    cells = std::copy_n(row.ancestry.end() - row.positions, row.positions, cells);
  for (size_t r = 0; r < layout.select.size(); ++r) {
    At<int32_t>(host, at.select_positions)[r] = layout.select[r].position;
  }
  int32_t* counts = At<int32_t>(host, at.counts);
  counts[0] = PlanCrossAttention(limits_.cross, layout, At<AttentionItem>(host, at.cross_items));
  counts[1] = PlanSelfAttention(limits_.self, layout, At<AttentionItem>(host, at.self_items));
  if (bucket.biased) {
    counts[2] =
        PlanCrossAttention(limits_.cross, layout, At<AttentionItem>(host, at.biased_items), CrossDocuments::kWithBias);
    counts[3] = PlanCrossAttention(limits_.cross, layout, At<AttentionItem>(host, at.plain_items),
                                   CrossDocuments::kWithoutBias);
  }
  int32_t* pages = At<int32_t>(host, at.page_list);
  for (const DecodeDocument& document : layout.documents) {
    pages = std::copy(document.pages.begin(), document.pages.end(), pages);
  }
}

bool RowArrays::Send(Context& context, const DecodeLayout& layout, const DecodeBucket& bucket) {
  if (bucket.positions == 0 || !context.ok()) return false;
  const Offsets at = OffsetsOf(bucket);
  int64_t room = at.tail;
  for (const DecodeRow& row : layout.rows) room += static_cast<int64_t>(row.ancestry.size_bytes());
  for (const SelectRow& row : layout.select) {
    room += static_cast<int64_t>(row.force.size_bytes() + row.edits.size_bytes());
  }
  for (const DecodeDocument& document : layout.documents) room += static_cast<int64_t>(document.bias.size_bytes());
  const bool moved = buffer_.Reserve(context, room + 2 * int64_t{sizeof(LogitEdit)});
  if (!context.ok()) return moved;
  buffer_.Wait(context);
  WriteRows(layout, bucket, at);
  buffer_.Send(context, WriteTail(layout, at), context.stream(Phase::kDecode));
  return moved;
}

}  // namespace elserve::cuda
