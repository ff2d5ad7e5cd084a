#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/families/relative_positions.h"
#include "tests/engine/model/families/family_test.h"

namespace elserve {
namespace {

// Two encoder layers, one decoder layer, 3 heads of 4 over a width of 6: d_kv is not d / heads.
nlohmann::json TinyConfig() {
  return {{"model_type", "t5"},
          {"vocab_size", 11},
          {"d_model", 6},
          {"d_kv", 4},
          {"d_ff", 5},
          {"num_layers", 2},
          {"num_heads", 3},
          {"num_decoder_layers", 1},
          {"relative_attention_num_buckets", 8},
          {"decoder_start_token_id", 0}};
}

std::vector<WrittenTensor> TinyTensors(bool gated) {
  std::vector<WrittenTensor> tensors = {{"shared.weight", {11, 6}}};
  for (const std::string side : {"encoder", "decoder"}) {
    const bool decoder = side == "decoder";
    for (int i = 0; i < (decoder ? 1 : 2); ++i) {
      const std::string block = side + ".block." + std::to_string(i) + ".layer.";
      const auto attention = [&](const std::string& module) {
        for (const char* part : {".q", ".k", ".v"}) tensors.push_back({module + part + ".weight", {12, 6}});
        tensors.push_back({module + ".o.weight", {6, 12}});
      };
      attention(block + "0.SelfAttention");
      if (i == 0) tensors.push_back({block + "0.SelfAttention.relative_attention_bias.weight", {8, 3}});
      if (decoder) attention(block + "1.EncDecAttention");
      const std::string last = block + (decoder ? "2" : "1") + ".";
      for (const char* name : {"wi_0", "wi_1", "wi"}) {
        if (gated == (std::string(name) != "wi"))
          tensors.push_back({last + "DenseReluDense." + name + ".weight", {5, 6}});
      }
      tensors.push_back({last + "DenseReluDense.wo.weight", {6, 5}});
      for (int norm = 0; norm < (decoder ? 3 : 2); ++norm) {
        tensors.push_back({block + std::to_string(norm) + ".layer_norm.weight", {6}});
      }
    }
    tensors.push_back({side + ".final_layer_norm.weight", {6}});
  }
  return tensors;
}

class T5Test : public FamilyTest {
 protected:
  T5Test() : FamilyTest(TinyConfig(), TinyTensors(false)) {}

