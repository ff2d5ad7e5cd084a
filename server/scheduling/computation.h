// What is computed once: the part of a job that its answer depends on.
#ifndef ELSERVE_SERVER_SCHEDULING_COMPUTATION_H_
#define ELSERVE_SERVER_SCHEDULING_COMPUTATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/decoding.h"

namespace elserve {

// Jobs of equal computations have the same answer, to the bit, whenever and beside whatever they run. Whether tokens
// are streamed and when a job's time is over is not part of it. Whom it is for is: what one principal made the server
// compute, another one is not to notice.
//
// Constant, and shared by a job, the sequence that computes it and the cache that keeps its answer.
class Computation {
 public:
  // Makes the hashes, so it is made on the thread of whoever asks.
  Computation(std::vector<int32_t> source, DecodingSpec decoding, std::string principal);

  const std::vector<int32_t>& source() const { return source_; }
  const DecodingSpec& decoding() const { return decoding_; }
  size_t source_hash() const { return source_hash_; }  // equal for equal sources
  size_t hash() const { return hash_; }                // equal for equal computations

  // Of all values, and of no hash.
  bool operator==(const Computation& other) const;
  // What it takes in memory, the lists included.
  size_t bytes() const;

 private:
  const std::vector<int32_t> source_;
  const DecodingSpec decoding_;
  const std::string principal_;
  const size_t source_hash_;
  const size_t hash_;
};

// For tables whose keys point to computations.
struct ComputationHash {
  size_t operator()(const Computation* computation) const { return computation->hash(); }
};
struct EqualComputations {
  bool operator()(const Computation* a, const Computation* b) const { return a == b || *a == *b; }
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_COMPUTATION_H_
