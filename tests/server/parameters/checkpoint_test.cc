// The parameters in a checkpoint's files.
#include "server/parameters/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "server/parameters/parameters.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    directory_ = std::filesystem::path(::testing::TempDir()) /
                 ("checkpoint_test." + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~CheckpointTest() override { std::filesystem::remove_all(directory_); }

  void Write(const char* name, std::string_view text) { std::ofstream(directory_ / name) << text; }

  absl::StatusOr<v1::DecodingParameters> Load(const v1::DecodingParameters& overrides = {}) {
    return LoadCheckpointParameters(directory_.string(), overrides);
  }
  v1::DecodingParameters Good(std::string_view generation_config) {
    Write("generation_config.json", generation_config);
    const auto loaded = Load();
    EXPECT_TRUE(loaded.ok()) << generation_config << ": " << loaded.status();
    return loaded.value_or(v1::DecodingParameters());
  }
  std::string Bad(std::string_view generation_config) {
    Write("generation_config.json", generation_config);
    const auto loaded = Load();
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << generation_config;
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("generation_config.json")) << generation_config;
    return std::string(loaded.status().message());
  }

  std::filesystem::path directory_;
};

TEST(EmbeddedModelTest, LoadsAndResolves) {
  const auto loaded = LoadCheckpointParameters(ELSERVE_SOURCE_DIR "/models/debian-synopsis", {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  v1::DecodingParameters merged = BuiltInParameters();
  MergeParameters(*loaded, &merged);
  const auto resolved = ResolveParameters(merged, {.vocab_size = 8192, .max_decoder_tokens = 1024});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec.num_beams, 4);
  EXPECT_EQ(resolved->spec.max_length, 64);
  EXPECT_EQ(resolved->spec.min_length, 3);
  EXPECT_EQ(resolved->spec.no_repeat_ngram_size, 3);
  EXPECT_EQ(resolved->spec.early_stopping, EarlyStopping::kTrue);
  EXPECT_THAT(resolved->spec.prefix, ElementsAre(2));
  EXPECT_THAT(resolved->spec.eos_token_id, ElementsAre(2));
  EXPECT_THAT(resolved->spec.forced_eos_token_id, ::testing::IsEmpty());
}

TEST_F(CheckpointTest, ReadsParametersAndKeysThatChangeNoToken) {
  // As published with facebook/bart-large-cnn.
  const v1::DecodingParameters parameters = Good(R"({
    "_from_model_config": true, "bos_token_id": 0, "decoder_start_token_id": 2, "early_stopping": true,
    "eos_token_id": 2, "forced_bos_token_id": 0, "forced_eos_token_id": 2, "length_penalty": 2.0, "max_length": 142,
    "min_length": 56, "no_repeat_ngram_size": 3, "num_beams": 4, "pad_token_id": 1, "transformers_version": "4.27.0",
    "use_cache": true, "output_scores": false, "return_dict_in_generate": false})");
  EXPECT_EQ(parameters.num_beams(), 4);
  EXPECT_EQ(parameters.length_penalty(), 2.0);
  EXPECT_EQ(parameters.max_length(), 142);
  EXPECT_EQ(parameters.forced_bos_token_id(), 0);
  EXPECT_THAT(parameters.forced_eos_token_id(), ElementsAre(2));
}

TEST_F(CheckpointTest, NullAndNeutralValuesAreAccepted) {
  const v1::DecodingParameters parameters = Good(R"({
    "decoder_start_token_id": 2, "forced_eos_token_id": null, "max_time": null, "sequence_bias": null,
    "repetition_penalty": 1.0, "num_beam_groups": 1, "diversity_penalty": 0.0, "renormalize_logits": false,
    "remove_invalid_values": false, "guidance_scale": 1, "bad_words_ids": [], "suppress_tokens": [],
    "encoder_no_repeat_ngram_size": 0, "do_sample": false})");
  EXPECT_EQ(parameters.forced_eos_token_id_size(), 0);
}

// As Helsinki-NLP/opus-mt-en-de has it.
TEST_F(CheckpointTest, OfMarian) {
  const v1::DecodingParameters parameters = Good(R"({
    "bad_words_ids": [[58100]], "bos_token_id": 0, "decoder_start_token_id": 58100, "eos_token_id": 0,
    "forced_eos_token_id": 0, "max_length": 512, "num_beams": 4, "pad_token_id": 58100, "renormalize_logits": true,
    "transformers_version": "4.32.0.dev0"})");
  ASSERT_EQ(parameters.bad_words_ids_size(), 1);
  EXPECT_THAT(parameters.bad_words_ids(0).ids(), ElementsAre(58100));
  EXPECT_TRUE(parameters.renormalize_logits());
  EXPECT_EQ(parameters.decoder_start_token_id(), 58100);
}

