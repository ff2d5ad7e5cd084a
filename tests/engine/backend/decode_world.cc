#include "tests/engine/backend/decode_world.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

namespace elserve {
namespace {

std::vector<int32_t> RandomOrder(int64_t count, std::mt19937& engine) {
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), engine);
  return order;
}

}  // namespace

DecodeWorld::DecodeWorld(uint32_t seed, std::vector<DocumentSpec> documents) : documents_(std::move(documents)) {
  std::mt19937 engine(seed);
  int64_t cells = 0;
  for (const DocumentSpec& document : documents_) {
    page_count_ += (document.length + kPageTokens - 1) / kPageTokens;
    cells += int64_t{document.rows} * (document.history + document.new_positions);
  }
  // More than the documents need: memory has holes. No pages where no document has a source.
  if (page_count_ > 0) page_count_ += 3;
  block_count_ = (cells + cells / 4 + kBlockCells) / kBlockCells;

  const std::vector<int32_t> page_order = RandomOrder(page_count_, engine);
  const std::vector<int32_t> cell_order = RandomOrder(block_count_ * kBlockCells, engine);
  auto next_page = page_order.begin();
  auto next_cell = cell_order.begin();
  for (int d = 0; d < static_cast<int>(documents_.size()); ++d) {
    const DocumentSpec& spec = documents_[d];
    const int pages = (spec.length + kPageTokens - 1) / kPageTokens;
    pages_.emplace_back(next_page, next_page + pages);
    next_page += pages;

    std::uniform_int_distribution<int> any_row(0, spec.rows - 1);
    const auto history = next_cell;  // [history][rows]
    next_cell += static_cast<int64_t>(spec.history) * spec.rows;
    for (int row = 0; row < spec.rows; ++row) {
      std::vector<int32_t> ancestry;
      for (int t = 0; t < spec.history; ++t) ancestry.push_back(history[t * spec.rows + any_row(engine)]);
      for (int t = 0; t < spec.new_positions; ++t) {
        ancestry.push_back(*next_cell++);
        positions_.push_back({.document = d, .position_id = spec.history + t, .ancestry = ancestry});
      }
    }
  }
}

int64_t DecodeWorld::SourceTokens() const {
  return std::accumulate(documents_.begin(), documents_.end(), int64_t{0},
                         [](int64_t sum, const DocumentSpec& document) { return sum + document.length; });
}

StepLimits DecodeWorld::Limits() const {
  StepLimits limits;
  limits.encode_positions = static_cast<int>(std::max(SourceTokens(), page_count_ * kPageTokens));
  limits.decode_positions = limits.prefill_positions = static_cast<int>(positions_.size());
  limits.select_rows = limits.decode_positions;
  limits.source_length = page_count_ > 0 ? kPageTokens : 0;
  for (const DocumentSpec& document : documents_)
    limits.source_length = std::max(limits.source_length, document.length);
  for (const Position& position : positions_) {
    limits.decoder_length = std::max(limits.decoder_length, position.position_id + 1);
    limits.prefill_history += position.position_id + 1;
  }
  return limits;
}

OwnedStep DecodeWorld::Step(std::span<const int> positions) const {
  OwnedStep step;
  for (size_t i = 0; i < positions.size(); ++i) {
    const Position& position = positions_[positions[i]];
    step.tokens.push_back(0);
    step.position_ids.push_back(position.position_id);
    step.rows.push_back({.ancestry = position.ancestry});
    if (i == 0 || positions_[positions[i - 1]].document != position.document) {
      step.decode_documents.push_back({.begin = static_cast<int32_t>(i),
                                       .positions = 0,
                                       .length = documents_[position.document].length,
                                       .pages = pages_[position.document]});
    }
    ++step.decode_documents.back().positions;
  }
  return step;
}

std::vector<std::vector<int>> DecodeWorld::Batches(uint32_t seed) const {
  std::mt19937 engine(seed);
  std::vector<std::vector<int>> batches;
  for (int count : {1, 1, 1, 2, 3, 5, 17, 63, 64, 65}) {
    if (count > static_cast<int>(positions_.size())) break;
    const std::vector<int32_t> chosen = RandomOrder(static_cast<int64_t>(positions_.size()), engine);
    const std::vector<int32_t> document_order = RandomOrder(static_cast<int64_t>(documents_.size()), engine);
    std::vector<int> batch(chosen.begin(), chosen.begin() + count);
    std::stable_sort(batch.begin(), batch.end(), [&](int a, int b) {
      return document_order[positions_[a].document] < document_order[positions_[b].document];
    });
    batches.push_back(std::move(batch));
  }
  // Each document alone, with all of its rows.
  for (int d = 0; d < static_cast<int>(documents_.size()); ++d) {
    std::vector<int> batch;
    for (int p = 0; p < static_cast<int>(positions_.size()); ++p) {
      if (positions_[p].document == d) batch.push_back(p);
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

void DecodeWorld::FillCells(Session& session, int layer, Tensor states, std::span<const float> values, Tensor query,
                            Tensor output) const {
  const auto cells = static_cast<int64_t>(values.size()) / states.cols;
  const auto at_once = static_cast<int64_t>(positions_.size());
  for (int64_t begin = 0; begin < cells; begin += at_once) {
    const int64_t count = std::min(at_once, cells - begin);
    OwnedStep step;
    step.tokens.assign(count, 0);
    step.position_ids.assign(count, 0);
    for (int64_t i = 0; i < count; ++i) step.rows.push_back({.ancestry = {static_cast<int32_t>(begin + i)}});
    step.decode_documents = {{.begin = 0,
                              .positions = static_cast<int32_t>(count),
                              .length = std::min(1, documents_.front().length),
                              .pages = pages_.front()}};
    session.backend().BeginStep(step.Layout());
    session.backend().Write(states, values.subspan(begin * states.cols, count * states.cols));
    session.backend().SelfAttention({.layer = layer, .states = states, .query = query, .output = output});
  }
  session.backend().Read(output, 1);  // waits
}

void DecodeWorld::FillPages(Session& session, int layer, Tensor states, std::span<const float> values) const {
  std::vector<int32_t> pages(page_count_);
  std::iota(pages.begin(), pages.end(), 0);
  OwnedStep step;
  step.phase = Phase::kEncode;
  for (int64_t page = 0; page < page_count_; ++page) {
    step.encode_documents.push_back({.begin = static_cast<int32_t>(page * kPageTokens),
                                     .length = kPageTokens,
                                     .pages = std::span<const int32_t>(pages).subspan(page, 1)});
  }
  step.tokens.assign(page_count_ * kPageTokens, 0);
  step.position_ids.assign(step.tokens.size(), 0);
  session.backend().BeginStep(step.Layout());
  session.backend().Write(states, values);
  session.backend().StoreEncoder({.layer = layer, .states = states});
  session.backend().Read(states, 1);  // waits
}

void DecodeWorld::StoreDocuments(Session& session, int layer, Tensor states, std::span<const float> values) const {
  OwnedStep step;
  step.phase = Phase::kEncode;
  for (size_t d = 0; d < documents_.size(); ++d) {
    step.encode_documents.push_back(
        {.begin = static_cast<int32_t>(step.tokens.size()), .length = documents_[d].length, .pages = pages_[d]});
    step.tokens.insert(step.tokens.end(), documents_[d].length, 0);
  }
  step.position_ids.assign(step.tokens.size(), 0);
  session.backend().BeginStep(step.Layout());
  session.backend().Write(states, values);
  session.backend().StoreEncoder({.layer = layer, .states = states});
  session.backend().Read(states, 1);  // waits
}

}  // namespace elserve
