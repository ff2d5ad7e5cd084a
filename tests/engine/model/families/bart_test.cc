#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/families/family.h"
#include "tests/engine/model/families/family_test.h"

namespace elserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class BartTest : public FamilyTest {
 protected:
  BartTest() : FamilyTest(TinyBartConfig(), TinyBartTensors()) {}

  void Add(const std::string& name) { tensors_.push_back({name, {11, 6}}); }
};

TEST_F(BartTest, ReadsTheConfig) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.model_type, "bart");
  EXPECT_EQ(config.vocab_size, 11);
  EXPECT_EQ(config.d_model, 6);
  EXPECT_EQ(config.encoder.layers, 2);
  EXPECT_EQ(config.encoder.heads, 3);
  EXPECT_EQ(config.encoder.head_dim, 2);
  EXPECT_EQ(config.encoder.ffn, 5);
  EXPECT_FLOAT_EQ(config.encoder.score_scale, 1 / std::sqrt(2.0f));
  EXPECT_EQ(config.decoder.layers, 1);
  EXPECT_EQ(config.decoder.heads, 2);
  EXPECT_EQ(config.decoder.head_dim, 3);
  EXPECT_EQ(config.decoder.ffn, 7);
  EXPECT_FLOAT_EQ(config.decoder.score_scale, 1 / std::sqrt(3.0f));
  EXPECT_FLOAT_EQ(config.embedding_scale, std::sqrt(6.0f));
  EXPECT_EQ(config.encoder.max_positions, 9);
  EXPECT_EQ(config.decoder.max_positions, 9);
  EXPECT_EQ(config.position_offset, 2);
  EXPECT_EQ(config.norm_kind, NormKind::kLayerNorm);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(config.pad_token_id, 1);
  EXPECT_EQ(config.bos_token_id, 0);
  EXPECT_EQ(config.decoder_start_token_id, 2);
  EXPECT_THAT(config.eos_token_id, ElementsAre(2));
}

TEST_F(BartTest, EveryWeightIsTheTensorOfItsName) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelWeights& weights = model->weights;
  EXPECT_EQ(NameOf(weights.encoder.embedding.tokens), "model.shared.weight");
  EXPECT_EQ(NameOf(*weights.encoder.embedding.positions), "model.encoder.embed_positions.weight");
  EXPECT_EQ(NameOf(weights.encoder.embedding.norm->gamma), "model.encoder.layernorm_embedding.weight");
  EXPECT_EQ(NameOf(*weights.decoder.embedding.norm->beta), "model.decoder.layernorm_embedding.bias");
  EXPECT_EQ(NameOf(*weights.decoder.embedding.positions), "model.decoder.embed_positions.weight");
  EXPECT_EQ(NameOf(weights.head), "model.shared.weight");
  EXPECT_EQ(NameOf(*weights.logits_bias), "final_logits_bias");
  EXPECT_THAT(weights.logits_bias->shape, ElementsAre(11));

  ASSERT_EQ(weights.encoder.layers.size(), 2u);
  ASSERT_EQ(weights.decoder.layers.size(), 1u);
  const auto check = [this](const LinearWeights& linear, const std::string& module) {
    EXPECT_EQ(NameOf(linear.weight), module + ".weight");
    EXPECT_EQ(NameOf(*linear.bias), module + ".bias");
  };
  const auto check_attention = [&](const AttentionWeights& attention, const std::string& name) {
    check(attention.q, name + ".q_proj");
    check(attention.k, name + ".k_proj");
    check(attention.v, name + ".v_proj");
    check(attention.o, name + ".out_proj");
    EXPECT_EQ(NameOf(attention.norm.gamma), name + "_layer_norm.weight");
    EXPECT_EQ(NameOf(*attention.norm.beta), name + "_layer_norm.bias");
  };
  const auto check_feed_forward = [&](const FeedForwardWeights& feed_forward, const std::string& layer) {
    check(feed_forward.fc1, layer + ".fc1");
    check(feed_forward.fc2, layer + ".fc2");
    EXPECT_EQ(NameOf(feed_forward.norm.gamma), layer + ".final_layer_norm.weight");
    EXPECT_EQ(NameOf(*feed_forward.norm.beta), layer + ".final_layer_norm.bias");
  };
  for (int i = 0; i < 2; ++i) {
    const std::string layer = "model.encoder.layers." + std::to_string(i);
    check_attention(weights.encoder.layers[i].self_attention, layer + ".self_attn");
    check_feed_forward(weights.encoder.layers[i].feed_forward, layer);
  }
  check_attention(weights.decoder.layers[0].self_attention, "model.decoder.layers.0.self_attn");
  check_attention(*weights.decoder.layers[0].cross_attention, "model.decoder.layers.0.encoder_attn");
  check_feed_forward(weights.decoder.layers[0].feed_forward, "model.decoder.layers.0");
  EXPECT_THAT(weights.decoder.layers[0].feed_forward.fc2.weight.shape, ElementsAre(6, 7));

  int64_t parameters = 0;
  for (const WrittenTensor& tensor : tensors_) parameters += tensor.size();
  EXPECT_EQ(weights.parameters, parameters);
}

