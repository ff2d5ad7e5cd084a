// Attention and the memory that it reads.
#include <algorithm>
#include <cstring>

#include "engine/backend/cpu/cpu_backend.h"

namespace elserve::cpu {

namespace {

// What is added to the score of token 0 by a query at `position`; those of the other tokens follow. Null: nothing.
const float* BiasAt(const PositionBias& bias, int head, int64_t position) {
  const auto* table = static_cast<const PackedPositionBias*>(bias.table);
  return table == nullptr ? nullptr : table->values.data() + head * table->distances + bias.zero - position;
}
int64_t BiasDistances(const PositionBias& bias) {
  return bias.table == nullptr ? 0 : static_cast<const PackedPositionBias*>(bias.table)->distances;
}

}  // namespace

// Keys and values of some tokens of one page, head after head: `keys` and `values` are the first token's, `page` gives
// each head's place.
template <class Page>
void CpuBackend::PackPage(const std::byte* keys, const std::byte* values, int64_t stride, int tokens, int heads,
                          int head_dim, const Page& page) {
  for (int head = 0; head < heads; ++head) {
    const int64_t column = StateBytes(head * head_dim);
    kernels_.pack_page({.keys = keys + column,
                        .values = values + column,
                        .stride = stride,
                        .tokens = tokens,
                        .head_dim = head_dim,
                        .page = page(head)});
  }
}

// A task for each page of each encode document.
void CpuBackend::PlanPages() {
  tasks_.clear();
  for (int d = 0; d < static_cast<int>(layout_.encode.documents.size()); ++d) {
    const int length = layout_.encode.documents[d].length;
    for (int begin = 0; begin < length; begin += kPageTokens) {
      tasks_.push_back(
          {.document = d, .begin = begin, .count = std::min(kPageTokens, length - begin), .length = length});
    }
  }
}

// Where the encoder's own keys and values go: for each document [head][page][keys, values]. A head's pages are
// neighbours: at a large power of two from each other they would fall into the same few sets of the caches.
void CpuBackend::PlanEncoderAttention(int heads, int head_dim) {
  int64_t pages = 0;
  first_page_.clear();
  for (const EncodeDocument& d : layout_.encode.documents) {
    first_page_.push_back(pages);
    pages += RoundUp(d.length, kPageTokens) / kPageTokens;
  }
  // Every document ends in a page of its own, and there is one a row at most.
  const int64_t most =
      limits_.encode_positions / kPageTokens + std::max<int64_t>(limits_.select_rows, layout_.encode.documents.size());
  const int64_t page_bytes = kernels_.page_units(head_dim) * 4;
  Reserve(most * heads * page_bytes,
          "the encoder's keys and values (max_rows, max_source_tokens, encode_tokens_per_step)", &packed_);
  for (RowScratch& s : scratch_) {
    // The encoder's heads may be wider than the decoder's.
    const auto floats = static_cast<size_t>(kernels_.packed_scratch_floats(1, head_dim));
    if (s.attention.size() < floats) s.attention.resize(floats);
  }
}

void CpuBackend::EncoderAttention(const EncoderAttentionArgs& args) {
  const EncodeLayout& e = layout_.encode;
  const int64_t stride = Stride(args.qkv), inner = StateBytes(static_cast<int64_t>(args.heads) * args.head_dim);
  PlanEncoderAttention(args.heads, args.head_dim);
  if (!buffers_.status().ok()) return;
  const auto page_at = [&](int document, int page, int head) {
    const int64_t pages = RoundUp(e.documents[document].length, kPageTokens) / kPageTokens;
    const int64_t place = first_page_[document] * args.heads + head * pages + page;
    return packed_.as<uint32_t>() + place * kernels_.page_units(args.head_dim);
  };
  PlanPages();
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int) {
    const DocumentTask& t = tasks_[i];
    const std::byte* row = Row(args.qkv, e.documents[t.document].begin + t.begin);
    PackPage(row + inner, row + 2 * inner, stride, t.count, args.heads, args.head_dim,
             [&](int head) { return page_at(t.document, t.begin / kPageTokens, head); });
  });
  // Queries in parts that keep all threads busy to the end.
  constexpr int kQueries = 192;
  tasks_.clear();
  for (int d = 0; d < static_cast<int>(e.documents.size()); ++d) {
    const int length = e.documents[d].length;
    for (int begin = 0; begin < length; begin += kQueries) {
      tasks_.push_back({.document = d, .begin = begin, .count = std::min(kQueries, length - begin), .length = length});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()) * args.heads, [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i / args.heads];
    const int head = static_cast<int>(i % args.heads);
    RowScratch& s = scratch_[thread];
    const int n = static_cast<int>(RoundUp(t.length, kPageTokens) / kPageTokens);
    for (int page = 0; page < n; ++page) s.pages[page] = page_at(t.document, page, head);
    const int64_t row = e.documents[t.document].begin + t.begin, column = StateBytes(head * args.head_dim);
    kernels_.packed_attention({.q = reinterpret_cast<const uint32_t*>(Row(args.qkv, row) + column),
                               .q_stride = stride / 4,
                               .rows = t.count,
                               .heads = 1,
                               .head_dim = args.head_dim,
                               .tokens = t.length,
                               .strip = kStripTokens,
                               .pages = s.pages.data(),
                               .bias = BiasAt(args.bias, head, t.begin),
                               .bias_row = -1,
                               .out = Row(args.output, row) + column,
                               .out_stride = Stride(args.output),
                               .scratch = s.attention.data()});
  });
}

