// EncoderAttention, StoreEncoder, CrossAttention and SelfAttention on every backend under test, in every form of
// memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine/backend/attention_world.h"
#include "tests/engine/backend/backends_under_test.h"
#include "tests/engine/backend/decode_world.h"
#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

constexpr AttentionShape kShapes[] = {{1, 8, 8},    {3, 8, 40},    {3, 24, 96},  {5, 16, 64},
                                      {2, 160, 96}, {12, 16, 200}, {12, 64, 768}};
// Where cuda has kernels for ranges of widths, and plain ones for what fits no tensor core.
constexpr AttentionShape kCudaShapes[] = {{2, 6, 260}, {2, 128, 256}, {4, 32, 128}, {8, 64, 512}, {2, 64, 1024}};

// Cuda adds biases in the kernel that takes all shapes alike: of an emulated device the small ones show it.
std::vector<AttentionShape> Shapes(Bias bias) {
  std::vector<AttentionShape> shapes(std::begin(kShapes), std::end(kShapes));
  if (CudaIsAmongBackends()) shapes.insert(shapes.begin(), std::begin(kCudaShapes), std::end(kCudaShapes));
  std::erase_if(shapes, [=](const AttentionShape& shape) {
    return kEmulatedDevice && bias == Bias::kSome && shape.heads * shape.head_dim > 100;
  });
  return shapes;
}

// Every length around the edges of pages, every width of beams, prompts of several positions. Fewer for an emulated
// device, which is slow.
std::vector<DocumentSpec> MixedDocuments() {
  if (kEmulatedDevice) {
    return {{.length = 1, .rows = 1, .history = 0},
            {.length = 65, .rows = 2, .history = 17},
            {.length = 130, .rows = 1, .history = 34},
            {.length = 20, .rows = 1, .history = 0, .new_positions = 5}};
  }
  return {{.length = 1, .rows = 1, .history = 0},
          {.length = 2, .rows = 2, .history = 1},
          {.length = 63, .rows = 3, .history = 15},
          {.length = 64, .rows = 4, .history = 16},
          {.length = 65, .rows = 5, .history = 17},
          {.length = 130, .rows = 8, .history = 40},
          {.length = 300, .rows = 7, .history = 66},
          {.length = 20, .rows = 1, .history = 0, .new_positions = 17},
          {.length = 129, .rows = 2, .history = 5, .new_positions = 3},
          {.length = 31, .rows = 6, .history = 2},
          {.length = 5, .rows = 1, .history = 131}};
}

void CheckEncoderAttention(const AttentionShape& shape, Bias biased, const std::vector<int>& lengths,
                           std::vector<std::vector<int>> batches) {
  CheckOperation({.name = NameOf(biased == Bias::kSome ? "biased encoder attention" : "encoder attention",
                                 MemoryOf(shape, kAllKv)),
                  .units = static_cast<int>(lengths.size()),
                  .cols = int64_t{shape.heads} * shape.head_dim,
                  .load = [&](Session& session) { return LoadEncoder(session, shape, lengths, {.biased = biased}); },
                  .batches = std::move(batches)});
}

TEST(BackendAttention, Encoder) {
  std::vector<int> lengths = {1, 300, 2, 64, 63, 130, 65, 17};
  std::vector<std::vector<int>> batches = {{0}, {1}, {5}, {6}, {7}, {1, 3}, {7, 6, 5, 4, 3, 2, 1, 0}, {6, 0, 4}};
  if (kEmulatedDevice) {
    lengths = {1, 130, 65};
    batches = {{2, 0}};
  }
  for (const Bias bias : {Bias::kNone, Bias::kSome}) {
    for (const AttentionShape& shape : Shapes(bias)) {
      CheckEncoderAttention(shape, bias, lengths, batches);
      if (HasFatalFailure()) return;
    }
  }
}

// Rows of queries and of what is stored -> rows of SelfAttention's states.
std::vector<float> SelfStates(const MemoryShape& shape, std::span<const float> queries, std::span<const float> stored) {
  if (shape.self == AttentionForm::kEl) return {stored.begin(), stored.end()};
  const int64_t query_width = QueryWidth(shape, shape.self), width = StateWidth(shape, shape.self);
  std::vector<float> rows;
  for (int64_t row = 0; row < static_cast<int64_t>(stored.size()) / width; ++row) {
    const auto query = queries.subspan(row * query_width, query_width), state = stored.subspan(row * width, width);
    rows.insert(rows.end(), query.begin(), query.end());
    rows.insert(rows.end(), state.begin(), state.end());
  }
  return rows;
}

