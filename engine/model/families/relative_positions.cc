#include "engine/model/families/relative_positions.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

namespace elserve {

int RelativeBucket(int distance, const RelativeBuckets& buckets, bool causal) {
  const int count = causal ? buckets.buckets : buckets.buckets / 2;
  const int first = !causal && distance > 0 ? count : 0;
  const int apart = causal ? std::max(0, -distance) : std::abs(distance);
  const int exact = count / 2;
  if (apart < exact) return first + apart;
  // Logarithmically wider buckets up to max_distance. torch divides a float32 tensor by a Python number in float32.
  const float position = std::log(static_cast<float>(apart) / static_cast<float>(exact));
  const auto span = static_cast<float>(std::log(static_cast<double>(buckets.max_distance) / exact));
  const float bucket = position / span * static_cast<float>(count - exact);
  return first + static_cast<int>(std::min<int64_t>(exact + static_cast<int64_t>(bucket), count - 1));
}

std::vector<float> RelativeBias(const HostTensor& learned, const RelativeBuckets& buckets, int tokens, bool causal) {
  const int64_t heads = learned.shape[1];
  const int64_t distances = int64_t{tokens} + (causal ? 0 : tokens - 1);
  std::vector<float> values(learned.size()), table(heads * distances);
  ReadFloats(learned, 0, learned.size(), values.data());
  for (int64_t i = 0; i < distances; ++i) {
    const int64_t bucket = RelativeBucket(static_cast<int>(i) - (tokens - 1), buckets, causal);
    for (int64_t head = 0; head < heads; ++head) table[head * distances + i] = values[bucket * heads + head];
  }
  return table;
}

}  // namespace elserve