// The cases of transformers' tie_weights: which tensor each of the three places reads.
TEST_F(BartTest, TyingIsThatOfTransformers) {
  const std::string shared = "model.shared.weight", head = "lm_head.weight";
  const std::string encoder = "model.encoder.embed_tokens.weight", decoder = "model.decoder.embed_tokens.weight";
  struct Case {
    bool tied;
    std::vector<std::string> there;                    // of the four
    std::optional<std::vector<std::string>> expected;  // encoder, decoder, head; none: an error
  };
  const Case cases[] = {
      {true, {shared}, {{shared, shared, shared}}},
      {true, {shared, head}, {{shared, shared, head}}},
      {true, {shared, encoder}, {{encoder, shared, shared}}},
      {true, {shared, encoder, decoder, head}, {{encoder, decoder, head}}},
      {true, {head}, {{head, head, head}}},
      {true, {encoder}, {{encoder, encoder, encoder}}},
      {true, {decoder}, {{decoder, decoder, decoder}}},
      {true, {}, std::nullopt},
      {false, {shared, encoder, decoder, head}, {{encoder, decoder, head}}},
      {false, {encoder, decoder, head}, {{encoder, decoder, head}}},
      {false, {shared, head}, {{shared, shared, head}}},
      {false, {shared}, std::nullopt},
      {false, {head}, std::nullopt},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::PrintToString(c.there));
    tensors_ = TinyBartTensors();
    Remove(shared);
    for (const std::string& name : c.there) Add(name);
    config_["tie_word_embeddings"] = c.tied;
    const auto model = Load();
    if (!c.expected.has_value()) {
      ASSERT_FALSE(model.ok());
      EXPECT_THAT(std::string(model.status().message()), HasSubstr("is missing; expected shape [11, 6]"));
      continue;
    }
    ASSERT_TRUE(model.ok()) << model.status();
    const ModelWeights& weights = model->weights;
    EXPECT_EQ(NameOf(weights.encoder.embedding.tokens), (*c.expected)[0]);
    EXPECT_EQ(NameOf(weights.decoder.embedding.tokens), (*c.expected)[1]);
    EXPECT_EQ(NameOf(weights.head), (*c.expected)[2]);
    EXPECT_EQ(model->config.tied_head, c.tied);
  }
}

TEST_F(BartTest, NamesMayLackThePrefix) {
  for (WrittenTensor& tensor : tensors_) {
    if (tensor.name.starts_with("model.")) tensor.name.erase(0, 6);
  }
  Remove("final_logits_bias");
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(NameOf(model->weights.head), "shared.weight");
  EXPECT_EQ(NameOf(model->weights.encoder.layers[1].feed_forward.fc1.weight), "encoder.layers.1.fc1.weight");
  EXPECT_FALSE(model->weights.logits_bias.has_value());
}

TEST_F(BartTest, TypesMayBeMixedAndUnknownTensorsAreLeftAlone) {
  Find("model.shared.weight").dtype = "BF16";
  Find("model.encoder.layers.0.fc1.bias").dtype = "F16";
  tensors_.push_back({"model.encoder.version", {1}, "I64"});
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->weights.head.type, DataType::kBFloat16);
  EXPECT_EQ(model->weights.encoder.layers[0].feed_forward.fc1.bias->type, DataType::kFloat16);
  EXPECT_EQ(model->weights.encoder.layers[0].feed_forward.fc1.weight.type, DataType::kFloat32);
}