// Random states of all cells.
void FillDecoderMemory(Session& session, const DecodeWorld& world, const MemoryShape& shape,
                       const WorldTensors& tensors) {
  const int64_t values = world.block_count() * kBlockCells * SelfWidth(shape);
  for (int layer = 0; layer < kLayers; ++layer) {
    world.FillCells(session, layer, tensors.states, session.Random(40 + layer, values, 1.0f), tensors.self_query,
                    tensors.self_output);
  }
}

Runner LoadSelf(Session& session, const DecodeWorld& world, const MemoryShape& shape, Bias biased = Bias::kNone) {
  const WorldTensors tensors = AllocateWorld(session, world, shape);
  FillDecoderMemory(session, world, shape, tensors);
  const auto positions = static_cast<int64_t>(world.positions().size());
  const int64_t width = QueryWidth(shape, shape.self);
  const std::vector<float> queries = session.Random(50, positions * width, QueryDeviation(shape, shape.self));
  const std::vector<float> states =
      SelfStates(shape, queries, session.Random(51, positions * StateWidth(shape, shape.self), 1.0f));
  const auto bias = biased == Bias::kSome ? RandomBias(session, shape.heads, world.Limits().decoder_length)
                                          : std::make_shared<OwnedBias>();
  return [=, &session, &world](std::span<const int> units) {
    OwnedStep step = world.Step(units);
    session.backend().BeginStep(step.Layout());
    session.backend().Write(tensors.self_query, Rows(queries, width, units));
    session.backend().Write(tensors.states, Rows(states, SelfWidth(shape), units));
    session.backend().SelfAttention({.layer = 1,
                                     .states = tensors.states,
                                     .query = tensors.self_query,
                                     .output = tensors.self_output,
                                     .bias = bias->bias});
    return OneRowEach(session.backend().Read(tensors.self_output, static_cast<int64_t>(units.size())), width);
  };
}

// A case whose units are the world's positions, and whose answers have the width of queries of `form`.
OperationCase CaseOf(const std::string& operation, const MemoryShape& shape, std::optional<AttentionForm> form,
                     const DecodeWorld& world, std::function<Runner(Session&)> load,
                     std::vector<std::vector<int>> batches = {}) {
  return {
      .name = NameOf(operation, shape),
      .units = static_cast<int>(world.positions().size()),
      .cols = QueryWidth(shape, form),
      // int8: weights are rounded to 254ths of the largest; el_attention_test.cc says of each case what that may be.
      .tolerance = shape.int8 ? Tolerance{.bfloat16 = 1.0 / 32} : Tolerance{},
      .int8 = shape.int8,
      .load = std::move(load),
      .batches = std::move(batches)};
}

