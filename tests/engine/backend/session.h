// One backend in a test: its memory, tensors, steps and random weights.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_SESSION_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_SESSION_H_

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "engine/backend/backend.h"

namespace elserve {

// n values of a normal distribution around 0; the same for a seed in every session.
std::vector<float> RandomValues(uint32_t seed, int64_t n, float deviation);

// The nearest bfloat16, ties to even.
float RoundedToBFloat16(float value);

HostTensor View(const std::vector<float>& values, std::vector<int64_t> shape);

// What a StepLayout of one phase refers to.
struct OwnedStep {
  Phase phase = Phase::kDecode;
  std::vector<int32_t> tokens;
  std::vector<int32_t> position_ids;
  struct Row {
    int positions = 1;
    std::vector<int32_t> ancestry;  // its positions' own cells last
  };
  std::vector<Row> rows;
  std::vector<EncodeDocument> encode_documents;
  std::vector<DecodeDocument> decode_documents;
  std::vector<SelectRow> select;

  // Points into this.
  StepLayout Layout();

 private:
  std::vector<DecodeRow> views_;  // of `rows`
};

// A step of positions that have nothing to do with each other, for the operations that work row by row.
OwnedStep PlainStep(Phase phase, std::vector<int32_t> tokens, std::vector<int32_t> position_ids);
OwnedStep PlainStep(Phase phase, int positions);

class Session {
 public:
  // `precision`: what states and weights are rounded to before any backend sees them, so that the reference computes
  // from the very values that the backend under test holds.
  Session(std::unique_ptr<Backend> backend, DataType precision);

  Backend& backend() { return *backend_; }
  DataType precision() const { return precision_; }

  // RandomValues as this precision can hold them.
  std::vector<float> Random(uint32_t seed, int64_t n, float deviation) const;

  void AllocateMemory(const MemoryShape& shape, int64_t pages, int64_t blocks, const StepLimits& limits);
  // Memory for plain steps of so many positions and for no attention.
  void AllocatePlainMemory(int positions);
  Tensor Allocate(int64_t rows, int64_t cols, Storage storage);

  PackedWeightPtr RandomLinear(uint32_t seed, int64_t out, int64_t in, bool with_bias,
                               WeightType type = WeightType::kState);
  PackedWeightPtr RandomGated(uint32_t seed, int64_t out, int64_t in, bool with_bias,
                              WeightType type = WeightType::kState);

 private:
  std::unique_ptr<Backend> backend_;
  DataType precision_;
};

// The chosen rows of a matrix of `cols` columns, in the order of `rows`.
std::vector<float> Rows(std::span<const float> matrix, int64_t cols, std::span<const int> rows);

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_SESSION_H_
