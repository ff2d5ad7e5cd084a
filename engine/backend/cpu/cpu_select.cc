// SelectTokens: the product with the vocabulary, whose logits are used where they are made, and the choice of each row.
#include <algorithm>
#include <cstring>
#include <span>

#include "engine/backend/cpu/cpu_backend.h"

namespace elserve::cpu {
namespace {

int64_t Parts(const PackedMatrix& w) { return RoundUp(w.panels, kSumPanels) / kSumPanels; }

}  // namespace

void CpuBackend::ReserveSelect(int64_t rows, const PackedMatrix& w) {
  SelectMemory& s = select_;
  s.rows = std::max({s.rows, rows, int64_t{limits_.select_rows}});
  const int64_t threads = pool_.threads();
  Reserve((s.rows + kernels_.rows_ahead) * Stride({nullptr, 0, w.in, Storage::kState}),
          "the states that logits are made of (max_rows)", &s.input);
  Reserve(threads * s.rows * static_cast<int64_t>(sizeof(RowLogits)), "sums of logits (max_rows)", &s.kept);
  Reserve(threads * s.rows * kMostLogits * static_cast<int64_t>(sizeof(TokenLogit)), "the best logits (max_rows)",
          &s.best);
  Reserve(RoundUp(w.out, 32) * 4, "a row's logits", &s.logits);
  if (const size_t parts = s.rows * Parts(w); s.parts.size() < parts) s.parts.resize(parts);
  Reserve(limits_.whole_rows * Stride({nullptr, 0, w.out, Storage::kResidual}), "whole rows of logits", &s.whole);
  if (w.type == WeightType::kInt8) ReserveIntegers(w, s.rows);
  s.ranked.reserve(s.rows);
  s.places.reserve(s.rows);
  s.apart_end.resize(s.rows);
  s.outcomes.resize(s.rows);
  s.apart.reserve(limits_.edits + s.rows * (kMaxCandidates + kMaxEosIds));
  s.apart_logits.reserve(s.apart.capacity());
}

// The tokens whose logits are wanted for themselves: a row's edited ones, or, where it is forced, those and the lowest,
// which fill up its candidates.
void CpuBackend::ListApart(std::span<const SelectRow> rows, int64_t vocab) {
  std::vector<int32_t>& apart = select_.apart;
  apart.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    const SelectRow& row = rows[i];
    const auto begin = static_cast<std::ptrdiff_t>(apart.size());
    if (row.force.empty()) {
      for (const LogitEdit& edit : row.edits) apart.push_back(edit.token);
    } else {
      const auto lowest = static_cast<int32_t>(std::min<int64_t>(row.count, vocab));
      for (int32_t token = 0; token < lowest; ++token) apart.push_back(token);
      for (const int32_t token : row.force) {
        if (token >= lowest) apart.push_back(token);
      }
      std::sort(apart.begin() + begin + lowest, apart.end());
      apart.erase(std::unique(apart.begin() + begin, apart.end()), apart.end());
    }
    select_.apart_end[i] = static_cast<int64_t>(apart.size());
  }
  select_.apart_logits.resize(apart.size());
}

// Nothing is kept yet, of any row by any thread.
void CpuBackend::ResetKept(std::span<const SelectRow> rows) {
  const SelectMemory& s = select_;
  pool_.Run(pool_.threads(), [&](int64_t thread, int) {
    int64_t apart = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t at = thread * s.rows + static_cast<int64_t>(i);
      RowLogits& r = s.kept.as<RowLogits>()[at];
      r.best = s.best.as<TokenLogit>() + at * kMostLogits;
      // Of a forced row the greatest alone, for the logarithm of its sum.
      r.room = rows[i].force.empty() ? rows[i].count + (RanksLogits(rows[i]) ? 0 : kSpareLogits) : 1;
      r.taken = 0;
      r.apart = s.apart.data() + apart;
      r.apart_logits = select_.apart_logits.data() + apart;
      r.apart_count = static_cast<int32_t>(s.apart_end[i] - apart);
      apart = s.apart_end[i];
    }
  });
}

