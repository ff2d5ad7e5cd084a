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

// The most rows of a task of EL's self-attention, and about the fewest that a document's rows are cut into.
constexpr int64_t kPartRows = 8;

// Whether two rows have the same `count` cells from `begin` on, and the second one has no more of them in that page.
bool Same(std::span<const int32_t> row, std::span<const int32_t> other, int begin, int count) {
  const auto end = static_cast<size_t>(begin) + static_cast<size_t>(count);
  if (other.size() < end || (count < kPageTokens && other.size() > end)) return false;
  return std::memcmp(row.data() + begin, other.data() + begin, static_cast<size_t>(count) * sizeof(int32_t)) == 0;
}

int64_t BiasDistances(const PositionBias& bias) {
  return bias.table == nullptr ? 0 : static_cast<const PackedPositionBias*>(bias.table)->distances;
}

}  // namespace

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

void CpuBackend::StoreEncoder(const StoreEncoderArgs& args) {
  const int64_t stride = Stride(args.states), inner = StateBytes(static_cast<int64_t>(shape_.heads) * shape_.head_dim);
  std::byte* pages = encoder_[shape_.cross == AttentionForm::kEl ? 0 : args.layer].data();
  PlanPages();
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i];
    const EncodeDocument& d = layout_.encode.documents[t.document];
    if (d.pages.empty()) return;  // dropped
    const std::byte* row = Row(args.states, d.begin + t.begin);
    std::byte* page = pages + d.pages[t.begin / kPageTokens] * PageBytes(shape_);
    if (shape_.cross == AttentionForm::kEl) {
      const StateMemory& memory = States(shape_);
      RowScratch& s = scratch_[thread];
      for (int token = 0; token < t.count; ++token) {
        std::byte* const kept = s.kept.data() + token * memory.kept_bytes(shape_.d);
        memory.keep(row + token * stride, shape_.d, kept);
        s.states[token] = kept;
      }
      memory.store_page({.rows = s.states.data(), .tokens = t.count, .d = shape_.d, .page = page});
      return;
    }
    for (int head = 0; head < shape_.heads; ++head) {
      const int64_t column = StateBytes(head * shape_.head_dim);
      attention_.pack_page({.keys = row + column,
                            .values = row + inner + column,
                            .stride = stride,
                            .tokens = t.count,
                            .head_dim = shape_.head_dim,
                            .page = reinterpret_cast<uint32_t*>(page) + head * attention_.page_units(shape_.head_dim)});
    }
  });
}