void CpuBackend::StoreEncoder(const StoreEncoderArgs& args) {
  const int64_t stride = Stride(args.states), inner = StateBytes(static_cast<int64_t>(shape_.heads) * shape_.head_dim);
  std::byte* memory = encoder_[shape_.cross == AttentionForm::kEl ? 0 : args.layer].data();
  PlanPages();
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i];
    const EncodeDocument& d = layout_.encode.documents[t.document];
    if (d.pages.empty()) return;  // dropped
    const std::byte* row = Row(args.states, d.begin + t.begin);
    std::byte* page = memory + d.pages[t.begin / kPageTokens] * PageBytes(shape_);
    if (shape_.cross == AttentionForm::kEl) {
      std::vector<const std::byte*>& rows = scratch_[thread].states;
      for (int token = 0; token < t.count; ++token) rows[token] = row + token * stride;
      kernels_.store_states({.rows = rows.data(), .tokens = t.count, .d = shape_.d, .page = page});
      return;
    }
    PackPage(row, row + inner, stride, t.count, shape_.heads, shape_.head_dim,
             [&](int head) { return reinterpret_cast<uint32_t*>(page) + head * kernels_.page_units(shape_.head_dim); });
  });
}

// Cuts the decode documents' queries (position x head) into tasks: wide ones read the states less often, narrow ones
// keep more threads busy. A query's bits do not depend on the cut. Longest first.
void CpuBackend::PlanQueries(int heads) {
  for (int width = kernels_.most_queries; width >= 16; width -= 16) {
    tasks_.clear();
    for (int d = 0; d < static_cast<int>(layout_.decode.documents.size()); ++d) {
      const DecodeDocument& document = layout_.decode.documents[d];
      const int queries = document.positions * heads, parts = (queries + width - 1) / width;
      for (int part = 0; part < parts; ++part) {
        const int begin = part * queries / parts;
        tasks_.push_back(
            {.document = d, .begin = begin, .count = (part + 1) * queries / parts - begin, .length = document.length});
      }
    }
    if (static_cast<int>(tasks_.size()) >= 4 * pool_.threads()) break;
  }
  std::sort(tasks_.begin(), tasks_.end(),
            [](const DocumentTask& a, const DocumentTask& b) { return a.length > b.length; });
}

// EL-attention of the queries, outputs, pages and, if `biased`, additions to scores that `s` lists.
void CpuBackend::RunEl(RowScratch& s, int queries, int tokens, bool biased, int next_tokens) {
  kernels_.el_attention({.q = s.q.data(),
                         .queries = queries,
                         .units = RoundUp(shape_.d, kernels_.pack) / kernels_.pack,
                         .d = shape_.d,
                         .tokens = tokens,
                         .pages = s.pages.data(),
                         .bias = biased ? s.bias.data() : nullptr,
                         .out = s.out.data(),
                         .scratch = s.attention.data(),
                         .next_pages = s.next_pages.data(),
                         .next_tokens = next_tokens});
}

