// The operations that work row by row, on every backend under test: Embed, Linear, PerHeadLinear, Norm.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

constexpr int kPositions = 130;
constexpr int kSizes[] = {8, 24, 40, 64, 96, 200, 768};

// Makes the runner of a rowwise operation: writes the chosen rows of `values`, launches, reads.
Runner RowwiseRunner(Session& session, Phase phase, Tensor input, std::vector<float> values,
                     std::function<void()> launch, Tensor output) {
  return [=, &session, values = std::move(values), launch = std::move(launch)](std::span<const int> units) {
    OwnedStep step = PlainStep(phase, static_cast<int>(units.size()));
    session.backend().BeginStep(step.Layout());
    session.backend().Write(input, Rows(values, input.cols, units));
    launch();
    return OneRowEach(session.backend().Read(output, static_cast<int64_t>(units.size())), output.cols);
  };
}

struct LinearCase {
  int in;
  int out;
  bool bias = true;
  bool gated = false;
  Activation activation = Activation::kNone;
  Storage storage = Storage::kState;
  enum class Residual { kNone, kOther, kOutput } residual = Residual::kNone;
  Phase phase = Phase::kDecode;
  WeightType weights = WeightType::kState;
  int outliers = 0;  // numbers of every third row that are far from the others
  float outlier = 4096;
};

// Residual outputs are float32 sums of exact products in both precisions.
Tolerance ToleranceOf(Storage storage) {
  return storage == Storage::kResidual ? Tolerance{.bfloat16 = 2e-5} : Tolerance{};
}

Runner LoadLinear(Session& session, const LinearCase& c) {
  session.AllocatePlainMemory(kPositions);
  const std::shared_ptr<PackedWeight> weight = c.gated ? session.RandomGated(1, c.out, c.in, c.bias, c.weights)
                                                       : session.RandomLinear(1, c.out, c.in, c.bias, c.weights);
  const Tensor input = session.Allocate(kPositions, c.in, Storage::kState);
  const Tensor output = session.Allocate(kPositions, c.out, c.storage);
  const auto residual = std::make_shared<Tensor>(
      c.residual == LinearCase::Residual::kOther ? session.Allocate(kPositions, c.out, Storage::kResidual) : output);
  std::vector<float> inputs = session.Random(3, int64_t{kPositions} * c.in, 1.0f);
  for (int row = 0; row < kPositions; row += 3) {
    for (int i = 0; i < c.outliers; ++i) {
      const int column = (row * 7 + i * 131) % c.in;
      inputs[int64_t{row} * c.in + column] = i % 2 == 0 ? c.outlier : -c.outlier;
    }
  }
  const std::vector<float> residuals = RandomValues(4, int64_t{kPositions} * c.out, 1.0f);
  return [=, &session](std::span<const int> units) {
    Backend& backend = session.backend();
    OwnedStep step = PlainStep(c.phase, static_cast<int>(units.size()));
    backend.BeginStep(step.Layout());
    backend.Write(input, Rows(inputs, c.in, units));
    const bool with_residual = c.residual != LinearCase::Residual::kNone;
    if (with_residual) backend.Write(*residual, Rows(residuals, c.out, units));
    backend.Linear({.phase = c.phase,
                    .input = input,
                    .weight = weight.get(),
                    .activation = c.activation,
                    .residual = with_residual ? residual.get() : nullptr,
                    .output = output});
    return OneRowEach(backend.Read(output, static_cast<int64_t>(units.size())), c.out);
  };
}

void CheckLinear(const std::string& name, const LinearCase& c) {
  CheckOperation({.name = name + " in " + std::to_string(c.in) + " out " + std::to_string(c.out),
                  .units = kPositions,
                  .cols = c.out,
                  .tolerance = ToleranceOf(c.storage),
                  .int8 = c.weights == WeightType::kInt8,
                  .load = [&](Session& session) { return LoadLinear(session, c); },
                  .batches = RandomBatches(c.in * 1000 + c.out, kPositions)});
}

