#include "engine/model/families/sinusoids.h"
#include "tests/engine/model/families/family_test.h"

namespace elserve {
namespace {

class PegasusTest : public FamilyTest {
 protected:
  PegasusTest()
      : FamilyTest(BartAs("pegasus"),
                   BartTensorsWith({.embedding_norm = false, .final_norm = true, .position_rows = 9})) {}
};

TEST_F(PegasusTest, HasNormsBeforeSublayersAndNoneOfEmbeddings) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(model->config.positions, Positions::kSinusoids);
  EXPECT_EQ(model->config.position_offset, 0);
  EXPECT_EQ(model->config.encoder.max_positions, 9);
  EXPECT_EQ(model->config.pad_token_id, 0);
  EXPECT_EQ(model->config.bos_token_id, -1);
  EXPECT_THAT(model->config.eos_token_id, testing::ElementsAre(1));
  EXPECT_EQ(model->config.decoder_start_token_id, 0);
  EXPECT_FALSE(model->weights.encoder.embedding.norm.has_value());
  EXPECT_EQ(NameOf(model->weights.decoder.final_norm->gamma), "model.decoder.layer_norm.weight");
  EXPECT_EQ(model->weights.parameters, Numbers());
}

TEST_F(PegasusTest, SinusoidsAreStoredOrMade) {
  const auto stored = Load();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(NameOf(*stored->weights.encoder.embedding.positions), "model.encoder.embed_positions.weight");
  Remove("model.encoder.embed_positions.weight");
  Remove("model.decoder.embed_positions.weight");
  const auto made = Load();
  ASSERT_TRUE(made.ok()) << made.status();
  const HostTensor& table = *made->weights.encoder.embedding.positions;
  EXPECT_THAT(table.shape, testing::ElementsAre(9, 6));
  std::vector<float> values(54);
  ReadFloats(table, 0, 54, values.data());
  EXPECT_EQ(values, Sinusoids(9, 6));
  EXPECT_EQ(made->weights.parameters, Numbers());
  // A config may state any number; only a file could answer for it.
  config_["max_position_embeddings"] = 1 << 20;
  config_["d_model"] = 131070;
  EXPECT_THAT(LoadError(), testing::HasSubstr("expected [11, 131070]"));
}

// What google/pegasus-xsum states and PegasusConfig does not read.
TEST_F(PegasusTest, TakesTheKeysOfTheHub) {
  config_.update({{"normalize_before", true},
                  {"add_final_layer_norm", true},
                  {"normalize_embedding", false},
                  {"static_position_embeddings", true},
                  {"add_bias_logits", false},
                  {"extra_pos_embeddings", 1},
                  {"length_penalty", 0.6}});
  EXPECT_EQ(LoadError(), "no error");
}

TEST_F(PegasusTest, BadConfigsNameKeyValueAndExpectation) {
  ExpectConfigErrors({
      {"normalize_before", "false", "normalize_before is false; expected true"},
      {"add_final_layer_norm", "false", "add_final_layer_norm is false; expected true"},
      {"normalize_embedding", "true", "normalize_embedding is true; expected false"},
      {"static_position_embeddings", "false", "static_position_embeddings is false; expected true"},
      {"is_encoder_decoder", "0", "is_encoder_decoder is 0; expected true or false"},
      {"vocab_size", "null", "vocab_size is null; expected a whole number from 1 to 4194304"},
      {"encoder_layers", "1025", "encoder_layers is 1025; expected a whole number from 1 to 1024"},
      {"encoder_attention_heads", "4", "encoder_attention_heads is 4; expected a divisor of the model's width, 6"},
      {"decoder_ffn_dim", "1000000", "decoder_ffn_dim is 1000000; expected a whole number from 1 to 131072"},
      {"scale_embedding", "\"true\"", "scale_embedding is \"true\"; expected true or false"},
      {"eos_token_id", "107", "eos_token_id is 107; expected"},
      {"attention_type", "\"favor\"",
       "attention_type is \"favor\"; expected \"softmax\" where model_type is \"pegasus\"; \"favor\" is for \"bart\" "
       "alone"},
  });
}

TEST_F(PegasusTest, EveryTensorIsNeededInItsShape) {
  ExpectEveryTensorIsNeeded(
      {"final_logits_bias", "model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"});
}

}  // namespace
}  // namespace elserve