// Cuts the decode documents' queries (position x head) into tasks: wide ones read the states less often, narrow ones
// keep more threads busy. A query's bits do not depend on the cut. Longest first.
void CpuBackend::PlanQueries(const DecodeLayout& layout, int heads) {
  for (int width = States(shape_).most_queries; width >= 16; width -= 16) {
    tasks_.clear();
    for (int d = 0; d < static_cast<int>(layout.documents.size()); ++d) {
      const DecodeDocument& document = layout.documents[d];
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
ElAttention CpuBackend::ElOf(RowScratch& s, int queries, int tokens, bool biased) const {
  return {.q = s.q.data(),
          .queries = queries,
          .units = RoundUp(shape_.d, kernels_.pack) / kernels_.pack,
          .d = shape_.d,
          .tokens = tokens,
          .pages = s.pages.data(),
          .bias = biased ? s.bias.data() : nullptr,
          .out = s.out.data(),
          .scratch = s.attention.data()};
}

void CpuBackend::ReserveScores(int64_t (*floats)(int64_t tokens)) {
  for (RowScratch& s : scratch_) {
    Reserve(floats(limits_.source_length) * 4, "scores of approximate attention (max_source_tokens)", &s.scores);
  }
}

void CpuBackend::CrossEl(const CrossAttentionArgs& args) {
  const int heads = shape_.heads;
  const DecodeLayout& layout = Layout(args.phase);
  if (!args.approximation.exact()) ReserveScores(attention_.approximate_el_floats);
  if (!buffers_.status().ok()) return;
  PlanQueries(layout, heads);
  const auto list_pages = [this](const DecodeDocument& d, std::vector<const uint32_t*>* pages) {
    for (size_t page = 0; page < std::min(d.pages.size(), pages->size()); ++page) {
      (*pages)[page] = reinterpret_cast<const uint32_t*>(encoder_[0].data() + d.pages[page] * PageBytes(shape_));
    }
  };
  const auto tasks = static_cast<int64_t>(tasks_.size());
  pool_.Run(tasks, [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i];
    const DecodeDocument& d = layout.documents[t.document];
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
    ElAttention el = ElOf(s, t.count, d.length, biased);
    if (!args.approximation.exact(d.length)) {
      attention_.approximate_el(
          el, {.approximation = args.approximation, .scores = s.scores.as<float>(), .totals = s.totals.data()});
      for (int j = 0; j < t.count && args.totals; ++j) {
        const int query = t.begin + j;
        reinterpret_cast<float*>(Row(*args.totals, d.begin + query / heads))[query % heads] = s.totals[j];
      }
      return;
    }
    if (const int64_t next = i + pool_.threads(); next < tasks && tasks_[next].document != t.document) {
      const DecodeDocument& likely = layout.documents[tasks_[next].document];
      list_pages(likely, &s.next_pages);
      el.next_pages = s.next_pages.data();
      el.next_tokens = std::min<int>(likely.length, static_cast<int>(s.next_pages.size()) * kPageTokens);
    }
    States(shape_).attend(el);
  });
}

// Enough tasks for all threads: by heads first, for a task reads its heads' memory once for all of its rows.
CpuBackend::Cut CpuBackend::CutOf(const DecodeLayout& layout) const {
  const auto tasks_for = [wanted = 4 * int64_t{pool_.threads()}](int64_t have) {
    return (wanted + have - 1) / std::max<int64_t>(have, 1);
  };
  const auto documents = static_cast<int64_t>(layout.documents.size());
  int most = 0;
  for (const DecodeDocument& document : layout.documents) most = std::max(most, document.positions);
  Cut cut;
  cut.groups = std::clamp<int64_t>(tasks_for(documents), 1, shape_.heads);
  cut.parts = std::clamp<int64_t>(tasks_for(documents * cut.groups), 1, std::max<int64_t>(most / kPartRows, 1));
  cut.tasks = documents * cut.groups * cut.parts;
  return cut;
}

CpuBackend::RowTask CpuBackend::TaskOf(const DecodeLayout& layout, const Cut& cut, int64_t i) const {
  const int64_t group = i % cut.groups, part = i / cut.groups % cut.parts;
  const DecodeDocument& document = layout.documents[i / cut.groups / cut.parts];
  const auto share = [](int64_t all, int64_t place, int64_t places) {
    const int64_t begin = place * all / places;
    return std::pair(begin, static_cast<int>((place + 1) * all / places - begin));
  };
  const auto [head, heads] = share(shape_.heads, group, cut.groups);
  const auto [row, rows] = share(document.positions, part, cut.parts);
  return {&document, head, heads, document.begin + row, rows};
}

void CpuBackend::AttendPacked(const PackedAttention& packed, const AttentionApproximation& approximation,
                              RowScratch& s) const {
  if (approximation.exact(packed.tokens)) return attention_.packed_attention(packed);
  attention_.approximate_packed(packed, {.approximation = approximation, .scores = s.scores.as<float>()});
}

void CpuBackend::CrossPacked(const CrossAttentionArgs& args) {
  const DecodeLayout& layout = Layout(args.phase);
  if (!args.approximation.exact()) ReserveScores(attention_.approximate_packed_floats);
  if (!buffers_.status().ok()) return;
  // A task reads its heads' keys and values page after page, so memory streams.
  const Cut cut = CutOf(layout);
  pool_.Run(cut.tasks, [&](int64_t i, int thread) {
    const auto [document, head, heads, begin, rows] = TaskOf(layout, cut, i);
    if (rows == 0) return;
    const DecodeDocument& d = *document;
    RowScratch& s = scratch_[thread];
    for (size_t page = 0; page < d.pages.size(); ++page) {
      s.pages[page] =
          reinterpret_cast<const uint32_t*>(encoder_[args.layer].data() + d.pages[page] * PageBytes(shape_)) +
          head * attention_.page_units(shape_.head_dim);
    }
    const int64_t column = StateBytes(head * shape_.head_dim);
    AttendPacked({.q = reinterpret_cast<const uint32_t*>(Row(args.query, begin) + column),
                  .q_stride = Stride(args.query) / 4,
                  .rows = rows,
                  .heads = heads,
                  .head_dim = shape_.head_dim,
                  .tokens = d.length,
                  .strip = kPageTokens,
                  .pages = s.pages.data(),
                  .bias = args.biased && !d.bias.empty() ? d.bias.data() + head * d.length : nullptr,
                  .bias_head = d.length,
                  .out = Row(args.output, begin) + column,
                  .out_stride = Stride(args.output),
                  .scratch = s.attention.data()},
                 args.approximation, s);
  });
}

void CpuBackend::CrossAttention(const CrossAttentionArgs& args) {
  shape_.cross == AttentionForm::kEl ? CrossEl(args) : CrossPacked(args);
}

// A task has some heads of some rows of a document: it writes its part of their cells, which only they read, then
// attends.
void CpuBackend::SelfPacked(const SelfAttentionArgs& args) {
  const DecodeLayout& l = layout_.decode;
  const Cut cut = CutOf(l);
  const int64_t cell_bytes = CellBytes(shape_);
  const int64_t inner = static_cast<int64_t>(shape_.heads) * shape_.head_dim, inner_bytes = StateBytes(inner);
  pool_.Run(cut.tasks, [&](int64_t i, int thread) {
    const auto [document, head, heads, begin, rows] = TaskOf(l, cut, i);
    const int64_t column = StateBytes(head * shape_.head_dim), bytes = StateBytes(int64_t{heads} * shape_.head_dim);
    std::byte* cells = decoder_[args.layer].data() + column;
    RowScratch& s = scratch_[thread];
    for (int j = 0; j < rows; ++j) {
      const int64_t p = begin + j;
      const DecodeRow& row = l.rows[p];
      const std::byte* q = Row(args.states, p) + column;
      std::byte* cell = cells + row.ancestry.back() * cell_bytes;
      std::memcpy(cell, q + inner_bytes, bytes);
      std::memcpy(cell + inner_bytes, q + 2 * inner_bytes, bytes);
      s.rows[j] = {.q = q,
                   .ancestry = row.ancestry.data(),
                   .tokens = row.first + 1,
                   .bias = BiasAt(args.bias, static_cast<int>(head), row.first),
                   .out = Row(args.output, p) + column};
    }
    kernels_.cell_attention({.rows = s.rows.data(),
                             .count = rows,
                             .heads = heads,
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
  const StateMemory& memory = States(shape_);
  std::byte* cells = decoder_[args.layer].data();
  const int64_t cell_bytes = CellBytes(shape_);
  ForRows(l.positions(), [&](int64_t p) {
    memory.keep(Row(args.states, p), shape_.d, cells + l.rows[p].ancestry.back() * cell_bytes);
  });
  const int heads = shape_.heads;
  // Neighbours, mostly a beam's rows, in one task: they share most of their cells, which are gathered once.
  const int64_t width = std::clamp<int64_t>(l.positions() / (4 * pool_.threads()), 1, kPartRows);
  const auto attend = [&](int64_t p, std::span<const int32_t> gathered, RowScratch& s) {
    const std::span<const int32_t> ancestry = l.rows[p].ancestry;
    const int tokens = static_cast<int>(ancestry.size());
    for (int begin = 0; begin < tokens; begin += kPageTokens) {
      const int count = std::min(kPageTokens, tokens - begin);
      if (Same(ancestry, gathered, begin, count)) continue;
      std::byte* page = s.gathered.data() + begin / kPageTokens * memory.page_bytes(shape_.d);
      for (int t = 0; t < count; ++t) s.states[t] = cells + ancestry[begin + t] * cell_bytes;
      memory.store_page({.rows = s.states.data(),
                         .tokens = count,
                         .d = shape_.d,
                         .page = page,
                         .reach = static_cast<int>(RoundUp(count, kStateStep))});
      s.pages[begin / kPageTokens] = reinterpret_cast<const uint32_t*>(page);
    }
    for (int begin = 0; begin < heads; begin += memory.most_queries) {
      const int count = std::min(memory.most_queries, heads - begin);
      for (int j = 0; j < count; ++j) {
        const int64_t column = StateBytes(static_cast<int64_t>(begin + j) * shape_.d);
        s.q[j] = reinterpret_cast<const uint32_t*>(Row(args.query, p) + column);
        s.out[j] = Row(args.output, p) + column;
        s.bias[j] = BiasAt(args.bias, begin + j, tokens - 1);
      }
      memory.attend(ElOf(s, count, tokens, args.bias.table != nullptr));
    }
  };
  pool_.Run((l.positions() + width - 1) / width, [&](int64_t task, int thread) {
    std::span<const int32_t> gathered;  // whose pages the scratch holds
    for (int64_t p = task * width; p < std::min<int64_t>((task + 1) * width, l.positions()); ++p) {
      attend(p, gathered, scratch_[thread]);
      gathered = l.rows[p].ancestry;
    }
  });
}

void CpuBackend::SelfAttention(const SelfAttentionArgs& args) {
  shape_.self == AttentionForm::kEl ? SelfEl(args) : SelfPacked(args);
}

}  // namespace elserve::cpu
