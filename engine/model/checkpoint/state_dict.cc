#include "engine/model/checkpoint/state_dict.h"

#include <array>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/pickle.h"
#include "engine/model/checkpoint/quoted.h"
#include "engine/model/checkpoint/weights_file.h"

namespace elserve {
namespace {

// What a global stands for.
enum class Role {
  kOrderedDict,
  kTensor,     // _rebuild_tensor(storage, offset, size, stride); _v2: also requires_grad, backward_hooks, metadata
  kTensorV3,   // with the dtype after backward_hooks: for types that have no storage of their own
  kParameter,  // _rebuild_parameter(tensor, requires_grad, backward_hooks); _with_state: also attributes
  kStorage,
  kDtype,
  kRefused,  // named in the message
};

struct Global {
  std::string_view name;
  Role role;
  std::string_view dtype = "";  // kStorage, kDtype: safetensors' name. kRefused: what a tensor of it is called
  int64_t bytes = 0;            // kStorage, kDtype: of a number
};

constexpr std::array kGlobals = {
    Global{"collections.OrderedDict", Role::kOrderedDict},
    Global{"torch._utils._rebuild_tensor", Role::kTensor},
    Global{"torch._utils._rebuild_tensor_v2", Role::kTensor},
    Global{"torch._utils._rebuild_tensor_v3", Role::kTensorV3},
    Global{"torch._utils._rebuild_parameter", Role::kParameter},
    Global{"torch._utils._rebuild_parameter_with_state", Role::kParameter},
    Global{"torch.FloatStorage", Role::kStorage, "F32", 4},
    Global{"torch.HalfStorage", Role::kStorage, "F16", 2},
    Global{"torch.BFloat16Storage", Role::kStorage, "BF16", 2},
    Global{"torch.DoubleStorage", Role::kStorage, "F64", 8},
    Global{"torch.LongStorage", Role::kStorage, "I64", 8},
    Global{"torch.IntStorage", Role::kStorage, "I32", 4},
    Global{"torch.ShortStorage", Role::kStorage, "I16", 2},
    Global{"torch.CharStorage", Role::kStorage, "I8", 1},
    Global{"torch.ByteStorage", Role::kStorage, "U8", 1},
    Global{"torch.BoolStorage", Role::kStorage, "BOOL", 1},
    Global{"torch.ComplexFloatStorage", Role::kStorage, "C64", 8},
    Global{"torch.ComplexDoubleStorage", Role::kStorage, "C128", 16},
    Global{"torch.storage.UntypedStorage", Role::kStorage, "", 1},
    Global{"torch.uint16", Role::kDtype, "U16", 2},
    Global{"torch.uint32", Role::kDtype, "U32", 4},
    Global{"torch.uint64", Role::kDtype, "U64", 8},
    Global{"torch.float8_e4m3fn", Role::kDtype, "F8_E4M3", 1},
    Global{"torch.float8_e5m2", Role::kDtype, "F8_E5M2", 1},
    Global{"torch._utils._rebuild_sparse_tensor", Role::kRefused, "sparse"},
    Global{"torch._utils._rebuild_sparse_csr_tensor", Role::kRefused, "sparse"},
    Global{"torch.serialization._get_layout", Role::kRefused, "sparse"},
    Global{"torch._utils._rebuild_qtensor", Role::kRefused, "quantized"},
    Global{"torch.QInt8Storage", Role::kRefused, "quantized"},
    Global{"torch.QUInt8Storage", Role::kRefused, "quantized"},
    Global{"torch.QInt32Storage", Role::kRefused, "quantized"},
    Global{"torch.QUInt4x2Storage", Role::kRefused, "quantized"},
    Global{"torch.QUInt2x4Storage", Role::kRefused, "quantized"},
    Global{"torch.per_tensor_affine", Role::kRefused, "quantized"},
    Global{"torch.per_channel_affine", Role::kRefused, "quantized"},
    Global{"torch._utils._rebuild_nested_tensor", Role::kRefused, "nested"},
    Global{"torch._utils._rebuild_meta_tensor_no_storage", Role::kRefused, "meta"},
};

constexpr std::array kGlobalNames = [] {
  std::array<std::string_view, kGlobals.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kGlobals[i].name;
  return names;
}();

class StateDictReader {
 public:
  explicit StateDictReader(const Pickle& pickle) : pickle_(pickle) {}

