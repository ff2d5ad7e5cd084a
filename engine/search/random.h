// Random numbers that depend on nothing but their place: no generator has a state, so none is shared, saved or moved.
#ifndef ELSERVE_ENGINE_SEARCH_RANDOM_H_
#define ELSERVE_ENGINE_SEARCH_RANDOM_H_

#include <array>
#include <cstdint>

namespace elserve {

// Philox4x32 with 10 rounds (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011): the
// 128 bits that belong to a counter and a key.
constexpr std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// At least 0 and below 1, in steps of 2^-53: what the `step`-th token of a hypothesis is drawn by.
constexpr double UniformAt(uint64_t seed, uint32_t step, uint32_t hypothesis) {
  const std::array<uint32_t, 4> bits =
      Philox({step, hypothesis, 0, 0}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>((uint64_t{bits[0]} << 32 | bits[1]) >> 11) * 0x1p-53;
}

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_RANDOM_H_
