#include "engine/model/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "tests/engine/model/checkpoint/written_checkpoint.h"

namespace elserve {
namespace {

using testing::HasSubstr;

constexpr char kFile[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { directory_.Write("config.json", R"({"model_type": "bart"})"); }

  // The message of the error that opening gives.
  std::string OpenError() const {
    const auto checkpoint = Checkpoint::Open(directory_.path());
    if (checkpoint.ok()) return "no error";
    return std::string(checkpoint.status().message());
  }
  void ExpectOpenError(const std::vector<std::string>& parts) const {
    const std::string message = OpenError();
    for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
  }
  // A file with this header and `data_bytes` zeros.
  void WriteWeights(std::string_view header, size_t data_bytes) const {
    directory_.Write(kFile, SafetensorsBytes(header, std::string(data_bytes, '\0')));
  }

  TestDirectory directory_;
};

std::string TensorError(const Checkpoint& checkpoint, std::string_view name, const std::vector<int64_t>& shape) {
  const auto tensor = checkpoint.Tensor(name, shape);
  return tensor.ok() ? "no error" : std::string(tensor.status().message());
}

TEST_F(CheckpointTest, GivesTensorsOfTheThreeTypes) {
  directory_.Write(kFile,
                   SafetensorsFileBytes({{"a", {2, 3}}, {"b", {4}, "BF16"}, {"c", {}, "F16"}, {"i", {1}, "I64"}}));
  const auto checkpoint = Checkpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto a = (*checkpoint)->Tensor("a", std::array<int64_t, 2>{2, 3});
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->type, DataType::kFloat32);
  EXPECT_EQ(a->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(reinterpret_cast<const float*>(a->data)[5], 0.625f);
  const auto b = (*checkpoint)->Tensor("b", std::array<int64_t, 1>{4});
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(b->type, DataType::kBFloat16);
  const auto c = (*checkpoint)->Tensor("c", std::vector<int64_t>{});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->type, DataType::kFloat16);
  EXPECT_EQ(c->size(), 1);
  EXPECT_TRUE((*checkpoint)->Has("i"));
  EXPECT_FALSE((*checkpoint)->Has("d"));
}

TEST_F(CheckpointTest, TensorErrorsNameFileTensorAndExpectation) {
  directory_.Write(kFile, SafetensorsFileBytes({{"a", {2, 3}}, {"i", {1}, "I64"}}));
  const auto checkpoint = Checkpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string file = directory_.path() + "/model.safetensors: tensor ";
  EXPECT_EQ(TensorError(**checkpoint, "a", {3, 2}), file + "\"a\" has shape [2, 3]; expected [3, 2]");
  EXPECT_EQ(TensorError(**checkpoint, "a", {2}), file + "\"a\" has shape [2, 3]; expected [2]");
  EXPECT_EQ(TensorError(**checkpoint, "z", {2}), file + "\"z\" is missing; expected shape [2]");
  EXPECT_EQ(TensorError(**checkpoint, "i", {1}), file + "\"i\" has dtype \"I64\"; expected F32, F16 or BF16");
}

// Old writers did not pad the header: every distance from the alignment must read the same.
TEST_F(CheckpointTest, ReadsTensorsAtOddAddresses) {
  const std::vector<WrittenTensor> tensors = {{"a", {3}}, {"b", {2}, "BF16"}, {"c", {2}, "F16"}};
  const std::string header = HeaderOf(tensors).dump();
  for (int spaces = 0; spaces < 8; ++spaces) {
    directory_.Write(kFile, SafetensorsBytes(header + std::string(spaces, ' '), DataOf(tensors)));
    const auto checkpoint = Checkpoint::Open(directory_.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto a = (*checkpoint)->Tensor("a", std::array<int64_t, 1>{3});
    const auto b = (*checkpoint)->Tensor("b", std::array<int64_t, 1>{2});
    const auto c = (*checkpoint)->Tensor("c", std::array<int64_t, 1>{2});
    ASSERT_TRUE(a.ok() && b.ok() && c.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a->data) % 4, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b->data) % 2, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(c->data) % 2, 0u);
    EXPECT_EQ(reinterpret_cast<const float*>(a->data)[2], 0.25f);
  }
}

