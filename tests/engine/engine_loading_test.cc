// What the engine says of itself once it is loaded, and what it refuses to load.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/families/family.h"
#include "engine/model/packed_weights.h"
#include "gmock/gmock.h"
#include "tests/engine/engine_fixture.h"
#include "tests/engine/model/checkpoint/written_checkpoint.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string LoadError(const EngineOptions& options) {
  const absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Load(options);
  EXPECT_FALSE(engine.ok());
  return std::string(engine.status().message());
}

TEST_F(EngineTest, InfoSaysWhatWasLoaded) {
  const std::unique_ptr<Engine> engine = Load(SynopsisCheckpoint());
  ASSERT_TRUE(engine);
  const ModelInfo& info = engine->info();
  EXPECT_EQ(info.family, "bart");
  EXPECT_EQ(info.d_model, 256);
  EXPECT_EQ(info.encoder_layers, 4);
  EXPECT_EQ(info.decoder_layers, 4);
  EXPECT_EQ(info.encoder_heads, 8);
  EXPECT_EQ(info.decoder_heads, 8);
  EXPECT_EQ(info.vocab_size, 8192);
  EXPECT_EQ(info.max_source_tokens, 1024);
  EXPECT_EQ(info.max_decoder_tokens, 1024);
  EXPECT_EQ(info.limits_reason, "as many as the model's positions allow");
  EXPECT_GT(info.parameters, 9'000'000);
  EXPECT_LT(info.parameters, 11'000'000);
  EXPECT_GE(info.weight_bytes, 4 * 9'000'000);
  EXPECT_EQ(info.device, "cpu");
  EXPECT_FALSE(info.device_name.empty());
  EXPECT_EQ(info.device_reason, "as configured");
  EXPECT_EQ(info.attention_reason, "as configured");
  EXPECT_EQ(info.capacity.rows, 24);
  EXPECT_EQ(info.capacity.encoder_pages, 1024 / 64);
  EXPECT_EQ(info.page_tokens, 64);
  EXPECT_EQ(info.block_positions, 16);
  EXPECT_EQ(info.capacity.decoder_blocks, 1024 / 16);
  EXPECT_EQ(info.capacity.edits, 24 * (1024 + kMaxEosIds + kMaxBadWords));
  EXPECT_EQ(info.encode_tokens_per_step, 90);
  EXPECT_EQ(info.bytes_per_encoder_token, 256 * 4);
  EXPECT_EQ(info.bytes_per_decoder_token, 4 * 256 * 4);
  EXPECT_EQ(info.memory_bytes, 1024 * info.bytes_per_encoder_token + 1024 * info.bytes_per_decoder_token);
  EXPECT_EQ(engine->free(), info.capacity);
}

