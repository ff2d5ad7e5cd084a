// T5's relative positions: distances fall into buckets, and each bucket has a learned bias for each head.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_RELATIVE_POSITIONS_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_RELATIVE_POSITIONS_H_

#include <vector>

#include "engine/backend/backend.h"
#include "engine/model/model_config.h"

namespace elserve {

// Buckets below are split in two by sign where both exist, each half has exact distances first and wider and wider ones
// after, so there have to be at least so many.
inline constexpr int kMinBuckets = 4;

// The bucket of a key that stands `distance` (key - query) from its query: T5Attention._relative_position_bucket, in
// float32 as torch computes it. `causal`: keys stand at or before the query, and a later one counts as distance 0.
// There are at least kMinBuckets, and max_distance is more than half of them.
int RelativeBucket(int distance, const RelativeBuckets& buckets, bool causal);

// `learned` [buckets, heads], one bias for each bucket -> [heads, distances], one for each distance of `tokens` tokens:
// from -(tokens - 1) to 0 where `causal`, else to tokens - 1.
std::vector<float> RelativeBias(const HostTensor& learned, const RelativeBuckets& buckets, int tokens, bool causal);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_RELATIVE_POSITIONS_H_