TEST_F(CheckpointTest, ReadsShards) {
  directory_.Write("one.safetensors", SafetensorsFileBytes({{"a", {2}}}));
  directory_.Write("two.safetensors", SafetensorsFileBytes({{"b", {3}}, {"c", {1}}}));
  directory_.Write(kIndex, R"({"metadata": {}, "weight_map":
      {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto c = (*checkpoint)->Tensor("c", std::array<int64_t, 1>{1});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(*reinterpret_cast<const float*>(c->data), 1.0f);
  EXPECT_EQ(TensorError(**checkpoint, "z", {2}),
            directory_.path() + "/" + kIndex + ": tensor \"z\" is missing; expected shape [2]");
  EXPECT_THAT(TensorError(**checkpoint, "b", {2}), HasSubstr("/two.safetensors: tensor \"b\" has shape [3]"));
}

TEST_F(CheckpointTest, ShardErrors) {
  directory_.Write("one.safetensors", SafetensorsFileBytes({{"a", {2}}}));
  directory_.Write("two.safetensors", SafetensorsFileBytes({{"a", {2}}}));
  struct Case {
    std::string index;
    std::vector<std::string> parts;
  };
  const Case cases[] = {
      {"{", {"index.json: not valid JSON"}},
      {"[]", {"the top is []", "expected a JSON object"}},
      {"{}", {"weight_map is missing"}},
      {R"({"weight_map": {}})", {"weight_map is {}", "expected an object"}},
      {R"({"weight_map": 3})", {"weight_map is 3", "expected an object"}},
      {R"({"weight_map": {"a": 3}})", {"names 3 for tensor \"a\"", "expected a file name"}},
      {R"({"weight_map": {"a": "../one.safetensors"}})", {"../one.safetensors", "without a directory"}},
      {R"({"weight_map": {"a": "/etc/passwd"}})", {"/etc/passwd", "without a directory"}},
      {R"({"weight_map": {"a": ".."}})", {"without a directory"}},
      {R"({"weight_map": {"a": ""}})", {"without a directory"}},
      {R"({"weight_map": {"a": "one.safetensors\u0000x"}})", {"without a directory"}},
      {R"({"weight_map": {"a": "three.safetensors"}})", {kIndex, "\"three.safetensors\", which is missing"}},
      {R"({"weight_map": {"b": "one.safetensors"}})", {"tensor \"b\" is in \"one.safetensors\"", "but it is not"}},
      {R"({"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}})", {"key \"a\" stands twice"}},
      {R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})",
       {"/two.safetensors: tensor \"a\" is in ", "/one.safetensors as well"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.index);
    directory_.Write(kIndex, c.index);
    ExpectOpenError(c.parts);
  }
  const auto index_of = [](int files) {
    std::string index = R"({"weight_map": {)";
    for (int i = 0; i < files; ++i)
      index += (i ? ", " : "") + ("\"t" + std::to_string(i) + "\": \"f" + std::to_string(i) + "\"");
    return index + "}}";
  };
  directory_.Write(kIndex, index_of(1025));
  ExpectOpenError({"names 1025 files; expected at most 1024"});
  directory_.Write(kIndex, index_of(1024));
  ExpectOpenError({"\"f0\", which is missing"});
}

// Both files are there and whole, but the index has their tensors the other way round.
TEST_F(CheckpointTest, AnIndexThatNamesTheWrongShardIsAnError) {
  directory_.Write("one.safetensors", SafetensorsFileBytes({{"a", {2}}}));
  directory_.Write("two.safetensors", SafetensorsFileBytes({{"b", {2}}}));
  directory_.Write(kIndex, R"({"weight_map": {"a": "two.safetensors", "b": "one.safetensors"}})");
  ExpectOpenError({kIndex, "tensor \"a\" is in \"two.safetensors\"", "but it is not"});
}

