// What families differ in, as values: the encoder and the decoder of made-up models against a plain forward pass that
// knows nothing of how norms, gates and biases are handed to a backend.
#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/backend/reference/operations.h"
#include "engine/backend/reference/reference_backend.h"
#include "engine/model/decoder.h"
#include "engine/model/encoder.h"
#include "engine/model/families/sinusoids.h"
#include "engine/model/packed_weights.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

constexpr int kD = 12, kHeads = 3, kHeadDim = 5, kFfn = 7, kVocab = 11, kTokens = 6, kReach = 8;

struct Kind {
  std::string name;
  NormPlacement placement = NormPlacement::kPost;
  bool embedding_norm = true;
  bool final_norm = false;
  bool biases = true;
  bool gated = false;
  bool position_bias = false;
  bool learned_positions = false;
  bool decoder_only = false;
  int favor_features = 0;  // of the encoder
  float head_scale = 1.0f;
  NormKind norm = NormKind::kLayerNorm;
  Activation activation = Activation::kGelu;
  AttentionApproximation approximation = {};
  int ffn_top_k = 0;
};

// As the families have them, so that every value stands in some combination that exists.
std::vector<Kind> Kinds() {
  return {{.name = "bart"},
          {.name = "bart_favor", .favor_features = 9},
          {.name = "marian", .embedding_norm = false},
          {.name = "pegasus", .placement = NormPlacement::kPre, .embedding_norm = false, .final_norm = true},
          {.name = "mbart", .placement = NormPlacement::kPre, .final_norm = true},
          {.name = "t5",
           .placement = NormPlacement::kPre,
           .embedding_norm = false,
           .final_norm = true,
           .biases = false,
           .gated = true,
           .position_bias = true,
           .head_scale = 0.6f,
           .norm = NormKind::kRmsNorm},
          {.name = "gpt2",
           .placement = NormPlacement::kPre,
           .embedding_norm = false,
           .final_norm = true,
           .learned_positions = true,
           .decoder_only = true},
          {.name = "top_k", .activation = Activation::kRelu, .approximation = {.top_k = 2}, .ffn_top_k = 3},
          {.name = "pruned", .approximation = {.values = AttentionValues::kPruned, .threshold = 0.003f}},
          {.name = "log3bit",
           .placement = NormPlacement::kPre,
           .final_norm = true,
           .approximation = {.top_k = 5, .values = AttentionValues::kLog3Bit}},
          {.name = "without_biases",
           .biases = false,
           .position_bias = true,
           .approximation = {.values = AttentionValues::kLog3Bit}}};
}

// Random weights that the tensors below point to.
class Model {
 public:
  explicit Model(const Kind& kind) : kind_(kind) {
    config.vocab_size = kVocab;
    config.d_model = kD;
    config.activation = kind.activation;
    options = {.forms = {}, .approximation = kind.approximation, .ffn_top_k = kind.ffn_top_k};
    config.gated_feed_forward = kind.gated;
    config.norm_placement = kind.placement;
    config.norm_kind = kind.norm;
    config.embedding_scale = 1.5f;
    config.head_scale = kind.head_scale;
    for (StackConfig* stack : {&config.encoder, &config.decoder}) {
      *stack = {.layers = 2, .heads = kHeads, .head_dim = kHeadDim, .ffn = kFfn, .score_scale = 0.4f};
    }
    weights.decoder = Stack(true);
    if (kind.decoder_only) {
      config.encoder = {};
    } else {
      weights.encoder = Stack(false);
      config.encoder.favor_features = kind.favor_features;
      weights.encoder.embedding.tokens = weights.decoder.embedding.tokens;
    }
    weights.head = Make({kVocab, kD}, 0.5f);
  }

  ModelConfig config;
  ModelWeights weights;
  PackOptions options;

