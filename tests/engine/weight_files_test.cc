// One model in every format of weights that torch and safetensors write (tests/golden/weight_files): the same bits of
// every tensor, and the same answers.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/checkpoint/safetensors.h"
#include "engine/thread_pool.h"
#include "tests/engine/traffic.h"

namespace elserve {
namespace {

std::string Folder(const std::string& format) { return ELSERVE_SOURCE_DIR "/tests/golden/weight_files/" + format; }

class WeightFilesTest : public testing::TestWithParam<const char*> {};

TEST_P(WeightFilesTest, TensorsHaveTheSameBits) {
  absl::StatusOr<MappedFile> mapped = MappedFile::Open(Folder("safetensors") + "/model.safetensors");
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  WeightsFile expected(*std::move(mapped));
  ASSERT_TRUE(ReadSafetensors(&expected).ok());
  const auto checkpoint = Checkpoint::Open(Folder(GetParam()));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_EQ(expected.tensors().size(), 50u);
  for (const auto& [name, entry] : expected.tensors()) {
    const auto tensor = (*checkpoint)->Tensor(name, entry.shape);
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor->data) % 4, 0u);
    EXPECT_EQ(std::memcmp(tensor->data, entry.data, entry.bytes), 0) << name;
  }
}

TEST_P(WeightFilesTest, AnswersAreTheSame) {
  ThreadPool pool(2);
  const Variant variant = {Precision::kFloat32, kAllEl};
  const std::vector<Request> requests =
      RandomRequests(12, {.most_source_tokens = 30, .most_length = 30, .vocab = 37}, /*seed=*/5);
  std::vector<Outcome> outcomes[2];
  for (const bool other : {false, true}) {
    const std::unique_ptr<Engine> engine =
        LoadEngine(OptionsFor(Folder(other ? GetParam() : "safetensors"), variant, &pool));
    ASSERT_TRUE(engine);
    outcomes[other] = RunAlone(engine.get(), requests);
  }
  size_t tokens = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(BitDifference(outcomes[0][i], outcomes[1][i]), "") << i;
    for (const Hypothesis& hypothesis : outcomes[0][i].hypotheses) tokens += hypothesis.tokens.size();
  }
  EXPECT_GT(tokens, 40u);
}

INSTANTIATE_TEST_SUITE_P(Formats, WeightFilesTest, testing::Values("zip", "legacy", "shards", "views"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace elserve
