// FAVOR+ for the encoder: features attend to a document's tokens, then its tokens to the features
// (generic/favor_attention.inl.h). Some documents at a time, so that what features sum up takes memory by the number of
// threads and not by that of tokens.
#include <algorithm>
#include <utility>

#include "engine/backend/cpu/cpu_backend.h"

namespace elserve::cpu {
namespace {

// Queries of a task.
constexpr int kQueries = 192;
// Tasks for each thread, so that all end together.
constexpr int64_t kTasks = 4;

const PackedTable& Table(const PackedWeight* weight) { return *static_cast<const PackedTable*>(weight); }

}  // namespace

// For `documents` at a time.
void CpuBackend::ReserveFavor(const FavorAttentionArgs& args, int64_t documents) {
  const PackedTable& features = Table(args.features);
  favor_.features = static_cast<int>(features.rows);
  favor_.pages = static_cast<int>(RoundUp(features.rows, kPageTokens) / kPageTokens);
  favor_.log_at = favor_.pages * kernels_.page_units(args.head_dim) * 4;
  favor_.slot_bytes = RoundUp(favor_.log_at + features.rows * 4, 64);
  Reserve(documents * args.heads * favor_.slot_bytes, "what random features sum up (favor_features)", &favor_.values);
  const int64_t floats = std::max(
      kernels_.favor_scratch_floats(favor_.features, args.head_dim) + features.rows * features.stride / 4,  // and means
      kernels_.packed_scratch_floats(1, args.head_dim));
  for (RowScratch& s : scratch_) {
    if (std::cmp_less(s.attention.size(), floats)) s.attention.resize(floats);
    if (std::cmp_less(s.pages.size(), favor_.pages)) s.pages.resize(favor_.pages);
  }
}

// A task has some pages of features of one head: each makes its part of the slot. A feature's bits do not depend on the
// others.
void CpuBackend::SumFavor(const FavorAttentionArgs& args, std::span<const EncodeDocument> documents) {
  const PackedTable& features = Table(args.features);
  const int64_t slots = static_cast<int64_t>(documents.size()) * args.heads, head_dim = args.head_dim;
  const int64_t parts = std::clamp<int64_t>(kTasks * pool_.threads() / slots, 1, favor_.pages);
  const int64_t inner = args.heads * head_dim, means_at = kernels_.favor_scratch_floats(favor_.features, args.head_dim);
  pool_.Run(slots * parts, [&](int64_t i, int thread) {
    const int64_t slot = i / parts, part = i % parts;
    const EncodeDocument& d = documents[slot / args.heads];
    const int64_t column = slot % args.heads * head_dim;
    const int64_t page = part * favor_.pages / parts, end = (part + 1) * favor_.pages / parts;
    const int64_t first = page * kPageTokens, rows = std::min(end * kPageTokens, features.rows) - first;
    const std::byte* const own = features.values.data() + first * features.stride;
    std::byte* const to = favor_.values.data() + slot * favor_.slot_bytes;
    float* const scratch = scratch_[thread].attention.data();
    auto* const means = reinterpret_cast<std::byte*>(scratch + means_at);
    kernels_.favor_sums({.features = own,
                         .feature_stride = features.stride,
                         .rows = static_cast<int>(rows),
                         .head_dim = args.head_dim,
                         .keys = Row(args.qkv, d.begin) + StateBytes(inner + column),
                         .values = Row(args.qkv, d.begin) + StateBytes(2 * inner + column),
                         .stride = Stride(args.qkv),
                         .tokens = d.length,
                         .means = means,
                         .log_sums = reinterpret_cast<float*>(to + favor_.log_at) + first,
                         .scratch = scratch});
    for (int64_t p = page; p < end; ++p) {
      const int64_t at = p * kPageTokens - first;
      kernels_.pack_page({.keys = own + at * features.stride,
                          .values = means + at * features.stride,
                          .stride = features.stride,
                          .tokens = static_cast<int>(std::min<int64_t>(kPageTokens, rows - at)),
                          .head_dim = args.head_dim,
                          .page = reinterpret_cast<uint32_t*>(to) + p * kernels_.page_units(args.head_dim)});
    }
  });
}

void CpuBackend::AnswerFavor(const FavorAttentionArgs& args, std::span<const EncodeDocument> documents) {
  tasks_.clear();
  for (int d = 0; d < static_cast<int>(documents.size()); ++d) {
    const int length = documents[d].length;
    for (int begin = 0; begin < length; begin += kQueries) {
      tasks_.push_back({.document = d, .begin = begin, .count = std::min(kQueries, length - begin), .length = length});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()) * args.heads, [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i / args.heads];
    const int64_t head = i % args.heads, row = documents[t.document].begin + t.begin;
    const std::byte* const slot = favor_.values.data() + (t.document * args.heads + head) * favor_.slot_bytes;
    RowScratch& s = scratch_[thread];
    for (int page = 0; page < favor_.pages; ++page) {
      s.pages[page] = reinterpret_cast<const uint32_t*>(slot) + page * kernels_.page_units(args.head_dim);
    }
    const int64_t column = StateBytes(head * args.head_dim);
    kernels_.packed_attention({.q = reinterpret_cast<const uint32_t*>(Row(args.qkv, row) + column),
                               .q_stride = Stride(args.qkv) / 4,
                               .rows = t.count,
                               .heads = 1,
                               .head_dim = args.head_dim,
                               .tokens = favor_.features,
                               .strip = kStripTokens,
                               .pages = s.pages.data(),
                               .bias = reinterpret_cast<const float*>(slot + favor_.log_at),
                               .out = Row(args.output, row) + column,
                               .out_stride = Stride(args.output),
                               .scratch = s.attention.data()});
  });
}

void CpuBackend::FavorAttention(const FavorAttentionArgs& args) {
  // Enough for all threads; of long documents one, whose heads and features are cut.
  const auto at_once = static_cast<size_t>(std::max<int64_t>(1, kTasks * pool_.threads() / args.heads));
  ReserveFavor(args, static_cast<int64_t>(at_once));
  if (!buffers_.status().ok()) return;
  std::span<const EncodeDocument> documents = layout_.encode.documents;
  while (!documents.empty()) {
    const auto some = documents.first(std::min(at_once, documents.size()));
    SumFavor(args, some);
    AnswerFavor(args, some);
    documents = documents.subspan(some.size());
  }
}

}  // namespace elserve::cpu
