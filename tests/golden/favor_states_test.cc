// The encoder with FAVOR+ attention against the PyTorch module of models/debian-synopsis/training/favor.py: the states
// of whole sources, at 1e-4 in float32, on each device that has the operation.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/reference/reference_backend.h"
#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/encoder.h"
#include "engine/model/families/family.h"
#include "engine/model/packed_weights.h"
#include "gtest/gtest.h"
#include "tests/golden/golden_cases.h"
#if ELSERVE_TEST_CPU
#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/thread_pool.h"
#endif

namespace elserve {
namespace {

// Each source is a batch of its own.
void ExpectStatesOfPyTorch(const GoldenFile& golden, Backend& backend) {
  SCOPED_TRACE(backend.device_name());
  const auto checkpoint = Checkpoint::Open(golden.checkpoint);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  absl::StatusOr<ModelConfig> config = ReadModelConfig(**checkpoint);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->encoder.favor_features, 70);
  config->encoder.max_tokens = config->decoder.max_tokens = config->encoder.max_positions;
  const absl::StatusOr<ModelWeights> weights = FindModelWeights(**checkpoint, *config);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const PackedModel packed = PackModel(*config, *weights, {.forms = kAllEl}, backend);
  const int most = config->encoder.max_positions;
  ASSERT_TRUE(backend
                  .AllocateMemory({.layers = config->decoder.layers,
                                   .d = config->d_model,
                                   .heads = config->decoder.heads,
                                   .head_dim = config->decoder.head_dim},
                                  1, 1,
                                  {.encode_positions = most,
                                   .decode_positions = 1,
                                   .select_rows = 1,
                                   .decoder_length = 1,
                                   .source_length = most})
                  .ok());
  const auto encoder = Encoder::Create(*config, packed, AttentionForm::kEl, most, backend);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  size_t longest = 0;
  for (const GoldenStates& states : golden.states) {
    std::vector<int32_t> places;
    for (size_t t = 0; t < states.source.size(); ++t) places.push_back(static_cast<int32_t>(t));
    const std::vector<EncodeDocument> documents = {
        {.begin = 0, .length = static_cast<int32_t>(places.size()), .pages = {}}};
    StepLayout layout;
    layout.encode = {.tokens = states.source, .position_ids = places, .documents = documents};
    backend.BeginStep(layout);
    (*encoder)->Embed();
    for (int layer = 0; layer < (*encoder)->layers(); ++layer) (*encoder)->RunLayer(layer);
    const std::vector<float> actual = backend.Read((*encoder)->states(), static_cast<int64_t>(places.size()));
    const auto width = static_cast<size_t>(config->d_model);
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], states.encoder_states[i / width][i % width], 1e-4)
          << "token " << i / width << " of " << places.size();
    }
    longest = std::max(longest, places.size());
  }
  EXPECT_GT(longest, 128u) << "one that takes more than a strip";
}

TEST(FavorStates, AreThoseOfPyTorch) {
  const GoldenFile golden = ReadGoldenFile("bart-favor");
  ASSERT_FALSE(golden.states.empty());
  ExpectStatesOfPyTorch(golden, *MakeReferenceBackend());
#if ELSERVE_TEST_CPU
  ThreadPool pool(2);
  auto cpu = MakeCpuBackend({.state_type = DataType::kFloat32, .pool = &pool});
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  ExpectStatesOfPyTorch(golden, **cpu);
#endif
}

}  // namespace
}  // namespace elserve
