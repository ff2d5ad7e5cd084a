#include "tests/engine/model/families/family_test.h"

namespace elserve {
namespace {

class MarianTest : public FamilyTest {
 protected:
  MarianTest()
      : FamilyTest(BartAs("marian"),
                   BartTensorsWith({.embedding_norm = false, .final_norm = false, .position_rows = 9})) {
    config_["activation_function"] = "swish";
    config_["pad_token_id"] = config_["decoder_start_token_id"] = 10;
  }
};

TEST_F(MarianTest, HasNormsBehindSublayersAndNoOthers) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.norm_placement, NormPlacement::kPost);
  EXPECT_EQ(model->config.positions, Positions::kSinusoids);
  EXPECT_EQ(model->config.position_offset, 0);
  EXPECT_EQ(model->config.activation, Activation::kSilu);
  EXPECT_EQ(model->config.pad_token_id, 10);
  EXPECT_EQ(model->config.decoder_start_token_id, 10);
  EXPECT_THAT(model->config.eos_token_id, testing::ElementsAre(0));
  EXPECT_FALSE(model->weights.decoder.embedding.norm.has_value());
  EXPECT_FALSE(model->weights.decoder.final_norm.has_value());
  EXPECT_EQ(NameOf(*model->weights.logits_bias), "final_logits_bias");
  EXPECT_EQ(model->weights.parameters, Numbers());
}

// Helsinki-NLP's checkpoints hold what is tied several times.
TEST_F(MarianTest, TiedTensorsMayAllBeStored) {
  for (const char* name :
       {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"}) {
    tensors_.push_back({name, {11, 6}});
  }
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(NameOf(model->weights.encoder.embedding.tokens), "model.encoder.embed_tokens.weight");
  EXPECT_EQ(NameOf(model->weights.head), "lm_head.weight");
}

TEST_F(MarianTest, TakesTheKeysOfTheHub) {
  config_.update({{"normalize_before", false},
                  {"add_final_layer_norm", false},
                  {"normalize_embedding", false},
                  {"static_position_embeddings", true},
                  {"decoder_vocab_size", 11},
                  {"share_encoder_decoder_embeddings", true},
                  {"bad_words_ids", {{10}}}});
  EXPECT_EQ(LoadError(), "no error");
  config_["decoder_vocab_size"] = nullptr;
  EXPECT_EQ(LoadError(), "no error");
}

TEST_F(MarianTest, BadConfigsNameKeyValueAndExpectation) {
  ExpectConfigErrors({
      {"share_encoder_decoder_embeddings", "false", "share_encoder_decoder_embeddings is false; expected true"},
      {"decoder_vocab_size", "12", "decoder_vocab_size is 12; expected vocab_size, 11"},
      {"decoder_vocab_size", "-1", "decoder_vocab_size is -1; expected"},
      {"normalize_before", "true", "normalize_before is true; expected false"},
      {"add_final_layer_norm", "true", "add_final_layer_norm is true; expected false"},
      {"normalize_embedding", "true", "normalize_embedding is true; expected false"},
      {"static_position_embeddings", "false", "static_position_embeddings is false; expected true"},
      {"vocab_size", "58101.5", "vocab_size is 58101.5; expected"},
      {"pad_token_id", "58100", "pad_token_id is 58100; expected null or a token id from 0 to 10"},
      {"activation_function", "\"swiss\"", "activation_function is \"swiss\"; expected one of"},
      {"max_position_embeddings", "\"512\"", "max_position_embeddings is \"512\"; expected"},
      {"attention_type", "\"favor\"",
       "attention_type is \"favor\"; expected \"softmax\" where model_type is \"marian\"; \"favor\" is for \"bart\" "
       "alone"},
  });
}

TEST_F(MarianTest, EveryTensorIsNeededInItsShape) {
  ExpectEveryTensorIsNeeded(
      {"final_logits_bias", "model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"});
}

}  // namespace
}  // namespace elserve
