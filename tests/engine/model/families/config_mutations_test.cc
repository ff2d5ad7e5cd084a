// Whatever stands under a key of config.json, a checkpoint loads or an error names the file and the key, or the tensor
// that does not fit. Each of the golden checkpoints, each key that it has, a third of a list of values.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/model/families/family.h"
#include "gtest/gtest.h"
#include "tests/engine/model/checkpoint/written_checkpoint.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

absl::Status LoadStatus(const std::string& directory) {
  const auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) return checkpoint.status();
  absl::StatusOr<ModelConfig> config = ReadModelConfig(**checkpoint);
  if (!config.ok()) return config.status();
  for (StackConfig* stack : {&config->encoder, &config->decoder}) {
    if (stack->layers == 0) continue;  // decoder-only
    EXPECT_GE(stack->max_positions, 1);
    EXPECT_GE(stack->heads, 1);
    stack->max_tokens = std::min(stack->max_positions, 64);
  }
  return FindModelWeights(**checkpoint, *config).status();
}

TEST(ConfigMutations, LoadOrSayWhatIsWrong) {
  const char* const values[] = {"null",
                                "true",
                                "false",
                                "0",
                                "1",
                                "-1",
                                "3",
                                "7.5",
                                "1e30",
                                "131072",
                                "4194304",
                                "99999999999999999999",
                                "-9223372036854775808",
                                "\"\"",
                                "\"x\"",
                                "\"gated-relu\"",
                                "[]",
                                "[1, 2]",
                                "[-1]",
                                "{}",
                                "{\"a\": [null]}"};
  int turn = 0, mutations = 0, errors = 0;
  for (const auto& entry : fs::directory_iterator(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints")) {
    if (!fs::exists(entry.path() / "model.safetensors")) continue;
    const json good = json::parse(std::ifstream(entry.path() / "config.json"));
    TestDirectory directory;
    fs::create_symlink(entry.path() / "model.safetensors", directory.path() + "/model.safetensors");
    directory.Write("config.json", good.dump());
    ASSERT_TRUE(LoadStatus(directory.path()).ok()) << entry.path();
    for (const auto& [key, unused] : good.items()) {
      for (const char* value : values) {
        if (++turn % 3 != 0) continue;  // another third of the values for each key
        json bad = good;
        bad[key] = json::parse(value);
        directory.Write("config.json", bad.dump());
        const absl::Status status = LoadStatus(directory.path());
        ++mutations;
        if (status.ok()) continue;
        ++errors;
        const std::string message(status.message());
        EXPECT_TRUE(absl::StrContains(message, directory.path()) &&
                    (absl::StrContains(message, "config.json: ") || absl::StrContains(message, "tensor \"")))
            << entry.path() << " " << key << " = " << value << ": " << message;
      }
    }
  }
  EXPECT_GE(mutations, 2000);
  EXPECT_GE(errors, mutations / 5);
}

}  // namespace
}  // namespace elserve