  ModelConfig Config() {
    auto model = Load();
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? std::move(model->config) : ModelConfig();
  }
};

TEST_F(T5Test, ReadsTheConfig) {
  const ModelConfig config = Config();
  EXPECT_EQ(config.model_type, "t5");
  for (const StackConfig& stack : {config.encoder, config.decoder}) {
    EXPECT_EQ(stack.heads, 3);
    EXPECT_EQ(stack.head_dim, 4);
    EXPECT_EQ(stack.ffn, 5);
    EXPECT_EQ(stack.score_scale, 1.0f);
    EXPECT_EQ(stack.max_positions, 1 << 20);
  }
  EXPECT_EQ(config.encoder.layers, 2);
  EXPECT_EQ(config.decoder.layers, 1);
  EXPECT_EQ(config.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(config.norm_kind, NormKind::kRmsNorm);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-6f);
  EXPECT_EQ(config.positions, Positions::kNone);
  EXPECT_EQ(config.relative_buckets.buckets, 8);
  EXPECT_EQ(config.relative_buckets.max_distance, 128);
  EXPECT_EQ(config.activation, Activation::kRelu);
  EXPECT_FALSE(config.gated_feed_forward);
  EXPECT_TRUE(config.tied_head);
  EXPECT_FLOAT_EQ(config.head_scale, 1 / std::sqrt(6.0f));
  EXPECT_EQ(config.pad_token_id, 0);
  EXPECT_EQ(config.decoder_start_token_id, 0);
  EXPECT_THAT(config.eos_token_id, testing::ElementsAre(1));
}

TEST_F(T5Test, DefaultsAndAliases) {
  config_["num_decoder_layers"] = nullptr;
  config_["num_hidden_layers"] = 1;
  config_["hidden_size"] = 6;
  config_["d_model"] = 999;
  config_["head_dim"] = 4;
  config_["d_kv"] = 64;
  config_["num_attention_heads"] = 3;
  config_["num_heads"] = 8;
  const ModelConfig config = Config();
  EXPECT_EQ(config.encoder.layers, 1);
  EXPECT_EQ(config.decoder.layers, 1);
  EXPECT_EQ(config.d_model, 6);
  EXPECT_EQ(config.encoder.head_dim, 4);
  EXPECT_EQ(config.encoder.heads, 3);
}

TEST_F(T5Test, EveryWeightIsTheTensorOfItsName) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const StackWeights& encoder = model->weights.encoder;
  const StackWeights& decoder = model->weights.decoder;
  EXPECT_EQ(NameOf(encoder.embedding.tokens), "shared.weight");
  EXPECT_FALSE(encoder.embedding.positions.has_value());
  EXPECT_EQ(NameOf(model->weights.head), "shared.weight");
  EXPECT_EQ(NameOf(encoder.layers[1].self_attention.k.weight), "encoder.block.1.layer.0.SelfAttention.k.weight");
  EXPECT_FALSE(encoder.layers[1].self_attention.k.bias.has_value());
  EXPECT_EQ(NameOf(encoder.layers[1].self_attention.norm.gamma), "encoder.block.1.layer.0.layer_norm.weight");
  EXPECT_FALSE(encoder.layers[1].self_attention.norm.beta.has_value());
  EXPECT_EQ(NameOf(encoder.layers[1].feed_forward.fc1.weight), "encoder.block.1.layer.1.DenseReluDense.wi.weight");
  EXPECT_EQ(NameOf(encoder.layers[1].feed_forward.norm.gamma), "encoder.block.1.layer.1.layer_norm.weight");
  const LayerWeights& layer = decoder.layers[0];
  EXPECT_EQ(NameOf(layer.cross_attention->q.weight), "decoder.block.0.layer.1.EncDecAttention.q.weight");
  EXPECT_EQ(NameOf(layer.cross_attention->norm.gamma), "decoder.block.0.layer.1.layer_norm.weight");
  EXPECT_EQ(NameOf(layer.feed_forward.fc2.weight), "decoder.block.0.layer.2.DenseReluDense.wo.weight");
  EXPECT_EQ(NameOf(layer.feed_forward.norm.gamma), "decoder.block.0.layer.2.layer_norm.weight");
  EXPECT_EQ(NameOf(decoder.final_norm->gamma), "decoder.final_layer_norm.weight");
  EXPECT_FALSE(model->weights.logits_bias.has_value());
  EXPECT_EQ(model->weights.parameters, Numbers());
}

// Of the first layer, for all: a column a distance.
TEST_F(T5Test, PositionBiasesReachAsFarAsTheTokens) {
  const auto model = Load();  // 5 tokens
  ASSERT_TRUE(model.ok()) << model.status();
  const auto expect = [this](const PositionBiasWeights& bias, const std::string& side, bool causal) {
    const std::string name = side + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    const auto first = static_cast<float>(&Find(name) - tensors_.data());  // DataOf: + 1/8 a number
    const int64_t distances = causal ? 5 : 9;
    ASSERT_THAT(bias.table.shape, testing::ElementsAre(3, distances));
    EXPECT_EQ(bias.zero, 4);
    std::vector<float> table(3 * distances);
    ReadFloats(bias.table, 0, 3 * distances, table.data());
    for (int head = 0; head < 3; ++head) {
      for (int i = 0; i < distances; ++i) {
        const int bucket = RelativeBucket(i - 4, {.buckets = 8, .max_distance = 128}, causal);
        EXPECT_EQ(table[head * distances + i], first + static_cast<float>(bucket * 3 + head) / 8);
      }
    }
  };
  expect(*model->weights.encoder.position_bias, "encoder", /*causal=*/false);
  expect(*model->weights.decoder.position_bias, "decoder", /*causal=*/true);
}

// v1.1, FLAN and mT5.
TEST_F(T5Test, GatesAreNamedApart) {
  tensors_ = TinyTensors(true);
  tensors_.push_back({"lm_head.weight", {11, 6}});
  config_["feed_forward_proj"] = "gated-gelu";
  config_["tie_word_embeddings"] = false;
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->config.gated_feed_forward);
  EXPECT_EQ(model->config.activation, Activation::kGeluTanh);
  EXPECT_EQ(model->config.head_scale, 1.0f);
  const FeedForwardWeights& feed_forward = model->weights.decoder.layers[0].feed_forward;
  EXPECT_EQ(NameOf(feed_forward.gate->weight), "decoder.block.0.layer.2.DenseReluDense.wi_0.weight");
  EXPECT_EQ(NameOf(feed_forward.fc1.weight), "decoder.block.0.layer.2.DenseReluDense.wi_1.weight");
  EXPECT_EQ(NameOf(model->weights.head), "lm_head.weight");
  ExpectEveryTensorIsNeeded({"lm_head.weight", "shared.weight"});  // each stands for the other
}

