// The precompiled_charsmap of a SentencePiece model: which bytes of a text become which others.
#ifndef ELSERVE_SERVER_TEXT_CHARSMAP_H_
#define ELSERVE_SERVER_TEXT_CHARSMAP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace elserve {

// A double array of darts-clone in the bytes of a file, and the texts that it points to. Immutable after Parse, which
// goes through all of it: no look-up can leave it.
class Charsmap {
 public:
  static constexpr size_t kMaxBytes = 8 << 20;
  static constexpr size_t kMaxKeyBytes = 64;  // longer keys are not found

  // The bytes are: the array's length in bytes (32 bits, little endian), the array, the texts, each ended by 0.
  // INVALID_ARGUMENT (to be completed with file and key) for anything that points outside, and texts that are no UTF-8.
  static absl::StatusOr<Charsmap> Parse(std::string_view bytes);

  struct Match {
    size_t length;             // in bytes of the text, at least 1
    std::string_view becomes;  // valid as long as the map
  };

  // What the shortest key that the text begins with becomes: all that the tokenizers library looks at.
  std::optional<Match> Shortest(std::string_view text) const;

  // The longest key: what SentencePiece looks at.
  std::optional<Match> Longest(std::string_view text) const;

  // How far into the text its bytes may be those of some key: no key that the text begins with is longer.
  size_t Reach(std::string_view text) const;

 private:
  // A unit of the array: the node's label, whether a key ends at it, and how far its children are.
  static bool HasKey(uint32_t unit) { return (unit >> 8 & 1) != 0; }
  static uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
  static uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
  static uint32_t Offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

  absl::Status CheckArray() const;
  absl::Status CheckKey(uint32_t base) const;
  std::optional<uint32_t> Step(char byte, uint32_t& base) const;
  template <bool kLongest>
  std::optional<Match> Find(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_CHARSMAP_H_