TEST_F(CheckpointTest, MissingFiles) {
  ExpectOpenError({directory_.path(),
                   ": has no weights; expected one of model.safetensors, model.safetensors.index.json, "
                   "pytorch_model.bin, pytorch_model.bin.index.json"});
  const auto missing = Checkpoint::Open(directory_.path() + "/nowhere");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nowhere/config.json"));
  std::filesystem::create_directory(directory_.path() + "/" + kFile);
  ExpectOpenError({kFile, "expected a regular file"});
}

// As PEFT writes it: no config.json, and the model's name alone.
TEST_F(CheckpointTest, AnAdapterWithoutItsModelIsRefused) {
  TestDirectory adapter;
  adapter.Write("adapter_config.json", R"({"base_model_name_or_path": "t5-small"})");
  adapter.Write("adapter_model.safetensors", SafetensorsFileBytes({{"a", {1}}}));
  for (const char* config : {"", R"({"model_type": "bart"})"}) {
    if (*config != '\0') adapter.Write("config.json", config);
    const auto checkpoint = Checkpoint::Open(adapter.path());
    EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(checkpoint.status().message()),
                testing::AllOf(HasSubstr(adapter.path() + ": has adapter_config.json and no weights of a model"),
                               HasSubstr("merge it into its model")));
  }
  adapter.Write(kFile, SafetensorsFileBytes({{"a", {1}}}));
  EXPECT_TRUE(Checkpoint::Open(adapter.path()).ok());
}

TEST_F(CheckpointTest, QuantizedWeightsAreRefused) {
  directory_.Write(kFile, SafetensorsFileBytes({{"a", {1}}}));
  directory_.Write("config.json", R"({"quantization_config": {"load_in_8bit": true, "quant_method": "bitsandbytes"}})");
  ExpectOpenError({"/config.json: quantization_config is {\"load_in_8bit\":true,\"quant_method\":\"bitsandbytes\"}",
                   "expected none: quantized weights are not read; take the model's float32, float16 or bfloat16"});
  directory_.Write("config.json", R"({"quantization_config": null})");
  EXPECT_EQ(OpenError(), "no error");
}