// By transformers 5.23: T5Config of each.
TEST_F(T5Test, WhatScalesTheHead) {
  const float scaled = 1 / std::sqrt(6.0f);
  const struct {
    nlohmann::json keys;
    float scale;
  } kCases[] = {{{}, scaled},
                {{{"tie_word_embeddings", true}}, scaled},
                {{{"tie_word_embeddings", false}}, 1},
                {{{"tie_word_embeddings", true}, {"scale_decoder_outputs", false}}, 1},
                {{{"tie_word_embeddings", false}, {"scale_decoder_outputs", true}}, scaled}};
  for (const auto& test : kCases) {
    config_ = TinyConfig();
    if (!test.keys.is_null()) config_.update(test.keys);
    EXPECT_FLOAT_EQ(Config().head_scale, test.scale) << test.keys;
    config_["model_type"] = "mt5";
    config_["feed_forward_proj"] = "relu";
    EXPECT_EQ(Config().head_scale, 1.0f) << test.keys;
  }
}

TEST_F(T5Test, FeedForwardIsReadAsT5ConfigReadsIt) {
  const struct {
    nlohmann::json keys;
    Activation activation;
    bool gated;
  } kCases[] = {{{{"feed_forward_proj", "relu"}}, Activation::kRelu, false},
                {{{"feed_forward_proj", "gelu"}}, Activation::kGelu, false},
                {{{"feed_forward_proj", "gated-gelu"}}, Activation::kGeluTanh, true},
                {{{"feed_forward_proj", "gated-silu"}}, Activation::kSilu, true},
                {{{"feed_forward_proj", "gated-gelu"}, {"dense_act_fn", "relu"}}, Activation::kRelu, true},
                {{{"feed_forward_proj", "relu"}, {"is_gated_act", true}, {"dense_act_fn", "gelu_new"}},
                 Activation::kGeluTanh,
                 true}};
  for (const auto& test : kCases) {
    config_ = TinyConfig();
    config_.update(test.keys);
    tensors_ = TinyTensors(test.gated);
    const ModelConfig config = Config();
    EXPECT_EQ(config.activation, test.activation) << test.keys;
    EXPECT_EQ(config.gated_feed_forward, test.gated) << test.keys;
  }
  config_ = TinyConfig();
  config_["model_type"] = "mt5";
  tensors_ = TinyTensors(true);
  EXPECT_TRUE(Config().gated_feed_forward);  // MT5Config's default
}

TEST_F(T5Test, PositionsHaveNoEndButAUsualLength) {
  EXPECT_EQ(Config().usual_tokens, 1024);
  EXPECT_THAT(Config().usual_tokens_reason, testing::HasSubstr("no end"));
  config_["n_positions"] = 512;
  EXPECT_EQ(Config().usual_tokens, 512);
  EXPECT_THAT(Config().usual_tokens_reason, testing::HasSubstr("n_positions"));
  for (const char* insane : {"0", "-1", "1e30", "\"512\"", "null"}) {
    config_["n_positions"] = nlohmann::json::parse(insane);
    EXPECT_EQ(Config().usual_tokens, 1024) << insane;
  }
}

