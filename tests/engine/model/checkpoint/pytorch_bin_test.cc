// pytorch_model.bin, written byte by byte: what is read, and what is refused. What torch itself writes is in
// tests/golden/torch_files/ (torch_files_test).
#include "engine/model/checkpoint/pytorch_bin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/checkpoint/checkpoint.h"
#include "tests/engine/model/checkpoint/written_checkpoint.h"
#include "tests/engine/model/checkpoint/written_torch_file.h"

namespace elserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kFile[] = "pytorch_model.bin";

// 0, 1, 2, ... as float32.
std::string Floats(int n, float first = 0) {
  std::string bytes(4 * n, '\0');
  for (int i = 0; i < n; ++i) {
    const float value = first + static_cast<float>(i);
    std::memcpy(bytes.data() + 4 * i, &value, 4);
  }
  return bytes;
}

class PytorchBinTest : public testing::Test {
 protected:
  PytorchBinTest() { directory_.Write("config.json", R"({"model_type": "bart"})"); }

  std::string OpenError(std::string_view bytes) const {
    directory_.Write(kFile, bytes);
    const auto checkpoint = Checkpoint::Open(directory_.path());
    return checkpoint.ok() ? "no error" : std::string(checkpoint.status().message());
  }
  // Of a state dict with one item "t" and storage "0" of four numbers, in both formats.
  void ExpectError(const std::string& value, const std::string& part) const { ExpectPickleError({{"t", value}}, part); }
  void ExpectPickleError(const PickledItems& items, const std::string& part) const {
    const std::string pickle = PickledStateDict(items);
    const std::string file = directory_.path() + "/" + kFile + ": ";
    for (const std::string& bytes :
         {TorchZip(pickle, {{"0", Floats(4)}}), LegacyTorchFile(pickle, {{"0", Floats(4)}})}) {
      EXPECT_THAT(OpenError(bytes), testing::AllOf(testing::StartsWith(file), HasSubstr(part)));
    }
  }
  // The numbers of a float32 tensor of the file that was written last.
  std::vector<float> Read(std::string_view name, const std::vector<int64_t>& shape) {
    auto checkpoint = Checkpoint::Open(directory_.path());
    if (!checkpoint.ok()) {
      ADD_FAILURE() << checkpoint.status();
      return {};
    }
    const auto tensor = (*checkpoint)->Tensor(name, shape);
    if (!tensor.ok()) {
      ADD_FAILURE() << tensor.status();
      return {};
    }
    EXPECT_TRUE(tensor->size() == 0 || reinterpret_cast<uintptr_t>(tensor->data) % 4 == 0);
    const auto* numbers = reinterpret_cast<const float*>(tensor->data);
    return {numbers, numbers + tensor->size()};
  }

  TestDirectory directory_;
};

