// Attention of many positions at once over keys and values that are packed for it and dropped again: the encoder's own,
// and prefill's.
#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/backend/cpu/cpu_backend.h"

namespace elserve::cpu {
namespace {

// Queries in parts that keep all threads busy to the end.
constexpr int kQueries = 192;

const PackedPositionBias* Table(const PositionBias& bias) { return static_cast<const PackedPositionBias*>(bias.table); }

int Pages(int tokens) { return static_cast<int>(RoundUp(tokens, kPageTokens) / kPageTokens); }

}  // namespace

// packed_ is, for each run, [head][page][keys, values]. A head's pages are neighbours: at a large power of two from
// each other they would fall into the same few sets of the caches.
uint32_t* CpuBackend::RunPage(const Run& run, int page, int head, int heads, int head_dim) const {
  const int64_t place = run.first_page * heads + int64_t{head} * Pages(run.tokens) + page;
  return packed_.as<uint32_t>() + place * attention_.page_units(head_dim);
}

void CpuBackend::PackRuns(const RunAttention& args) {
  int64_t pages = 0;
  tasks_.clear();
  for (int r = 0; r < static_cast<int>(runs_.size()); ++r) {
    Run& run = runs_[r];
    run.first_page = pages;
    pages += Pages(run.tokens);
    for (int begin = 0; begin < run.tokens; begin += kPageTokens) {
      tasks_.push_back(
          {.document = r, .begin = begin, .count = std::min(kPageTokens, run.tokens - begin), .length = run.tokens});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int) {
    const DocumentTask& t = tasks_[i];
    const Run& run = runs_[t.document];
    const std::byte* row = Row(args.keys, run.keys + t.begin);
    for (int head = 0; head < args.heads; ++head) {
      const int64_t column = int64_t{head} * args.head_dim;
      attention_.pack_page({.keys = row + StateBytes(args.key + column),
                            .values = row + StateBytes(args.value + column),
                            .stride = Stride(args.keys),
                            .tokens = t.count,
                            .head_dim = args.head_dim,
                            .page = RunPage(run, t.begin / kPageTokens, head, args.heads, args.head_dim)});
    }
  });
}

void CpuBackend::AttendRuns(const RunAttention& args) {
  // Every run ends in a page of its own.
  const int64_t most = args.most_pages + std::max<int64_t>(limits_.select_rows, static_cast<int64_t>(runs_.size()));
  Reserve(most * args.heads * attention_.page_units(args.head_dim) * 4,
          "keys and values that attention packs (max_rows, max_source_tokens, encode_tokens_per_step)", &packed_);
  for (RowScratch& s : scratch_) {
    // The encoder's heads may be wider than the decoder's.
    const auto floats = static_cast<size_t>(attention_.packed_scratch_floats(1, args.head_dim));
    if (s.attention.size() < floats) s.attention.resize(floats);
  }
  if (!args.approximation.exact()) ReserveScores(attention_.approximate_packed_floats);
  if (!buffers_.status().ok()) return;
  PackRuns(args);
  tasks_.clear();
  for (int r = 0; r < static_cast<int>(runs_.size()); ++r) {
    const Run& run = runs_[r];
    for (int begin = 0; begin < run.count; begin += kQueries) {
      const int count = std::min(kQueries, run.count - begin);
      tasks_.push_back({.document = r,
                        .begin = begin,
                        .count = count,
                        .length = args.causal ? run.first + begin + count : run.tokens});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()) * args.heads, [&](int64_t i, int thread) {
    const DocumentTask& t = tasks_[i / args.heads];
    const Run& run = runs_[t.document];
    const int head = static_cast<int>(i % args.heads);
    RowScratch& s = scratch_[thread];
    for (int page = 0; page < Pages(t.length); ++page) {
      s.pages[page] = RunPage(run, page, head, args.heads, args.head_dim);
    }
    const int64_t row = run.queries + t.begin, column = StateBytes(int64_t{head} * args.head_dim);
    const float* bias = args.bias ? args.bias + head * args.bias_head - (run.first + t.begin) : nullptr;
    AttendPacked({.q = reinterpret_cast<const uint32_t*>(Row(args.queries, row) + column),
                  .q_stride = Stride(args.queries) / 4,
                  .rows = t.count,
                  .heads = 1,
                  .head_dim = args.head_dim,
                  .tokens = t.length,
                  .strip = kStripTokens,
                  .pages = s.pages.data(),
                  .bias = bias,
                  .bias_row = -1,
                  .out = Row(args.output, row) + column,
                  .out_stride = Stride(args.output),
                  .scratch = s.attention.data()},
                 args.approximation, s);
  });
}

void CpuBackend::EncoderAttention(const EncoderAttentionArgs& args) {
  runs_.clear();
  for (const EncodeDocument& d : layout_.encode.documents) {
    runs_.push_back({.keys = d.begin, .queries = d.begin, .tokens = d.length, .count = d.length});
  }
  const int64_t inner = int64_t{args.heads} * args.head_dim;
  const PackedPositionBias* table = Table(args.bias);
  AttendRuns({.queries = args.qkv,
              .keys = args.qkv,
              .key = inner,
              .value = 2 * inner,
              .heads = args.heads,
              .head_dim = args.head_dim,
              .bias = table ? table->values.data() + args.bias.zero : nullptr,
              .bias_head = table ? table->distances : 0,
              .approximation = args.approximation,
              .output = args.output,
              .most_pages = limits_.encode_positions / kPageTokens});
}

// Writes the prefill rows' cells, and lays each row's whole history side by side: keys and values, or the states that
// they are made of.
void CpuBackend::CollectHistory(const PrefillAttentionArgs& args) {
  const bool el = shape_.self == AttentionForm::kEl;
  const int64_t inner = int64_t{shape_.heads} * shape_.head_dim, cell_bytes = CellBytes(shape_);
  const int64_t bytes = StateBytes(2 * inner);
  const StateMemory& memory = States(shape_);
  const Tensor& to = el ? history_states_ : history_;
  std::byte* cells = decoder_[args.layer].data();
  tasks_.clear();
  for (int r = 0; r < static_cast<int>(runs_.size()); ++r) {
    for (int begin = 0; begin < runs_[r].tokens; begin += kPageTokens) {
      tasks_.push_back({.document = r,
                        .begin = begin,
                        .count = std::min(kPageTokens, runs_[r].tokens - begin),
                        .length = runs_[r].tokens});
    }
  }
  pool_.Run(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int) {
    const DocumentTask& t = tasks_[i];
    const Run& run = runs_[t.document];
    const DecodeRow& row = layout_.prefill.rows[t.document];
    for (int token = t.begin; token < t.begin + t.count; ++token) {
      std::byte* cell = cells + row.ancestry[token] * cell_bytes;
      const std::byte* const states = token < row.first ? nullptr : Row(args.states, row.begin + token - row.first);
      if (el) {
        if (states != nullptr) memory.keep(states, shape_.d, cell);
        memory.restore(cell, shape_.d, Row(to, run.keys + token));
      } else {
        if (states != nullptr) std::memcpy(cell, states + StateBytes(inner), bytes);
        std::memcpy(Row(to, run.keys + token), cell, bytes);
      }
    }
  });
}