TEST_F(T5Test, BadConfigsNameKeyValueAndExpectation) {
  ExpectConfigErrors({
      {"model_type", "\"umt5\"",
       "model_type is \"umt5\"; expected one of the supported families: bart, gpt2, marian, mbart"},
      {"model_type", "\"longt5\"", "model_type is \"longt5\"; expected one of the supported families"},
      {"vocab_size", "0", "vocab_size is 0; expected a whole number from 1 to 4194304"},
      {"d_model", "true", "d_model is true; expected a whole number from 1 to 131072"},
      {"d_kv", "65536", "d_kv is 65536; expected a whole number from 1 to 43690"},
      {"num_heads", "131073", "num_heads is 131073; expected a whole number from 1 to 131072"},
      {"d_ff", "null", "d_ff is null; expected"},
      {"num_layers", "-2", "num_layers is -2; expected a whole number from 1 to 1024"},
      {"num_decoder_layers", "0", "num_decoder_layers is 0; expected"},
      {"feed_forward_proj", "\"gated-\"",
       "feed_forward_proj is \"gated-\"; expected ACT or gated-ACT, ACT one of gelu"},
      {"feed_forward_proj", "\"gelu-gated\"", "feed_forward_proj is \"gelu-gated\"; expected ACT or gated-ACT"},
      {"feed_forward_proj", "7", "feed_forward_proj is 7; expected a string"},
      {"dense_act_fn", "\"mish\"", "dense_act_fn is \"mish\"; expected one of gelu"},
      {"is_gated_act", "1", "is_gated_act is 1; expected true or false"},
      {"relative_attention_num_buckets", "3", "relative_attention_num_buckets is 3; expected a whole number from 4"},
      {"relative_attention_num_buckets", "1e6", "relative_attention_num_buckets is 1000000.0; expected"},
      {"relative_attention_max_distance", "4",
       "relative_attention_max_distance is 4; expected more than half of relative_attention_num_buckets, 4"},
      {"layer_norm_epsilon", "0", "layer_norm_epsilon is 0; expected a number from 1e-12 to 1"},
      {"layer_norm_epsilon", "\"1e-6\"", "layer_norm_epsilon is \"1e-6\"; expected a number"},
      {"tie_word_embeddings", "0", "tie_word_embeddings is 0; expected true or false"},
      {"scale_decoder_outputs", "null", "scale_decoder_outputs is null; expected true or false"},
      {"eos_token_id", "32", "eos_token_id is 32; expected"},
      {"is_encoder_decoder", "false", "is_encoder_decoder is false; expected true"},
      {"attention_type", "\"favor\"",
       "attention_type is \"favor\"; expected \"softmax\" where model_type is \"t5\"; \"favor\" is for \"bart\" alone"},
  });
}

TEST_F(T5Test, EveryTensorIsNeededInItsShape) { ExpectEveryTensorIsNeeded(); }

// By transformers 5.23, T5Attention._relative_position_bucket: from which distance on each bucket goes, beyond those of
// one distance.
TEST(RelativeBuckets, AreThoseOfTransformers) {
  const struct {
    RelativeBuckets buckets;
    bool causal;
    std::vector<int> begins;
  } kCases[] = {
      {{32, 128}, false, {8, 12, 16, 23, 32, 46, 64, 91}},
      {{32, 128}, true, {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113}},
      {{33, 100}, false, {8, 11, 16, 21, 29, 39, 54, 73}},
      {{33, 100}, true, {16, 18, 20, 23, 25, 28, 31, 35, 38, 43, 48, 53, 59, 65, 73, 81, 90}},
      {{12, 40}, false, {3, 8, 17}},
      {{8, 20}, true, {4, 6, 9, 14}},
      {{20, 64}, false, {5, 9, 14, 24, 39}},
  };
  for (const auto& test : kCases) {
    const int exact = (test.causal ? test.buckets.buckets : test.buckets.buckets / 2) / 2;
    for (int distance = 0; distance < 3000; ++distance) {
      int expected = distance;
      if (distance >= exact) {
        expected = exact - 1;
        for (int begin : test.begins) expected += distance >= begin ? 1 : 0;
      }
      ASSERT_EQ(RelativeBucket(-distance, test.buckets, test.causal), expected) << distance;
      const int after =
          test.causal || distance == 0 ? (test.causal ? 0 : expected) : expected + test.buckets.buckets / 2;
      ASSERT_EQ(RelativeBucket(distance, test.buckets, test.causal), after) << distance;
    }
  }
}

}  // namespace
}  // namespace elserve