TEST_F(EngineTest, InfoSaysHowManyFeaturesTheEncodersAttentionHas) {
  const std::unique_ptr<Engine> favor = Load(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-favor");
  const std::unique_ptr<Engine> softmax = Load(TinyCheckpoint());
  ASSERT_TRUE(favor && softmax);
  EXPECT_EQ(favor->info().favor_features, 70);
  EXPECT_EQ(softmax->info().favor_features, 0);
}

// ELSERVE_ISA is of the process: the tests of this file run one after the other.
TEST_F(EngineTest, TheEnvironmentForcesAnInstructionSet) {
  const char* const before = std::getenv("ELSERVE_ISA");
  const std::string kept = before ? before : "";
  setenv("ELSERVE_ISA", "avx2", 1);
  const std::unique_ptr<Engine> engine = Load(SynopsisCheckpoint());
  setenv("ELSERVE_ISA", "sse2", 1);
  const std::string error = LoadError(OptionsFor(SynopsisCheckpoint(), kFloat32El, &pool_));
  setenv("ELSERVE_ISA", kept.c_str(), 1);
  ASSERT_TRUE(engine);
  EXPECT_THAT(engine->info().device_name, HasSubstr("AVX2 kernels"));
  EXPECT_THAT(error, AllOf(HasSubstr("ELSERVE_ISA is \"sse2\""), HasSubstr("avx2, avx512, avx512_bf16, amx")));
}

TEST_F(EngineTest, WhatApproximatesIsRefusedWhereItHasNoPlace) {
  const std::string checkpoints = ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/";
  const auto options_of = [&](const char* checkpoint) {
    return OptionsFor(checkpoints + checkpoint, kFloat32El, &pool_);
  };
  EngineOptions options = options_of("gpt2-hub");
  options.encoder_memory_tokens = options.max_source_tokens = 0;
  options.approximation.top_k = 3;
  EXPECT_THAT(LoadError(options), HasSubstr("attention_top_k is 3; the model is decoder-only"));
  options.approximation = {.values = AttentionValues::kPruned, .threshold = 0.1f};
  EXPECT_THAT(LoadError(options), HasSubstr("attention_values is pruned; the model is decoder-only"));
  options = options_of("bart-favor");
  options.approximation.top_k = 3;
  EXPECT_THAT(LoadError(options), HasSubstr("attention_top_k is 3; the encoder's attention is FAVOR+"));
  options = options_of("bart-odd");
  options.ffn_top_k = 3;
  EXPECT_THAT(LoadError(options), HasSubstr("ffn_top_k is 3; it is for models"));
  options = options_of("t5-gated-hub");
  options.ffn_top_k = 3;
  EXPECT_THAT(LoadError(options), HasSubstr("ffn_top_k is 3; it is for models"));
  options = options_of("bart-relu");
  options.ffn_top_k = 41;
  EXPECT_THAT(LoadError(options), HasSubstr("ffn_top_k is 41; the model's feed-forward layers allow 1 to 40"));
  options.ffn_top_k = 40;
  options.approximation = {.top_k = 9, .values = AttentionValues::kLog3Bit, .threshold = 0.1f};
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  EXPECT_EQ(engine->info().approximation, options.approximation);
  EXPECT_EQ(engine->info().ffn_top_k, 40);
}

// Products have a byte a number and, for each output, a scale and an offset; embeddings stay.
TEST_F(EngineTest, Int8WeightsTakeHalfOfTheMemory) {
  EngineOptions options = OptionsFor(SynopsisCheckpoint(), {Precision::kBFloat16, kAllKv}, &pool_);
  const std::unique_ptr<Engine> bfloat16 = LoadEngine(options);
  options.precision = Precision::kInt8;
  const absl::StatusOr<std::unique_ptr<Engine>> int8 = Engine::Load(options);
  if (!int8.ok()) {
    EXPECT_THAT(std::string(int8.status().message()), HasSubstr("precision: int8 needs a processor with VNNI"));
    GTEST_SKIP() << int8.status();
  }
  options.int8_keep = {.head = true};
  const std::unique_ptr<Engine> with_head = LoadEngine(options);
  options.int8_keep = {.first_layer = true, .last_layer = true};
  const std::unique_ptr<Engine> with_layers = LoadEngine(options);
  ASSERT_TRUE(bfloat16 && with_head && with_layers);
  EXPECT_EQ((*int8)->info().precision, Precision::kInt8);
  EXPECT_EQ((*int8)->info().int8_keep, Int8Keep());
  EXPECT_EQ(with_layers->info().int8_keep, options.int8_keep);
  constexpr int64_t kVocab = 8192, kWidth = 256, kFfn = 1024, kLayers = 4, kPositions = 1026;
  // Of each product, inputs and outputs; in an encoder layer and in a decoder layer.
  const auto saved = [](int64_t in, int64_t out) { return in * out - 8 * out; };
  const int64_t attention = 4 * saved(kWidth, kWidth), ffn = saved(kWidth, kFfn) + saved(kFfn, kWidth);
  const int64_t layer = (attention + ffn) + (2 * attention + ffn), head = saved(kWidth, kVocab);
  const int64_t all = bfloat16->info().weight_bytes;
  EXPECT_EQ((*int8)->info().weight_bytes, all - kLayers * layer - head);
  EXPECT_EQ(with_head->info().weight_bytes, all - kLayers * layer);
  EXPECT_EQ(with_layers->info().weight_bytes, all - (kLayers - 2) * layer - head);
  // What is left of bfloat16: tokens and positions, and little else.
  const int64_t tables = 2 * kWidth * (kVocab + 2 * kPositions);
  EXPECT_LT((*int8)->info().weight_bytes - tables, 0.52 * static_cast<double>(all - tables));
}

TEST_F(EngineTest, KeysAndValuesTakeMoreMemoryThanStates) {
  EngineOptions options = OptionsFor(SynopsisCheckpoint(), kFloat32El, &pool_);
  const std::unique_ptr<Engine> el = LoadEngine(options);
  options.attention = kAllKv;
  const std::unique_ptr<Engine> kv = LoadEngine(options);
  ASSERT_TRUE(el && kv);
  EXPECT_EQ(kv->info().attention, kAllKv);
  EXPECT_EQ(kv->info().bytes_per_encoder_token, 8 * el->info().bytes_per_encoder_token);  // 2 x layers
  EXPECT_EQ(kv->info().bytes_per_decoder_token, 2 * el->info().bytes_per_decoder_token);
}

// A byte a number, and 16 more for each state.
TEST_F(EngineTest, StatesInInt8TakeHalfOfTheMemory) {
  EngineOptions options = OptionsFor(SynopsisCheckpoint(), {Precision::kBFloat16, kAllEl}, &pool_);
  const std::unique_ptr<Engine> bfloat16 = LoadEngine(options);
  ASSERT_TRUE(bfloat16);
  options.int8_memory = true;
  absl::StatusOr<std::unique_ptr<Engine>> int8 = Engine::Load(options);
  if (!int8.ok()) {
    EXPECT_THAT(std::string(int8.status().message()), HasSubstr("memory_precision: int8 needs a processor with VNNI"));
    GTEST_SKIP() << int8.status();
  }
  EXPECT_TRUE((*int8)->info().int8_memory);
  EXPECT_FALSE(bfloat16->info().int8_memory);
  EXPECT_EQ((*int8)->info().precision, Precision::kBFloat16);
  EXPECT_EQ(bfloat16->info().bytes_per_encoder_token, 2 * 256);
  EXPECT_EQ((*int8)->info().bytes_per_encoder_token, 256 + 16);
  EXPECT_EQ((*int8)->info().bytes_per_decoder_token, 4 * (256 + 16));
  EXPECT_EQ((*int8)->info().weight_bytes, bfloat16->info().weight_bytes);
  options.attention = std::nullopt;
  int8 = Engine::Load(options);
  ASSERT_TRUE(int8.ok()) << int8.status();
  EXPECT_EQ((*int8)->info().attention.cross, AttentionForm::kEl);
  options.precision = Precision::kAuto;
  int8 = Engine::Load(options);
  ASSERT_TRUE(int8.ok()) << int8.status();
  EXPECT_EQ((*int8)->info().precision, Precision::kBFloat16);
  options.precision = Precision::kFloat32;
  EXPECT_THAT(LoadError(options), HasSubstr("memory_precision: int8 with precision: float32"));
  options.precision = Precision::kInt8;
  options.attention = kAllKv;
  EXPECT_THAT(LoadError(options), HasSubstr("memory_precision: int8 with attention: kv"));
  options.attention = kAllEl;
  options.approximation.top_k = 3;
  EXPECT_THAT(LoadError(options), HasSubstr("memory_precision: int8 with attention_top_k or attention_values"));
}

TEST_F(EngineTest, AutoChoosesAndSaysWhy) {
  EngineOptions options = OptionsFor(SynopsisCheckpoint(), {Precision::kAuto, kAllEl}, &pool_);
  options.attention = std::nullopt;
  options.device = DeviceKind::kAuto;
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  EXPECT_NE(engine->info().precision, Precision::kAuto);
  EXPECT_THAT(engine->info().attention_reason, HasSubstr("ms by el"));
  // Where it is the cpu, it says why it is not a GPU.
  const std::string& why = engine->info().device_reason;
  EXPECT_THAT(why, HasSubstr(engine->info().device == "cpu" ? "auto: the cpu, because device: cuda" : "auto: a CUDA"));
}

TEST_F(EngineTest, ADeviceThatIsNotThereIsAnError) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.device = DeviceKind::kCuda;
  options.device_index = 4000;
  EXPECT_THAT(LoadError(options), HasSubstr("device"));
  EXPECT_THAT(LoadError(options), HasSubstr("cuda"));
}

