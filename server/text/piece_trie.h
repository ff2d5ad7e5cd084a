// Which pieces begin at a place of a text: a double array, so that a step from one byte to the next is one look.
#ifndef ELSERVE_SERVER_TEXT_PIECE_TRIE_H_
#define ELSERVE_SERVER_TEXT_PIECE_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace elserve {

// Immutable after it was made.
class PieceTrie {
 public:
  static constexpr uint32_t kRoot = 0;

  // No pieces.
  PieceTrie() : PieceTrie(std::vector<std::pair<std::string_view, int32_t>>()) {}

  // Different, non-empty pieces with values of at least 0. Takes 12 bytes of memory, or a little more, for each byte
  // that begins a different rest.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces);

  // Goes on from `node` by one byte; false: no piece does.
  bool Step(uint32_t& node, char byte) const {
    const uint32_t next = nodes_[node].base ^ static_cast<uint8_t>(byte);
    if (nodes_[next].parent != node) return false;
    node = next;
    return true;
  }

  // How far into the text its bytes are those of some piece: no piece that the text begins with is longer.
  size_t Reach(std::string_view text) const {
    uint32_t node = kRoot;
    size_t at = 0;
    while (at < text.size() && Step(node, text[at])) ++at;
    return at;
  }

  // The value of the piece that ends at the node; -1: none does.
  int32_t Value(uint32_t node) const { return nodes_[node].value; }

 private:
  static constexpr uint32_t kFree = 0xFFFFFFFF;    // the parent of a node that is not in use
  static constexpr uint32_t kNobody = 0xFFFFFFFE;  // the root's

  // The child by `byte` stands at base ^ byte, and is one if its parent is this node. Nodes come in blocks of 256, so
  // that every base ^ byte is within the array.
  struct Node {
    uint32_t base = 0;
    uint32_t parent = kFree;
    int32_t value = -1;
  };

  class Builder;

  std::vector<Node> nodes_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_PIECE_TRIE_H_
