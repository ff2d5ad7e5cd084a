#include <cmath>

#include "tests/engine/model/families/family_test.h"

namespace elserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

nlohmann::json Config() {
  return {{"model_type", "gpt2"}, {"vocab_size", 11}, {"n_embd", 6},     {"n_head", 3},
          {"n_layer", 2},         {"n_inner", 5},     {"n_positions", 9}};
}

// What save_pretrained writes with a tied head; weights of products are [in, out].
std::vector<WrittenTensor> Tensors() {
  std::vector<WrittenTensor> tensors = {{"transformer.wte.weight", {11, 6}}, {"transformer.wpe.weight", {9, 6}}};
  const auto conv1d = [&tensors](const std::string& name, int64_t in, int64_t out) {
    tensors.push_back({name + ".bias", {out}});
    tensors.push_back({name + ".weight", {in, out}});
  };
  for (const std::string layer : {"transformer.h.0.", "transformer.h.1."}) {
    AddModule(&tensors, layer + "ln_1", {6});
    conv1d(layer + "attn.c_attn", 6, 18);
    conv1d(layer + "attn.c_proj", 6, 6);
    AddModule(&tensors, layer + "ln_2", {6});
    conv1d(layer + "mlp.c_fc", 6, 5);
    conv1d(layer + "mlp.c_proj", 5, 6);
  }
  AddModule(&tensors, "transformer.ln_f", {6});
  return tensors;
}

class Gpt2Test : public FamilyTest {
 protected:
  Gpt2Test() : FamilyTest(Config(), Tensors()) {}

  // The place of a tensor, which DataOf fills with its place, then an eighth more for each number.
  float First(std::string_view name) { return static_cast<float>(&Find(name) - tensors_.data()); }
};

TEST_F(Gpt2Test, ReadsTheConfig) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.model_type, "gpt2");
  EXPECT_TRUE(config.decoder_only());
  EXPECT_EQ(config.vocab_size, 11);
  EXPECT_EQ(config.d_model, 6);
  EXPECT_EQ(config.decoder.layers, 2);
  EXPECT_EQ(config.decoder.heads, 3);
  EXPECT_EQ(config.decoder.head_dim, 2);
  EXPECT_EQ(config.decoder.ffn, 5);
  EXPECT_FLOAT_EQ(config.decoder.score_scale, 1 / std::sqrt(2.0f));
  EXPECT_EQ(config.decoder.max_positions, 9);
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_EQ(config.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(config.norm_kind, NormKind::kLayerNorm);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_EQ(config.positions, Positions::kLearned);
  EXPECT_EQ(config.position_offset, 0);
  EXPECT_EQ(config.usual_tokens, 0);
  EXPECT_TRUE(config.tied_head);
  // GPT2Config's 50256 is outside of this vocabulary.
  EXPECT_EQ(config.bos_token_id, -1);
  EXPECT_EQ(config.pad_token_id, -1);
  EXPECT_EQ(config.decoder_start_token_id, -1);
  EXPECT_TRUE(config.eos_token_id.empty());
}

TEST_F(Gpt2Test, KeysThatChangeWhatIsComputed) {
  config_.update({{"scale_attn_weights", false},
                  {"reorder_and_upcast_attn", true},
                  {"activation_function", "relu"},
                  {"layer_norm_epsilon", 1e-3},
                  {"eos_token_id", {4, 5}},
                  {"architectures", {"GPT2LMHeadModel"}}});
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.decoder.score_scale, 1.0f);
  EXPECT_EQ(model->config.activation, Activation::kRelu);
  EXPECT_FLOAT_EQ(model->config.norm_epsilon, 1e-3f);
  EXPECT_THAT(model->config.eos_token_id, ElementsAre(4, 5));
}

TEST_F(Gpt2Test, FourTimesTheWidthWhereNInnerIsNull) {
  config_["n_inner"] = nullptr;
  EXPECT_THAT(LoadError(), HasSubstr("h.0.mlp.c_fc.weight\" has shape [6, 5]; expected [6, 24]"));
  config_.erase("n_inner");
  EXPECT_THAT(LoadError(), HasSubstr("expected [6, 24]"));
}

