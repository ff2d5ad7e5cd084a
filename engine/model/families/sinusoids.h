// Position embeddings that are computed, not learned.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_SINUSOIDS_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_SINUSOIDS_H_

#include <cstdint>
#include <vector>

namespace elserve {

// [rows, d] as transformers' MarianSinusoidalPositionalEmbedding and PegasusSinusoidalPositionalEmbedding make it: of
// each row first the sines of p / 10000^(2i / d), then the cosines of the same angles, where Vaswani et al. 2017 have
// them in turn. Computed in float64.
std::vector<float> Sinusoids(int64_t rows, int64_t d);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_SINUSOIDS_H_
