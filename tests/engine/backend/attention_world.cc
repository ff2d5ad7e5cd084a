#include "tests/engine/backend/attention_world.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <utility>

namespace elserve {
namespace {

int64_t HeadWidth(const MemoryShape& shape, std::optional<AttentionForm> form) {
  if (!form) return 0;
  return form == AttentionForm::kEl ? shape.d : shape.head_dim;
}
// Of each document [heads * length], all tokens but the last hidden from the first head, some from the others; every
// third document has none.
std::vector<std::vector<float>> DocumentBiases(const DecodeWorld& world, int heads) {
  std::vector<std::vector<float>> biases;
  for (size_t d = 0; d < world.documents().size(); ++d) {
    const int length = world.documents()[d].length;
    const int64_t size = d % 3 == 2 ? 0 : int64_t{heads} * length;
    biases.push_back(RandomValues(static_cast<uint32_t>(91 + d), size, kScoreDeviation));
    for (int64_t i = 0; i < size; ++i) {
      // The last token of each head stays.
      if (i % length != length - 1 && (i < length || i % 5 == 0))
        biases[d][i] = -std::numeric_limits<float>::infinity();
    }
  }
  return biases;
}

}  // namespace

MemoryShape MemoryOf(const AttentionShape& shape, AttentionForms forms) {
  return {.cross = forms.cross,
          .self = forms.self,
          .layers = kLayers,
          .d = shape.d,
          .heads = shape.heads,
          .head_dim = shape.head_dim};
}
std::vector<MemoryShape> MemoriesOf(const AttentionShape& shape) {
  MemoryShape int8 = MemoryOf(shape, kAllEl);
  int8.int8 = true;
  return {MemoryOf(shape, kAllKv), MemoryOf(shape, kAllEl), int8};
}
int64_t StateWidth(const MemoryShape& shape, std::optional<AttentionForm> form) {
  if (!form) return 0;
  return form == AttentionForm::kEl ? shape.d : 2 * shape.heads * shape.head_dim;
}
int64_t QueryWidth(const MemoryShape& shape, std::optional<AttentionForm> form) {
  return shape.heads * HeadWidth(shape, form);
}
int64_t SelfWidth(const MemoryShape& shape) {
  return StateWidth(shape, shape.self) + (shape.self == AttentionForm::kKv ? QueryWidth(shape, shape.self) : 0);
}
float QueryDeviation(const MemoryShape& shape, std::optional<AttentionForm> form) {
  return kScoreDeviation / std::sqrt(static_cast<float>(HeadWidth(shape, form)));
}
std::string NameOf(const std::string& operation, const MemoryShape& shape) {
  return operation + " " + ToString({shape.cross, shape.self}) + (shape.int8 ? " in int8" : "") + " heads " +
         std::to_string(shape.heads) + " head_dim " + std::to_string(shape.head_dim) + " d " + std::to_string(shape.d);
}

std::vector<float> RandomStates(const Session& session, Values values, uint32_t seed, int64_t n, float deviation) {
  if (values == Values::kNormal) return session.Random(seed, n, deviation);
  const float step = std::exp2(std::round(std::log2(deviation)));
  std::vector<float> all = RandomValues(seed, n, 1.0f);
  for (float& value : all) value = std::clamp(std::round(value), -2.0f, 2.0f) * step;
  return all;
}

std::shared_ptr<OwnedBias> RandomBias(Session& session, int heads, int reach) {
  auto owned = std::make_shared<OwnedBias>();
  const std::vector<float> table = RandomValues(90, int64_t{heads} * (2 * reach - 1), kScoreDeviation);
  owned->table = session.backend().PackPositionBias(View(table, {heads, 2 * reach - 1}));
  owned->bias = {.table = owned->table.get(), .zero = reach - 1};
  return owned;
}

std::vector<float> EncoderValues(const Session& session, const AttentionShape& shape, int i, int length,
                                 Values values) {
  const auto deviation = std::sqrt(kScoreDeviation / std::sqrt(static_cast<float>(shape.head_dim)));
  return RandomStates(session, values, static_cast<uint32_t>(20 + i),
                      int64_t{3} * length * shape.heads * shape.head_dim, deviation);
}

Runner EncodeRunner(Session& session, EncodeTensors documents, std::function<void()> attend) {
  return [&session, documents = std::move(documents), attend = std::move(attend)](std::span<const int> units) {
    OwnedStep step;
    step.phase = Phase::kEncode;
    std::vector<float> inputs;
    for (int unit : units) {
      const auto length = static_cast<int>(documents.values[unit].size() / documents.qkv.cols);
      step.encode_documents.push_back(
          {.begin = static_cast<int32_t>(step.tokens.size()), .length = length, .pages = {}});
      step.tokens.insert(step.tokens.end(), length, 0);
      for (int t = 0; t < length; ++t) step.position_ids.push_back(t);
      inputs.insert(inputs.end(), documents.values[unit].begin(), documents.values[unit].end());
    }
    session.backend().BeginStep(step.Layout());
    session.backend().Write(documents.qkv, inputs);
    attend();
    const std::vector<float> all = session.backend().Read(documents.output, step.Layout().encode.positions());
    UnitOutputs outputs;
    for (const EncodeDocument& document : step.encode_documents) {
      const auto begin = all.begin() + document.begin * documents.output.cols;
      outputs.emplace_back(begin, begin + document.length * documents.output.cols);
    }
    return outputs;
  };
}

Runner LoadEncoder(Session& session, const AttentionShape& shape, const std::vector<int>& lengths,
                   const EncoderCase& encoder) {
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  const int total = std::accumulate(lengths.begin(), lengths.end(), 0);
  const int longest = *std::max_element(lengths.begin(), lengths.end());
  session.AllocateMemory(MemoryOf(shape, kAllKv), 1, 1,
                         {.encode_positions = total,
                          .decode_positions = 1,
                          .select_rows = 1,
                          .decoder_length = 1,
                          .source_length = longest});
  const auto bias =
      encoder.biased == Bias::kSome ? RandomBias(session, shape.heads, longest) : std::make_shared<OwnedBias>();
  const Tensor qkv = session.Allocate(total, 3 * width, Storage::kState);
  const Tensor output = session.Allocate(total, width, Storage::kState);
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < lengths.size(); ++i) {
    values.push_back(EncoderValues(session, shape, static_cast<int>(i), lengths[i], encoder.values));
  }
  return EncodeRunner(session, {.qkv = qkv, .output = output, .values = std::move(values)}, [=, &session] {
    session.backend().EncoderAttention({.qkv = qkv,
                                        .heads = shape.heads,
                                        .head_dim = shape.head_dim,
                                        .output = output,
                                        .bias = bias->bias,
                                        .approximation = encoder.approximation});
  });
}