TEST_F(Gpt2Test, AliasesWin) {
  config_.update({{"hidden_size", 6},
                  {"n_embd", 7},
                  {"num_hidden_layers", 1},
                  {"num_attention_heads", 2},
                  {"max_position_embeddings", 9},
                  {"n_positions", 8}});
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.d_model, 6);
  EXPECT_EQ(model->config.decoder.layers, 1);
  EXPECT_EQ(model->config.decoder.heads, 2);
  EXPECT_EQ(model->config.decoder.max_positions, 9);
}

TEST_F(Gpt2Test, EveryWeightIsTheTensorOfItsName) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelWeights& weights = model->weights;
  EXPECT_TRUE(weights.encoder.layers.empty());
  EXPECT_EQ(weights.encoder.embedding.tokens.data, nullptr);
  EXPECT_EQ(NameOf(weights.decoder.embedding.tokens), "transformer.wte.weight");
  EXPECT_EQ(NameOf(*weights.decoder.embedding.positions), "transformer.wpe.weight");
  EXPECT_EQ(NameOf(weights.head), "transformer.wte.weight");
  EXPECT_EQ(NameOf(weights.decoder.final_norm->gamma), "transformer.ln_f.weight");
  ASSERT_EQ(weights.decoder.layers.size(), 2u);
  for (int i = 0; i < 2; ++i) {
    const LayerWeights& layer = weights.decoder.layers[i];
    const std::string at = "transformer.h." + std::to_string(i) + ".";
    EXPECT_FALSE(layer.cross_attention.has_value());
    EXPECT_EQ(NameOf(layer.self_attention.norm.gamma), at + "ln_1.weight");
    EXPECT_EQ(NameOf(layer.self_attention.o.weight), at + "attn.c_proj.weight");
    EXPECT_EQ(NameOf(*layer.self_attention.o.bias), at + "attn.c_proj.bias");
    EXPECT_EQ(NameOf(layer.feed_forward.norm.gamma), at + "ln_2.weight");
    EXPECT_EQ(NameOf(layer.feed_forward.fc1.weight), at + "mlp.c_fc.weight");
    EXPECT_EQ(NameOf(layer.feed_forward.fc2.weight), at + "mlp.c_proj.weight");
    EXPECT_FALSE(layer.feed_forward.gate.has_value());
  }
  EXPECT_EQ(weights.parameters, Numbers());
}

// Number [in, out] of a stored weight is [out, in] here, and q, k and v are outputs 0 to 5, 6 to 11 and 12 to 17.
TEST_F(Gpt2Test, WeightsAreTurnedAndQueriesKeysAndValuesApart) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const LayerWeights& layer = model->weights.decoder.layers[1];
  const auto expect = [this](const LinearWeights& linear, const std::string& module, int64_t first, int64_t stored) {
    const int64_t out = linear.weight.shape[0], in = linear.weight.shape[1];
    std::vector<float> weight(out * in), bias(out);
    ReadFloats(linear.weight, 0, out * in, weight.data());
    ReadFloats(*linear.bias, 0, out, bias.data());
    for (int64_t o = 0; o < out; ++o) {
      EXPECT_EQ(bias[o], First(module + ".bias") + static_cast<float>(first + o) / 8) << module << o;
      for (int64_t i = 0; i < in; ++i) {
        EXPECT_EQ(weight[o * in + i], First(module + ".weight") + static_cast<float>(i * stored + first + o) / 8)
            << module << " " << o << " " << i;
      }
    }
    // A part that begins and ends inside rows.
    std::vector<float> part(in + 1);
    ReadFloats(linear.weight, 2, in + 1, part.data());
    EXPECT_EQ(part, std::vector<float>(weight.begin() + 2, weight.begin() + 3 + in));
  };
  expect(layer.self_attention.q, "transformer.h.1.attn.c_attn", 0, 18);
  expect(layer.self_attention.k, "transformer.h.1.attn.c_attn", 6, 18);
  expect(layer.self_attention.v, "transformer.h.1.attn.c_attn", 12, 18);
  expect(layer.self_attention.o, "transformer.h.1.attn.c_proj", 0, 6);
  EXPECT_THAT(layer.feed_forward.fc1.weight.shape, ElementsAre(5, 6));
  expect(layer.feed_forward.fc1, "transformer.h.1.mlp.c_fc", 0, 5);
  EXPECT_THAT(layer.feed_forward.fc2.weight.shape, ElementsAre(6, 5));
  expect(layer.feed_forward.fc2, "transformer.h.1.mlp.c_proj", 0, 6);
}