const CpuBackend::CausalBias& CpuBackend::CausalBiasOf(const PositionBias& bias) {
  const PackedPositionBias* table = Table(bias);
  if (!causal_.values.empty() && causal_.table == table) return causal_;
  causal_.table = table;
  const int64_t heads = table ? shape_.heads : 1;
  causal_.zero = limits_.decoder_length - 1;
  // As far behind a query as the last of its task.
  causal_.width = limits_.decoder_length + kQueries;
  causal_.values.assign(heads * causal_.width, -std::numeric_limits<float>::infinity());
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t before = 0; before < limits_.decoder_length; ++before) {
      float* value = &causal_.values[head * causal_.width + causal_.zero - before];
      *value = table ? table->values[head * table->distances + bias.zero - before] : 0.0f;
    }
  }
  return causal_;
}

void CpuBackend::PrefillAttention(const PrefillAttentionArgs& args) {
  const bool el = shape_.self == AttentionForm::kEl;
  runs_.clear();
  int64_t history = 0;
  for (const DecodeRow& row : layout_.prefill.rows) {
    const int tokens = row.first + row.positions;
    runs_.push_back(
        {.keys = history, .queries = row.begin, .tokens = tokens, .count = row.positions, .first = row.first});
    history += tokens;
  }
  CollectHistory(args);
  if (el) {
    const auto& weight = *static_cast<const PackedMatrix*>(args.keys_values);
    RunLinear(BlockOf(history_states_, weight, history_), weight, history);
  }
  const int64_t inner = int64_t{shape_.heads} * shape_.head_dim;
  const CausalBias& causal = CausalBiasOf(args.bias);
  AttendRuns({.queries = el ? args.query : args.states,
              .keys = history_,
              .key = 0,
              .value = inner,
              .heads = shape_.heads,
              .head_dim = shape_.head_dim,
              .bias = causal.values.data() + causal.zero,
              .bias_head = args.bias.table ? causal.width : 0,
              .causal = true,
              .output = args.output,
              .most_pages = limits_.prefill_history / kPageTokens});
}

}  // namespace elserve::cpu