 private:
  HostTensor Make(std::vector<int64_t> shape, float deviation) {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    values_.push_back(RandomValues(++seed_, n, deviation));
    return View(values_.back(), std::move(shape));
  }
  LinearWeights Linear(int64_t out, int64_t in) {
    LinearWeights linear{.weight = Make({out, in}, 0.4f), .bias = {}};
    if (kind_.biases) linear.bias = Make({out}, 0.3f);
    return linear;
  }
  NormWeights Norm() {
    NormWeights norm{.gamma = Make({kD}, 1.0f), .beta = {}};
    if (kind_.norm == NormKind::kLayerNorm) norm.beta = Make({kD}, 0.3f);
    return norm;
  }
  AttentionWeights Attention() {
    constexpr int kInner = kHeads * kHeadDim;
    return {.q = Linear(kInner, kD),
            .k = Linear(kInner, kD),
            .v = Linear(kInner, kD),
            .o = Linear(kD, kInner),
            .norm = Norm(),
            .features = {}};
  }
  StackWeights Stack(bool decoder) {
    StackWeights stack;
    stack.embedding.tokens = Make({kVocab, kD}, 1.0f);
    if (kind_.learned_positions) stack.embedding.positions = Make({kReach, kD}, 0.7f);
    if (kind_.embedding_norm) stack.embedding.norm = Norm();
    if (kind_.position_bias) {
      stack.position_bias = {.table = Make({kHeads, 2 * kReach - 1}, 1.0f), .zero = kReach - 1};
    }
    for (int i = 0; i < 2; ++i) {
      LayerWeights layer;
      layer.self_attention = Attention();
      if (!decoder && kind_.favor_features > 0) {
        layer.self_attention.features = Make({kind_.favor_features, kHeadDim}, 1.0f);
      }
      if (decoder && !kind_.decoder_only) layer.cross_attention = Attention();
      layer.feed_forward = {.fc1 = Linear(kFfn, kD), .gate = {}, .fc2 = Linear(kD, kFfn), .norm = Norm()};
      if (kind_.gated) layer.feed_forward.gate = Linear(kFfn, kD);
      stack.layers.push_back(layer);
    }
    if (kind_.final_norm) stack.final_norm = Norm();
    return stack;
  }

  const Kind kind_;
  uint32_t seed_ = 100;
  std::deque<std::vector<float>> values_;
};

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;  // a row a token

Vector Values(const HostTensor& tensor) {
  std::vector<float> values(tensor.size());
  ReadFloats(tensor, 0, tensor.size(), values.data());
  return {values.begin(), values.end()};
}

Matrix Product(const Matrix& x, const LinearWeights& linear) {
  const Vector w = Values(linear.weight), b = linear.bias ? Values(*linear.bias) : Vector();
  const size_t out = linear.weight.shape[0], in = linear.weight.shape[1];
  Matrix y(x.size(), Vector(out));
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t o = 0; o < out; ++o) {
      y[t][o] = b.empty() ? 0 : b[o];
      for (size_t i = 0; i < in; ++i) y[t][o] += x[t][i] * w[o * in + i];
    }
  }
  return y;
}

Matrix Normed(const ModelConfig& config, const Matrix& x, const NormWeights& norm) {
  const Vector gamma = Values(norm.gamma), beta = norm.beta ? Values(*norm.beta) : Vector(kD);
  Matrix y = x;
  for (Vector& row : y) {
    double mean = 0, squares = 0;
    if (config.norm_kind == NormKind::kLayerNorm) {
      for (double value : row) mean += value / kD;
    }
    for (double value : row) squares += (value - mean) * (value - mean) / kD;
    for (int i = 0; i < kD; ++i) {
      row[i] = (row[i] - mean) / std::sqrt(squares + config.norm_epsilon) * gamma[i] + beta[i];
    }
  }
  return y;
}

// sum_i phi(q)_i phi(k)_i, times the number of features.
double FavorWeight(const Vector& features, const double* q, const double* k, double score_scale) {
  double sum = 0;
  for (size_t at = 0; at < features.size(); at += kHeadDim) {
    double exponent = 0;
    for (int i = 0; i < kHeadDim; ++i) {
      const double scaled_q = q[i] * std::sqrt(score_scale), scaled_k = k[i] * std::sqrt(score_scale);
      exponent += features[at + i] * (scaled_q + scaled_k) - (scaled_q * scaled_q + scaled_k * scaled_k) / 2;
    }
    sum += std::exp(exponent);
  }
  return sum;
}

// `memory`: what keys and values are made of; `causal`: a token sees itself and what stood before, and nothing is
// approximated.
Matrix Attended(const Model& model, const Matrix& x, const Matrix& memory, const AttentionWeights& w,
                const std::optional<PositionBiasWeights>& bias, bool causal) {
  const ModelConfig& config = model.config;
  const Matrix q = Product(x, w.q), k = Product(memory, w.k), v = Product(memory, w.v);
  const Vector table = bias ? Values(bias->table) : Vector(), features = w.features ? Values(*w.features) : Vector();
  Matrix context(x.size(), Vector(kHeads * kHeadDim));
  for (size_t t = 0; t < x.size(); ++t) {
    for (int head = 0; head < kHeads; ++head) {
      const size_t seen = causal ? t + 1 : memory.size();
      Vector scores(seen);
      for (size_t s = 0; s < seen; ++s) {
        for (int i = 0; i < kHeadDim; ++i) scores[s] += q[t][head * kHeadDim + i] * k[s][head * kHeadDim + i];
        scores[s] *= config.decoder.score_scale;
        if (bias) scores[s] += table[head * (2 * kReach - 1) + static_cast<int>(s) - static_cast<int>(t) + bias->zero];
        if (w.features) {
          scores[s] = std::log(
              FavorWeight(features, &q[t][head * kHeadDim], &k[s][head * kHeadDim], config.encoder.score_scale));
        }
      }
      reference::Weigh(causal ? AttentionApproximation() : model.options.approximation, scores);
      for (size_t s = 0; s < seen; ++s) {
        for (int i = 0; i < kHeadDim; ++i) {
          context[t][head * kHeadDim + i] += scores[s] * v[s][head * kHeadDim + i];
        }
      }
    }
  }
  return Product(context, w.o);
}

double Gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

Matrix FedForward(const Model& model, const Matrix& x, const FeedForwardWeights& w) {
  const bool relu = model.config.activation == Activation::kRelu;
  Matrix hidden = Product(x, w.gate ? *w.gate : w.fc1);
  const Matrix up = w.gate ? Product(x, w.fc1) : Matrix();
  for (size_t t = 0; t < hidden.size(); ++t) {
    for (int i = 0; i < kFfn; ++i) {
      hidden[t][i] = (relu ? std::max(hidden[t][i], 0.0) : Gelu(hidden[t][i])) * (w.gate ? up[t][i] : 1);
    }
    if (model.options.ffn_top_k > 0) reference::KeepLargest(model.options.ffn_top_k, 0, hidden[t]);
  }
  return Product(hidden, w.fc2);
}

// The states of a stack; `memory`: the encoder's, of a decoder (without cross-attention nobody reads it).
Matrix Forward(const Model& model, const StackWeights& stack, const std::vector<int32_t>& tokens,
               const Matrix* memory) {
  const ModelConfig& config = model.config;
  const Vector table = Values(stack.embedding.tokens);
  Matrix x;
  for (int32_t token : tokens) {
    x.emplace_back(table.begin() + token * kD, table.begin() + (token + 1) * kD);
    for (double& value : x.back()) value *= config.embedding_scale;
  }
  if (stack.embedding.positions) {
    const Vector positions = Values(*stack.embedding.positions);
    for (size_t t = 0; t < x.size(); ++t) {
      for (int i = 0; i < kD; ++i) x[t][i] += positions[t * kD + i];
    }
  }
  if (stack.embedding.norm) x = Normed(config, x, *stack.embedding.norm);
  const auto sublayer = [&](const NormWeights& norm, auto&& compute) {
    const bool pre = config.norm_placement == NormPlacement::kPre;
    const Matrix y = compute(pre ? Normed(config, x, norm) : x);
    for (size_t t = 0; t < x.size(); ++t) {
      for (int i = 0; i < kD; ++i) x[t][i] += y[t][i];
    }
    if (!pre) x = Normed(config, x, norm);
  };
  for (const LayerWeights& layer : stack.layers) {
    sublayer(layer.self_attention.norm, [&](const Matrix& in) {
      return Attended(model, in, in, layer.self_attention, stack.position_bias, memory != nullptr);
    });
    if (layer.cross_attention) {
      sublayer(layer.cross_attention->norm, [&](const Matrix& in) {
        return Attended(model, in, *memory, *layer.cross_attention, std::nullopt, false);
      });
    }
    sublayer(layer.feed_forward.norm, [&](const Matrix& in) { return FedForward(model, in, layer.feed_forward); });
  }
  return stack.final_norm ? Normed(config, x, *stack.final_norm) : x;
}

// log-softmax of the last position's logits by the plain forward pass.
Vector LogProbs(const Model& model, const std::vector<int32_t>& source, const std::vector<int32_t>& target) {
  Matrix memory;
  if (!model.config.decoder_only()) memory = Forward(model, model.weights.encoder, source, nullptr);
  Matrix states = Forward(model, model.weights.decoder, target, &memory);
  for (double& value : states.back()) value *= model.config.head_scale;
  Vector logits = Product({states.back()}, {.weight = model.weights.head, .bias = {}})[0];
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit);
  for (double& logit : logits) logit -= std::log(sum);
  return logits;
}

class LayersTest : public testing::TestWithParam<Kind> {};