void CpuBackend::CrossEl(const CrossAttentionArgs& args) {
  const int heads = shape_.heads;
  PlanQueries(heads);
  const auto list_pages = [this](const DecodeDocument& d, std::vector<const uint32_t*>* pages) {
    for (size_t page = 0; page < std::min(d.pages.size(), pages->size()); ++page) {
      (*pages)[page] = reinterpret_cast<const uint32_t*>(encoder_[0].data() + d.pages[page] * PageBytes(shape_));
    }
  };
  const auto tasks = static_cast<int64_t>(tasks_.size());
  pool_.Run(tasks, [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i];
    const DecodeDocument& d = layout_.decode.documents[t.document];
    RowScratch& s = scratch_[thread];
    const bool biased = args.biased && !d.bias.empty();
    for (int j = 0; j < t.count; ++j) {
      const int query = t.begin + j;
      const int64_t row = d.begin + query / heads, column = StateBytes(static_cast<int64_t>(query % heads) * shape_.d);
      s.q[j] = reinterpret_cast<const uint32_t*>(Row(args.query, row) + column);
      s.out[j] = Row(args.output, row) + column;
      if (biased) s.bias[j] = d.bias.data() + static_cast<int64_t>(query % heads) * d.length;
    }
    list_pages(d, &s.pages);
    int next_tokens = 0;
    if (const int64_t next = i + pool_.threads(); next < tasks && tasks_[next].document != t.document) {
      const DecodeDocument& likely = layout_.decode.documents[tasks_[next].document];
      list_pages(likely, &s.next_pages);
      next_tokens = std::min<int>(likely.length, static_cast<int>(s.next_pages.size()) * kPageTokens);
    }
    RunEl(s, t.count, d.length, biased, next_tokens);
  });
}

int64_t CpuBackend::HeadGroups() const {
  const int64_t wanted = 4 * pool_.threads(), documents = std::max<int64_t>(1, layout_.decode.documents.size());
  return std::clamp<int64_t>(RoundUp(wanted, documents) / documents, 1, shape_.heads);
}

CpuBackend::HeadRange CpuBackend::HeadsOf(int64_t group, int64_t groups) const {
  const int64_t begin = group * shape_.heads / groups;
  return {begin, static_cast<int>((group + 1) * shape_.heads / groups - begin)};
}

void CpuBackend::CrossPacked(const CrossAttentionArgs& args) {
  const auto& documents = layout_.decode.documents;
  // A task reads its heads' keys and values page after page, so memory streams.
  const int64_t groups = HeadGroups();
  pool_.Run(static_cast<int64_t>(documents.size()) * groups, [&](int64_t i, int thread) {
    const DecodeDocument& d = documents[i / groups];
    const auto [head, heads] = HeadsOf(i % groups, groups);
    RowScratch& s = scratch_[thread];
    for (size_t page = 0; page < d.pages.size(); ++page) {
      s.pages[page] =
          reinterpret_cast<const uint32_t*>(encoder_[args.layer].data() + d.pages[page] * PageBytes(shape_)) +
          head * kernels_.page_units(shape_.head_dim);
    }
    const int64_t column = StateBytes(head * shape_.head_dim);
    kernels_.packed_attention({.q = reinterpret_cast<const uint32_t*>(Row(args.query, d.begin) + column),
                               .q_stride = Stride(args.query) / 4,
                               .rows = d.positions,
                               .heads = heads,
                               .head_dim = shape_.head_dim,
                               .tokens = d.length,
                               .strip = kPageTokens,
                               .pages = s.pages.data(),
                               .bias = args.biased && !d.bias.empty() ? d.bias.data() + head * d.length : nullptr,
                               .bias_head = d.length,
                               .out = Row(args.output, d.begin) + column,
                               .out_stride = Stride(args.output),
                               .scratch = s.attention.data()});
  });
}

void CpuBackend::CrossAttention(const CrossAttentionArgs& args) {
  shape_.cross == AttentionForm::kEl ? CrossEl(args) : CrossPacked(args);
}

