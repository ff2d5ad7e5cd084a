#include "engine/model/checkpoint/pickle.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

constexpr size_t kMaxNameBytes = 256;  // of a global's module and of its name

// A pickle is a program for a stack of values. Marks remember where on the stack the items of a container begin.
class Reader {
 public:
  Reader(std::string_view bytes, std::span<const std::string_view> globals) : bytes_(bytes), globals_(globals) {}

  absl::StatusOr<Pickle> Read() {
    for (int64_t opcodes = 0; error_.empty(); ++opcodes) {
      opcode_at_ = at_;
      if (opcodes == kMaxPickleOpcodes) {
        Fail(absl::StrCat("has more than ", kMaxPickleOpcodes, " opcodes"));
        break;
      }
      const std::optional<unsigned char> opcode = Byte();
      if (opcode == '.') {  // STOP
        if (const std::optional<PickleId> top = Pop()) {
          pickle_.top = *top;
          pickle_.bytes = at_;
          return std::move(pickle_);
        }
      } else if (opcode && !Scalar(*opcode) && !Container(*opcode) && !Reference(*opcode)) {
        Fail(absl::StrCat("opcode 0x", absl::Hex(*opcode, absl::kZeroPad2), " is not one that tensors need"));
      }
    }
    return absl::InvalidArgumentError(absl::StrCat("pickle: byte ", opcode_at_, ": ", error_));
  }

 private:
  void Fail(std::string error) {
    if (error_.empty()) error_ = std::move(error);
  }

  // The next `n` bytes; an error where the file ends before.
  std::optional<std::string_view> Bytes(uint64_t n) {
    if (n > bytes_.size() - at_) {
      Fail(absl::StrCat("needs ", n, " bytes more, but only ", bytes_.size() - at_, " are there; it is truncated"));
      return std::nullopt;
    }
    const std::string_view text = bytes_.substr(at_, n);
    at_ += n;
    return text;
  }
  std::optional<unsigned char> Byte() {
    if (at_ == bytes_.size()) {
      Fail("ends without STOP; it is truncated");
      return std::nullopt;
    }
    return static_cast<unsigned char>(bytes_[at_++]);
  }
  // Little endian, at most 8 bytes.
  static uint64_t Unsigned(std::string_view bytes) {
    uint64_t number = 0;
    for (size_t i = 0; i < bytes.size(); ++i) number |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    return number;
  }
  static int64_t Signed(std::string_view bytes) {
    const size_t unused = 64 - 8 * bytes.size();
    return bytes.empty() ? 0 : static_cast<int64_t>(Unsigned(bytes) << unused) >> unused;
  }
  std::optional<uint64_t> Number(uint64_t n) {
    const std::optional<std::string_view> bytes = Bytes(n);
    return bytes ? std::optional(Unsigned(*bytes)) : std::nullopt;
  }

