// Files of torch.save that tests write, opcode by opcode and byte by byte: good ones, and spoilt in one place.
#ifndef ELSERVE_TESTS_ENGINE_MODEL_CHECKPOINT_WRITTEN_TORCH_FILE_H_
#define ELSERVE_TESTS_ENGINE_MODEL_CHECKPOINT_WRITTEN_TORCH_FILE_H_

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace elserve {

inline std::string LittleEndian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 255);
  return out;
}

// ---- Pickles: each function gives the opcodes that push one value. ----

inline std::string PickledText(std::string_view text) {
  return std::string("X") + LittleEndian(text.size(), 4) + std::string(text);
}
inline std::string PickledInt(int64_t value) {
  const bool small = value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
  return small ? std::string("J") + LittleEndian(value, 4) : std::string("\x8a\x08") + LittleEndian(value, 8);
}
inline std::string PickledGlobal(std::string_view module, std::string_view name) {
  return std::string("c") + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string PickledTuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}
inline std::string PickledInts(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(PickledInt(value));
  return PickledTuple(items);
}
inline std::string PickledCall(std::string_view module, std::string_view name,
                               const std::vector<std::string>& arguments) {
  return PickledGlobal(module, name) + PickledTuple(arguments) + "R";
}
inline const std::string kPickledFalse = "\x89";
inline const std::string kPickledOrderedDict = PickledGlobal("collections", "OrderedDict") + ")R";

inline std::string PickledStorage(std::string_view key, int64_t numbers, std::string_view type = "FloatStorage") {
  return PickledTuple({PickledText("storage"), PickledGlobal("torch", type), PickledText(key), PickledText("cpu"),
                       PickledInt(numbers)}) +
         "Q";
}

struct PickledView {
  int64_t offset = 0;
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};
};
inline std::string PickledTensorOf(const std::string& storage, const PickledView& view) {
  return PickledCall("torch._utils", "_rebuild_tensor_v2",
                     {storage, PickledInt(view.offset), PickledInts(view.shape), PickledInts(view.strides),
                      kPickledFalse, kPickledOrderedDict});
}
// A tensor of 4 numbers that is all of storage "0".
inline std::string PickledSmallTensor() { return PickledTensorOf(PickledStorage("0", 4), {0, {2, 2}, {2, 1}}); }

using PickledItems = std::vector<std::pair<std::string, std::string>>;
// An OrderedDict with _metadata, as Module.state_dict() gives it.
inline std::string PickledStateDict(const PickledItems& items) {
  std::string out = std::string("\x80\x02") + kPickledOrderedDict + "(";
  for (const auto& [name, value] : items) out += PickledText(name) + value;
  return out + "u}" + PickledText("_metadata") + kPickledOrderedDict + "sb.";
}

// ---- Zip files. ----

struct WrittenZipEntry {
  std::string name;
  std::string data;
  // What the directory says, and the header where the entry lies; -1: the truth.
  int method = 0, flags = 0;
  int64_t size = -1;          // in both
  int64_t uncompressed = -1;  // in both
  int64_t local_size = -1;    // there alone
  int64_t offset = -1;        // in the directory: where the header lies
};

inline std::string ZipBytes(const std::vector<WrittenZipEntry>& entries) {
  std::string file, directory;
  for (const WrittenZipEntry& entry : entries) {
    const auto pick = [](int64_t lie, int64_t truth) { return static_cast<uint64_t>(lie >= 0 ? lie : truth); };
    const auto length = static_cast<int64_t>(entry.data.size());
    const int64_t offset = static_cast<int64_t>(file.size());
    // torch pads the header's extra field so that each entry's data begins at a multiple of 64.
    const size_t head = file.size() + 30 + entry.name.size() + 4;
    const std::string extra =
        std::string("FB") + LittleEndian((64 - head % 64) % 64, 2) + std::string((64 - head % 64) % 64, 'Z');
    const auto common = [&](int64_t size, int64_t uncompressed) {
      return LittleEndian(20, 2) + LittleEndian(entry.flags, 2) + LittleEndian(entry.method, 2) + LittleEndian(0, 4) +
             LittleEndian(0, 4) + LittleEndian(size, 4) + LittleEndian(uncompressed, 4) +
             LittleEndian(entry.name.size(), 2);
    };
    const int64_t size = static_cast<int64_t>(pick(entry.size, length));
    const int64_t uncompressed = static_cast<int64_t>(pick(entry.uncompressed, size));
    file += std::string("PK\3\4") +
            common(static_cast<int64_t>(pick(entry.local_size, size)),
                   static_cast<int64_t>(pick(entry.local_size, uncompressed))) +
            LittleEndian(extra.size(), 2) + entry.name + extra + entry.data;
    directory += std::string("PK\1\2") + LittleEndian(20, 2) + common(size, uncompressed) + LittleEndian(0, 2) +
                 LittleEndian(0, 2) + LittleEndian(0, 2) + LittleEndian(0, 2) + LittleEndian(0, 4) +
                 LittleEndian(pick(entry.offset, offset), 4) + entry.name;
  }
  const std::string end = std::string("PK\5\6") + LittleEndian(0, 4) + LittleEndian(entries.size(), 2) +
                          LittleEndian(entries.size(), 2) + LittleEndian(directory.size(), 4) +
                          LittleEndian(file.size(), 4) + LittleEndian(0, 2);
  return file + directory + end;
}

using Storages = std::vector<std::pair<std::string, std::string>>;  // key and bytes

inline std::vector<WrittenZipEntry> TorchZipEntries(const std::string& pickle, const Storages& storages) {
  std::vector<WrittenZipEntry> entries = {{"model/data.pkl", pickle}, {"model/byteorder", "little"}};
  for (const auto& [key, bytes] : storages) entries.push_back({"model/data/" + key, bytes});
  entries.push_back({"model/version", "3\n"});
  return entries;
}
inline std::string TorchZip(const std::string& pickle, const Storages& storages) {
  return ZipBytes(TorchZipEntries(pickle, storages));
}

// ---- The format before torch 1.6. ----

struct LegacyParts {
  std::string magic = std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
  std::string protocol = std::string("\x80\x02") + PickledInt(1001) + ".";
  std::string machine = std::string("\x80\x02}(") + PickledText("protocol_version") + PickledInt(1001) +
                        PickledText("little_endian") + "\x88" + PickledText("type_sizes") + "}u.";
};
// `numbers`: of each storage.
inline std::string LegacyTorchFile(const std::string& pickle, const Storages& storages, int64_t number_bytes = 4,
                                   const LegacyParts& parts = {}) {
  std::string keys = "\x80\x02](", data;
  for (const auto& [key, bytes] : storages) {
    keys += PickledText(key);
    data += LittleEndian(bytes.size() / number_bytes, 8) + bytes;
  }
  return parts.magic + parts.protocol + parts.machine + pickle + keys + "e." + data;
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_MODEL_CHECKPOINT_WRITTEN_TORCH_FILE_H_