TEST_F(BartTest, ActivationsOfTransformers) {
  const std::map<std::string, Activation> names = {
      {"gelu", Activation::kGelu},         {"gelu_python", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh}, {"gelu_fast", Activation::kGeluTanh},
      {"relu", Activation::kRelu},         {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"silu", Activation::kSilu},         {"gelu_python_tanh", Activation::kGeluTanh},
      {"swish", Activation::kSilu},        {"gelu_accurate", Activation::kGeluTanh},
      {"tanh", Activation::kTanh},         {"quick_gelu", Activation::kGeluQuick},
      {"linear", Activation::kNone}};
  for (const auto& [name, activation] : names) {
    config_["activation_function"] = name;
    const auto model = Load();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->config.activation, activation) << name;
  }
}

// BartConfig.attribute_map: the general names win.
TEST_F(BartTest, AliasesAndNulls) {
  config_["num_hidden_layers"] = 1;
  config_["encoder_layers"] = 5;
  config_["num_attention_heads"] = 6;
  config_["hidden_size"] = 6;
  config_["d_model"] = 12;
  config_["pad_token_id"] = nullptr;
  config_["eos_token_id"] = {3, 4};
  config_["decoder_start_token_id"] = nullptr;
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.encoder.layers, 1);
  EXPECT_EQ(model->config.encoder.heads, 6);
  EXPECT_EQ(model->config.d_model, 6);
  EXPECT_EQ(model->config.pad_token_id, -1);
  EXPECT_EQ(model->config.decoder_start_token_id, -1);
  EXPECT_THAT(model->config.eos_token_id, ElementsAre(3, 4));
  config_["eos_token_id"] = nullptr;
  const auto without = Load();
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_THAT(without->config.eos_token_id, IsEmpty());
}

TEST_F(BartTest, BadConfigsNameKeyValueAndExpectation) {
  ExpectConfigErrors({
      {"model_type", "\"t6\"",
       "model_type is \"t6\"; expected one of the supported families: bart, gpt2, marian, mbart, mt5, pegasus, t5"},
      {"model_type", "7", "model_type is 7; expected a string"},
      {"model_type", "null", "model_type is null; expected a string"},
      {"vocab_size", "0", "vocab_size is 0; expected a whole number from 1 to 4194304"},
      {"vocab_size", "-5", "vocab_size is -5; expected"},
      {"vocab_size", "11.0", "vocab_size is 11.0; expected"},
      {"vocab_size", "\"11\"", "vocab_size is \"11\"; expected"},
      {"vocab_size", "true", "vocab_size is true; expected"},
      {"vocab_size", "99999999999999999999", "vocab_size is 1e+20; expected"},
      {"vocab_size", "18446744073709551615", "vocab_size is 18446744073709551615; expected"},
      {"d_model", "1000000000", "d_model is 1000000000; expected a whole number from 1 to 131072"},
      {"d_model", "[6]", "d_model is [6]; expected"},
      {"encoder_layers", "2147483648", "encoder_layers is 2147483648; expected a whole number from 1 to 1024"},
      {"encoder_layers", "null", "encoder_layers is null; expected"},
      {"decoder_layers", "0", "decoder_layers is 0; expected"},
      {"encoder_attention_heads", "4", "encoder_attention_heads is 4; expected a divisor of the model's width, 6"},
      {"decoder_attention_heads", "0", "decoder_attention_heads is 0; expected"},
      {"encoder_ffn_dim", "-1", "encoder_ffn_dim is -1; expected"},
      {"max_position_embeddings", "1e9", "max_position_embeddings is 1000000000.0; expected"},
      {"activation_function", "\"mish\"", "activation_function is \"mish\"; expected one of gelu, gelu_python"},
      {"activation_function", "{}", "activation_function is {}; expected a string"},
      {"scale_embedding", "1", "scale_embedding is 1; expected true or false"},
      {"tie_word_embeddings", "\"yes\"", "tie_word_embeddings is \"yes\"; expected true or false"},
      {"pad_token_id", "11", "pad_token_id is 11; expected null or a token id from 0 to 10"},
      {"eos_token_id", "-1", "eos_token_id is -1; expected null, a token id from 0 to 10 or a list of at most 32"},
      {"eos_token_id", "[2, 11]", "eos_token_id is [2,11]; expected"},
      {"decoder_start_token_id", "[2]", "decoder_start_token_id is [2]; expected"},
      {"is_encoder_decoder", "false", "is_encoder_decoder is false; expected true"},
      {"normalize_before", "true", "normalize_before is true; expected false"},
      {"add_final_layer_norm", "true", "add_final_layer_norm is true; expected false"},
      {"normalize_embedding", "false", "normalize_embedding is false; expected true"},
      {"static_position_embeddings", "true", "static_position_embeddings is true; expected false"},
  });
  config_ = TinyBartConfig();
  config_.erase("model_type");
  EXPECT_THAT(LoadError(), HasSubstr("config.json: model_type is missing; expected a string"));
}