TEST(BackendAttention, Cross) {
  const DecodeWorld world(60, MixedDocuments());
  for (const AttentionShape& attention : Shapes(Bias::kNone)) {
    for (const MemoryShape& shape : MemoriesOf(attention)) {
      CheckOperation(CaseOf(
          "cross attention", shape, shape.cross, world,
          [&](Session& session) { return LoadCross(session, world, shape, {.stale = 1000.0f}); }, world.Batches(61)));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(BackendAttention, CrossOfPrefill) {
  const DecodeWorld world(75, MixedDocuments());
  for (const MemoryShape& shape : MemoriesOf({3, 8, 40})) {
    CheckOperation(CaseOf(
        "cross attention of prefill", shape, shape.cross, world,
        [&](Session& session) {
          return LoadCross(session, world, shape, {.stale = 1000.0f, .phase = Phase::kPrefill});
        },
        world.Batches(76)));
    if (HasFatalFailure()) return;
  }
}

TEST(BackendAttention, Self) {
  const DecodeWorld world(62, MixedDocuments());
  for (const AttentionShape& attention : Shapes(Bias::kNone)) {
    for (const MemoryShape& shape : MemoriesOf(attention)) {
      CheckOperation(CaseOf(
          "self attention", shape, shape.self, world, [&](Session& session) { return LoadSelf(session, world, shape); },
          world.Batches(63)));
      if (HasFatalFailure()) return;
    }
  }
}

// The two attentions of one memory in different forms.
TEST(BackendAttention, FormsMayDiffer) {
  const DecodeWorld world(74, MixedDocuments());
  for (const AttentionForms forms : {AttentionForms{AttentionForm::kEl, AttentionForm::kKv},
                                     AttentionForms{AttentionForm::kKv, AttentionForm::kEl}}) {
    for (const bool int8 : {false, true}) {
      MemoryShape shape = MemoryOf({5, 16, 64}, forms);
      shape.int8 = int8;
      CheckOperation(CaseOf("cross attention", shape, shape.cross, world,
                            [&](Session& session) { return LoadCross(session, world, shape, {.stale = 1000.0f}); }));
      CheckOperation(CaseOf("self attention", shape, shape.self, world,
                            [&](Session& session) { return LoadSelf(session, world, shape); }));
    }
  }
}

TEST(BackendAttention, ScoresMayHaveABias) {
  const DecodeWorld world(75, MixedDocuments());
  for (const AttentionShape& attention : Shapes(Bias::kSome)) {
    for (const MemoryShape& shape : MemoriesOf(attention)) {
      CheckOperation(CaseOf(
          "biased cross attention", shape, shape.cross, world,
          [&](Session& session) { return LoadCross(session, world, shape, {.stale = 1000.0f, .biased = Bias::kSome}); },
          world.Batches(76)));
      CheckOperation(CaseOf(
          "biased self attention", shape, shape.self, world,
          [&](Session& session) { return LoadSelf(session, world, shape, Bias::kSome); }, world.Batches(77)));
      if (HasFatalFailure()) return;
    }
  }
}

// More positions of one document than any tile holds: a long prompt, and many rows.
TEST(BackendAttention, ManyPositionsOfOneDocument) {
  const DecodeWorld world(
      64, {{.length = 70, .rows = 32, .history = 3}, {.length = 9, .rows = 1, .history = 0, .new_positions = 98}});
  for (const MemoryShape& shape : MemoriesOf({5, 16, 64})) {
    CheckOperation(CaseOf(
        "cross attention", shape, shape.cross, world,
        [&](Session& session) { return LoadCross(session, world, shape); }, world.Batches(65)));
    CheckOperation(CaseOf(
        "self attention", shape, shape.self, world, [&](Session& session) { return LoadSelf(session, world, shape); },
        world.Batches(66)));
  }
}

// Sources and histories of a length that a device may cut into parts which it computes apart: a row's bits still do not
// depend on what else is in the step.
TEST(BackendAttention, LongSourcesAndHistories) {
  std::vector<DocumentSpec> documents = {{.length = 1100, .rows = 4, .history = 3},
                                         {.length = 513, .rows = 2, .history = 600},
                                         {.length = 512, .rows = 1, .history = 300},
                                         {.length = 2, .rows = 1, .history = 0, .new_positions = 2}};
  if (kEmulatedDevice)
    documents = {{.length = 1100, .rows = 1, .history = 3}, {.length = 513, .rows = 1, .history = 530}};
  const DecodeWorld world(71, documents);
  for (const AttentionShape& attention : {AttentionShape{3, 24, 96}, {5, 16, 64}, {16, 64, 1024}}) {
    if (kEmulatedDevice && attention.d != 96) continue;
    for (const MemoryShape& shape : MemoriesOf(attention)) {
      CheckOperation(CaseOf(
          "cross attention", shape, shape.cross, world,
          [&](Session& session) { return LoadCross(session, world, shape, {.stale = 1000.0f}); }, world.Batches(72)));
      CheckOperation(CaseOf(
          "self attention", shape, shape.self, world, [&](Session& session) { return LoadSelf(session, world, shape); },
          world.Batches(73)));
      if (attention.d != 96) continue;
      CheckOperation(CaseOf("biased cross attention", shape, shape.cross, world, [&](Session& session) {
        return LoadCross(session, world, shape, {.stale = 1000.0f, .biased = Bias::kSome});
      }));
      CheckOperation(CaseOf("biased self attention", shape, shape.self, world,
                            [&](Session& session) { return LoadSelf(session, world, shape, Bias::kSome); }));
      if (HasFatalFailure()) return;
    }
  }
}

// A sequence that went wrong leaves NaN in the pages that it gives back: the next document's last page keeps them
// behind its last token, where a weight of 0 does not silence them.
TEST(BackendAttention, StaleNansBehindADocumentAreNotRead) {
  const DecodeWorld world(67, MixedDocuments());
  for (const MemoryShape& shape : MemoriesOf({3, 24, 96})) {
    CheckOperation(CaseOf("cross attention", shape, shape.cross, world, [&](Session& session) {
      return LoadCross(session, world, shape, {.stale = std::numeric_limits<float>::quiet_NaN()});
    }));
  }
}

// One document's NaN stay its own, whatever shares a tile with it.
TEST(BackendAttention, NansOfOneDocumentStayItsOwn) {
  const std::vector<DocumentSpec> documents = MixedDocuments();
  const DecodeWorld world(68, documents);
  constexpr int kBroken = 1;
  for (const MemoryShape& shape : MemoriesOf({3, 24, 96})) {
    std::vector<int> broken;
    for (int p = 0; p < static_cast<int>(world.positions().size()); ++p) {
      if (world.positions()[p].document == kBroken) broken.push_back(p);
    }
    const auto without_broken = [&](Runner run) -> Runner {
      return [=](std::span<const int> units) {
        UnitOutputs outputs = run(units);
        for (int p : broken) outputs[p].assign(outputs[p].size(), 0.0f);
        return outputs;
      };
    };
    const auto load = [&](Session& session) -> Runner {
      const WorldTensors tensors = AllocateWorld(session, world, shape);
      FillEncoderMemory(session, world, shape, tensors, {});
      FillDecoderMemory(session, world, shape, tensors);
      const auto positions = static_cast<int64_t>(world.positions().size());
      std::vector<float> queries =
          session.Random(50, positions * QueryWidth(shape, shape.cross), QueryDeviation(shape, shape.cross));
      std::vector<float> states = session.Random(51, positions * StateWidth(shape, shape.cross), 1.0f);
      for (int p : broken) {
        std::fill_n(queries.begin() + p * QueryWidth(shape, shape.cross), QueryWidth(shape, shape.cross), NAN);
        std::fill_n(states.begin() + p * StateWidth(shape, shape.cross), StateWidth(shape, shape.cross), NAN);
      }
      const std::vector<float> self_states = SelfStates(shape, queries, states);
      return without_broken([=, &session, &world](std::span<const int> units) {
        OwnedStep step = world.Step(units);
        const auto count = static_cast<int64_t>(units.size());
        session.backend().BeginStep(step.Layout());
        session.backend().Write(tensors.cross_query, Rows(queries, QueryWidth(shape, shape.cross), units));
        session.backend().Write(tensors.self_query, Rows(queries, QueryWidth(shape, shape.cross), units));
        session.backend().Write(tensors.states, Rows(self_states, SelfWidth(shape), units));
        session.backend().CrossAttention(
            {.phase = Phase::kDecode, .layer = 0, .query = tensors.cross_query, .output = tensors.cross_output});
        UnitOutputs outputs =
            OneRowEach(session.backend().Read(tensors.cross_output, count), QueryWidth(shape, shape.cross));
        session.backend().SelfAttention(
            {.layer = 0, .states = tensors.states, .query = tensors.self_query, .output = tensors.self_output});
        const UnitOutputs own =
            OneRowEach(session.backend().Read(tensors.self_output, count), QueryWidth(shape, shape.self));
        for (int64_t i = 0; i < count; ++i) outputs[i].insert(outputs[i].end(), own[i].begin(), own[i].end());
        return outputs;
      });
    };
    CheckOperation(CaseOf("attention beside NaN", shape, shape.cross, world, load));
  }
}

// A decoder-only model: documents have no tokens and no pages, there is no encoder memory.
TEST(BackendAttention, SelfWithoutSources) {
  const DecodeWorld world(73, {{.length = 0, .rows = 3, .history = 5},
                               {.length = 0, .rows = 1, .history = 0, .new_positions = 9},
                               {.length = 0, .rows = 2, .history = 70}});
  EXPECT_EQ(world.page_count(), 0);
  for (const AttentionForm self : {AttentionForm::kKv, AttentionForm::kEl}) {
    const MemoryShape shape = MemoryOf({3, 8, 24}, {std::nullopt, self});
    CheckOperation(CaseOf(
        "self attention", shape, shape.self, world, [&](Session& session) { return LoadSelf(session, world, shape); },
        world.Batches(74)));
  }
}

// A dropped document's states stay in its batch's activations and go nowhere; its batch-mates' are stored as always.
TEST(BackendAttention, DroppedDocumentsAreNotStored) {
  const DecodeWorld world(69, {{.length = 70, .rows = 2, .history = 1}, {.length = 30, .rows = 2, .history = 1}});
  for (const MemoryShape& shape : MemoriesOf({3, 8, 40})) {
    const auto load = [&](Session& session) -> Runner {
      const Runner run = LoadCross(session, world, shape);
      const Tensor states =
          session.Allocate(world.Limits().encode_positions, StateWidth(shape, shape.cross), Storage::kState);
      // The first document again, dropped, then the second with new values.
      OwnedStep step;
      step.phase = Phase::kEncode;
      step.tokens.assign(100, 0);
      step.position_ids.assign(100, 0);
      step.encode_documents = {{.begin = 0, .length = 70, .pages = {}},
                               {.begin = 70, .length = 30, .pages = world.pages(1)}};
      session.backend().BeginStep(step.Layout());
      session.backend().Write(states, session.Random(70, 100 * StateWidth(shape, shape.cross), 1.0f));
      session.backend().StoreEncoder({.layer = shape.cross == AttentionForm::kEl ? 0 : 1, .states = states});
      session.backend().Read(states, 1);  // waits
      return run;
    };
    CheckOperation(CaseOf("cross attention", shape, shape.cross, world, load, {{0}, {2, 3}, {3, 0}}));
  }
}

}  // namespace
}  // namespace elserve