TEST_F(CheckpointTest, MaxTimeIsTaken) { EXPECT_EQ(Good(R"({"max_time": 2.5})").max_time(), 2.5); }

TEST_F(CheckpointTest, SamplingParametersAreKeptUntilALayerSamples) {
  const v1::DecodingParameters parameters =
      Good(R"({"decoder_start_token_id": 2, "temperature": 0.7, "top_k": 10, "top_p": 0.9, "top_h": 0.4})");
  EXPECT_EQ(parameters.temperature(), 0.7);
  EXPECT_EQ(parameters.top_k(), 10);
  EXPECT_EQ(parameters.top_p(), 0.9);
  EXPECT_EQ(parameters.top_h(), 0.4);
}

TEST_F(CheckpointTest, WhatIsNotHonouredIsRefusedByName) {
  EXPECT_THAT(Bad(R"({"penalty_alpha": 0.6})"), HasSubstr("penalty_alpha is 0.6; allowed is 0.0"));
  EXPECT_THAT(Bad(R"({"watermarking_config": {"bias": 2.5}})"), HasSubstr("watermarking_config is {"));
  EXPECT_THAT(Bad(R"({"guidance_scale": 3.0})"), HasSubstr("guidance_scale is 3.0; allowed is 1.0"));
}

TEST_F(CheckpointTest, SamplingThatDoesNotActIsNotLookedAt) {
  EXPECT_FALSE(Good(R"({"do_sample": false, "temperature": 0.0, "top_p": 7})").has_temperature());
  EXPECT_THAT(Bad(R"({"do_sample": true, "temperature": 0.0})"), HasSubstr("temperature is 0; allowed is 1e-05"));
}

TEST_F(CheckpointTest, NamesThatTransformersHasNotAreNoParameters) {
  EXPECT_THAT(Bad(R"({"seed": 7})"), HasSubstr("seed is 7; no decoding parameter of this name is known"));
  Write("config.json", R"({"model_type": "bart", "seed": 7, "bad_words": "x"})");
  std::filesystem::remove(directory_ / "generation_config.json");
  const auto loaded = Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_FALSE(loaded->has_seed());
}

TEST_F(CheckpointTest, UnknownKeysAreRefused) {
  EXPECT_THAT(Bad(R"({"num_beems": 4})"), HasSubstr("num_beems is 4; no decoding parameter of this name is known"));
}

TEST_F(CheckpointTest, BadValuesAreRefused) {
  EXPECT_THAT(Bad(R"({"num_beams": "four"})"), HasSubstr("num_beams is \"four\""));
  EXPECT_THAT(Bad(R"({"num_beams": 64})"), HasSubstr("num_beams is 64; allowed is 1 to 32"));
  EXPECT_THAT(Bad(R"({"max_time": 0})"), HasSubstr("max_time is 0; allowed is above 0 to 86400"));
  EXPECT_THAT(Bad(R"({"max_length": 1e99})"), HasSubstr("max_length is 1e+99"));
  EXPECT_THAT(Bad(R"({"decoder_start_token_id": [2, 3]})"), HasSubstr("decoder_start_token_id is [2,3]"));
  EXPECT_THAT(Bad(R"({"bos_token_id": "x"})"), HasSubstr("bos_token_id"));
  EXPECT_THAT(Bad(R"([1])"), HasSubstr("no JSON object"));
  EXPECT_THAT(Bad(R"({"num_beams": )"), HasSubstr("no JSON"));
  EXPECT_THAT(Bad(std::string(100000, '[')), HasSubstr("no JSON"));
  EXPECT_THAT(Bad(std::string(5 << 20, ' ')), HasSubstr("bytes; allowed is at most"));
}

TEST_F(CheckpointTest, YamlOverridesWhatTheCheckpointMayNotSay) {
  Write(
      "generation_config.json",
      R"({"decoder_start_token_id": 2, "do_sample": true, "diversity_penalty": -1.2, "num_beams": 64, "top_p": 0.9})");
  v1::DecodingParameters yaml;
  yaml.set_do_sample(false);
  yaml.set_diversity_penalty(0.0);
  EXPECT_THAT(std::string(Load(yaml).status().message()), HasSubstr("num_beams is 64"));
  yaml.set_num_beams(4);
  const auto loaded = Load(yaml);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  v1::DecodingParameters merged = BuiltInParameters();
  MergeParameters(*loaded, &merged);
  MergeParameters(yaml, &merged);
  EXPECT_TRUE(ResolveParameters(merged, {.vocab_size = 10, .max_decoder_tokens = 64}).ok());
}