TEST_F(BartTest, EveryTensorIsNeededInItsShape) { ExpectEveryTensorIsNeeded({"final_logits_bias"}); }

// FAVOR+: features of each of the encoder's layers, and of nothing else.
TEST_F(BartTest, FavorAttentionHasFeaturesInEachLayerOfTheEncoder) {
  config_["attention_type"] = "favor";
  config_["favor_features"] = 4;
  EXPECT_THAT(LoadError(), HasSubstr("tensor \"model.encoder.layers.0.self_attn.features\" is missing; expected shape "
                                     "[4, 2]"));
  for (const char* layer : {"0", "1"}) {
    tensors_.push_back({std::string("model.encoder.layers.") + layer + ".self_attn.features", {4, 2}});
  }
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.encoder.favor_features, 4);
  EXPECT_EQ(model->config.decoder.favor_features, 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(NameOf(*model->weights.encoder.layers[i].self_attention.features),
              "model.encoder.layers." + std::to_string(i) + ".self_attn.features");
  }
  EXPECT_FALSE(model->weights.decoder.layers[0].self_attention.features);
  EXPECT_EQ(model->weights.parameters, Numbers());
  ExpectEveryTensorIsNeeded({"final_logits_bias"});
  ExpectConfigErrors({
      {"favor_features", "0", "favor_features is 0; expected a whole number from 1 to 16384"},
      {"favor_features", "16385", "favor_features is 16385; expected a whole number from 1 to 16384"},
      {"favor_features", "-1", "favor_features is -1; expected"},
      {"favor_features", "4.0", "favor_features is 4.0; expected"},
      {"favor_features", "null", "favor_features is null; expected a whole number from 1 to 16384"},
      {"attention_type", "\"Favor\"", "attention_type is \"Favor\"; expected \"softmax\" or \"favor\""},
      {"attention_type", "\"linear\"", "attention_type is \"linear\"; expected \"softmax\" or \"favor\""},
      {"attention_type", "[\"favor\"]", "attention_type is [\"favor\"]; expected a string"},
  });
  config_.erase("favor_features");
  EXPECT_THAT(LoadError(), HasSubstr("favor_features is missing; expected a whole number from 1 to 16384"));
  for (const nlohmann::json& usual : {nlohmann::json("softmax"), nlohmann::json(nullptr)}) {
    config_["attention_type"] = usual;
    const auto softmax = Load();
    ASSERT_TRUE(softmax.ok()) << softmax.status();
    EXPECT_EQ(softmax->config.encoder.favor_features, 0);
    EXPECT_FALSE(softmax->weights.encoder.layers[0].self_attention.features);
  }
}

TEST_F(BartTest, ConfigLargerThanTheFileIsAnErrorOfTheFirstTensor) {
  config_["encoder_layers"] = 1024;
  EXPECT_THAT(LoadError(), HasSubstr("tensor \"model.encoder.layers.2.self_attn.q_proj.weight\" is missing"));
  config_ = TinyBartConfig();
  config_["vocab_size"] = 4'000'000;
  config_["d_model"] = 131'070;
  EXPECT_THAT(LoadError(), HasSubstr("\"model.shared.weight\" has shape [11, 6]; expected [4000000, 131070]"));
}

TEST(EmbeddedModelTest, DebianSynopsisLoads) {
  const auto checkpoint = Checkpoint::Open(ELSERVE_SOURCE_DIR "/models/debian-synopsis");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto config = ReadModelConfig(**checkpoint);
  ASSERT_TRUE(config.ok()) << config.status();
  const auto weights = FindModelWeights(**checkpoint, *config);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(config->vocab_size, 8192);
  EXPECT_EQ(config->embedding_scale, 16.0f);
  EXPECT_EQ(weights->encoder.layers.size(), 4u);
  EXPECT_EQ(weights->head.data, weights->encoder.embedding.tokens.data);
  EXPECT_EQ(weights->head.type, DataType::kBFloat16);
  // The data section of the file, two bytes a number.
  EXPECT_EQ(weights->parameters, (20'028'864 - 8 - 19'896) / 2);
}

}  // namespace
}  // namespace elserve