// A task has some heads of a document's rows: it writes its part of their cells, which only they read, then attends.
void CpuBackend::SelfPacked(const SelfAttentionArgs& args) {
  const DecodeLayout& l = layout_.decode;
  const int64_t groups = HeadGroups(), cell_bytes = CellBytes(shape_);
  const int64_t inner = static_cast<int64_t>(shape_.heads) * shape_.head_dim, inner_bytes = StateBytes(inner);
  pool_.Run(static_cast<int64_t>(l.documents.size()) * groups, [&](int64_t i, int thread) {
    const DecodeDocument& d = l.documents[i / groups];
    const HeadRange range = HeadsOf(i % groups, groups);
    const int64_t column = StateBytes(range.begin * shape_.head_dim), bytes = StateBytes(range.count * shape_.head_dim);
    std::byte* cells = decoder_[args.layer].data() + column;
    RowScratch& s = scratch_[thread];
    for (int j = 0; j < d.positions; ++j) {
      const int64_t p = d.begin + j;
      const std::byte* q = Row(args.states, p) + column;
      std::byte* cell = cells + l.cells[p] * cell_bytes;
      std::memcpy(cell, q + inner_bytes, bytes);
      std::memcpy(cell + inner_bytes, q + 2 * inner_bytes, bytes);
      s.rows[j] = {.q = q,
                   .ancestry = l.ancestry + p * l.ancestry_stride,
                   .tokens = l.position_ids[p] + 1,
                   .bias = BiasAt(args.bias, range.begin, l.position_ids[p]),
                   .out = Row(args.output, p) + column};
    }
    kernels_.cell_attention({.rows = s.rows.data(),
                             .count = d.positions,
                             .heads = range.count,
                             .head_dim = shape_.head_dim,
                             .cells = cells,
                             .cell_stride = cell_bytes,
                             .values = inner,
                             .bias_head = BiasDistances(args.bias),
                             .scratch = s.attention.data()});
  });
}

void CpuBackend::SelfEl(const SelfAttentionArgs& args) {
  const DecodeLayout& l = layout_.decode;
  std::byte* cells = decoder_[args.layer].data();
  const int64_t cell_bytes = CellBytes(shape_);
  for (int p = 0; p < l.positions(); ++p) std::memcpy(cells + l.cells[p] * cell_bytes, Row(args.states, p), cell_bytes);
  const int heads = shape_.heads;
  pool_.Run(l.positions(), [&](int64_t p, int thread) {
    RowScratch& s = scratch_[thread];
    const int tokens = l.position_ids[p] + 1;
    const int32_t* ancestry = l.ancestry + p * l.ancestry_stride;
    for (int begin = 0; begin < tokens; begin += kPageTokens) {
      const int count = std::min(kPageTokens, tokens - begin);
      std::byte* page = s.gathered.data() + begin / kPageTokens * StatePageBytes(kernels_, shape_.d);
      for (int t = 0; t < count; ++t) s.states[t] = cells + ancestry[begin + t] * cell_bytes;
      kernels_.store_states({.rows = s.states.data(),
                             .tokens = count,
                             .d = shape_.d,
                             .page = page,
                             .reach = static_cast<int>(RoundUp(count, kStateStep))});
      s.pages[begin / kPageTokens] = reinterpret_cast<const uint32_t*>(page);
    }
    for (int begin = 0; begin < heads; begin += kernels_.most_queries) {
      const int count = std::min(kernels_.most_queries, heads - begin);
      for (int j = 0; j < count; ++j) {
        const int64_t column = StateBytes(static_cast<int64_t>(begin + j) * shape_.d);
        s.q[j] = reinterpret_cast<const uint32_t*>(Row(args.query, p) + column);
        s.out[j] = Row(args.output, p) + column;
        s.bias[j] = BiasAt(args.bias, begin + j, l.position_ids[p]);
      }
      RunEl(s, count, tokens, args.bias.table != nullptr);
    }
  });
}

void CpuBackend::SelfAttention(const SelfAttentionArgs& args) {
  shape_.self == AttentionForm::kEl ? SelfEl(args) : SelfPacked(args);
}

}  // namespace elserve::cpu