TEST_F(CheckpointTest, APointerOfGitLfsIsNamed) {
  directory_.Write(kFile, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n");
  ExpectOpenError({kFile, "is a pointer of Git LFS, not the weights"});
}

TEST_F(CheckpointTest, EveryTruncationIsAnError) {
  const std::string good = SafetensorsFileBytes({{"a", {2, 3}}, {"b", {4}, "BF16"}});
  for (size_t size = 0; size < good.size(); ++size) {
    directory_.Write(kFile, std::string_view(good).substr(0, size));
    ASSERT_THAT(OpenError(), HasSubstr(directory_.path() + "/" + kFile + ": ")) << size;
  }
  directory_.Write(kFile, good);
  EXPECT_EQ(OpenError(), "no error");
}

// No byte of the header may crash the reader, whatever it becomes.
TEST_F(CheckpointTest, SpoiltHeadersNeverCrash) {
  const std::string good = SafetensorsFileBytes({{"a", {2, 3}}, {"b", {4}, "BF16"}});
  const size_t header_end = good.size() - 32;
  for (size_t at = 0; at < header_end; ++at) {
    for (const char byte : {'\0', '"', '9', '}', '\xff'}) {
      std::string bad = good;
      bad[at] = byte;
      directory_.Write(kFile, bad);
      const auto checkpoint = Checkpoint::Open(directory_.path());
      if (!checkpoint.ok()) continue;
      (void)(*checkpoint)->Tensor("a", std::array<int64_t, 2>{2, 3});
    }
  }
}

TEST_F(CheckpointTest, HeaderLengthErrors) {
  directory_.Write(kFile, "");
  ExpectOpenError({kFile, "has 0 bytes; expected at least 8"});
  directory_.Write(kFile, std::string(8, '\0'));
  ExpectOpenError({kFile, "not valid JSON"});
  directory_.Write(kFile, std::string("\x00\xe1\xf5\x05\0\0\0\0", 8));
  ExpectOpenError({kFile, "header length is 100000000, but only 0 bytes follow"});
  directory_.Write(kFile, std::string("\x01\xe1\xf5\x05\0\0\0\0", 8));
  ExpectOpenError({kFile, "header length is 100000001; expected at most 100000000"});
  directory_.Write(kFile, std::string(8, '\xff'));
  ExpectOpenError({kFile, "header length is 18446744073709551615; expected at most 100000000"});
  directory_.Write(kFile, std::string("\x00\x10\0\0\0\0\0\0{}", 10));
  ExpectOpenError({kFile, "header length is 4096, but only 2 bytes follow"});
}

TEST_F(CheckpointTest, HeaderErrors) {
  const std::string a4 = R"("a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})";
  struct Case {
    std::string header;
    size_t data_bytes;
    std::vector<std::string> parts;
  };
  const Case cases[] = {
      {"", 0, {"not valid JSON"}},
      {"{", 0, {"not valid JSON"}},
      {"[1]", 0, {"the top is [1]", "expected a JSON object"}},
      {"{" + a4 + "} x", 4, {"not valid JSON"}},
      {"{\"\xff\": 1}", 0, {"not valid JSON"}},
      {"{" + a4 + ", " + a4 + "}", 4, {"key \"a\" stands twice"}},
      {R"({"a": 3})", 0, {"tensor \"a\": is 3; expected a JSON object"}},
      {R"({"a": {"shape": [1], "data_offsets": [0, 4]}})", 4, {"tensor \"a\": dtype is null"}},
      {R"({"a": {"dtype": 5, "shape": [1], "data_offsets": [0, 4]}})", 4, {"dtype is 5; expected a string"}},
      {R"({"a": {"dtype": "F32", "data_offsets": [0, 4]}})", 4, {"tensor \"a\": shape is null"}},
      {R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", 4, {"tensor \"a\": shape is [-1]"}},
      {R"({"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}})", 4, {"shape is [1.5]"}},
      {R"({"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}})", 4, {"shape is [\"1\"]"}},
      {R"({"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}})", 4, {"not valid JSON"}},
      {R"({"a": {"dtype": "F32", "shape": [18446744073709551615], "data_offsets": [0, 4]}})", 4, {"shape is"}},
      {R"({"a": {"dtype": "F32", "shape": [9223372036854775807], "data_offsets": [0, 4]}})", 4, {"more than 2^63"}},
      {R"({"a": {"dtype": "F32", "shape": [9223372036854775808], "data_offsets": [0, 4]}})", 4, {"shape is"}},
      {R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}})", 4, {"at most 8"}},
      {R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}})",
       4,
       {"tensor \"a\": has 4 bytes; expected more than 2^63"}},
      {R"({"a": {"dtype": "F32", "shape": [4294967296, 1073741824], "data_offsets": [0, 0]}})", 0, {"more than 2^63"}},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})",
       4,
       {"tensor \"a\": has 4 bytes; expected 8 for F32 of shape [2]"}},
      {R"({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 4]}})", 4, {"expected 2 for BF16 of shape [1]"}},
      {R"({"a": {"dtype": "F32", "shape": [1]}})", 4, {"tensor \"a\": data_offsets is null"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})", 4, {"data_offsets is [4,0]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}})", 4, {"data_offsets is [0]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}})", 4, {"data_offsets is [-4,0]"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})", 4, {"but the file has 4 bytes of data"}},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [9223372036854775804, 9223372036854775807]}})",
       4,
       {"but the file has 4 bytes of data"}},
      {R"({"a": {"dtype": "??", "shape": [1], "data_offsets": [0, 8]}})", 4, {"but the file has 4 bytes of data"}},
      {"{" + a4 + R"(, "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       4,
       {"tensors \"a\" and \"b\" overlap"}},
      {"{" + a4 + R"(, "b": {"dtype": "F16", "shape": [2], "data_offsets": [2, 6]}})",
       6,
       {"tensors \"a\" and \"b\" overlap: the first ends at byte 4", "begins at 2"}},
      {"{" + a4 + R"(, "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}})",
       12,
       {"tensor \"b\" begins at byte 8 of the data; expected 4"}},
      {"{" + a4 + "}", 8, {"has 8 bytes of data; expected 4"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.header);
    WriteWeights(c.header, c.data_bytes);
    std::vector<std::string> parts = c.parts;
    parts.push_back(directory_.path() + "/" + kFile + ": ");
    ExpectOpenError(parts);
  }
}