  absl::StatusOr<StateDict> Read() {
    const PickleValue& top = pickle_[pickle_.top];
    if (!IsOrderedDict(top) && top.kind != PickleKind::kDict) {
      return absl::InvalidArgumentError(
          absl::StrCat("the top of the pickle is ", Text(top), "; expected a dict of tensors"));
    }
    for (size_t i = 0; i + 1 < top.items.size(); i += 2) {
      const PickleValue& key = pickle_[top.items[i]];
      if (key.kind != PickleKind::kText) {
        return absl::InvalidArgumentError(
            absl::StrCat("the state dict has ", Text(key), " as a key; expected names of tensors"));
      }
      if (absl::Status status = Take(std::string(key.text), pickle_[top.items[i + 1]]); !status.ok()) return status;
    }
    return std::move(state_dict_);
  }

 private:
  static const Global& GlobalOf(const PickleValue& value) { return kGlobals[value.number]; }
  static bool IsCallOf(const PickleValue& value, Role role) {
    return value.kind == PickleKind::kCall && GlobalOf(value).role == role;
  }
  static bool IsOrderedDict(const PickleValue& value) { return IsCallOf(value, Role::kOrderedDict); }

  // A value for a message: its kind, and what a number or a global is.
  static std::string Text(const PickleValue& value) {
    if (value.kind == PickleKind::kGlobal || value.kind == PickleKind::kCall) {
      return absl::StrCat(PickleKindText(value.kind), value.kind == PickleKind::kCall ? " of " : " ",
                          std::string(GlobalOf(value).name));
    }
    if (value.kind == PickleKind::kInt) return absl::StrCat(value.number);
    if (value.kind == PickleKind::kText) return Quoted(value.text);
    return PickleKindText(value.kind);
  }

