// Random changes to tokenizer files, from fixed seeds: each loads or is an error, without a crash, a large allocation
// or a text that cannot be encoded. Built to be run under the sanitizers.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/text/tokenizer.h"

namespace elserve {
namespace {

constexpr int kMutations = 1000;

const std::filesystem::path kGolden = std::filesystem::path(ELSERVE_SOURCE_DIR) / "tests/golden/tokenizer";

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// A few bytes changed, taken out, put in, doubled or cut off.
std::string Mutate(std::string text, std::mt19937& random) {
  const auto below = [&](size_t end) { return end == 0 ? 0 : random() % end; };
  for (size_t changes = 1 + below(3); changes > 0; --changes) {
    const size_t at = below(text.size());
    const size_t length = std::min(1 + below(16), text.size() - at);
    switch (below(6)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), length));
        break;
      case 3:
        text.insert(at, std::to_string(random()));
        break;
      case 4:
        if (!text.empty()) text[at] = static_cast<char>(text[at] ^ 1 << below(8));
        break;
      default:
        if (below(8) == 0) text.resize(at);
    }
  }
  return text;
}

TEST(TokenizerMutationTest, ChangedFilesLoadOrAreErrors) {
  const std::vector<const char*> folders = {"odd-json",     "odd-vocab", "t5-json",    "pegasus",
                                            "pegasus-json", "mbart",     "mbart-json", "marian",
                                            "marian-bpe",   "bpe-json",  "gpt2",       "gpt2-json"};
  const std::filesystem::path directory = std::filesystem::path(testing::TempDir()) / "elserve_tokenizer_mutations";
  std::mt19937 random(20240131);
  int loaded = 0;
  for (int i = 0; i < kMutations; ++i) {
    const std::filesystem::path source = kGolden / folders[static_cast<size_t>(i) % folders.size()];
    std::filesystem::remove_all(directory);
    std::filesystem::copy(source, directory);
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    const std::filesystem::path file = files[random() % files.size()];
    const std::string changed = Mutate(ReadAll(file), random);
    std::ofstream(file, std::ios::binary) << changed;
    const auto tokenizer = Tokenizer::Load(directory);
    if (!tokenizer.ok()) {
      EXPECT_FALSE(tokenizer.status().message().empty());
      continue;
    }
    ++loaded;
    const auto encoding =
        (*tokenizer)->Encode(" The quick  brown fox \u00e9e\u0301 <hl> 日本 \u2581 >>fra<< over", {.spans = true});
    ASSERT_TRUE(encoding.ok()) << i << ": " << encoding.status();
    for (const int32_t id : encoding->ids) EXPECT_LT(id, (*tokenizer)->vocab_size()) << i;
    (*tokenizer)->Decode(encoding->ids, false);
  }
  std::filesystem::remove_all(directory);
  // Both happen, or the changes are of no use.
  EXPECT_GT(loaded, kMutations / 20);
  EXPECT_LT(loaded, kMutations * 19 / 20);
}

}  // namespace
}  // namespace elserve