TEST_F(EngineTest, BadOptionsAreErrorsThatNameThem) {
  const EngineOptions good = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  EngineOptions options = good;
  options.max_rows = -1;
  EXPECT_THAT(LoadError(options), HasSubstr("max_rows is -1"));
  options = good;
  options.encode_tokens_per_step = -3;
  EXPECT_THAT(LoadError(options), HasSubstr("encode_tokens_per_step is -3"));
  options = good;
  options.pool = nullptr;
  EXPECT_THAT(LoadError(options), HasSubstr("thread pool"));
  options = good;
  options.checkpoint = "/nowhere/at/all";
  EXPECT_THAT(LoadError(options), HasSubstr("/nowhere/at/all"));
  options = good;
  options.encoder_memory_tokens = options.decoder_memory_tokens = 0;
  options.memory_bytes = 5000;
  EXPECT_THAT(LoadError(options), HasSubstr("memory"));
  options = good;  // the decoder's heads are 9 wide
  options.checkpoint = ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-wide";
  options.precision = Precision::kBFloat16;
  EXPECT_THAT(LoadError(options), HasSubstr("float32"));
}

// The positions of TinyCheckpoint allow 96 on both sides.
TEST_F(EngineTest, EachSideHasItsOwnLimit) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.max_source_tokens = 40;
  options.max_decoder_tokens = 20;
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  EXPECT_EQ(engine->info().max_source_tokens, 40);
  EXPECT_EQ(engine->info().max_decoder_tokens, 20);
  EXPECT_EQ(engine->info().limits_reason, "as configured");
  DecodingSpec d = Decoding(2, 20);
  EXPECT_TRUE(engine->Measure({40, &d}).ok());
  EXPECT_THAT(engine->Measure({41, &d}).status().message(), AllOf(HasSubstr("tokens is 41"), HasSubstr("is 40")));
  d.max_length = 21;
  EXPECT_THAT(engine->Measure({40, &d}).status().message(), AllOf(HasSubstr("max_length is 21"), HasSubstr("is 20")));

  // A limit changes no answer that keeps to it.
  std::mt19937 rng(72);
  const std::vector<Request> requests = {{RandomSource(40, 283, rng), Decoding(3, 20)},
                                         {RandomSource(17, 283, rng), Decoding(1, 12)}};
  const std::unique_ptr<Engine> whole = Load(TinyCheckpoint());
  ASSERT_TRUE(whole);
  const std::vector<Outcome> limited = RunAlone(engine.get(), requests), unlimited = RunAlone(whole.get(), requests);
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(BitDifference(limited[i], unlimited[i]), "");
}