// What is odd, and right all the same.
TEST_F(CheckpointTest, HeadersThatAreAccepted) {
  struct Case {
    std::string header;
    size_t data_bytes;
  };
  for (const Case& c : {
           Case{"{}", 0},
           Case{R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}})", 4},
           // No numbers, however large the other extents.
           Case{R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296, 0], "data_offsets": [0, 0]}})", 0},
           Case{R"({"a": {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]},
                    "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
                4},
           // A type that nobody reads: its size is not known.
           Case{R"({"a": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [0, 3]}})", 3},
       }) {
    SCOPED_TRACE(c.header);
    WriteWeights(c.header, c.data_bytes);
    EXPECT_EQ(OpenError(), "no error");
  }
  const auto checkpoint = Checkpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_THAT(TensorError(**checkpoint, "a", {3}), HasSubstr("has dtype \"F8_E4M3\"; expected F32"));
}

TEST_F(CheckpointTest, DeepOrLargeJsonIsRefused) {
  const std::string deep(1'000'000, '[');
  WriteWeights("{\"a\": " + deep + "}", 0);
  ExpectOpenError({kFile, "nested deeper than 64 levels"});
  std::string wide = "{\"a\": [0";
  for (int i = 0; i < 1'000'000; ++i) wide += ",0";
  WriteWeights(wide + "]}", 0);
  ExpectOpenError({kFile, "has more than 1000000 JSON values"});
  directory_.Write("config.json", "{\"a\": " + deep);
  ExpectOpenError({"config.json", "nested deeper than 64 levels"});
}

// Names from the file reach logs: they must be short and printable.
TEST_F(CheckpointTest, MessagesStayShortAndPrintable) {
  WriteWeights("{\"" + std::string(100'000, 'x') + "\\n\": 3}", 0);
  EXPECT_LT(OpenError().size(), 600u);
  WriteWeights(R"({"a\nb": 3})", 0);
  ExpectOpenError({"tensor \"a\\x0ab\""});
  WriteWeights("{\"a\": " + std::string(100'000, 'x') + "}", 0);
  EXPECT_LT(OpenError().size(), 600u);
}

TEST_F(CheckpointTest, ConfigErrors) {
  directory_.Write(kFile, SafetensorsFileBytes({{"a", {1}}}));
  struct Case {
    std::string config;
    std::string part;
  };
  for (const Case& c : {Case{"", "not valid JSON"}, Case{"[]", "the top is []"}, Case{"{\"a\": NaN}", "not valid JSON"},
                        Case{"{\"a\": 1e999}", "not valid JSON"}, Case{"{\"a\": 1, \"a\": 2}", "\"a\" stands twice"},
                        Case{"{\"a\": \"\xff\"}", "not valid JSON"}}) {
    SCOPED_TRACE(c.config);
    directory_.Write("config.json", c.config);
    ExpectOpenError({directory_.path() + "/config.json: ", c.part});
  }
  directory_.Write("config.json", std::string((16 << 20) + 1, ' '));
  ExpectOpenError({"config.json: has 16777217 bytes; expected at most 16777216"});
}

}  // namespace
}  // namespace elserve
