#include "server/text/piece_trie.h"

#include <algorithm>
#include <array>
#include <bit>

namespace elserve {

// Places nodes depth first. The children of a node go into the first of the last few blocks where all of them fit.
class PieceTrie::Builder {
 public:
  using Pieces = std::vector<std::pair<std::string_view, int32_t>>;

  Builder(const Pieces& sorted, std::vector<Node>& nodes) : pieces_(sorted), nodes_(nodes) {
    AddBlock();
    Take(kRoot, kNobody);
  }

  void Build() {
    std::vector<Range> open = {{kRoot, 0, 0, pieces_.size()}};
    while (!open.empty()) {
      const Range range = open.back();
      open.pop_back();
      AddChildren(range, open);
    }
  }

 private:
  // Blocks that are looked through for room. More would fill the array better and take longer.
  static constexpr size_t kOpenBlocks = 16;
  static constexpr uint32_t kBlock = 256;

  // The pieces [begin, end) share their first `depth` bytes, which lead to `node`.
  struct Range {
    uint32_t node;
    size_t depth;
    size_t begin;
    size_t end;
  };

  void AddBlock() {
    nodes_.resize(nodes_.size() + kBlock);
    free_.push_back({~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}});
  }

  void Take(uint32_t at, uint32_t parent) {
    nodes_[at].parent = parent;
    free_[at / kBlock][at % kBlock / 64] &= ~(uint64_t{1} << at % 64);
  }

  bool Free(uint32_t at) const { return nodes_[at].parent == kFree; }

  void AddChildren(Range range, std::vector<Range>& open) {
    if (pieces_[range.begin].first.size() == range.depth) {
      nodes_[range.node].value = pieces_[range.begin].second;
      ++range.begin;
    }
    if (range.begin == range.end) return;
    labels_.clear();
    children_.clear();
    for (size_t i = range.begin; i < range.end; ++i) {
      const auto label = static_cast<uint8_t>(pieces_[i].first[range.depth]);
      if (labels_.empty() || labels_.back() != label) {
        labels_.push_back(label);
        children_.push_back({0, range.depth + 1, i, i});
      }
      children_.back().end = i + 1;
    }
    const uint32_t base = FindBase();
    nodes_[range.node].base = base;
    for (size_t i = 0; i < labels_.size(); ++i) {
      children_[i].node = base ^ labels_[i];
      Take(children_[i].node, range.node);
      open.push_back(children_[i]);
    }
  }

  // A place from which all labels lead to free nodes.
  uint32_t FindBase() {
    const size_t blocks = free_.size();
    for (size_t block = blocks > kOpenBlocks ? blocks - kOpenBlocks : 0; block < blocks; ++block) {
      for (uint32_t word = 0; word < 4; ++word) {
        for (uint64_t bits = free_[block][word]; bits != 0; bits &= bits - 1) {
          const uint32_t slot = static_cast<uint32_t>(block) * kBlock + word * 64 + std::countr_zero(bits);
          const uint32_t base = slot ^ labels_[0];
          if (Fits(base)) return base;
        }
      }
    }
    AddBlock();
    return static_cast<uint32_t>(blocks) * kBlock;
  }

  bool Fits(uint32_t base) const {
    return std::all_of(labels_.begin(), labels_.end(), [&](uint8_t label) { return Free(base ^ label); });
  }

  const Pieces& pieces_;
  std::vector<Node>& nodes_;
  std::vector<std::array<uint64_t, 4>> free_;  // a bit for each node of each block
  std::vector<uint8_t> labels_;                // of the node in hand
  std::vector<Range> children_;                // likewise
};

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces) {
  std::sort(pieces.begin(), pieces.end());
  Builder builder(pieces, nodes_);
  if (!pieces.empty()) builder.Build();
}

}  // namespace elserve
