// Files of weights with something in them broken at random: opening one and reading its tensors ends with an error or
// with tensors, never with a crash, and takes no memory that the file's size does not account for. The sanitizers run
// it too.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/checkpoint/safetensors.h"
#include "tests/engine/model/checkpoint/written_checkpoint.h"

// Bytes that were asked for by `new`, all together.
static std::atomic<size_t> asked_bytes = 0;
// Not inlined, so that no compiler takes them for a pair that does not fit.
[[gnu::noinline]] void* operator new(size_t size) {
  asked_bytes += size;
  if (void* const block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, size_t) noexcept { std::free(block); }

namespace elserve {
namespace {

namespace fs = std::filesystem;

constexpr int kMutationsOfAFile = 600;
constexpr size_t kMostAskedBytes = 16 << 20;  // a whole file of 25 KB asks for about 0.2 MB

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : rng_(seed) {}

  // `bytes` with one to four changes. `other`: where parts of other files come from.
  std::string Mutate(std::string bytes, const std::string& other) {
    const size_t changes = 1 + Below(2) * Below(4);
    for (size_t i = 0; i < changes && !bytes.empty(); ++i) Change(other, &bytes);
    return bytes;
  }

 private:
  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng_); }
  // What gives a file its structure stands at its two ends; most of the rest are numbers of tensors.
  size_t Place(size_t size) {
    const size_t kind = Below(4);
    const size_t end = std::min<size_t>(size, 6000);
    return kind == 0 ? Below(size) : kind == 1 ? size - 1 - Below(end) : Below(end);
  }

  void Change(const std::string& other, std::string* bytes) {
    constexpr unsigned char kTelling[] = {0, 1, 0x7f, 0x80, 0xff, '.', '(', 't', 'R', 'h', 'q', '"', '9', '-'};
    const size_t at = Place(bytes->size());
    const size_t length = 1 + Below(std::min<size_t>(64, bytes->size() - at));
    switch (Below(8)) {
      case 0:
        (*bytes)[at] = static_cast<char>((*bytes)[at] ^ (1 << Below(8)));
        break;
      case 1:
        (*bytes)[at] = static_cast<char>(Below(256));
        break;
      case 2:
        (*bytes)[at] = static_cast<char>(kTelling[Below(std::size(kTelling))]);
        break;
      case 3:  // numbers of 4 and 8 bytes become large
        for (size_t i = at; i < std::min(at + 4 + 4 * Below(2), bytes->size()); ++i) (*bytes)[i] = '\xff';
        break;
      case 4:
        bytes->resize(at);
        break;
      case 5:
        bytes->erase(at, length);
        break;
      case 6:
        bytes->insert(at, bytes->substr(Place(bytes->size()), length));
        break;
      default:
        bytes->replace(at, length, other.substr(Place(other.size()), 1 + Below(64)));
    }
  }

  std::mt19937 rng_;
};

class MutatedWeightsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto mapped = MappedFile::Open(kFolder + "/safetensors/model.safetensors");
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    WeightsFile whole(*std::move(mapped));
    ASSERT_TRUE(ReadSafetensors(&whole).ok());
    for (const auto& [name, entry] : whole.tensors()) shapes_[name] = entry.shape;
  }

  // Whether the directory opens; reads every number of its tensors then.
  bool Opens(const std::string& directory) {
    asked_bytes = 0;
    const auto checkpoint = Checkpoint::Open(directory);
    EXPECT_LT(asked_bytes, kMostAskedBytes);
    if (!checkpoint.ok()) {
      EXPECT_NE(checkpoint.status().message(), "");
      EXPECT_LT(checkpoint.status().message().size(), 1500u);
      return false;
    }
    for (const auto& [name, shape] : shapes_) {
      const auto tensor = (*checkpoint)->Tensor(name, shape);
      if (!tensor.ok()) continue;
      for (int64_t i = 0; i < tensor->size() * SizeOf(tensor->type); ++i)
        sum_ += std::to_integer<unsigned>(tensor->data[i]);
    }
    return true;
  }

  static inline const std::string kFolder = ELSERVE_SOURCE_DIR "/tests/golden/weight_files";
  std::map<std::string, std::vector<int64_t>> shapes_;
  unsigned sum_ = 0;
};

TEST_F(MutatedWeightsTest, EndInAnErrorOrInTensors) {
  const std::string other = ReadFile(kFolder + "/zip/pytorch_model.bin") +
                            ReadFile(kFolder + "/safetensors/model.safetensors") +
                            ReadFile(kFolder + "/legacy/pytorch_model.bin");
  Mutator mutator(/*seed=*/7);
  int opened = 0, refused = 0;
  for (const char* format : {"safetensors", "zip", "legacy", "shards", "views"}) {
    TestDirectory directory;
    for (const auto& file : fs::directory_iterator(kFolder + "/" + format)) {
      fs::copy(file.path(), directory.path() + "/" + file.path().filename().string());
    }
    EXPECT_TRUE(Opens(directory.path())) << format;
    std::vector<fs::path> files;
    for (const auto& file : fs::directory_iterator(directory.path())) files.push_back(file.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      const std::string good = ReadFile(file);
      const int mutations = file.filename() == "config.json" ? kMutationsOfAFile / 10 : kMutationsOfAFile;
      for (int i = 0; i < mutations; ++i) {
        SCOPED_TRACE(testing::Message() << file << " mutation " << i);
        directory.Write(file.filename().string(), mutator.Mutate(good, other));
        ++(Opens(directory.path()) ? opened : refused);
        if (HasFailure()) return;
      }
      directory.Write(file.filename().string(), good);
    }
  }
  // Changed numbers of tensors are no error; broken structure is one.
  EXPECT_GT(opened, 200);
  EXPECT_GT(refused, 2000);
  RecordProperty("opened", opened);
  RecordProperty("refused", refused);
}

}  // namespace
}  // namespace elserve
