// A sequence whose numbers are not finite fails alone: what shares the step with it, and what gets its memory after
// it, answers to the bit as if it had never been.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/model/checkpoint/written_checkpoint.h"
#include "tests/engine/traffic.h"

namespace elserve {
namespace {

// An id that no random source has and the tiny model does not generate.
constexpr int32_t kPoison = 3;

// A copy of the tiny checkpoint (float32 tensors) in which every embedding of kPoison begins with `value`.
void WritePoisoned(float value, const TestDirectory& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(TinyCheckpoint())) {
    std::filesystem::copy(entry.path(), directory.path());
  }
  const std::string path = directory.path() + "/model.safetensors";
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  in.close();
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  int poisoned = 0;
  for (const auto& [name, tensor] : header.items()) {
    if (!name.ends_with("embed_tokens.weight") && !name.ends_with("shared.weight")) continue;
    ASSERT_EQ(tensor.at("dtype"), "F32");
    const size_t row_bytes = 4 * tensor.at("shape").at(1).get<size_t>();
    const size_t at = 8 + header_bytes + tensor.at("data_offsets").at(0).get<size_t>() + kPoison * row_bytes;
    std::memcpy(bytes.data() + at, &value, 4);
    ++poisoned;
  }
  ASSERT_GE(poisoned, 1);
  directory.Write("model.safetensors", bytes);
}

class FailureTest : public testing::TestWithParam<std::tuple<Variant, float>> {};

TEST_P(FailureTest, NonFiniteLogitsFailOneSequenceAlone) {
  const auto& [variant, value] = GetParam();
  ThreadPool pool(2);
  TestDirectory directory;
  WritePoisoned(value, directory);
  const std::unique_ptr<Engine> sound = LoadEngine(OptionsFor(TinyCheckpoint(), variant, &pool));
  const std::unique_ptr<Engine> poisoned = LoadEngine(OptionsFor(directory.path(), variant, &pool));
  ASSERT_TRUE(sound && poisoned);

  std::vector<Request> requests = RandomRequests(90, {96, 24, 283}, /*seed=*/31);
  const std::vector<Outcome> expected = RunTogether(sound.get(), requests, 3, 1);
  std::mt19937 rng(32);
  for (size_t i = 0; i < requests.size(); i += 3) {
    requests[i].decoding.remove_invalid_values = false;
    // In the document, or in the decoder: there the rows are poisoned, and not the document's states.
    if (i % 2 == 0) {
      requests[i].source[rng() % requests[i].source.size()] = kPoison;
    } else {
      requests[i].decoding.prefix = {kPoison};
      requests[i].decoding.score_from = 0;
      requests[i].decoding.max_length = std::max(requests[i].decoding.max_length, 2);
      requests[i].decoding.forced_bos_token_id = -1;
    }
  }
  // Twice: the second time every page and cell has held what is not finite.
  for (const unsigned seed : {1u, 2u}) {
    const std::vector<Outcome> got = RunTogether(poisoned.get(), requests, 3, seed);
    for (size_t i = 0; i < requests.size(); ++i) {
      if (i % 3 == 0) {
        EXPECT_FALSE(got[i].status.ok()) << "request " << i;
        EXPECT_FALSE(got[i].finished);
        // What is only scored fails before it would decode.
        EXPECT_EQ(got[i].decode_steps, requests[i].decoding.score_from > 0 ? 0 : 1) << "request " << i;
        EXPECT_THAT(got[i].status.message(), testing::HasSubstr("not finite"));
      } else {
        EXPECT_EQ(BitDifference(expected[i], got[i]), "") << "request " << i;
      }
    }
    EXPECT_EQ(poisoned->free(), poisoned->info().capacity);
  }
}

std::string NameOf(const testing::TestParamInfo<FailureTest::ParamType>& info) {
  return testing::PrintToString(std::get<0>(info.param)) + (std::get<1>(info.param) > 0 ? "_infinity" : "_nan");
}

INSTANTIATE_TEST_SUITE_P(All, FailureTest,
                         testing::Combine(testing::ValuesIn(Variants()),
                                          testing::Values(std::numeric_limits<float>::quiet_NaN(),
                                                          std::numeric_limits<float>::infinity())),
                         NameOf);

}  // namespace
}  // namespace elserve
