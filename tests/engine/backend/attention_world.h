// What tests of attention share: shapes, memory filled at random, and CrossAttention over it.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_ATTENTION_WORLD_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_ATTENTION_WORLD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/engine/backend/decode_world.h"
#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {

// Of the decoder.
inline constexpr int kLayers = 2;

struct AttentionShape {
  int heads;
  int head_dim;
  int d;
};

// Whether scores get something added.
enum class Bias { kNone, kSome };

// kGrid: a few small numbers times a power of two, so that products of states are exact in every precision, scores are
// equal on every backend, and many of a row are equal.
enum class Values { kNormal, kGrid };

// Scores of softmax spread by about this much: a few source tokens carry most of the weight, as in trained models.
inline constexpr float kScoreDeviation = 2.0f;

MemoryShape MemoryOf(const AttentionShape& shape, AttentionForms forms);
// All ways to keep both attentions alike: keys and values, states, and states in int8.
std::vector<MemoryShape> MemoriesOf(const AttentionShape& shape);
// Of no form: 0.
int64_t StateWidth(const MemoryShape& shape, std::optional<AttentionForm> form);
int64_t QueryWidth(const MemoryShape& shape, std::optional<AttentionForm> form);
// Of queries whose scores spread by kScoreDeviation over states of deviation 1.
float QueryDeviation(const MemoryShape& shape, std::optional<AttentionForm> form);
// Columns of SelfAttention's states: the query first where the form has it there, then what is stored.
int64_t SelfWidth(const MemoryShape& shape);
std::string NameOf(const std::string& operation, const MemoryShape& shape);

// As Session::Random, or on the grid with about that deviation.
std::vector<float> RandomStates(const Session& session, Values values, uint32_t seed, int64_t n, float deviation);

// A bias of positions that reaches as far as `reach` to both sides, of about the scores' size.
struct OwnedBias {
  PackedWeightPtr table;
  PositionBias bias;
};
std::shared_ptr<OwnedBias> RandomBias(Session& session, int heads, int reach);

// What an operation reads and writes of an encode step, and the states of each document that may take part.
struct EncodeTensors {
  Tensor qkv;
  Tensor output;
  std::vector<std::vector<float>> values;  // of a document [length, qkv.cols]
};
// Runs `attend` in encode steps whose documents are the units.
Runner EncodeRunner(Session& session, EncodeTensors documents, std::function<void()> attend);

struct EncoderCase {
  Bias biased = Bias::kNone;
  Values values = Values::kNormal;
  AttentionApproximation approximation = {};
};
// EncoderAttention of documents of these lengths, each of them a unit.
Runner LoadEncoder(Session& session, const AttentionShape& shape, const std::vector<int>& lengths,
                   const EncoderCase& encoder = {});
// What it draws for document i: [length, 3 * heads * head_dim].
std::vector<float> EncoderValues(const Session& session, const AttentionShape& shape, int i, int length, Values values);

// What a session has of a world.
struct WorldTensors {
  Tensor encoder_states;
  Tensor cross_query, cross_output;
  Tensor states;
  Tensor self_query, self_output;
};
WorldTensors AllocateWorld(Session& session, const DecodeWorld& world, const MemoryShape& shape);

struct CrossCase {
  float stale = 0;  // what stood in the documents' pages before them
  Bias biased = Bias::kNone;
  Phase phase = Phase::kDecode;
  Values values = Values::kNormal;
  AttentionApproximation approximation = {};
  bool totals = false;  // a position's answer ends in CrossAttentionArgs::totals
};

// Random states of all documents.
void FillEncoderMemory(Session& session, const DecodeWorld& world, const MemoryShape& shape,
                       const WorldTensors& tensors, const CrossCase& cross);

// CrossAttention of the world's positions.
Runner LoadCross(Session& session, const DecodeWorld& world, const MemoryShape& shape, const CrossCase& cross = {});

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_ATTENTION_WORLD_H_
