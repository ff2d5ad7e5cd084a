#include "engine/model/checkpoint/pytorch_bin.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/pickle.h"
#include "engine/model/checkpoint/quoted.h"
#include "engine/model/checkpoint/state_dict.h"
#include "engine/model/checkpoint/zip_archive.h"

namespace elserve {
namespace {

using Storages = std::map<std::string, std::span<const std::byte>, std::less<>>;  // by key

constexpr std::string_view kZipMagic = "PK\3\4";
constexpr int kMinZipVersion = 1, kMaxZipVersion = 10;  // caffe2/serialize/versions.h
// 0x1950a86a20f9469cfc6c, the lowest byte first.
constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr int64_t kLegacyProtocol = 1001;

std::string_view TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The message with the file's name before it.
absl::Status InFile(const WeightsFile& file, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(file.path(), ": ", std::string(status.message())));
}

absl::Status AddTensors(const StateDict& state_dict, const Storages& storages, WeightsFile* file) {
  for (const auto& [name, tensor] : state_dict.tensors) {
    const std::span<const std::byte> storage = storages.find(tensor.storage)->second;
    const int64_t number_bytes = DtypeBytes(tensor.dtype);
    TensorEntry entry{.dtype = tensor.dtype, .shape = tensor.shape, .bytes = tensor.numbers * number_bytes};
    // Where there are no numbers, the offset may lead anywhere.
    entry.data = storage.data() + (entry.bytes == 0 ? 0 : tensor.offset * number_bytes);
    if (absl::Status status = file->Add(name, std::move(entry), tensor.strides); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Storages> ZipStorages(const WeightsFile& file, const ZipArchive& archive, const std::string& folder,
                                     const StateDict& state_dict) {
  Storages storages;
  for (const auto& [key, storage] : state_dict.storages) {
    const std::string name = absl::StrCat(folder, "data/", key);
    const auto entry = archive.entries.find(name);
    if (entry == archive.entries.end()) {
      return file.Error(absl::StrCat("zip entry ", Quoted(name), ", a storage, is missing"));
    }
    if (static_cast<uint64_t>(storage.bytes()) != entry->second.size()) {
      return file.Error(absl::StrCat("zip entry ", Quoted(name), " has ", entry->second.size(), " bytes; expected ",
                                     storage.bytes(), " for ", storage.numbers, " numbers of ", storage.type));
    }
    storages.emplace(key, entry->second);
  }
  return storages;
}

// The records beside the pickle. Others (.format_version, .data/serialization_id, ...) change nothing here.
absl::Status CheckRecords(const WeightsFile& file, const ZipArchive& archive, const std::string& folder) {
  const auto find = [&](const char* name) { return archive.entries.find(absl::StrCat(folder, name)); };
  const auto end = archive.entries.end();
  if (find("constants.pkl") != end) {
    return file.Error("is a TorchScript program; expected a state dict, as torch.save(model.state_dict()) writes it");
  }
  if (find("data.pkl") == end) {
    return file.Error(
        absl::StrCat("zip entry ", Quoted(folder + "data.pkl"), " is missing; expected a file of torch.save"));
  }
  const auto version = find("version");
  if (version == end) return file.Error(absl::StrCat("zip entry ", Quoted(folder + "version"), " is missing"));
  const std::string_view text = TextOf(version->second);
  int number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc() || number < kMinZipVersion ||
      number > kMaxZipVersion) {
    return file.Error(absl::StrCat("version is ", Quoted(text), "; expected ", kMinZipVersion, " to ", kMaxZipVersion));
  }
  const auto byteorder = find("byteorder");  // torch before 2.1 did not write it
  if (byteorder != end && TextOf(byteorder->second) != "little") {
    return file.Error(absl::StrCat("byteorder is ", Quoted(TextOf(byteorder->second)), "; expected little"));
  }
  return absl::OkStatus();
}

absl::Status ReadZip(WeightsFile* file) {
  const absl::StatusOr<ZipArchive> archive = ReadZipArchive(file->bytes());
  if (!archive.ok()) return InFile(*file, archive.status());
  // All entries lie in a folder, named as the file once was.
  const std::string folder = archive->first.substr(0, archive->first.find('/') + 1);
  if (absl::Status status = CheckRecords(*file, *archive, folder); !status.ok()) return status;
  size_t pickle_bytes = 0;
  const absl::StatusOr<StateDict> state_dict =
      ReadStateDict(TextOf(archive->entries.find(folder + "data.pkl")->second), &pickle_bytes);
  if (!state_dict.ok()) return InFile(*file, state_dict.status());
  const absl::StatusOr<Storages> storages = ZipStorages(*file, *archive, folder, *state_dict);
  if (!storages.ok()) return storages.status();
  return AddTensors(*state_dict, *storages, file);
}

// One after the other, what a legacy file holds.
class LegacyReader {
 public:
  explicit LegacyReader(WeightsFile* file) : file_(file), text_(TextOf(file->bytes())) {}

  absl::Status Read() {
    if (absl::Status status = ReadHead(); !status.ok()) return status;
    size_t pickle_bytes = 0;
    const absl::StatusOr<StateDict> state_dict = ReadStateDict(text_.substr(at_), &pickle_bytes);
    if (!state_dict.ok()) return AtPickle("the state dict", state_dict.status());
    at_ += pickle_bytes;
    const absl::StatusOr<Storages> storages = ReadStorages(*state_dict);
    if (!storages.ok()) return storages.status();
    return AddTensors(*state_dict, *storages, file_);
  }

 private:
  absl::Status AtPickle(std::string_view what, const absl::Status& status) const {
    return file_->Error(absl::StrCat(std::string(what), ", from byte ", at_, " on: ", std::string(status.message())));
  }

  absl::StatusOr<Pickle> NextPickle(std::string_view what) {
    absl::StatusOr<Pickle> pickle = ReadPickle(text_.substr(at_), {});
    if (!pickle.ok()) return AtPickle(what, pickle.status());
    at_ += pickle->bytes;
    return pickle;
  }

  absl::Status ReadHead() {
    const absl::StatusOr<Pickle> magic = ReadPickle(text_, {});
    if (!magic.ok() || (*magic)[magic->top].kind != PickleKind::kLong || (*magic)[magic->top].text != kLegacyMagic) {
      return file_->Error("begins neither with a zip file's magic bytes nor with those of torch before 1.6");
    }
    at_ = magic->bytes;
    const absl::StatusOr<Pickle> protocol = NextPickle("the protocol");
    if (!protocol.ok()) return protocol.status();
    const PickleValue& number = (*protocol)[protocol->top];
    if (number.kind != PickleKind::kInt || number.number != kLegacyProtocol) {
      return file_->Error(
          absl::StrCat("the protocol is ",
                       number.kind == PickleKind::kInt ? absl::StrCat(number.number) : PickleKindText(number.kind),
                       "; expected ", kLegacyProtocol));
    }
    const absl::StatusOr<Pickle> machine = NextPickle("the system's properties");
    if (!machine.ok()) return machine.status();
    return CheckMachine(*machine);
  }

  // {"protocol_version": 1001, "little_endian": True, "type_sizes": {...}}: the sizes are of types of C that no number
  // is kept in.
  absl::Status CheckMachine(const Pickle& machine) const {
    const PickleValue& properties = machine[machine.top];
    for (size_t i = 0; properties.kind == PickleKind::kDict && i + 1 < properties.items.size(); i += 2) {
      const PickleValue& value = machine[properties.items[i + 1]];
      if (machine[properties.items[i]].text != "little_endian") continue;
      if (value.kind == PickleKind::kBool && value.number == 1) return absl::OkStatus();
      return file_->Error("little_endian is not True; expected a file of a little-endian machine");
    }
    return file_->Error("the system's properties have no little_endian; expected it to be True");
  }

  absl::StatusOr<Storages> ReadStorages(const StateDict& state_dict) {
    const absl::StatusOr<Pickle> keys = NextPickle("the list of storages");
    if (!keys.ok()) return keys.status();
    const PickleValue& list = (*keys)[keys->top];
    if (list.kind != PickleKind::kList) {
      return file_->Error(absl::StrCat("the list of storages is ", PickleKindText(list.kind), "; expected a list"));
    }
    Storages storages;
    for (const PickleId id : list.items) {
      const PickleValue& key = (*keys)[id];
      const auto known = key.kind == PickleKind::kText ? state_dict.storages.find(key.text) : state_dict.storages.end();
      if (known == state_dict.storages.end()) {
        return file_->Error(absl::StrCat("the list of storages has ",
                                         key.kind == PickleKind::kText ? Quoted(key.text) : PickleKindText(key.kind),
                                         ", which no tensor of the state dict is in"));
      }
      const absl::StatusOr<std::span<const std::byte>> storage = NextStorage(known->first, known->second);
      if (!storage.ok()) return storage.status();
      if (!storages.emplace(known->first, *storage).second) {
        return file_->Error(absl::StrCat("the list of storages has ", Quoted(key.text), " twice; expected once"));
      }
    }
    for (const auto& [key, storage] : state_dict.storages) {
      if (!storages.contains(key)) {
        return file_->Error(absl::StrCat("storage ", Quoted(key), " is not in the list of storages"));
      }
    }
    return storages;
  }

  absl::StatusOr<std::span<const std::byte>> NextStorage(const std::string& key, const PickledStorage& storage) {
    constexpr size_t kCountBytes = 8;
    const std::string what = absl::StrCat("storage ", Quoted(key), ", from byte ", at_, " on, ");
    const std::span<const std::byte> rest = file_->bytes().subspan(at_);
    if (rest.size() < kCountBytes) return file_->Error(absl::StrCat(what, "is missing; the file is truncated"));
    uint64_t numbers = 0;
    for (size_t i = 0; i < kCountBytes; ++i) numbers |= std::to_integer<uint64_t>(rest[i]) << (8 * i);
    if (numbers != static_cast<uint64_t>(storage.numbers)) {
      return file_->Error(
          absl::StrCat(what, "has ", numbers, " numbers; expected ", storage.numbers, ", as the state dict says"));
    }
    const auto bytes = static_cast<uint64_t>(storage.bytes());
    if (bytes > rest.size() - kCountBytes) {
      return file_->Error(absl::StrCat(what, "has ", bytes, " bytes, but ", rest.size() - kCountBytes,
                                       " are left; the file is truncated"));
    }
    at_ += kCountBytes + bytes;
    return rest.subspan(kCountBytes, bytes);
  }

  WeightsFile* const file_;
  const std::string_view text_;
  size_t at_ = 0;  // what was read ends here
};

}  // namespace

absl::Status ReadPytorchBin(WeightsFile* file) {
  return TextOf(file->bytes()).starts_with(kZipMagic) ? ReadZip(file) : LegacyReader(file).Read();
}

}  // namespace elserve