// As GPT2Model saves it, and openai-community/gpt2 on the hub: no prefix, buffers of masks, no head.
TEST_F(Gpt2Test, NamesMayStandWithoutThePrefix) {
  for (WrittenTensor& tensor : tensors_) tensor.name.erase(0, std::string("transformer.").size());
  tensors_.push_back({"h.0.attn.bias", {1, 1, 9, 9}});
  tensors_.push_back({"h.0.attn.masked_bias", {1}});
  config_["architectures"] = {"GPT2Model"};
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(NameOf(model->weights.head), "wte.weight");
  EXPECT_EQ(NameOf(model->weights.decoder.layers[1].self_attention.q.weight), "h.1.attn.c_attn.weight");
  EXPECT_EQ(model->weights.parameters, Numbers() - 82);
}

TEST_F(Gpt2Test, AnUntiedHeadIsItsOwn) {
  config_["tie_word_embeddings"] = false;
  EXPECT_THAT(LoadError(), HasSubstr("tensor \"lm_head.weight\" is missing; expected shape [11, 6]"));
  tensors_.push_back({"lm_head.weight", {11, 6}});
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(NameOf(model->weights.head), "lm_head.weight");
  EXPECT_EQ(model->weights.parameters, Numbers());
}

TEST_F(Gpt2Test, BadConfigsNameKeyValueAndExpectation) {
  ExpectConfigErrors({
      {"vocab_size", "0", "vocab_size is 0; expected a whole number from 1 to"},
      {"n_embd", "131073", "n_embd is 131073; expected a whole number from 1 to 131072"},
      {"n_head", "4", "n_head is 4; expected a divisor of the model's width, 6"},
      {"n_layer", "1025", "n_layer is 1025; expected a whole number from 1 to 1024"},
      {"n_inner", "0", "n_inner is 0; expected a whole number from 1 to 131072"},
      {"n_positions", "null", "n_positions is null; expected a whole number from 1 to"},
      {"layer_norm_epsilon", "-1", "layer_norm_epsilon is -1; expected a number from"},
      {"activation_function", "\"gelu_old\"", "activation_function is \"gelu_old\"; expected one of"},
      {"scale_attn_weights", "1", "scale_attn_weights is 1; expected true or false"},
      {"scale_attn_by_inverse_layer_idx", "true", "scale_attn_by_inverse_layer_idx is true; expected false"},
      {"reorder_and_upcast_attn", "\"no\"", "reorder_and_upcast_attn is \"no\"; expected true or false"},
      {"add_cross_attention", "true", "add_cross_attention is true; expected false"},
      {"is_encoder_decoder", "true", "is_encoder_decoder is true; expected false"},
      {"eos_token_id", "11", "eos_token_id is 11; expected null, a token id from 0 to 10"},
      {"architectures", "[\"GPT2ForSequenceClassification\"]",
       "architectures is [\"GPT2ForSequenceClassification\"]; expected GPT2LMHeadModel or GPT2Model"},
      {"architectures", "[\"GPT2LMHeadModel\", \"GPT2DoubleHeadsModel\"]", "architectures is ["},
      {"architectures", "\"GPT2LMHeadModel\"",
       "architectures is \"GPT2LMHeadModel\"; expected null or a list of strings"},
      {"architectures", "[1]", "architectures is [1]; expected null or a list of strings"},
      {"attention_type", "\"favor\"",
       "attention_type is \"favor\"; expected \"softmax\" where model_type is \"gpt2\"; \"favor\" is for \"bart\" "
       "alone"},
  });
}

TEST_F(Gpt2Test, EveryTensorIsNeededInItsShape) { ExpectEveryTensorIsNeeded(); }

}  // namespace
}  // namespace elserve
