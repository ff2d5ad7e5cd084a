#include "tests/engine/model/families/family_test.h"

namespace elserve {
namespace {

class MBartTest : public FamilyTest {
 protected:
  MBartTest()
      : FamilyTest(BartAs("mbart"),
                   BartTensorsWith({.embedding_norm = true, .final_norm = true, .position_rows = 11})) {}
};

TEST_F(MBartTest, HasNormsBeforeSublayersAndAtBothEnds) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.model_type, "mbart");
  EXPECT_EQ(model->config.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(model->config.positions, Positions::kLearned);
  EXPECT_EQ(model->config.position_offset, 2);
  EXPECT_EQ(model->config.encoder.max_positions, 9);
  EXPECT_EQ(model->config.decoder_start_token_id, -1);  // the language, which a request names
  EXPECT_EQ(NameOf(model->weights.encoder.embedding.norm->gamma), "model.encoder.layernorm_embedding.weight");
  EXPECT_EQ(NameOf(model->weights.encoder.final_norm->gamma), "model.encoder.layer_norm.weight");
  EXPECT_EQ(NameOf(*model->weights.decoder.final_norm->beta), "model.decoder.layer_norm.bias");
  EXPECT_EQ(NameOf(*model->weights.decoder.embedding.positions), "model.decoder.embed_positions.weight");
  EXPECT_EQ(model->weights.parameters, Numbers());
}

// What facebook/mbart-large-50 states and MBartConfig does not read.
TEST_F(MBartTest, TakesTheKeysOfTheHub) {
  config_.update({{"normalize_before", true},
                  {"add_final_layer_norm", true},
                  {"normalize_embedding", true},
                  {"static_position_embeddings", false},
                  {"add_bias_logits", false},
                  {"num_hidden_layers", 2},
                  {"torch_dtype", "float16"}});
  EXPECT_EQ(LoadError(), "no error");
}

TEST_F(MBartTest, BadConfigsNameKeyValueAndExpectation) {
  ExpectConfigErrors({
      {"normalize_before", "false", "normalize_before is false; expected true"},
      {"add_final_layer_norm", "false", "add_final_layer_norm is false; expected true"},
      {"normalize_embedding", "false", "normalize_embedding is false; expected true"},
      {"static_position_embeddings", "true", "static_position_embeddings is true; expected false"},
      {"is_encoder_decoder", "false", "is_encoder_decoder is false; expected true"},
      {"vocab_size", "1e9", "vocab_size is 1000000000.0; expected a whole number from 1 to 4194304"},
      {"d_model", "-6", "d_model is -6; expected"},
      {"decoder_attention_heads", "5", "decoder_attention_heads is 5; expected a divisor of the model's width, 6"},
      {"max_position_embeddings", "0", "max_position_embeddings is 0; expected a whole number from 1 to 1048576"},
      {"activation_function", "\"gelu_10\"", "activation_function is \"gelu_10\"; expected one of"},
      {"decoder_start_token_id", "250004",
       "decoder_start_token_id is 250004; expected null or a token id from 0 to 10"},
      {"attention_type", "\"favor\"",
       "attention_type is \"favor\"; expected \"softmax\" where model_type is \"mbart\"; \"favor\" is for \"bart\" "
       "alone"},
  });
}

TEST_F(MBartTest, EveryTensorIsNeededInItsShape) { ExpectEveryTensorIsNeeded({"final_logits_bias"}); }

}  // namespace
}  // namespace elserve