  absl::Status Refuse(std::string_view field, const PickleValue& value, std::string_view expected) const {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name_), ": ", std::string(field), " is ",
                                                   Text(value), "; expected ", std::string(expected)));
  }

  absl::Status RefuseKind(const Global& global) const {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name_), " is ", std::string(global.dtype), " (",
                                                   std::string(global.name), "); expected a dense one"));
  }

  // The elements of a tuple or a list; nothing for other values.
  std::span<const PickleId> Items(const PickleValue& value) const {
    const bool sequence = value.kind == PickleKind::kTuple || value.kind == PickleKind::kList;
    return sequence ? std::span<const PickleId>(value.items) : std::span<const PickleId>();
  }

  absl::Status Take(std::string name, const PickleValue& value) {
    name_ = std::move(name);
    const PickleValue* call = &value;
    // A parameter is a tensor with attributes; a parameter of a parameter is none.
    if (IsCallOf(*call, Role::kParameter)) {
      const std::span<const PickleId> arguments = Items(pickle_[call->arguments]);
      if (arguments.empty() || call->built || !call->items.empty()) {
        return Refuse("the parameter", value, "a tensor in it");
      }
      call = &pickle_[arguments[0]];
      if (!IsTensor(*call)) return Refuse("the parameter's tensor", *call, "a tensor");
    }
    if (!IsTensor(*call)) return absl::OkStatus();  // no tensor
    absl::StatusOr<PickledTensor> tensor = ReadTensor(*call);
    if (!tensor.ok()) return tensor.status();
    if (!state_dict_.tensors.emplace(name_, *std::move(tensor)).second) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name_), " stands twice; expected once"));
    }
    return absl::OkStatus();
  }

  static bool IsTensor(const PickleValue& value) {
    return IsCallOf(value, Role::kTensor) || IsCallOf(value, Role::kTensorV3) || IsCallOf(value, Role::kRefused);
  }

  absl::StatusOr<PickledTensor> ReadTensor(const PickleValue& call) {
    if (GlobalOf(call).role == Role::kRefused) return RefuseKind(GlobalOf(call));
    const bool v3 = GlobalOf(call).role == Role::kTensorV3;
    const size_t metadata = v3 ? 7 : 6;  // its place among the arguments
    const std::span<const PickleId> arguments = Items(pickle_[call.arguments]);
    if (arguments.size() < (v3 ? 7u : 4u) || arguments.size() > metadata + 1 || call.built || !call.items.empty()) {
      return Refuse("the tensor", call, absl::StrCat("it with ", v3 ? 7 : 4, " to ", metadata + 1, " arguments"));
    }
    // Bits that say that the numbers are conjugated or negated.
    if (arguments.size() > metadata) {
      const PickleValue& bits = pickle_[arguments[metadata]];
      if (bits.kind != PickleKind::kNone && !(bits.kind == PickleKind::kDict && bits.items.empty())) {
        return Refuse("metadata", bits, "none");
      }
    }
    PickledTensor tensor;
    absl::StatusOr<const Global*> type = ReadStorage(pickle_[arguments[0]], &tensor.storage);
    if (!type.ok()) return type.status();
    const Global* dtype = *type;
    if (v3) {
      const PickleValue& value = pickle_[arguments[6]];
      if (value.kind != PickleKind::kGlobal || GlobalOf(value).role != Role::kDtype) {
        return Refuse("dtype", value, "a type of torch");
      }
      dtype = &GlobalOf(value);
    } else if (dtype->dtype.empty()) {
      return Refuse("storage", pickle_[arguments[0]], "one with a type");
    }
    tensor.dtype = std::string(dtype->dtype);
    if (absl::Status status = ReadView(arguments, &tensor); !status.ok()) return status;
    if (absl::Status status = CheckView(tensor, dtype->bytes); !status.ok()) return status;
    return tensor;
  }

  // ("storage", type, key, location, numbers[, None]), where `location` is a device's name. Two-part files of torch
  // before 0.4 gave parts of other storages in place of the None.
  absl::StatusOr<const Global*> ReadStorage(const PickleValue& value, std::string* key) {
    constexpr char kExpected[] = "(\"storage\", type, key, location, numbers)";
    if (value.kind != PickleKind::kPersistent) return Refuse("storage", value, "a persistent id");
    const PickleValue& id = pickle_[value.arguments];
    const std::span<const PickleId> parts = Items(id);
    if (parts.size() < 5 || parts.size() > 6 || pickle_[parts[0]].text != "storage") {
      return Refuse("storage", id, kExpected);
    }
    const PickleValue& type = pickle_[parts[1]];
    if (type.kind == PickleKind::kGlobal && GlobalOf(type).role == Role::kRefused) return RefuseKind(GlobalOf(type));
    if (type.kind != PickleKind::kGlobal || GlobalOf(type).role != Role::kStorage) {
      return Refuse("storage type", type, "a storage of torch");
    }
    const PickleValue& key_value = pickle_[parts[2]];
    if (key_value.kind != PickleKind::kText) return Refuse("storage key", key_value, "a text");
    if (parts.size() == 6 && pickle_[parts[5]].kind != PickleKind::kNone) {
      return Refuse("storage view", pickle_[parts[5]], "None: files of torch before 0.4 are not read");
    }
    const PickleValue& numbers = pickle_[parts[4]];
    int64_t bytes = 0;
    if (numbers.kind != PickleKind::kInt || numbers.number < 0 ||
        __builtin_mul_overflow(numbers.number, GlobalOf(type).bytes, &bytes)) {
      return Refuse("storage size", numbers, "a number from 0 to what 2^63 bytes hold");
    }
    PickledStorage storage{.type = std::string(GlobalOf(type).name.substr(GlobalOf(type).name.rfind('.') + 1)),
                           .numbers = numbers.number,
                           .number_bytes = GlobalOf(type).bytes};
    *key = std::string(key_value.text);
    const auto [known, added] = state_dict_.storages.emplace(*key, storage);
    if (!added && (known->second.type != storage.type || known->second.numbers != storage.numbers)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(name_), ": storage ", Quoted(*key), " is ", storage.numbers, " numbers of ",
                       storage.type, "; another tensor says ", known->second.numbers, " of ", known->second.type));
    }
    return &GlobalOf(type);
  }

  absl::Status ReadView(std::span<const PickleId> arguments, PickledTensor* tensor) const {
    const PickleValue& offset = pickle_[arguments[1]];
    if (offset.kind != PickleKind::kInt || offset.number < 0) return Refuse("offset", offset, "a number of at least 0");
    tensor->offset = offset.number;
    if (absl::Status status = ReadNumbers("shape", arguments[2], &tensor->shape); !status.ok()) return status;
    if (absl::Status status = ReadNumbers("strides", arguments[3], &tensor->strides); !status.ok()) return status;
    if (tensor->shape.size() == tensor->strides.size()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name_), ": strides are ",
                                                   ShapeText(tensor->strides), "; expected as many as in its shape ",
                                                   ShapeText(tensor->shape)));
  }

  absl::Status ReadNumbers(std::string_view field, PickleId id, std::vector<int64_t>* out) const {
    const std::string expected = absl::StrCat("at most ", kMaxTensorRank, " whole numbers of at least 0");
    const PickleValue& list = pickle_[id];
    if (list.kind != PickleKind::kTuple && list.kind != PickleKind::kList) return Refuse(field, list, expected);
    if (list.items.size() > kMaxTensorRank) {
      return Refuse(absl::StrCat(std::string(field), " of ", list.items.size(), " numbers"), list, expected);
    }
    for (const PickleId item : list.items) {
      const PickleValue& number = pickle_[item];
      if (number.kind != PickleKind::kInt || number.number < 0) {
        return Refuse(absl::StrCat("a number of its ", std::string(field)), number, expected);
      }
      out->push_back(number.number);
    }
    return absl::OkStatus();
  }

  // The last number of the view lies inside the storage.
  absl::Status CheckView(PickledTensor& tensor, int64_t number_bytes) const {
    const int64_t held = state_dict_.storages.find(tensor.storage)->second.bytes() / number_bytes;
    int64_t end = 0;  // behind the last number
    bool fits = CountNumbers(tensor.shape, &tensor.numbers);
    if (fits && tensor.numbers > 0) {
      fits = !__builtin_add_overflow(tensor.offset, 1, &end);
      for (size_t d = 0; fits && d < tensor.shape.size(); ++d) {
        int64_t step = 0;
        fits = !__builtin_mul_overflow(tensor.shape[d] - 1, tensor.strides[d], &step) &&
               !__builtin_add_overflow(end, step, &end);
      }
    }
    int64_t bytes = 0;
    fits = fits && end <= held && !__builtin_mul_overflow(tensor.numbers, number_bytes, &bytes);
    if (fits) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", Quoted(name_), ": offset ", tensor.offset, ", shape ", ShapeText(tensor.shape), " and strides ",
        ShapeText(tensor.strides), " reach beyond storage ", Quoted(tensor.storage), " of ", held, " numbers"));
  }

  const Pickle& pickle_;
  StateDict state_dict_;
  std::string name_;  // of the tensor that is read
};

}  // namespace

absl::StatusOr<StateDict> ReadStateDict(std::string_view bytes, size_t* pickle_bytes) {
  const absl::StatusOr<Pickle> pickle = ReadPickle(bytes, kGlobalNames);
  if (!pickle.ok()) return pickle.status();
  *pickle_bytes = pickle->bytes;
  return StateDictReader(*pickle).Read();
}

}  // namespace elserve