void CpuBackend::SelectTokens(const SelectTokensArgs& args) {
  const auto& w = *static_cast<const PackedMatrix*>(args.weight);
  const std::span<const SelectRow> rows = Layout(args.phase).select;
  const size_t before = args.phase == Phase::kDecode ? prefill_selected_ : 0;
  if (args.phase == Phase::kPrefill) prefill_selected_ = rows.size();
  const auto count = static_cast<int64_t>(rows.size());
  ReserveSelect(count, w);
  if (!buffers_.status().ok()) return;
  SelectMemory& s = select_;
  s.ranked.clear();
  s.places.clear();
  for (int32_t place = 0; place < count; ++place) {
    if (rows[place].whole) continue;
    s.ranked.push_back(rows[place]);
    s.places.push_back(place);
  }
  for (int32_t place = 0; place < count; ++place) {
    if (rows[place].whole) s.places.push_back(place);
  }
  const Tensor input{s.input.data(), count, args.input.cols, Storage::kState};
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(Row(input, i), Row(args.input, rows[s.places[i]].position), Stride(input));
  }
  selected_.resize(before + rows.size());
  const auto ranked = static_cast<int64_t>(s.ranked.size());
  if (ranked > 0) RankTokens({input.data, ranked, input.cols, Storage::kState}, w, before);
  if (ranked < count) {
    const Tensor whole{Row(input, ranked), count - ranked, input.cols, Storage::kState};
    TakeWholeRows(whole, w, std::span(selected_).subspan(before));
  }
}

// `before`: where the phase's answers begin.
void CpuBackend::RankTokens(const Tensor& input, const PackedMatrix& w, size_t before) {
  SelectMemory& s = select_;
  const std::span<const SelectRow> rows = s.ranked;
  const auto count = static_cast<int64_t>(rows.size());
  Candidate* const candidates = candidates_.data() + before * kMaxCandidates;
  ListApart(rows, w.out);
  ResetKept(rows);
  LinearBlock b = BlockOf(input, w, {.data = nullptr, .rows = count, .cols = w.out, .storage = Storage::kResidual});
  b.logits = s.kept.as<RowLogits>();
  b.parts = s.parts.data();
  b.parts_stride = Parts(w);
  RunLinear(b, w, count);

  const auto select = [&](int64_t row, float* logits) {
    s.outcomes[row] = kernels_.select({.row = &rows[row],
                                       .vocab = static_cast<int>(w.out),
                                       .kept = s.kept.as<RowLogits>() + row,
                                       .threads = pool_.threads(),
                                       .kept_stride = s.rows,
                                       .parts = s.parts.data() + row * Parts(w),
                                       .parts_count = Parts(w),
                                       .logits = logits,
                                       .out = candidates + row * kMaxCandidates});
  };
  pool_.Run(count, [&](int64_t row, int) { select(row, nullptr); });
  for (int64_t row = 0; row < count; ++row) {
    if (s.outcomes[row].needs_logits) {
      float* const logits = RowOfLogits(input, row, w);
      pool_.Run(1, [&](int64_t, int) { select(row, logits); });
    }
    const SelectOutcome& outcome = s.outcomes[row];
    const Candidate* const out = candidates + row * kMaxCandidates;
    selected_[before + s.places[row]] = {.candidates = {out, static_cast<size_t>(outcome.count)},
                                         .finite = outcome.finite};
  }
}

// `selected`: the phase's answers.
void CpuBackend::TakeWholeRows(const Tensor& input, const PackedMatrix& w, std::span<SelectedRow> selected) {
  SelectMemory& s = select_;
  const Tensor logits{s.whole.data(), input.rows, w.out, Storage::kResidual};
  RunLinear(BlockOf(input, w, logits), w, input.rows);
  for (int64_t i = 0; i < input.rows; ++i) {
    const auto* const row = reinterpret_cast<const float*>(Row(logits, i));
    selected[s.places[s.ranked.size() + i]] = {.logits = {row, static_cast<size_t>(w.out)}};
  }
}

// [vocabulary]: all logits of one row of SelectTokens's input, to the bit those that it made of the rows together.
// Valid until the next call.
float* CpuBackend::RowOfLogits(const Tensor& input, int64_t row, const PackedMatrix& w) {
  const Tensor one{Row(input, row), 1, input.cols, Storage::kState};
  RunLinear(BlockOf(one, w, {select_.logits.data(), 1, w.out, Storage::kResidual}), w, 1);
  return select_.logits.as<float>();
}

}  // namespace elserve::cpu