TEST_F(CheckpointTest, YamlMayDropWhatTheCheckpointMayNotSay) {
  Write("generation_config.json", R"({"decoder_start_token_id": 2, "diversity_penalty": -1.2, "num_beams": 64})");
  v1::DecodingParameters yaml;
  yaml.add_reset("diversity_penalty");
  EXPECT_THAT(std::string(Load(yaml).status().message()), HasSubstr("num_beams is 64"));
  yaml.add_reset("num_beams");
  const auto loaded = Load(yaml);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_FALSE(loaded->has_num_beams());
}

TEST_F(CheckpointTest, AListWithoutEntriesIsNone) {
  v1::DecodingParameters merged = BuiltInParameters();
  MergeParameters(Good(R"({"decoder_start_token_id": 2, "eos_token_id": [], "stop_strings": []})"), &merged);
  const auto resolved = ResolveParameters(merged, {.vocab_size = 10, .max_decoder_tokens = 64});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(resolved->spec.eos_token_id, ::testing::IsEmpty());
}

TEST_F(CheckpointTest, DecodingStartsFromBosWhereNothingElseIsNamed) {
  EXPECT_EQ(Good(R"({"bos_token_id": 0})").decoder_start_token_id(), 0);
  EXPECT_EQ(Good(R"({"bos_token_id": 0, "decoder_start_token_id": 2})").decoder_start_token_id(), 2);
  EXPECT_FALSE(Good("{}").has_decoder_start_token_id());
}

TEST_F(CheckpointTest, ConfigJsonIsReadOnlyWithoutGenerationConfig) {
  Write("config.json", R"({"model_type": "bart", "d_model": 16, "num_beams": 3, "eos_token_id": 2, "bos_token_id": 0,
    "decoder_start_token_id": 2, "forced_eos_token_id": 2, "dropout": 0.1, "force_bos_token_to_be_generated": true,
    "task_specific_params": {"summarization": {"num_beams": 5}}})");
  const auto loaded = Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->num_beams(), 3);
  EXPECT_EQ(loaded->decoder_start_token_id(), 2);
  EXPECT_EQ(loaded->forced_bos_token_id(), 0);
  EXPECT_THAT(loaded->forced_eos_token_id(), ElementsAre(2));
  // What config.json says is not mixed in: transformers takes the other file alone.
  const v1::DecodingParameters other = Good(R"({"decoder_start_token_id": 1})");
  EXPECT_FALSE(other.has_num_beams());
  EXPECT_EQ(other.eos_token_id_size(), 0);
}

TEST_F(CheckpointTest, ConfigJsonIsHeldToTheSameRules) {
  Write("config.json", R"({"model_type": "bart", "diversity_penalty": -1.3})");
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("config.json: diversity_penalty is -1.3"));
  Write("config.json", R"({"model_type": "bart", "sequence_bias": [[[1], 2e9]]})");
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("sequence_bias[0].bias is 2000000000"));
}

class CheckpointTaskTest : public CheckpointTest {
 protected:
  absl::StatusOr<CheckpointTask> LoadTask(std::string_view config, const v1::DecodingParameters& overrides = {}) {
    Write("config.json", config);
    return LoadCheckpointTask(directory_.string(), "summarization", overrides);
  }
  CheckpointTask GoodTask(std::string_view config) {
    const auto loaded = LoadTask(config);
    EXPECT_TRUE(loaded.ok()) << config << ": " << loaded.status();
    return loaded.value_or(CheckpointTask());
  }
};

// As published with t5-base.
TEST_F(CheckpointTaskTest, ReadsPrefixAndParameters) {
  const CheckpointTask task = GoodTask(R"({"model_type": "t5", "task_specific_params": {
    "summarization": {"early_stopping": true, "length_penalty": 2.0, "max_length": 200, "min_length": 30,
                      "no_repeat_ngram_size": 3, "num_beams": 4, "prefix": "summarize: "},
    "translation_en_to_de": {"early_stopping": true, "max_length": 300, "num_beams": 4, "typical_p": 0.2,
                             "prefix": "translate English to German: "}}})");
  EXPECT_EQ(task.prefix, "summarize: ");
  EXPECT_EQ(task.parameters.max_length(), 200);
  EXPECT_EQ(task.parameters.min_length(), 30);
  EXPECT_EQ(task.parameters.num_beams(), 4);
  EXPECT_EQ(task.parameters.length_penalty(), 2.0);
  EXPECT_EQ(task.parameters.no_repeat_ngram_size(), 3);
  EXPECT_EQ(task.parameters.early_stopping(), v1::EARLY_STOPPING_TRUE);
}