// Sources longer than answers, and answers longer than sources: what is made for the one serves not the other.
TEST_F(EngineTest, ALimitOfOneSideLeavesTheOtherAsItIs) {
  for (const bool long_source : {true, false}) {
    EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
    (long_source ? options.max_decoder_tokens : options.max_source_tokens) = 5;
    options.encode_tokens_per_step = 5;
    for (const AttentionForms forms : {kAllEl, kAllKv}) {
      options.attention = forms;
      const std::unique_ptr<Engine> engine = LoadEngine(options);
      ASSERT_TRUE(engine);
      EXPECT_EQ(engine->info().max_source_tokens, long_source ? 96 : 5);
      EXPECT_EQ(engine->info().max_decoder_tokens, long_source ? 5 : 96);
      std::mt19937 rng(73);
      const std::vector<Request> requests = {
          {RandomSource(long_source ? 96 : 5, 283, rng), Decoding(4, long_source ? 5 : 96)}};
      const Outcome outcome = RunAlone(engine.get(), requests)[0];
      EXPECT_TRUE(outcome.finished);
      EXPECT_EQ(engine->free(), engine->info().capacity);
    }
  }
}

// T5's positions end nowhere: without a word from the configuration its limits are what n_positions says.
TEST_F(EngineTest, WherePositionsHaveNoEndItSaysWhereLimitsAreFrom) {
  EngineOptions options = OptionsFor(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/t5-hub", kFloat32El, &pool_);
  for (const int most : {0, 200}) {
    options.max_decoder_tokens = most;
    const std::unique_ptr<Engine> engine = LoadEngine(options);
    ASSERT_TRUE(engine);
    EXPECT_EQ(engine->info().max_source_tokens, 130);
    EXPECT_EQ(engine->info().max_decoder_tokens, most > 0 ? 200 : 130);
    const std::string& why = engine->info().limits_reason;
    EXPECT_THAT(why, HasSubstr("n_positions of config.json"));
    EXPECT_EQ(why.ends_with("; decoder: as configured"), most > 0) << why;
    EXPECT_EQ(why.starts_with("source: "), most > 0) << why;
  }
}

TEST_F(EngineTest, LimitsAboveThePositionsAreErrorsThatNameBoth) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.max_source_tokens = 97;
  EXPECT_THAT(LoadError(options), AllOf(HasSubstr("max_source_tokens is 97"), HasSubstr("encoder allow 1 to 96")));
  options.max_source_tokens = -1;
  EXPECT_THAT(LoadError(options), HasSubstr("max_source_tokens is -1"));
  options.max_source_tokens = 96;
  options.max_decoder_tokens = 97;
  EXPECT_THAT(LoadError(options), AllOf(HasSubstr("max_decoder_tokens is 97"), HasSubstr("decoder allow 1 to 96")));
}

