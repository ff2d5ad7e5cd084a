// What a pickle says, as values: nothing in it is called or imported. A call that it asks for becomes a value that
// holds the callee's name and the arguments, and whoever reads it knows what a few of them mean (state_dict.h).
//
// Protocol 2, which is torch.save's, and the opcodes that torch's own restricted reader knows
// (torch/_weights_only_unpickler.py) but those that make sets and objects of classes. Python's pickletools describes
// them.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_PICKLE_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_PICKLE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace elserve {

// A tensor of a state dict takes about 40 opcodes, 25 values and as many memo entries: enough for 40,000 tensors.
inline constexpr int64_t kMaxPickleOpcodes = 4'000'000;
inline constexpr size_t kMaxPickleValues = 1'000'000;  // of 56 bytes, and 4 for each item
inline constexpr size_t kMaxPickleMemo = 1'000'000;
// Values that wait for their container; torch.save fills one after every 1000 entries.
inline constexpr size_t kMaxPickleStack = 65'536;
inline constexpr size_t kMaxPickleMarks = 256;

// Values know each other by their place in Pickle::values: a list may hold itself.
using PickleId = uint32_t;

enum class PickleKind {
  kNone,
  kBool,        // number: 0 or 1
  kInt,         // number
  kLong,        // text: more than 8 bytes, little endian, two's complement
  kFloat,       // its value is not kept
  kText,        // text: UTF-8, if the writer was honest
  kTuple,       // items
  kList,        // items
  kDict,        // items: key, value, key, value, ...
  kGlobal,      // number: its place in the list of names that are known
  kCall,        // number: the place of the global that is called; arguments: a tuple. items: what was put in afterwards
  kPersistent,  // arguments: the id that stands for an object outside of the pickle
};

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  bool built = false;  // kCall: the pickle also sets attributes of the result; they are not kept
  PickleId arguments = 0;
  int64_t number = 0;
  std::string_view text = {};  // lies in the bytes that were read
  std::vector<PickleId> items = {};
};

struct Pickle {
  std::vector<PickleValue> values;
  PickleId top = 0;
  size_t bytes = 0;  // that it took, its STOP included

  const PickleValue& operator[](PickleId id) const { return values[id]; }
};

// Reads the pickle at the beginning of `bytes`, which must outlive the result. `globals` are the names, as
// "module.name", that it may use. INVALID_ARGUMENT says at which byte what is wrong.
absl::StatusOr<Pickle> ReadPickle(std::string_view bytes, std::span<const std::string_view> globals);

// "a list": for messages.
const char* PickleKindText(PickleKind kind);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_PICKLE_H_