// As published with facebook/bart-large-cnn: the prefix stands above all tasks.
TEST_F(CheckpointTaskTest, ThePrefixMayBeOfAllTasks) {
  const auto with = [this](std::string_view config) { return GoodTask(config).prefix; };
  EXPECT_EQ(with(R"({"prefix": " ", "task_specific_params": {"summarization": {"max_length": 142}}})"), " ");
  EXPECT_EQ(with(R"({"prefix": " "})"), " ");
  EXPECT_EQ(with(R"({"prefix": " ", "task_specific_params": null})"), " ");
  EXPECT_EQ(with(R"({"prefix": " ", "task_specific_params": {"summarization": {"prefix": "tldr "}}})"), "tldr ");
  EXPECT_EQ(with(R"({"prefix": " ", "task_specific_params": {"summarization": {"prefix": ""}}})"), "");
  EXPECT_EQ(with(R"({"prefix": " ", "task_specific_params": {"summarization": {"prefix": null}}})"), "");
  EXPECT_EQ(with(R"({"prefix": null})"), "");
  EXPECT_EQ(with(R"({"task_specific_params": {"translation_en_to_de": {"prefix": "x"}}})"), "");
  EXPECT_EQ(with("{}"), "");
}

TEST_F(CheckpointTaskTest, ANullResetsWhatTheCheckpointSetsForAllTasks) {
  const CheckpointTask task = GoodTask(R"({"task_specific_params": {"summarization": {"num_beams": null,
    "use_cache": null, "some_day": null}}})");
  DefaultLayers layers;
  layers.checkpoint.set_num_beams(5);
  layers.checkpoint_task = task.parameters;
  EXPECT_EQ(MergeDefaults(layers).num_beams(), 1);
}

TEST_F(CheckpointTaskTest, IsHeldToTheRulesOfGenerationConfig) {
  struct Case {
    std::string value;
    std::string error;
  };
  for (const Case& c : {
           Case{R"({"diversity_penalty": -1.3})", "summarization.diversity_penalty is -1.3; allowed is 0"},
           Case{R"({"sequence_bias": [["x", 2.0]]})", "summarization.sequence_bias.ids is"},
           Case{R"({"beams": 3})", "summarization.beams is 3; no decoding parameter of this name is known"},
           Case{R"({"num_beams": 33})", "summarization.num_beams is 33; allowed is 1 to 32"},
           Case{R"({"num_beams": "4"})", "summarization.num_beams is"},
           Case{R"({"prefix": 3})", "summarization.prefix is 3; allowed is a text"},
           Case{"{\"prefix\": \"" + std::string(4097, 'x') + "\"}", "allowed is a text of at most 4096 bytes"},
           Case{"3", "task_specific_params.summarization is 3; allowed is an object"},
           Case{"null", "task_specific_params.summarization is null; allowed is an object"},
       }) {
    const auto loaded = LoadTask("{\"task_specific_params\": {\"summarization\": " + c.value + "}}");
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << c.value;
    EXPECT_THAT(std::string(loaded.status().message()),
                ::testing::AllOf(HasSubstr("config.json: task_specific_params."), HasSubstr(c.error)));
  }
  EXPECT_THAT(std::string(LoadTask(R"({"task_specific_params": []})").status().message()),
              HasSubstr("task_specific_params is []; allowed is an object"));
  EXPECT_THAT(std::string(LoadTask(R"({"prefix": 3})").status().message()), HasSubstr("config.json: prefix is 3"));
  EXPECT_TRUE(LoadTask(R"({"task_specific_params": {"summarization": {"use_cache": true, "top_k": 4}}})").ok());
  v1::DecodingParameters overrides;
  overrides.set_diversity_penalty(0);
  EXPECT_TRUE(LoadTask(R"({"task_specific_params": {"summarization": {"diversity_penalty": -1.3}}})", overrides).ok());
}

TEST_F(CheckpointTest, NoFileIsNotFound) { EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound); }

}  // namespace
}  // namespace elserve
