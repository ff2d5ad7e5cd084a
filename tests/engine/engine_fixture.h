// What tests of one engine share: an engine of a checkpoint in float32.
#ifndef ELSERVE_TESTS_ENGINE_ENGINE_FIXTURE_H_
#define ELSERVE_TESTS_ENGINE_ENGINE_FIXTURE_H_

#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "gtest/gtest.h"
#include "tests/engine/traffic.h"

namespace elserve {

inline constexpr Variant kFloat32El = {Precision::kFloat32, kAllEl};

inline DecodingSpec Decoding(int beams, int max_length) {
  DecodingSpec d;
  d.num_beams = beams;
  d.max_length = max_length;
  d.prefix = {2};
  return d;
}

class EngineTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> Load(const std::string& checkpoint, int encode_tokens_per_step = 90) {
    EngineOptions options = OptionsFor(checkpoint, kFloat32El, &pool_);
    options.encode_tokens_per_step = encode_tokens_per_step;
    return LoadEngine(options);
  }

  ThreadPool pool_{2};
};

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_ENGINE_FIXTURE_H_