TEST_P(LayersTest, AgreeWithAPlainForwardPass) {
  const Model model(GetParam());
  const std::vector<int32_t> source = {3, 1, 10, 7, 7, 2}, target = {5, 0, 9};
  ASSERT_EQ(source.size(), size_t{kTokens});
  for (AttentionForms forms : {kAllEl, kAllKv}) {
    if (GetParam().decoder_only) forms.cross = std::nullopt;
    const std::unique_ptr<Backend> backend = MakeReferenceBackend();
    PackOptions options = model.options;
    options.forms = forms;
    const PackedModel packed = PackModel(model.config, model.weights, options, *backend);
    ASSERT_TRUE(
        backend
            ->AllocateMemory(
                {.cross = forms.cross, .self = forms.self, .layers = 2, .d = kD, .heads = kHeads, .head_dim = kHeadDim},
                GetParam().decoder_only ? 0 : 1, 1,
                {.encode_positions = kTokens,
                 .prefill_positions = 2,
                 .prefill_history = 2,
                 .decode_positions = 4,
                 .select_rows = 1,
                 .decoder_length = 4,
                 .source_length = kTokens})
            .ok());
    auto encoder = Encoder::Create(model.config, packed, forms.cross, kTokens, *backend);
    auto prefill = Decoder::Create(model.config, packed, {Phase::kPrefill, 2, forms}, *backend);
    auto decoder = Decoder::Create(model.config, packed, {Phase::kDecode, 4, forms}, *backend);
    ASSERT_TRUE(encoder.ok() && prefill.ok() && decoder.ok());
    const std::vector<int32_t> page = {0};
    const std::vector<int32_t> ids = {0, 1, 2, 3, 4, 5};
    const std::vector<EncodeDocument> encoded = {{.begin = 0, .length = kTokens, .pages = page}};
    EXPECT_EQ((*encoder)->layers(), GetParam().decoder_only ? 0 : 2);
    if (!GetParam().decoder_only) {
      StepLayout encode;
      encode.encode = {.tokens = source, .position_ids = ids, .documents = encoded};
      backend->BeginStep(encode);
      (*encoder)->Embed();
      for (int layer = 0; layer < 2; ++layer) (*encoder)->RunLayer(layer);
      (*encoder)->Store();
    }

    // The target's first two positions at once, and the third behind them in the same step.
    const std::vector<int32_t> cells = {5, 3, 9};
    const std::span<const int32_t> tokens = target, places = ids;
    const std::vector<DecodeRow> prefix = {
        {.begin = 0, .positions = 2, .first = 0, .ancestry = std::span(cells).first(2)}};
    const std::vector<DecodeRow> last = {{.begin = 0, .positions = 1, .first = 2, .ancestry = cells}};
    std::vector<DecodeDocument> both = {{.begin = 0, .positions = 2, .length = kTokens, .pages = page}};
    std::vector<DecodeDocument> one = {{.begin = 0, .positions = 1, .length = kTokens, .pages = page}};
    if (GetParam().decoder_only) {
      both = {{.begin = 0, .positions = 2, .length = 0, .pages = {}}};
      one = {{.begin = 0, .positions = 1, .length = 0, .pages = {}}};
    }
    const std::vector<SelectRow> select = {{.position = 0, .count = kVocab, .force = {}, .edits = {}}};
    StepLayout step;
    step.prefill = {tokens.first(2), places.first(2), prefix, both, {}};
    step.decode = {tokens.subspan(2), places.subspan(2, 1), last, one, select};
    backend->BeginStep(step);
    (*prefill)->Run();
    (*decoder)->Run();
    (*decoder)->Select();
    const auto selected = backend->Selected();
    ASSERT_TRUE(selected.ok());
    ASSERT_EQ((*selected)[0].candidates.size(), size_t{kVocab});
    const Vector expected = LogProbs(model, source, target);
    for (const Candidate& c : (*selected)[0].candidates) {
      EXPECT_NEAR(c.logprob, expected[c.token], 1e-4) << ToString(forms) << " token " << c.token;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LayersTest, testing::ValuesIn(Kinds()),
                         [](const testing::TestParamInfo<Kind>& info) { return info.param.name; });

// By numpy, as transformers' MarianSinusoidalPositionalEmbedding has them.
TEST(Sinusoids, SinesThenCosines) {
  const std::vector<float> table = Sinusoids(3, 4);
  EXPECT_THAT(std::vector<float>(table.begin(), table.begin() + 4), testing::ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(std::vector<float>(table.begin() + 8, table.end()),
              testing::ElementsAre(testing::FloatEq(0.90929743f), testing::FloatEq(0.01999867f),
                                   testing::FloatEq(-0.41614684f), testing::FloatEq(0.9998f)));
  // An odd width has one sine more.
  const std::vector<float> odd = Sinusoids(2, 3);
  EXPECT_THAT(std::vector<float>(odd.begin() + 3, odd.end()),
              testing::ElementsAre(testing::FloatEq(0.84147098f), testing::FloatEq(0.00215443302f),
                                   testing::FloatEq(0.54030231f)));
}

}  // namespace
}  // namespace elserve