TEST_F(EngineTest, ADecoderAloneHasNoSourcesAndNoEncoderMemory) {
  EngineOptions options = OptionsFor(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/gpt2-hub", kFloat32El, &pool_);
  EXPECT_THAT(LoadError(options), AllOf(HasSubstr("encoder_memory_tokens is 1024; the model is decoder-only"),
                                        HasSubstr("decoder_memory_tokens")));
  options.encoder_memory_tokens = 0;
  options.max_source_tokens = 40;
  EXPECT_THAT(LoadError(options),
              AllOf(HasSubstr("max_source_tokens is 40; the model is decoder-only"), HasSubstr("max_decoder_tokens")));
  options.max_source_tokens = 0;
  options.max_decoder_tokens = 97;
  EXPECT_THAT(LoadError(options),
              HasSubstr("max_decoder_tokens is 97; the positions of the model's decoder allow 1 to 96"));
  options.max_decoder_tokens = 0;
  for (const std::optional<AttentionForms>& forms : {std::optional(kAllEl), std::optional(kAllKv), {}}) {
    options.attention = forms;
    const std::unique_ptr<Engine> engine = LoadEngine(options);
    ASSERT_TRUE(engine);
    const ModelInfo& info = engine->info();
    EXPECT_TRUE(info.decoder_only);
    EXPECT_EQ(info.family, "gpt2");
    EXPECT_EQ(info.encoder_layers, 0);
    EXPECT_EQ(info.encoder_heads, 0);
    EXPECT_EQ(info.decoder_layers, 3);
    EXPECT_EQ(info.max_source_tokens, 0);
    EXPECT_EQ(info.max_decoder_tokens, 96);
    EXPECT_EQ(info.limits_reason, "as many as the model's positions allow");
    EXPECT_EQ(info.capacity.encoder_pages, 0);
    EXPECT_EQ(info.capacity.decoder_blocks, 64);
    EXPECT_EQ(info.bytes_per_encoder_token, 0);
    EXPECT_EQ(info.memory_bytes, 1024 * info.bytes_per_decoder_token);
    EXPECT_EQ(info.attention.cross, std::nullopt);
    EXPECT_EQ(info.attention.self, forms ? forms->self : info.attention.self);
    EXPECT_THAT(info.attention_reason, HasSubstr(forms ? "as configured" : "a prompt of 32 tokens"));
    // 400 x 24 of tokens, 96 x 24 of positions, 48 of the last norm, and 7,224 a layer; the head is packed again.
    EXPECT_EQ(info.parameters, 9600 + 2304 + 48 + 3 * 7224);
    DecodingSpec d = Decoding(2, 96);
    EXPECT_EQ(engine->Measure({0, &d})->encoder_pages, 0);
    EXPECT_THAT(engine->Measure({1, &d}).status().message(),
                HasSubstr("the model is decoder-only: it takes no source"));
  }
}

// A head that is tied to the token embedding is one tensor, packed twice.
TEST_F(EngineTest, WeightsAreCountedOnceAndTakenAsOftenAsTheyArePacked) {
  const std::unique_ptr<Engine> engine = Load(SynopsisCheckpoint());
  ASSERT_TRUE(engine);
  const auto checkpoint = Checkpoint::Open(SynopsisCheckpoint());
  ASSERT_TRUE(checkpoint.ok());
  const auto config = ReadModelConfig(**checkpoint);
  ASSERT_TRUE(config.ok());
  const auto weights = FindModelWeights(**checkpoint, *config);
  ASSERT_TRUE(weights.ok());
  const int64_t packed = PackedNumbers(*weights);
  EXPECT_EQ(engine->info().parameters, weights->parameters);
  // el's keys and values of each layer are packed in two layouts too.
  EXPECT_EQ(packed - engine->info().parameters, 8192 * 256 + 4 * 2 * 256 * 256);
  EXPECT_NEAR(static_cast<double>(engine->info().weight_bytes) / static_cast<double>(4 * packed), 1.0, 0.01);
}

// A system with `available` KiB of memory, of which the process's control group has `left` KiB; its other KiB are used,
// by page cache too.
std::string SystemWith(int available, int left) {
  std::string root = testing::TempDir() + "/engine_test_system";
  std::filesystem::create_directories(root + "/proc/self");
  std::filesystem::create_directories(root + "/groups/own");
  std::ofstream(root + "/proc/meminfo") << "MemAvailable: " << available << " kB\n";
  std::ofstream(root + "/proc/self/cgroup") << "0::/own\n";
  std::ofstream(root + "/proc/self/mountinfo") << "1 0 0:1 / /groups rw - cgroup2 cgroup2 rw\n";
  constexpr int64_t kAnonymous = 3 << 20, kCache = 50 << 20;
  std::ofstream(root + "/groups/own/memory.max") << kAnonymous + int64_t{left} * 1024 << "\n";
  std::ofstream(root + "/groups/own/memory.current") << kAnonymous + kCache << "\n";
  std::ofstream(root + "/groups/own/memory.stat") << "active_file 0\ninactive_file " << kCache << "\n";
  return root;
}

TEST_F(EngineTest, AFractionIsOfWhatTheWeightsLeave) {
  EngineOptions options = OptionsFor(SynopsisCheckpoint(), kFloat32El, &pool_);
  options.encoder_memory_tokens = options.decoder_memory_tokens = 0;
  options.memory_fraction = 0.5;
  for (const auto& [available, left] : {std::pair{200 << 10, 300 << 10}, std::pair{300 << 10, 200 << 10}}) {
    options.host_root = SystemWith(available, left);
    const std::unique_ptr<Engine> engine = LoadEngine(options);
    ASSERT_TRUE(engine);
    const int64_t budget = ((int64_t{200} << 20) - engine->info().weight_bytes) / 2;
    EXPECT_NEAR(static_cast<double>(engine->info().memory_bytes), static_cast<double>(budget), 300e3);
  }
}

// Decided before anything is touched: the system would promise it, and kill whoever takes it at its word.
TEST_F(EngineTest, WhatTheSystemHasNotIsAnErrorThatNamesTheOptionAndWhatThereIs) {
  const auto error = [this](const EngineOptions& options) {
    const absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Load(options);
    EXPECT_EQ(engine.status().code(), absl::StatusCode::kResourceExhausted) << engine.status();
    return std::string(engine.status().message());
  };
  EngineOptions options = OptionsFor(SynopsisCheckpoint(), kFloat32El, &pool_);
  options.host_root = SystemWith(1 << 10, 1 << 20);
  EXPECT_THAT(error(options),
              AllOf(HasSubstr("of weights"), HasSubstr("1.0 MiB are available in the system and 1024.0")));
  options.host_root = SystemWith(1 << 20, 12 << 10);
  options.decoder_memory_tokens = 4096;
  EXPECT_THAT(error(options),
              AllOf(HasSubstr("no room for 17.0 MiB of encoder and decoder memory (memory, "),
                    HasSubstr("1024.0 MiB are available in the system and 12.0 MiB left in the control group")));
  options.decoder_memory_tokens = 1024;
  options.max_rows = 512;
  EXPECT_THAT(error(options), HasSubstr("of keys and values that attention packs (max_rows, "));
  options.max_rows = 24;
  EXPECT_TRUE(Engine::Load(options).ok());
}

// What no memory stands behind but a number in config.json is not reserved.
TEST_F(EngineTest, HugeNumbersOfATinyCheckpointReserveNothing) {
  const TestDirectory directory;
  nlohmann::json config = TinyBartConfig();
  config["max_position_embeddings"] = 1 << 20;
  std::vector<WrittenTensor> tensors = TinyBartTensors();
  for (WrittenTensor& tensor : tensors) {
    if (tensor.name.ends_with("embed_positions.weight")) tensor = {tensor.name, {(1 << 20) + 2, 6}, "BF16"};
  }
  directory.Write("config.json", config.dump());
  directory.Write("model.safetensors", SafetensorsFileBytes(tensors));
  EngineOptions options;
  options.checkpoint = directory.path();
  options.device = DeviceKind::kCpu;
  options.precision = Precision::kFloat32;
  options.pool = &pool_;
  options.max_rows = 16;
  options.memory_bytes = 600 << 20;
  EXPECT_THAT(LoadError(options), AllOf(HasSubstr("max_rows 16"), HasSubstr("max_decoder_tokens 1048576"),
                                        HasSubstr("lists of 1216.0 MiB"), HasSubstr("is 75.0 MiB")));
  options.max_source_tokens = 64;
  options.max_decoder_tokens = 32;
  const std::unique_ptr<Engine> engine = LoadEngine(options);
  ASSERT_TRUE(engine);
  EXPECT_LE(engine->info().memory_bytes, 1 << 20);
}

}  // namespace
}  // namespace elserve