TEST_F(PytorchBinTest, ReadsViewsOfSharedStorages) {
  const std::string storage = PickledStorage("7", 12);
  const std::string pickle = PickledStateDict({{"whole", PickledTensorOf(storage, {0, {3, 4}, {4, 1}})},
                                               {"tied", PickledTensorOf(storage, {0, {3, 4}, {4, 1}})},
                                               {"transposed", PickledTensorOf(storage, {0, {4, 3}, {1, 4}})},
                                               {"part", PickledTensorOf(storage, {5, {2, 3}, {4, 1}})},
                                               {"windows", PickledTensorOf(storage, {1, {3, 2}, {1, 1}})},
                                               {"spread", PickledTensorOf(storage, {2, {2, 2}, {0, 3}})},
                                               {"row", PickledTensorOf(storage, {4, {1, 4}, {99, 1}})},
                                               {"scalar", PickledTensorOf(storage, {11, {}, {}})},
                                               {"none", PickledTensorOf(storage, {100, {0, 3}, {3, 1}})}});
  // With nothing, one, two and three bytes before its legacy form.
  std::vector<std::string> files = {TorchZip(pickle, {{"7", Floats(12)}})};
  for (int padding = 0; padding < 4; ++padding) {
    LegacyParts parts;
    parts.machine = std::string("\x80\x02}(") + PickledText("little_endian") + "\x88" + "U" + LittleEndian(padding, 1) +
                    std::string(padding, 'x') + "Nu.";
    files.push_back(LegacyTorchFile(pickle, {{"7", Floats(12)}}, 4, parts));
  }
  for (const std::string& file : files) {
    directory_.Write(kFile, file);
    EXPECT_THAT(Read("whole", {3, 4}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
    EXPECT_THAT(Read("tied", {3, 4}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
    EXPECT_THAT(Read("transposed", {4, 3}), ElementsAre(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    EXPECT_THAT(Read("part", {2, 3}), ElementsAre(5, 6, 7, 9, 10, 11));
    EXPECT_THAT(Read("windows", {3, 2}), ElementsAre(1, 2, 2, 3, 3, 4));
    EXPECT_THAT(Read("spread", {2, 2}), ElementsAre(2, 5, 2, 5));
    EXPECT_THAT(Read("row", {1, 4}), ElementsAre(4, 5, 6, 7));
    EXPECT_THAT(Read("scalar", {}), ElementsAre(11));
    EXPECT_THAT(Read("none", {0, 3}), ElementsAre());
  }
}

// Names that are one view share what had to be copied.
TEST_F(PytorchBinTest, TiedTensorsShareTheirCopy) {
  const std::string storage = PickledStorage("0", 4);
  const std::string transposed = PickledTensorOf(storage, {0, {2, 2}, {1, 2}});
  directory_.Write(kFile, TorchZip(PickledStateDict({{"a", transposed}, {"b", transposed}}), {{"0", Floats(4)}}));
  const auto checkpoint = Checkpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::vector<int64_t> shape = {2, 2};
  EXPECT_EQ((*checkpoint)->Tensor("a", shape)->data, (*checkpoint)->Tensor("b", shape)->data);
}

TEST_F(PytorchBinTest, ReadsTypesParametersAndOlderCalls) {
  const std::string half = PickledStorage("h", 2, "HalfStorage"), brain = PickledStorage("b", 2, "BFloat16Storage");
  const std::string tensor = PickledSmallTensor();
  const std::string old = PickledCall("torch._utils", "_rebuild_tensor",
                                      {PickledStorage("0", 4), PickledInt(1), PickledInts({2}), PickledInts({2})});
  const std::string with_metadata = PickledCall("torch._utils", "_rebuild_tensor_v2",
                                                {PickledStorage("0", 4), PickledInt(0), PickledInts({4}),
                                                 PickledInts({1}), kPickledFalse, kPickledOrderedDict, "}"});
  const std::string untyped = PickledTuple({PickledText("storage"), PickledGlobal("torch.storage", "UntypedStorage"),
                                            PickledText("u"), PickledText("cpu"), PickledInt(6)}) +
                              "Q";
  const std::string third = PickledCall("torch._utils", "_rebuild_tensor_v3",
                                        {untyped, PickledInt(1), PickledInts({2}), PickledInts({1}), kPickledFalse,
                                         kPickledOrderedDict, PickledGlobal("torch", "uint16")});
  const std::string parameter =
      PickledCall("torch._utils", "_rebuild_parameter", {tensor, "\x88", kPickledOrderedDict});
  const std::string with_state =
      PickledCall("torch._utils", "_rebuild_parameter_with_state", {tensor, "\x88", kPickledOrderedDict, "}"});
  const std::string pickle =
      PickledStateDict({{"h", PickledTensorOf(half, {0, {2}, {1}})},
                        {"b", PickledTensorOf(brain, {0, {2}, {1}})},
                        {"old", old},
                        {"metadata", with_metadata},
                        {"u16", third},
                        {"parameter", parameter},
                        {"with_state", with_state},
                        // No tensors: nobody asks for them.
                        {"step", PickledInt(3)},
                        {"name", PickledText("x")},
                        {"more", "}" + PickledText("t") + tensor + "s"},
                        // A type that nobody reads, in a strange order.
                        {"ids", PickledTensorOf(PickledStorage("i", 4, "LongStorage"), {0, {2, 4}, {0, 1}})}});
  directory_.Write(kFile, TorchZip(pickle, {{"0", Floats(4)},
                                            {"h", std::string("\0\x3c\0\x40", 4)},
                                            {"b", std::string("\x80\x3f\0\x40", 4)},
                                            {"u", "abcdef"},
                                            {"i", std::string(32, '\1')}}));
  EXPECT_THAT(Read("old", {2}), ElementsAre(1, 3));
  EXPECT_THAT(Read("metadata", {4}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Read("parameter", {2, 2}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Read("with_state", {2, 2}), ElementsAre(0, 1, 2, 3));
  const auto checkpoint = Checkpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::vector<int64_t> two = {2};
  EXPECT_EQ((*checkpoint)->Tensor("h", two)->type, DataType::kFloat16);
  EXPECT_EQ((*checkpoint)->Tensor("b", two)->type, DataType::kBFloat16);
  EXPECT_EQ(std::memcmp((*checkpoint)->Tensor("b", two)->data, "\x80\x3f\0\x40", 4), 0);
  EXPECT_THAT(std::string((*checkpoint)->Tensor("ids", std::vector<int64_t>{2, 4}).status().message()),
              HasSubstr("has dtype \"I64\"; expected F32, F16 or BF16"));
  EXPECT_THAT(std::string((*checkpoint)->Tensor("u16", two).status().message()), HasSubstr("has dtype \"U16\""));
  for (const char* name : {"step", "name", "more"}) EXPECT_FALSE((*checkpoint)->Has(name)) << name;
}

TEST_F(PytorchBinTest, ReadsPlainDictsAndEntriesWithoutAFolder) {
  const std::string pickle = "\x80\x02}" + PickledText("t") + PickledSmallTensor() + "s.";
  directory_.Write(kFile, ZipBytes({{"data.pkl", pickle}, {"data/0", Floats(4)}, {"version", "3"}, {".data/x", "1"}}));
  EXPECT_THAT(Read("t", {2, 2}), ElementsAre(0, 1, 2, 3));
}

TEST_F(PytorchBinTest, HostilePicklesAreErrors) {
  const std::string storage = PickledStorage("0", 4);
  const auto view = [&](int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> strides) {
    return PickledTensorOf(storage, {offset, std::move(shape), std::move(strides)});
  };
  const auto rebuild = [&](const std::vector<std::string>& arguments, const char* name = "_rebuild_tensor_v2") {
    return PickledCall("torch._utils", name, arguments);
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  struct Case {
    std::string value;
    std::string error;
  };
  const Case cases[] = {
      // Calls of what is no tensor.
      {PickledCall("os", "system", {PickledText("touch /tmp/owned")}), "names \"os.system\""},
      {PickledCall("posix", "system", {PickledText("id")}), "names \"posix.system\""},
      {PickledCall("builtins", "eval", {PickledText("1")}), "names \"builtins.eval\""},
      {PickledCall("torch.hub", "load", {PickledText("x")}), "names \"torch.hub.load\""},
      {PickledCall("torch._utils", "_rebuild_wrapper_subclass", {}),
       "names \"torch._utils._rebuild_wrapper_subclass\""},
      {PickledGlobal("torch.nn", "Module") + ")\x81", "names \"torch.nn.Module\""},
      {"(ios\nsystem\n", "opcode 0x69 is not one"},
      // Tensors of other kinds.
      {rebuild({"N", "N"}, "_rebuild_sparse_tensor"), "tensor \"t\" is sparse (torch._utils._rebuild_sparse_tensor)"},
      {rebuild({"N"}, "_rebuild_qtensor"), "tensor \"t\" is quantized"},
      {PickledTensorOf(PickledStorage("0", 4, "QInt8Storage"), {0, {4}, {1}}), "is quantized (torch.QInt8Storage)"},
      {rebuild({"N"}, "_rebuild_meta_tensor_no_storage"), "tensor \"t\" is meta"},
      // Views that leave their storage.
      {view(0, {2, 3}, {3, 1}), "shape [2, 3] and strides [3, 1] reach beyond storage \"0\" of 4 numbers"},
      {view(1, {4}, {1}), "reach beyond"},
      {view(4, {1}, {1}), "reach beyond"},
      {view(4, {}, {}), "reach beyond"},
      {view(-1, {4}, {1}), "offset is -1; expected a number of at least 0"},
      {view(INT64_MAX, {1}, {1}), "reach beyond"},
      {view(3, {2}, {-1}), "a number of its strides is -1; expected at most 8 whole numbers of at least 0"},
      {view(0, {-4}, {1}), "a number of its shape is -4"},
      {view(0, {2}, {INT64_MAX}), "reach beyond"},
      {view(0, {kHuge, 8}, {0, 0}), "reach beyond"},
      {view(0, {kHuge}, {0}), "reach beyond"},
      {view(0, {kHuge, kHuge, 0}, {kHuge, kHuge, kHuge}), "no error"},
      {view(0, {int64_t{1} << 32, int64_t{1} << 32}, {int64_t{1} << 32, 1}), "reach beyond"},
      {view(0, {1 << 30}, {0}), "has to be copied to 4294967296 bytes, after 0 of other tensors; expected at most"},
      {view(0, {2, 2}, {1}), "strides are [1]; expected as many as in its shape [2, 2]"},
      {view(0, std::vector<int64_t>(9, 1), std::vector<int64_t>(9, 1)),
       "shape of 9 numbers is a tuple; expected at most 8"},
      // Arguments of the wrong kind.
      {rebuild({}), "the tensor is the result of a call of torch._utils._rebuild_tensor_v2; expected it with 4 to 7"},
      {rebuild({storage, "N", PickledInts({4}), PickledInts({1})}), "offset is None"},
      {rebuild({storage, PickledInt(0), PickledText("4"), PickledInts({1})}), "shape is \"4\""},
      {rebuild({storage, PickledInt(0), PickledTuple({PickledText("4")}), PickledInts({1})}),
       "a number of its shape is \"4\""},
      {rebuild({storage, PickledInt(0), PickledTuple({std::string("\x8a\x09") + std::string(9, '\x7f')}),
                PickledInts({1})}),
       "a number of its shape is a whole number"},
      {rebuild({"N", PickledInt(0), PickledInts({4}), PickledInts({1})}), "storage is None; expected a persistent id"},
      {rebuild({PickledText("0") + "Q", PickledInt(0), PickledInts({4}), PickledInts({1})}), "storage is \"0\""},
      {rebuild({PickledTuple({PickledText("module"), "N", "N", "N", "N"}) + "Q", PickledInt(0), PickledInts({4}),
                PickledInts({1})}),
       "storage is a tuple; expected (\"storage\", type, key, location, numbers)"},
      {rebuild({PickledTuple({PickledText("storage"), PickledGlobal("collections", "OrderedDict"), PickledText("0"),
                              PickledText("cpu"), PickledInt(4)}) +
                    "Q",
                PickledInt(0), PickledInts({4}), PickledInts({1})}),
       "storage type is a global collections.OrderedDict"},
      {rebuild({PickledTuple({PickledText("storage"), PickledGlobal("torch", "FloatStorage"), PickledInt(0),
                              PickledText("cpu"), PickledInt(4)}) +
                    "Q",
                PickledInt(0), PickledInts({4}), PickledInts({1})}),
       "storage key is 0; expected a text"},
      {rebuild({PickledTuple({PickledText("storage"), PickledGlobal("torch", "FloatStorage"), PickledText("0"),
                              PickledText("cpu"), PickledInt(4), PickledTuple({PickledText("0v"), "K\1", "K\2"})}) +
                    "Q",
                PickledInt(0), PickledInts({4}), PickledInts({1})}),
       "storage view is a tuple; expected None"},
      {PickledTensorOf(PickledStorage("0", -1), {0, {0}, {1}}), "storage size is -1"},
      {PickledTensorOf(PickledStorage("0", kHuge), {0, {4}, {1}}), "storage size is 4611686018427387904; expected"},
      {rebuild({storage, PickledInt(0), PickledInts({4}), PickledInts({1}), kPickledFalse, kPickledOrderedDict,
                "}" + PickledText("neg") + "\x88s"}),
       "metadata is a dict; expected none"},
      {rebuild({storage, PickledInt(0), PickledInts({4}), PickledInts({1}), kPickledFalse, kPickledOrderedDict, "N"},
               "_rebuild_tensor_v3"),
       "dtype is None; expected a type of torch"},
      {PickledTensorOf(PickledTuple({PickledText("storage"), PickledGlobal("torch.storage", "UntypedStorage"),
                                     PickledText("0"), PickledText("cpu"), PickledInt(16)}) +
                           "Q",
                       {0, {4}, {1}}),
       "expected one with a type"},
      {rebuild({}, "_rebuild_parameter"), "the parameter is the result of a call of torch._utils._rebuild_parameter"},
      {rebuild({"N"}, "_rebuild_parameter"), "the parameter's tensor is None; expected a tensor"},
      // A parameter that is its own tensor: the tuple of its arguments is filled before it is made, so only through a
      // list.
      {PickledSmallTensor() + PickledText("a") + "N" + "s", "expected it with 4 to 7"},
      {PickledSmallTensor() + "}b", "expected it with 4 to 7"},
  };
  for (const Case& c : cases) {
    if (c.error == "no error") {
      EXPECT_EQ(OpenError(TorchZip(PickledStateDict({{"t", c.value}}), {{"0", Floats(4)}})), "no error");
    } else {
      ExpectError(c.value, c.error);
    }
  }
}

TEST_F(PytorchBinTest, HostileStateDictsAreErrors) {
  ExpectPickleError({{"t", PickledSmallTensor()}, {"t", PickledSmallTensor()}}, "tensor \"t\" stands twice");
  ExpectPickleError({{"t", PickledSmallTensor()}, {"s", PickledTensorOf(PickledStorage("0", 5), {0, {1}, {1}})}},
                    "tensor \"s\": storage \"0\" is 5 numbers of FloatStorage; another tensor says 4 of FloatStorage");
  ExpectPickleError(
      {{"t", PickledSmallTensor()}, {"s", PickledTensorOf(PickledStorage("0", 4, "IntStorage"), {0, {1}, {1}})}},
      "storage \"0\" is 4 numbers of IntStorage; another tensor says 4 of FloatStorage");
  // Many copies of what a small file has once.
  PickledItems many;
  for (int i = 0; i < 1000; ++i) {
    many.emplace_back(std::to_string(i), PickledTensorOf(PickledStorage("0", 4), {0, {10, 1 + i}, {0, 0}}));
  }
  ExpectPickleError(many, "of other tensors; expected at most the");
  struct Case {
    std::string pickle;
    std::string error;
  };
  const std::string key_list = "]" + PickledText("a") + "a";
  for (const Case& c :
       {Case{"\x80\x02N.", "the top of the pickle is None; expected a dict of tensors"},
        Case{"\x80\x02" + PickledSmallTensor() + ".", "the top of the pickle is the result of a call of torch._utils"},
        Case{"\x80\x02]" + PickledSmallTensor() + "a.", "the top of the pickle is a list"},
        Case{"\x80\x02}" + PickledInt(3) + PickledSmallTensor() + "s.", "the state dict has 3 as a key"},
        Case{"\x80\x02}" + key_list + PickledSmallTensor() + "s.", "the state dict has a list as a key"},
        // A dict that is its own key, and one that is its own value: no tensor.
        Case{"\x80\x02}q\1h\1h\1s.", "the state dict has a dict as a key"}}) {
    EXPECT_THAT(OpenError(TorchZip(c.pickle, {{"0", Floats(4)}})), HasSubstr(c.error));
    EXPECT_THAT(OpenError(LegacyTorchFile(c.pickle, {{"0", Floats(4)}})), HasSubstr(c.error));
  }
  EXPECT_THAT(OpenError(TorchZip("", {})), HasSubstr("pickle: byte 0: ends without STOP"));
  EXPECT_EQ(OpenError(TorchZip("\x80\x02}q\1" + PickledText("me") + "h\1s.", {})), "no error");
}

TEST_F(PytorchBinTest, HostileZipsAreErrors) {
  const std::string pickle = PickledStateDict({{"t", PickledSmallTensor()}});
  const std::vector<WrittenZipEntry> good = TorchZipEntries(pickle, {{"0", Floats(4)}});
  ASSERT_EQ(OpenError(ZipBytes(good)), "no error");
  struct Case {
    size_t entry;
    WrittenZipEntry bad;
    std::string error;
  };
  // good[2] is the storage.
  const Case cases[] = {
      {0, {"model/data.pkl", pickle, 8}, "zip entry \"model/data.pkl\" is compressed by method 8; expected it stored"},
      {2, {"model/data/0", Floats(4), 12}, "zip entry \"model/data/0\" is compressed by method 12"},
      {2, {"model/data/0", Floats(4), 0, 1}, "is encrypted"},
      {2,
       {"model/data/0", Floats(3)},
       "zip entry \"model/data/0\" has 12 bytes; expected 16 for 4 numbers of FloatStorage"},
      {2, {"model/data/0", Floats(5)}, "has 20 bytes; expected 16"},
      {2, {"model/data/1", Floats(4)}, "zip entry \"model/data/0\", a storage, is missing"},
      {2, {.name = "model/data/0", .data = Floats(4), .size = 1 << 30}, "bytes from byte"},
      {2, {.name = "model/data/0", .data = Floats(4), .size = 0xfffffffe}, "has 4294967294 bytes from byte"},
      {2, {.name = "model/data/0", .data = Floats(4), .uncompressed = 17}, "has 16 bytes in the file and 17 outside"},
      {2, {.name = "model/data/0", .data = Floats(4), .local_size = 17}, "has another header where it lies"},
      {2, {.name = "model/data/0", .data = Floats(4), .offset = 5}, "has another header where it lies"},
      {2, {.name = "model/data/0", .data = Floats(4), .offset = 0x7fffffff}, "has another header where it lies"},
      {2, {.name = "model/data/0", .data = Floats(40), .size = 257}, "overlaps entry"},
      {1, {"model/data.pkl", pickle}, "zip entry \"model/data.pkl\" stands twice"},
      {1, {"model/byteorder", "big"}, "byteorder is \"big\"; expected little"},
      {1, {"model/constants.pkl", ""}, "is a TorchScript program"},
      {1, {std::string(513, 'n'), ""}, "has a name of 513 bytes; expected at most 512"},
      {0, {"model/data.pk", pickle}, "zip entry \"model/data.pkl\" is missing"},
      {0, {"other/data.pkl", pickle}, "zip entry \"other/version\" is missing"},
      {3, {"model/version", "11"}, "version is \"11\"; expected 1 to 10"},
      {3, {"model/version", "x"}, "version is \"x\""},
      {3, {"model/version", ""}, "version is \"\""},
      {3, {"model/other", ""}, "zip entry \"model/version\" is missing"},
  };
  for (const Case& c : cases) {
    std::vector<WrittenZipEntry> entries = good;
    entries[c.entry] = c.bad;
    EXPECT_THAT(OpenError(ZipBytes(entries)),
                testing::AllOf(testing::StartsWith(directory_.path() + "/" + kFile + ": "), HasSubstr(c.error)));
  }
  const std::string bytes = ZipBytes(good);
  for (size_t size = 4; size < bytes.size(); ++size) {
    EXPECT_THAT(OpenError(std::string_view(bytes).substr(0, size)), HasSubstr("not a whole zip file")) << size;
  }
}

TEST_F(PytorchBinTest, HostileLegacyFilesAreErrors) {
  const std::string pickle = PickledStateDict({{"t", PickledSmallTensor()}});
  const Storages storages = {{"0", Floats(4)}};
  const std::string good = LegacyTorchFile(pickle, storages);
  ASSERT_EQ(OpenError(good), "no error");
  const auto with = [&](auto change) {
    LegacyParts parts;
    change(parts);
    return LegacyTorchFile(pickle, storages, 4, parts);
  };
  struct Case {
    std::string bytes;
    std::string error;
  };
  const std::string unknown = "begins neither with a zip file's magic bytes nor with those of torch before 1.6";
  const Case cases[] = {
      {"", unknown},
      {"x", unknown},
      {with([](LegacyParts& p) { p.magic[5] ^= 1; }), unknown},
      {with([](LegacyParts& p) { p.magic = "\x80\x02K\1."; }), unknown},
      {with([](LegacyParts& p) { p.protocol = "\x80\x02K\1."; }), "the protocol is 1; expected 1001"},
      {with([](LegacyParts& p) { p.protocol = "\x80\x02N."; }), "the protocol is None; expected 1001"},
      {with([](LegacyParts& p) { p.machine = "\x80\x02}" + PickledText("little_endian") + "\x89s."; }),
       "little_endian is not True"},
      {with([](LegacyParts& p) { p.machine = "\x80\x02}."; }), "have no little_endian"},
      {with([](LegacyParts& p) { p.machine = "\x80\x02N."; }), "have no little_endian"},
      {with([](LegacyParts& p) { p.machine = "\x80\x02" + kPickledOrderedDict + "."; }),
       "the system's properties, from byte 23 on: pickle: byte 2: names \"collections.OrderedDict\""},
      {LegacyTorchFile(pickle, {{"1", Floats(4)}}), "the list of storages has \"1\", which no tensor"},
      {LegacyTorchFile(pickle, {}), "storage \"0\" is not in the list of storages"},
      {LegacyTorchFile(pickle, {{"0", Floats(4)}, {"0", Floats(4)}}), "the list of storages has \"0\" twice"},
      {LegacyTorchFile(pickle, {{"0", Floats(3)}}), "has 3 numbers; expected 4, as the state dict says"},
      {LegacyTorchFile(pickle + "N.", {}), "the list of storages is None; expected a list"},
      {LegacyTorchFile(pickle + "]Na.", {}), "the list of storages has None, which no tensor"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "is a pointer of Git LFS"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(OpenError(c.bytes),
                testing::AllOf(testing::StartsWith(directory_.path() + "/" + kFile + ": "), HasSubstr(c.error)));
  }
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(OpenError(std::string_view(good).substr(0, size)), "no error") << size;
  }
  EXPECT_THAT(OpenError(std::string_view(good).substr(0, good.size() - 1)), HasSubstr("has 16 bytes, but 15 are left"));
  EXPECT_THAT(OpenError(std::string_view(good).substr(0, good.size() - 17)),
              HasSubstr("is missing; the file is truncated"));
}

TEST_F(PytorchBinTest, ReadsShardsAndPrefersSafetensors) {
  const auto tensor = [](const char* name, float first) {
    return TorchZip(PickledStateDict({{name, PickledSmallTensor()}}), {{"0", Floats(4, first)}});
  };
  directory_.Write("one.bin", tensor("a", 1));
  directory_.Write("two.bin", LegacyTorchFile(PickledStateDict({{"b", PickledSmallTensor()}}), {{"0", Floats(4, 2)}}));
  directory_.Write("pytorch_model.bin.index.json", R"({"weight_map": {"a": "one.bin", "b": "two.bin"}})");
  EXPECT_THAT(Read("a", {2, 2}), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Read("b", {2, 2}), ElementsAre(2, 3, 4, 5));
  directory_.Write(kFile, tensor("a", 3));
  EXPECT_THAT(Read("a", {2, 2}), ElementsAre(3, 4, 5, 6));
  directory_.Write("one.safetensors", SafetensorsFileBytes({{"z", {1}}, {"a", {2, 2}}}));
  directory_.Write("model.safetensors.index.json",
                   R"({"weight_map": {"a": "one.safetensors", "z": "one.safetensors"}})");
  EXPECT_THAT(Read("a", {2, 2}), ElementsAre(1, 1.125, 1.25, 1.375));
  directory_.Write("model.safetensors", SafetensorsFileBytes({{"a", {2, 2}}}));
  EXPECT_THAT(Read("a", {2, 2}), ElementsAre(0, 0.125, 0.25, 0.375));
}

}  // namespace
}  // namespace elserve
