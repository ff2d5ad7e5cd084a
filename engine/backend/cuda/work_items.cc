#include "engine/backend/cuda/work_items.h"

#include <algorithm>
#include <tuple>

namespace elserve::cuda {
namespace {

constexpr int kElSplit = 512;
constexpr int kKeyValueSplit = 256;

int64_t CeilDiv(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Appends a tile's splits. `source_step`: tokens for each entry of the source list.
class Planner {
 public:
  Planner(const AttentionGeometry& geometry, AttentionItem* items) : geometry_(geometry), items_(items) {}

  void AddTile(int first, int count, int source, int source_step, int length) {
    const int chunk = SplitTokens(geometry_, length);
    const auto splits = static_cast<int16_t>(CeilDiv(length, chunk));
    for (int16_t split = 0; split < splits; ++split) {
      const int begin = split * chunk;
      items_[count_++] = {.first = first,
                          .count = count,
                          .source = source + begin / source_step,
                          .tokens = std::min(chunk, length - begin),
                          .split = split,
                          .splits = splits,
                          .begin = begin,
                          .partial = partials_,
                          .arrival = arrivals_};
    }
    if (splits <= 1) return;
    partials_ += count * splits;
    ++arrivals_;
  }

  // Orders the items; their number.
  int Finish() {
    std::sort(items_, items_ + count_, [](const AttentionItem& a, const AttentionItem& b) {
      return std::tuple(-a.tokens, a.source, a.first) < std::tuple(-b.tokens, b.source, b.first);
    });
    return count_;
  }

 private:
  const AttentionGeometry& geometry_;
  AttentionItem* items_;
  int count_ = 0;
  int partials_ = 0;
  int arrivals_ = 0;
};

// `tile_lanes`: of the EL form. A tile holds at least one position's lanes, or as many as it can.
AttentionBounds Bound(const AttentionGeometry& geometry, int positions, int length, int tile_lanes) {
  if (length == 0) return {};
  const int64_t tiles = positions * (geometry.el ? CeilDiv(geometry.heads, tile_lanes) : 1);
  const int64_t splits =
      std::max<int64_t>(1, std::min<int64_t>(CeilDiv(length, geometry.el ? kElSplit : kKeyValueSplit), kMaxSplits));
  AttentionBounds bounds;
  bounds.items = tiles * splits;
  if (splits == 1) return bounds;
  bounds.arrivals = tiles * (geometry.el ? 1 : geometry.heads);
  bounds.partial_rows = int64_t{positions} * geometry.heads * splits;
  bounds.sums = bounds.partial_rows * (geometry.el ? geometry.d : geometry.head_dim);
  return bounds;
}

}  // namespace

int SplitTokens(const AttentionGeometry& geometry, int length) {
  const int least = geometry.el ? kElSplit : kKeyValueSplit;
  return std::max(least, static_cast<int>(CeilDiv(CeilDiv(length, kMaxSplits), kPageTokens)) * kPageTokens);
}

int PlanCrossAttention(const AttentionGeometry& geometry, const DecodeLayout& layout, AttentionItem* items,
                       CrossDocuments documents) {
  Planner planner(geometry, items);
  int pages = 0;
  for (const DecodeDocument& document : layout.documents) {
    const int first = geometry.el ? document.begin * geometry.heads : document.begin;
    const int count = geometry.el ? document.positions * geometry.heads : document.positions;
    const int tile = geometry.el ? kTileLanes : kTilePositions;
    const bool listed =
        documents == CrossDocuments::kAll || document.bias.empty() == (documents == CrossDocuments::kWithoutBias);
    for (int at = 0; listed && at < count; at += tile) {
      planner.AddTile(first + at, std::min(tile, count - at), pages, kPageTokens, document.length);
    }
    pages += static_cast<int>(document.pages.size());
  }
  return planner.Finish();
}

int PlanSelfAttention(const AttentionGeometry& geometry, const DecodeLayout& layout, AttentionItem* items) {
  Planner planner(geometry, items);
  int source = 0;
  for (const DecodeRow& row : layout.rows) {
    for (int j = 0; j < row.positions; ++j) {
      const int p = row.begin + j, length = row.first + j + 1;
      if (!geometry.el) {
        planner.AddTile(p, 1, source, 1, length);
        continue;
      }
      for (int head = 0; head < geometry.heads; head += kSelfTileLanes) {
        planner.AddTile(p * geometry.heads + head, std::min(kSelfTileLanes, geometry.heads - head), source, 1, length);
      }
    }
    source += row.first + row.positions;
  }
  return planner.Finish();
}

int PlanEncoderAttention(const EncodeLayout& layout, EncodeItem* items) {
  int count = 0;
  for (const EncodeDocument& document : layout.documents) {
    for (int at = 0; at < document.length; at += kEncoderTile) {
      items[count++] = {.first = document.begin + at,
                        .count = std::min(kEncoderTile, document.length - at),
                        .begin = document.begin,
                        .length = document.length};
    }
  }
  std::sort(items, items + count, [](const EncodeItem& a, const EncodeItem& b) {
    return std::tuple(-a.length, a.first) < std::tuple(-b.length, b.first);
  });
  return count;
}

AttentionBounds BoundCrossAttention(const AttentionGeometry& geometry, int positions, int length) {
  return Bound(geometry, positions, length, kTileLanes);
}

AttentionBounds BoundSelfAttention(const AttentionGeometry& geometry, int positions, int length) {
  return Bound(geometry, positions, length, kSelfTileLanes);
}

int64_t BoundEncoderAttention(int positions) { return positions; }

}  // namespace elserve::cuda