TEST(BackendOps, LinearOfAllSizes) {
  for (int in : kSizes) {
    for (int out : kSizes) {
      CheckLinear("linear", {.in = in, .out = out, .phase = in < out ? Phase::kEncode : Phase::kDecode});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(BackendOps, LinearOfOddSizes) {
  for (const auto& [in, out] : {std::pair{1, 1}, {7, 3}, {33, 65}, {65, 33}, {127, 129}}) {
    CheckLinear("linear", {.in = in, .out = out});
    if (HasFatalFailure()) return;
  }
}

TEST(BackendOps, LinearWithEveryActivationAndStorage) {
  for (Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                                Activation::kGeluQuick, Activation::kSilu, Activation::kTanh}) {
    for (Storage storage : {Storage::kState, Storage::kResidual}) {
      const std::string name = "activation " + std::to_string(static_cast<int>(activation)) +
                               (storage == Storage::kState ? " to state" : " to residual");
      CheckLinear(name, {.in = 40, .out = 200, .activation = activation, .storage = storage});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(BackendOps, LinearWithResidualAndWithoutBias) {
  for (const auto residual : {LinearCase::Residual::kOther, LinearCase::Residual::kOutput}) {
    for (bool bias : {true, false}) {
      for (Activation activation : {Activation::kNone, Activation::kGelu}) {
        const std::string name = std::string("residual ") +
                                 (residual == LinearCase::Residual::kOutput ? "in place" : "apart") +
                                 (bias ? "" : " no bias");
        CheckLinear(name, {.in = 96,
                           .out = 40,
                           .bias = bias,
                           .activation = activation,
                           .storage = Storage::kResidual,
                           .residual = residual});
        if (HasFatalFailure()) return;
      }
    }
  }
  CheckLinear("residual to state",
              {.in = 64, .out = 64, .storage = Storage::kState, .residual = LinearCase::Residual::kOther});
}

TEST(BackendOps, GatedLinear) {
  for (const auto& [in, out] : {std::pair{1, 1}, {7, 3}, {40, 32}, {33, 65}, {96, 200}, {64, 768}}) {
    for (const bool bias : {true, false}) {
      CheckLinear("gated", {.in = in, .out = out, .bias = bias, .gated = true, .activation = Activation::kGeluTanh});
      CheckLinear("gated residual", {.in = in,
                                     .out = out,
                                     .bias = bias,
                                     .gated = true,
                                     .activation = Activation::kSilu,
                                     .storage = Storage::kResidual,
                                     .residual = LinearCase::Residual::kOther,
                                     .phase = Phase::kEncode});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(BackendOps, LinearOfHalfPrecisionCheckpoints) {
  for (DataType type : {DataType::kBFloat16, DataType::kFloat16}) {
    constexpr int kIn = 40;
    constexpr int kOut = 24;
    // Multiples of 1/8 below 2: both formats hold them. As float16: sign, exponent + 15, 10 bits; as bfloat16: the
    // upper half of the float32.
    std::vector<uint16_t> bits(kIn * kOut);
    for (size_t i = 0; i < bits.size(); ++i) {
      const uint16_t sign = i % 2 == 0 ? 0 : 0x8000;
      const uint16_t eighths = i % 8;  // 1 + eighths / 8
      bits[i] = type == DataType::kFloat16 ? sign | (15 << 10) | (eighths << 7) : sign | (127 << 7) | (eighths << 4);
    }
    const auto load = [&](Session& session) {
      session.AllocatePlainMemory(kPositions);
      const std::shared_ptr<PackedWeight> weight = session.backend().PackLinear(
          {.type = type, .shape = {kOut, kIn}, .data = reinterpret_cast<const std::byte*>(bits.data())}, nullptr);
      const Tensor input = session.Allocate(kPositions, kIn, Storage::kState);
      const Tensor output = session.Allocate(kPositions, kOut, Storage::kResidual);
      return RowwiseRunner(
          session, Phase::kDecode, input, session.Random(5, kPositions * kIn, 1.0f),
          [=, &session] {
            session.backend().Linear(
                {.phase = Phase::kDecode, .input = input, .weight = weight.get(), .output = output});
          },
          output);
    };
    CheckOperation({.name = type == DataType::kFloat16 ? "float16 weight" : "bfloat16 weight",
                    .units = kPositions,
                    .cols = kOut,
                    .tolerance = ToleranceOf(Storage::kResidual),
                    .load = load,
                    .batches = {}});
  }
}

// Of integers, which sum exactly: as close as states are.
TEST(BackendOps, LinearOfInt8Weights) {
  constexpr WeightType kInt8 = WeightType::kInt8;
  for (const auto& [in, out] : {std::pair{1, 1}, {7, 3}, {33, 65}, {65, 33}, {96, 200}, {127, 129}, {768, 64}}) {
    CheckLinear("int8", {.in = in, .out = out, .storage = Storage::kResidual, .weights = kInt8});
    CheckLinear("int8 to state", {.in = in, .out = out, .activation = Activation::kGelu, .weights = kInt8});
    CheckLinear("int8 gated", {.in = in,
                               .out = out,
                               .gated = true,
                               .activation = Activation::kSilu,
                               .storage = Storage::kResidual,
                               .residual = LinearCase::Residual::kOther,
                               .phase = Phase::kEncode,
                               .weights = kInt8});
    if (HasFatalFailure()) return;
  }
  CheckLinear("int8 in place", {.in = 64,
                                .out = 72,
                                .bias = false,
                                .storage = Storage::kResidual,
                                .residual = LinearCase::Residual::kOutput,
                                .weights = kInt8});
}

// A row's integers leave out what is far from the rest, or that would be all that they show.
TEST(BackendOps, Int8RowsWithOutliers) {
  CheckLinear("int8 outliers nearby", {.in = 768,
                                       .out = 40,
                                       .storage = Storage::kResidual,
                                       .weights = WeightType::kInt8,
                                       .outliers = 1,
                                       .outlier = 19});
  // So many of these numbers are beyond 20 times their mean magnitude; of the last there are more than are left out.
  for (const auto& [in, outliers] : {std::pair{60, 1}, {768, 4}, {4000, 11}}) {
    CheckLinear("int8 outliers", {.in = in,
                                  .out = 40,
                                  .gated = outliers == 4,
                                  .storage = Storage::kResidual,
                                  .weights = WeightType::kInt8,
                                  .outliers = outliers});
    if (HasFatalFailure()) return;
  }
}

void CheckPerHead(int heads, int in, int out, Phase phase, WeightType type = WeightType::kState) {
  const auto load = [&](Session& session) {
    session.AllocatePlainMemory(kPositions);
    const std::vector<float> values =
        session.Random(7, int64_t{heads} * in * out, 1 / std::sqrt(static_cast<float>(in)));
    const std::shared_ptr<PackedWeight> weight =
        session.backend().PackPerHead(View(values, {heads, in, out}), nullptr, type);
    const Tensor input = session.Allocate(kPositions, int64_t{heads} * in, Storage::kState);
    const Tensor output = session.Allocate(kPositions, int64_t{heads} * out, Storage::kState);
    return RowwiseRunner(
        session, phase, input, session.Random(8, kPositions * input.cols, 1.0f),
        [=, &session] {
          session.backend().PerHeadLinear({.phase = phase, .input = input, .weight = weight.get(), .output = output});
        },
        output);
  };
  CheckOperation(
      {.name = "per head: heads " + std::to_string(heads) + " in " + std::to_string(in) + " out " + std::to_string(out),
       .units = kPositions,
       .cols = int64_t{heads} * out,
       .int8 = type == WeightType::kInt8,
       .load = load,
       .batches = RandomBatches(heads * 1000 + in, kPositions)});
}

TEST(BackendOps, PerHeadLinear) {
  // {heads, d_k, d}: the width of all heads is d or differs from it.
  const int shapes[][3] = {{1, 8, 8}, {1, 64, 200}, {3, 8, 24}, {3, 24, 40}, {5, 16, 96}, {12, 16, 64}, {12, 64, 768}};
  for (const auto& [heads, head_dim, d] : shapes) {
    CheckPerHead(heads, head_dim, d, Phase::kDecode);
    CheckPerHead(heads, d, head_dim, Phase::kEncode);
    CheckPerHead(heads, head_dim, d, Phase::kEncode, WeightType::kInt8);
    CheckPerHead(heads, d, head_dim, Phase::kDecode, WeightType::kInt8);
    if (HasFatalFailure()) return;
  }
}

// Large enough to show in the answer.
constexpr float kEpsilon = 0.5f;

enum class NormResidual { kNone, kOther, kInput };

Runner LoadNorm(Session& session, NormKind kind, int d, NormResidual into) {
  session.AllocatePlainMemory(kPositions);
  std::vector<float> gamma = session.Random(9, d, 0.5f);
  for (float& value : gamma) value += value < 0 ? -1.0f : 1.0f;
  if (session.precision() == DataType::kBFloat16) {
    for (float& value : gamma) value = RoundedToBFloat16(value);
  }
  const std::vector<float> beta = session.Random(10, d, 0.5f);
  const HostTensor beta_view = View(beta, {d});
  const std::shared_ptr<PackedWeight> weight =
      session.backend().PackNorm(kind, View(gamma, {d}), kind == NormKind::kLayerNorm ? &beta_view : nullptr, kEpsilon);
  const Tensor input = session.Allocate(kPositions, d, Storage::kResidual);
  const Tensor state = session.Allocate(kPositions, d, Storage::kState);
  const auto residual = std::make_shared<Tensor>(
      into == NormResidual::kOther ? session.Allocate(kPositions, d, Storage::kResidual) : input);
  // A mean that is large against the deviation: a variance taken as E[x^2] - E[x]^2 would show.
  std::vector<float> inputs = RandomValues(11, int64_t{kPositions} * d, 2.0f);
  for (float& value : inputs) value += 20.0f;
  return [=, &session](std::span<const int> units) {
    Backend& backend = session.backend();
    OwnedStep step = PlainStep(Phase::kDecode, static_cast<int>(units.size()));
    backend.BeginStep(step.Layout());
    backend.Write(input, Rows(inputs, d, units));
    backend.Norm({.phase = Phase::kDecode,
                  .input = input,
                  .weight = weight.get(),
                  .residual = into == NormResidual::kNone ? nullptr : residual.get(),
                  .state = state});
    UnitOutputs outputs = OneRowEach(backend.Read(state, static_cast<int64_t>(units.size())), d);
    if (into == NormResidual::kNone) return outputs;
    const UnitOutputs residuals = OneRowEach(backend.Read(*residual, static_cast<int64_t>(units.size())), d);
    for (size_t i = 0; i < outputs.size(); ++i) {
      outputs[i].insert(outputs[i].end(), residuals[i].begin(), residuals[i].end());
    }
    return outputs;
  };
}

TEST(BackendOps, Norm) {
  for (NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    for (NormResidual into : {NormResidual::kNone, NormResidual::kOther, NormResidual::kInput}) {
      for (int d : {7, 8, 24, 40, 64, 96, 200, 768}) {
        CheckOperation({.name = std::string(kind == NormKind::kLayerNorm ? "LayerNorm" : "RMSNorm") + " d " +
                                std::to_string(d) + " residual " + std::to_string(static_cast<int>(into)),
                        .units = kPositions,
                        .cols = d,
                        .load = [&](Session& session) { return LoadNorm(session, kind, d, into); },
                        .batches = RandomBatches(d, kPositions)});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(BackendOps, NormOfWideRows) {
  for (int d : {1032, 2056}) {
    CheckOperation({.name = "LayerNorm d " + std::to_string(d),
                    .units = kPositions,
                    .cols = d,
                    .load = [&](Session& session) { return LoadNorm(session, NormKind::kLayerNorm, d, {}); },
                    .batches = {{3}}});
  }
}

// Without a weight the residual is only rounded to states.
TEST(BackendOps, NormWithoutWeight) {
  for (int d : {7, 8, 40, 200, 768}) {
    const auto load = [d](Session& session) -> Runner {
      session.AllocatePlainMemory(kPositions);
      const Tensor input = session.Allocate(kPositions, d, Storage::kResidual);
      const Tensor state = session.Allocate(kPositions, d, Storage::kState);
      const std::vector<float> inputs = session.Random(12, int64_t{kPositions} * d, 2.0f);
      return [=, &session](std::span<const int> units) {
        OwnedStep step = PlainStep(Phase::kDecode, static_cast<int>(units.size()));
        session.backend().BeginStep(step.Layout());
        session.backend().Write(input, Rows(inputs, d, units));
        session.backend().Norm({.phase = Phase::kDecode, .input = input, .weight = nullptr, .state = state});
        return OneRowEach(session.backend().Read(state, static_cast<int64_t>(units.size())), d);
      };
    };
    CheckOperation({.name = "rounding d " + std::to_string(d),
                    .units = kPositions,
                    .cols = d,
                    .tolerance = {.float32 = 0, .bfloat16 = 0},
                    .load = load,
                    .batches = RandomBatches(d, kPositions)});
    if (HasFatalFailure()) return;
  }
}

// The residual is float32 in every precision: no rounding of the state may be in it.
TEST(BackendOps, NormKeepsItsResidualInFloat32) {
  constexpr int kWidth = 96;
  const auto load = [&](Session& session) {
    const Runner run = LoadNorm(session, NormKind::kLayerNorm, kWidth, NormResidual::kOther);
    return [=](std::span<const int> units) {
      UnitOutputs outputs = run(units);
      for (auto& output : outputs) output.erase(output.begin(), output.begin() + kWidth);
      return outputs;
    };
  };
  CheckOperation({.name = "residual of LayerNorm",
                  .units = kPositions,
                  .cols = kWidth,
                  .tolerance = {.bfloat16 = 2e-5},
                  .load = load,
                  .batches = {}});
}

TEST(BackendOps, Embed) {
  constexpr int kVocab = 211;
  constexpr int kPlaces = 32;
  for (Phase phase : {Phase::kEncode, Phase::kDecode}) {
    for (int d : {8, 40, 200}) {
      for (bool with_places : {true, false}) {
        const auto load = [&](Session& session) -> Runner {
          session.AllocatePlainMemory(kPositions);
          const std::shared_ptr<PackedWeight> tokens =
              session.backend().PackEmbedding(View(session.Random(12, kVocab * d, 1.0f), {kVocab, d}));
          const std::shared_ptr<PackedWeight> places =
              session.backend().PackEmbedding(View(session.Random(13, (kPlaces + 2) * d, 1.0f), {kPlaces + 2, d}));
          const Tensor output = session.Allocate(kPositions, d, Storage::kResidual);
          return [=, &session](std::span<const int> units) {
            std::vector<int32_t> ids;
            std::vector<int32_t> at;
            for (int unit : units) {
              ids.push_back(unit * 37 % kVocab);
              at.push_back(unit * 11 % kPlaces);
            }
            OwnedStep step = PlainStep(phase, ids, at);
            session.backend().BeginStep(step.Layout());
            session.backend().Embed({.phase = phase,
                                     .tokens = tokens.get(),
                                     .scale = 2.5f,
                                     .positions = with_places ? places.get() : nullptr,
                                     .position_offset = 2,
                                     .output = output});
            return OneRowEach(session.backend().Read(output, static_cast<int64_t>(units.size())), d);
          };
        };
        CheckOperation({.name = "embed d " + std::to_string(d),
                        .units = kPositions,
                        .cols = d,
                        .tolerance = {.float32 = 1e-6, .bfloat16 = 1e-6},
                        .load = load,
                        .batches = RandomBatches(d, kPositions)});
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace elserve