  void Push(PickleId id) {
    if (stack_.size() == kMaxPickleStack) return Fail(absl::StrCat("more than ", kMaxPickleStack, " values wait"));
    stack_.push_back(id);
  }
  void Push(PickleValue value) {
    if (pickle_.values.size() == kMaxPickleValues) {
      return Fail(absl::StrCat("has more than ", kMaxPickleValues, " values"));
    }
    pickle_.values.push_back(std::move(value));
    Push(static_cast<PickleId>(pickle_.values.size() - 1));
  }
  // The value on top of the stack, above the last mark.
  std::optional<PickleId> Top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
      Fail("needs a value that is not there");
      return std::nullopt;
    }
    return stack_.back();
  }
  std::optional<PickleId> Pop() {
    const std::optional<PickleId> top = Top();
    if (top) stack_.pop_back();
    return top;
  }
  // What stands above the last mark, which goes.
  std::optional<std::vector<PickleId>> PopToMark() {
    if (marks_.empty()) {
      Fail("needs a MARK that is not there");
      return std::nullopt;
    }
    const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
    std::vector<PickleId> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }

  // None, truth values, numbers, texts. Returns whether the opcode is one of these, as the next two do.
  bool Scalar(unsigned char opcode) {
    std::optional<uint64_t> size;
    switch (opcode) {
      case 'N':  // NONE
        Push(PickleValue{});
        return true;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        Push({.kind = PickleKind::kBool, .number = opcode == 0x88});
        return true;
      case 'J':  // BININT: 4 bytes, signed
        if (const auto bytes = Bytes(4)) Push({.kind = PickleKind::kInt, .number = Signed(*bytes)});
        return true;
      case 'K':  // BININT1
      case 'M':  // BININT2
        if (const auto number = Number(opcode == 'K' ? 1 : 2)) {
          Push({.kind = PickleKind::kInt, .number = static_cast<int64_t>(*number)});
        }
        return true;
      case 0x8a:  // LONG1
        if ((size = Number(1))) PushLong(*size);
        return true;
      case 'G':  // BINFLOAT
        if (Bytes(8)) Push({.kind = PickleKind::kFloat});
        return true;
      case 'X':  // BINUNICODE
      case 'U':  // SHORT_BINSTRING, as Python 2 wrote texts
        if ((size = Number(opcode == 'X' ? 4 : 1))) {
          if (const auto text = Bytes(*size)) Push({.kind = PickleKind::kText, .text = *text});
        }
        return true;
      default:
        return false;
    }
  }

  void PushLong(uint64_t size) {
    const std::optional<std::string_view> bytes = Bytes(size);
    if (!bytes) return;
    if (bytes->size() <= 8) return Push({.kind = PickleKind::kInt, .number = Signed(*bytes)});
    Push({.kind = PickleKind::kLong, .text = *bytes});
  }

  bool Container(unsigned char opcode) {
    switch (opcode) {
      case '(':  // MARK
        if (marks_.size() == kMaxPickleMarks) {
          Fail(absl::StrCat("is nested deeper than ", kMaxPickleMarks, " marks"));
        } else {
          marks_.push_back(stack_.size());
        }
        return true;
      case ')':  // EMPTY_TUPLE
        Push({.kind = PickleKind::kTuple});
        return true;
      case ']':  // EMPTY_LIST
        Push({.kind = PickleKind::kList});
        return true;
      case '}':  // EMPTY_DICT
        Push({.kind = PickleKind::kDict});
        return true;
      case 't':  // TUPLE
        if (auto items = PopToMark()) Push({.kind = PickleKind::kTuple, .items = *std::move(items)});
        return true;
      case 0x85:  // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        PushTuple(opcode - 0x84);
        return true;
      case 'a':  // APPEND
        if (const auto item = Pop()) Fill(PickleKind::kList, {*item});
        return true;
      case 'e':  // APPENDS
        if (const auto items = PopToMark()) Fill(PickleKind::kList, *items);
        return true;
      case 's': {  // SETITEM
        const auto value = Pop();
        const auto key = value ? Pop() : std::nullopt;
        if (key) Fill(PickleKind::kDict, {*key, *value});
        return true;
      }
      case 'u':  // SETITEMS
        if (const auto items = PopToMark()) {
          if (items->size() % 2 != 0) Fail("SETITEMS has a key without a value");
          Fill(PickleKind::kDict, *items);
        }
        return true;
      default:
        return false;
    }
  }

  void PushTuple(size_t size) {
    std::vector<PickleId> items(size);
    for (size_t i = size; i-- > 0;) {
      const std::optional<PickleId> item = Pop();
      if (!item) return;
      items[i] = *item;
    }
    Push({.kind = PickleKind::kTuple, .items = std::move(items)});
  }

  // Puts items into the container on top of the stack. What a call made may be a dict: an OrderedDict.
  void Fill(PickleKind kind, const std::vector<PickleId>& items) {
    const std::optional<PickleId> top = Top();
    if (!top) return;
    PickleValue& container = pickle_.values[*top];
    if (container.kind != kind && !(kind == PickleKind::kDict && container.kind == PickleKind::kCall)) {
      return Fail(
          absl::StrCat("puts items into ", PickleKindText(container.kind), "; expected ", PickleKindText(kind)));
    }
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  bool Reference(unsigned char opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (const auto protocol = Number(1); protocol && *protocol > 2) {
          Fail(absl::StrCat("protocol is ", *protocol, "; expected 2, torch.save's default"));
        }
        return true;
      case 'c':  // GLOBAL
        Global();
        return true;
      case 'R':  // REDUCE
        Call();
        return true;
      case 'b':  // BUILD
        Build();
        return true;
      case 'Q':  // BINPERSID
        if (const auto id = Pop()) Push({.kind = PickleKind::kPersistent, .arguments = *id});
        return true;
      case 'q':  // BINPUT
      case 'r':  // LONG_BINPUT
        if (const auto index = Number(opcode == 'q' ? 1 : 4)) Remember(*index);
        return true;
      case 'h':  // BINGET
      case 'j':  // LONG_BINGET
        if (const auto index = Number(opcode == 'h' ? 1 : 4)) {
          const auto found = memo_.find(*index);
          if (found == memo_.end()) {
            Fail(absl::StrCat("takes memo entry ", *index, ", which was never stored"));
          } else {
            Push(found->second);
          }
        }
        return true;
      default:
        return false;
    }
  }

  void Remember(uint64_t index) {
    const std::optional<PickleId> top = Top();
    if (!top) return;
    if (memo_.size() == kMaxPickleMemo && !memo_.contains(index)) {
      return Fail(absl::StrCat("has more than ", kMaxPickleMemo, " memo entries"));
    }
    memo_[index] = *top;
  }

  std::optional<std::string_view> Line() {
    const size_t end = bytes_.substr(at_, kMaxNameBytes + 1).find('\n');
    if (end == std::string_view::npos) {
      Fail(absl::StrCat("GLOBAL names ", Quoted(bytes_.substr(at_, kMaxNameBytes)),
                        "; expected a module and a name of ", "at most ", kMaxNameBytes, " bytes, each on a line"));
      return std::nullopt;
    }
    const std::string_view line = bytes_.substr(at_, end);
    at_ += end + 1;
    return line;
  }

  void Global() {
    const std::optional<std::string_view> module = Line();
    const std::optional<std::string_view> name = module ? Line() : std::nullopt;
    if (!name) return;
    const std::string full = absl::StrCat(std::string(*module), ".", std::string(*name));
    const auto found = std::find(globals_.begin(), globals_.end(), full);
    if (found == globals_.end()) {
      return Fail(
          absl::StrCat("names ", Quoted(full), ", which no state dict of tensors needs; nothing of it was run"));
    }
    Push({.kind = PickleKind::kGlobal, .number = found - globals_.begin()});
  }

  void Call() {
    const std::optional<PickleId> arguments = Pop();
    const std::optional<PickleId> callee = arguments ? Pop() : std::nullopt;
    if (!callee) return;
    const PickleKind kinds[] = {pickle_[*callee].kind, pickle_[*arguments].kind};
    if (kinds[0] != PickleKind::kGlobal || kinds[1] != PickleKind::kTuple) {
      return Fail(absl::StrCat("calls ", PickleKindText(kinds[0]), " with ", PickleKindText(kinds[1]),
                               "; expected a global and a tuple"));
    }
    Push({.kind = PickleKind::kCall, .arguments = *arguments, .number = pickle_[*callee].number});
  }

  void Build() {
    if (!Pop()) return;  // the attributes
    const std::optional<PickleId> top = Top();
    if (!top) return;
    PickleValue& object = pickle_.values[*top];
    if (object.kind != PickleKind::kCall) {
      return Fail(absl::StrCat("sets attributes of ", PickleKindText(object.kind), "; expected an OrderedDict"));
    }
    object.built = true;
  }

  const std::string_view bytes_;
  const std::span<const std::string_view> globals_;
  Pickle pickle_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  std::vector<PickleId> stack_;
  std::vector<size_t> marks_;
  absl::flat_hash_map<uint64_t, PickleId> memo_;
  std::string error_;
};

}  // namespace

absl::StatusOr<Pickle> ReadPickle(std::string_view bytes, std::span<const std::string_view> globals) {
  return Reader(bytes, globals).Read();
}

const char* PickleKindText(PickleKind kind) {
  switch (kind) {
    case PickleKind::kNone:
      return "None";
    case PickleKind::kBool:
      return "a truth value";
    case PickleKind::kInt:
    case PickleKind::kLong:
      return "a whole number";
    case PickleKind::kFloat:
      return "a float";
    case PickleKind::kText:
      return "a text";
    case PickleKind::kTuple:
      return "a tuple";
    case PickleKind::kList:
      return "a list";
    case PickleKind::kDict:
      return "a dict";
    case PickleKind::kGlobal:
      return "a global";
    case PickleKind::kCall:
      return "the result of a call";
    case PickleKind::kPersistent:
      return "a storage";
  }
  return "a value";  // not reached: every kind is above
}

}  // namespace elserve