WorldTensors AllocateWorld(Session& session, const DecodeWorld& world, const MemoryShape& shape) {
  const auto positions = static_cast<int64_t>(world.positions().size());
  session.AllocateMemory(shape, world.page_count(), world.block_count(), world.Limits());
  const auto allocate = [&](int64_t cols) { return session.Allocate(positions, cols, Storage::kState); };
  return {.encoder_states =
              session.Allocate(world.Limits().encode_positions, StateWidth(shape, shape.cross), Storage::kState),
          .cross_query = allocate(QueryWidth(shape, shape.cross)),
          .cross_output = allocate(QueryWidth(shape, shape.cross)),
          .states = allocate(SelfWidth(shape)),
          .self_query = allocate(QueryWidth(shape, shape.self)),
          .self_output = allocate(QueryWidth(shape, shape.self))};
}

void FillEncoderMemory(Session& session, const DecodeWorld& world, const MemoryShape& shape,
                       const WorldTensors& tensors, const CrossCase& cross) {
  const int64_t width = StateWidth(shape, shape.cross);
  const std::vector<float> stale_states(world.page_count() * kPageTokens * width, cross.stale);
  for (int layer = 0; layer < (shape.cross == AttentionForm::kEl ? 1 : kLayers); ++layer) {
    world.FillPages(session, layer, tensors.encoder_states, stale_states);
    world.StoreDocuments(session, layer, tensors.encoder_states,
                         RandomStates(session, cross.values, 30 + layer, world.SourceTokens() * width, 1.0f));
  }
}

Runner LoadCross(Session& session, const DecodeWorld& world, const MemoryShape& shape, const CrossCase& cross) {
  const WorldTensors tensors = AllocateWorld(session, world, shape);
  const auto positions = static_cast<int64_t>(world.positions().size());
  const Tensor totals = session.Allocate(positions, shape.heads, Storage::kResidual);
  FillEncoderMemory(session, world, shape, tensors, cross);
  const int64_t width = QueryWidth(shape, shape.cross);
  const std::vector<float> queries =
      RandomStates(session, cross.values, 50, positions * width, QueryDeviation(shape, shape.cross));
  const auto biases = DocumentBiases(world, shape.heads);
  return [=, &session, &world](std::span<const int> units) {
    OwnedStep step = world.Step(units);
    step.phase = cross.phase;
    for (DecodeDocument& document : step.decode_documents) {
      document.bias = biases[world.positions()[units[document.begin]].document];
    }
    session.backend().BeginStep(step.Layout());
    session.backend().Write(tensors.cross_query, Rows(queries, width, units));
    session.backend().CrossAttention({.phase = cross.phase,
                                      .layer = 1,
                                      .query = tensors.cross_query,
                                      .output = tensors.cross_output,
                                      .biased = cross.biased == Bias::kSome,
                                      .approximation = cross.approximation,
                                      .totals = cross.totals ? &totals : nullptr});
    const auto count = static_cast<int64_t>(units.size());
    UnitOutputs outputs = OneRowEach(session.backend().Read(tensors.cross_output, count), width);
    if (!cross.totals) return outputs;
    const UnitOutputs sums = OneRowEach(session.backend().Read(totals, count), shape.heads);
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].insert(outputs[i].end(), sums[i].begin(), sums[i].end());
    return outputs;
  };
}

}  // namespace elserve
