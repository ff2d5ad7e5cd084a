// The YAML file: what is read, and how each mistake in it is reported.
#include "server/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "server/parameters/parameters.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kFile[] = ELSERVE_SOURCE_DIR "/configs/test.yaml";         // need not exist: it anchors paths
constexpr char kModel[] = "models:\n  - name: m\n    path: ../models\n";  // 3 lines

absl::StatusOr<ServerConfig> Parse(const std::string& yaml) { return ParseServerConfig(yaml, kFile); }

ServerConfig Good(const std::string& yaml) {
  const auto config = Parse(yaml);
  EXPECT_TRUE(config.ok()) << yaml << "\n" << config.status();
  return config.value_or(ServerConfig());
}

std::string Model(const std::string& key) { return std::string(kModel) + "    " + key + "\n"; }
std::string Server(const std::string& key) { return "server:\n  " + key + "\n" + kModel; }

TEST(ConfigTest, DemoIsValid) {
  const auto config = LoadServerConfig(ELSERVE_SOURCE_DIR "/configs/demo.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->models.size(), 1u);
  const ServedModelConfig& model = config->models[0];
  EXPECT_EQ(model.name, "debian-synopsis");
  EXPECT_EQ(model.path, ELSERVE_SOURCE_DIR "/models/debian-synopsis");
  EXPECT_EQ(model.device, DeviceKind::kAuto);
  EXPECT_TRUE(model.summarize && model.questions);
  EXPECT_EQ(config->max_message_bytes, 16 << 20);
}

TEST(ConfigTest, DefaultsAreTheDocumentedOnes) {
  const ServerConfig config = Good(kModel);
  EXPECT_EQ(config.listen, "127.0.0.1:8500");
  EXPECT_EQ(config.ops_listen, "127.0.0.1:8501");
  EXPECT_EQ(config.max_message_bytes, 16 << 20);
  EXPECT_EQ(config.drain_seconds, 30);
  EXPECT_EQ(config.threads, 0);
  EXPECT_EQ(config.logging.level, LogLevel::kInfo);
  EXPECT_EQ(config.logging.format, LogFormat::kText);
  ASSERT_EQ(config.models.size(), 1u);
  const ServedModelConfig& model = config.models[0];
  EXPECT_EQ(model.path, ELSERVE_SOURCE_DIR "/models");
  EXPECT_EQ(model.device, DeviceKind::kAuto);
  EXPECT_EQ(model.precision, Precision::kAuto);
  EXPECT_EQ(model.attention, std::nullopt);
  EXPECT_EQ(model.memory_bytes, 0);
  EXPECT_EQ(model.memory_fraction, 0.5);
  EXPECT_EQ(model.max_source_tokens, 0);
  EXPECT_EQ(model.max_decoder_tokens, 0);
  EXPECT_EQ(model.max_rows, 0);
  EXPECT_EQ(model.encoder_memory_tokens, 0);
  EXPECT_EQ(model.decoder_memory_tokens, 0);
  EXPECT_EQ(model.encode_tokens_per_step, 0);
  EXPECT_TRUE(model.encoder_cache);
  EXPECT_EQ(model.salience, SalientHeads());
  EXPECT_TRUE(model.single_flight);
  EXPECT_EQ(model.answer_cache_bytes, 0);
  EXPECT_EQ(model.max_queued_requests, 1024);
  EXPECT_EQ(model.max_overtakes, 16);
  EXPECT_EQ(model.source_language, "");
  EXPECT_EQ(model.target_language, "");
  EXPECT_EQ(model.defaults.ByteSizeLong(), 0u);
  ASSERT_TRUE(model.summarize);
  EXPECT_FALSE(model.summarize->prefix.has_value());
  EXPECT_FALSE(model.questions);
  EXPECT_EQ(model.chunk.window_tokens, 0);
  EXPECT_EQ(model.chunk.overlap_tokens, 32);
  EXPECT_EQ(model.chunk.join, v1::JOIN_CONCATENATE);
  EXPECT_EQ(model.chunk.max_rounds, 4);
  EXPECT_EQ(model.chunk.max_document_bytes, 1 << 20);
}

TEST(ConfigTest, SalienceHasLayersAndHeads) {
  const auto salience = [](const std::string& value) { return Good(Model("salience: " + value)).models[0].salience; };
  EXPECT_EQ(salience("{layers: [3], heads: [1, 2, 16]}"), (SalientHeads{.layers = {3}, .heads = {1, 2, 16}}));
  EXPECT_EQ(salience("{layers: [3, 1]}"), (SalientHeads{.layers = {3, 1}, .heads = {}}));
  EXPECT_EQ(salience("{}"), SalientHeads());
}

QuestionFormat Format(const std::string& keys) {
  return Good(Model("tasks: {questions: {" + keys + "}}")).models[0].questions.value_or(QuestionsTask()).format;
}

TEST(ConfigTest, QuestionsHaveAFormat) {
  const QuestionFormat marked = Format("prefix: \"\", highlight: \"[HL]\", spaces: none");
  EXPECT_EQ(marked.kind, QuestionFormat::Kind::kHighlight);
  EXPECT_EQ(marked.prefix, "");
  EXPECT_EQ(marked.spaces, QuestionFormat::Spaces::kNone);
  EXPECT_EQ(Format("spaces: inside").spaces, QuestionFormat::Spaces::kInside);
  EXPECT_EQ(Format("spaces: outside").spaces, QuestionFormat::Spaces::kOutside);
  const QuestionFormat filled = Format("format: template, template: \"answer: {answer}  context: {context}\"");
  EXPECT_EQ(filled.kind, QuestionFormat::Kind::kTemplate);
  EXPECT_EQ(MakeQuestionPrompt(filled, "a b", {2, 3}).text, "answer: b  context: a b");
  const QuestionFormat alone = Format("format: end_to_end");
  EXPECT_EQ(alone.kind, QuestionFormat::Kind::kEndToEnd);
  EXPECT_EQ(alone.prefix, "generate questions: ");
  EXPECT_EQ(alone.suffix, "");
  EXPECT_EQ(alone.separator, "<sep>");
  EXPECT_FALSE(alone.item.has_value());
  const QuestionFormat pairs = Format(
      "format: end_to_end, prefix: \"p: \", suffix: \" s\", separator: \" | \", item: \"q: {question}, a: {answer}\"");
  EXPECT_EQ(pairs.prefix, "p: ");
  EXPECT_EQ(pairs.suffix, " s");
  EXPECT_EQ(pairs.separator, " | ");
  EXPECT_EQ(pairs.item->text(), "q: {question}, a: {answer}");
}

TEST(ConfigTest, AnOverlapIsAtMostHalfAWindow) {
  const auto overlap = [](const std::string& keys) {
    return Good(Model("chunk: {" + keys + "}")).models[0].chunk.overlap_tokens;
  };
  EXPECT_EQ(overlap("window_tokens: 64"), 32);
  EXPECT_EQ(overlap("window_tokens: 21"), 10);
  EXPECT_EQ(overlap("window_tokens: 1"), 0);
  EXPECT_EQ(overlap("window_tokens: 21, overlap_tokens: 10"), 10);
  EXPECT_EQ(overlap("overlap_tokens: 524288"), 524288);
  EXPECT_FALSE(Parse(Model("chunk: {window_tokens: 21, overlap_tokens: 11}")).ok());
  EXPECT_TRUE(Parse(Model("chunk: {window_tokens: 512}\n    max_source_tokens: 512")).ok());
  EXPECT_FALSE(Parse(Model("chunk: {window_tokens: 513}\n    max_source_tokens: 512")).ok());
}

TEST(ConfigTest, EveryKeyIsRead) {
  const ServerConfig config = Good(R"(
server: {listen: "[::1]:0", ops_listen: "", max_message_bytes: 1MiB, drain_seconds: 0.5, threads: 3}
models:
  - name: a
    path: ../models
    device: cpu
    precision: bfloat16
    attention: el
    attention_top_k: 64
    attention_values: log3bit
    attention_threshold: 0.25
    ffn_top_k: 512
    memory: 2GiB
    max_source_tokens: 512
    max_decoder_tokens: 128
    max_rows: 8
    encoder_memory_tokens: 4096
    decoder_memory_tokens: 8192
    encode_tokens_per_step: 512
    encoder_cache: false
    single_flight: false
    answer_cache: 64MiB
    max_queued_requests: 10
    max_overtakes: 0
    source_language: no
    target_language: "ro_RO"
    defaults: {num_beams: 4, max_new_tokens: 60, early_stopping: never, eos_token_id: [2, 3], length_penalty: 0.6}
    tasks:
      questions: {format: highlight, prefix: "ask: ", highlight: "**", spaces: both}
    chunk: {window_tokens: 256, overlap_tokens: 128, join: resummarize, max_rounds: 2, max_document_bytes: 64KiB}
  - {name: b, path: ../engine, device: cuda, precision: float32, attention: kv, memory: 0.25, tasks: {summarize: {prefix: "sum: ", suffix: " Short:"}}}
  - {name: c, path: ../engine, device: "cuda:3", memory: 1048576, tasks: {questions: {}}}
  - {name: d, path: ../engine, precision: int8, int8: {keep: [last_layer, head]}, memory_precision: int8}
logging: {level: debug, format: json}
)");
  EXPECT_EQ(config.listen, "[::1]:0");
  EXPECT_EQ(config.ops_listen, "");
  EXPECT_EQ(config.max_message_bytes, 1 << 20);
  EXPECT_EQ(config.drain_seconds, 0.5);
  EXPECT_EQ(config.threads, 3);
  ASSERT_EQ(config.models.size(), 4u);
  EXPECT_EQ(config.models[3].precision, Precision::kInt8);
  EXPECT_EQ(config.models[3].int8_keep, (Int8Keep{.head = true, .last_layer = true}));
  EXPECT_TRUE(config.models[3].int8_memory);
  const ServedModelConfig& a = config.models[0];
  EXPECT_FALSE(a.int8_memory);
  EXPECT_EQ(a.device, DeviceKind::kCpu);
  EXPECT_EQ(a.precision, Precision::kBFloat16);
  EXPECT_EQ(a.attention, kAllEl);
  EXPECT_EQ(a.approximation,
            (AttentionApproximation{.top_k = 64, .values = AttentionValues::kLog3Bit, .threshold = 0.25f}));
  EXPECT_EQ(a.ffn_top_k, 512);
  EXPECT_EQ(a.memory_bytes, int64_t{2} << 30);
  EXPECT_EQ(a.max_source_tokens, 512);
  EXPECT_EQ(a.max_decoder_tokens, 128);
  EXPECT_EQ(a.max_rows, 8);
  EXPECT_EQ(a.encoder_memory_tokens, 4096);
  EXPECT_EQ(a.decoder_memory_tokens, 8192);
  EXPECT_EQ(a.encode_tokens_per_step, 512);
  EXPECT_FALSE(a.encoder_cache);
  EXPECT_FALSE(a.single_flight);
  EXPECT_EQ(a.answer_cache_bytes, 64 << 20);
  EXPECT_EQ(a.max_queued_requests, 10);
  EXPECT_EQ(a.max_overtakes, 0);
  EXPECT_EQ(a.source_language, "no");  // a text, and no boolean
  EXPECT_EQ(a.target_language, "ro_RO");
  EXPECT_EQ(a.defaults.num_beams(), 4);
  EXPECT_EQ(a.defaults.max_new_tokens(), 60);
  EXPECT_EQ(a.defaults.early_stopping(), v1::EARLY_STOPPING_NEVER);
  EXPECT_THAT(a.defaults.eos_token_id(), ::testing::ElementsAre(2, 3));
  EXPECT_EQ(a.defaults.length_penalty(), 0.6);
  EXPECT_FALSE(a.summarize);
  ASSERT_TRUE(a.questions);
  EXPECT_EQ(a.questions->format.kind, QuestionFormat::Kind::kHighlight);
  EXPECT_EQ(a.questions->format.prefix, "ask: ");
  EXPECT_EQ(a.questions->format.highlight, "**");
  EXPECT_EQ(a.questions->format.spaces, QuestionFormat::Spaces::kBoth);
  EXPECT_EQ(a.chunk.window_tokens, 256);
  EXPECT_EQ(a.chunk.overlap_tokens, 128);
  EXPECT_EQ(a.chunk.join, v1::JOIN_RESUMMARIZE);
  EXPECT_EQ(a.chunk.max_rounds, 2);
  EXPECT_EQ(a.chunk.max_document_bytes, 64 << 10);
  const ServedModelConfig& b = config.models[1];
  EXPECT_EQ(b.path, ELSERVE_SOURCE_DIR "/engine");
  EXPECT_EQ(b.precision, Precision::kFloat32);
  EXPECT_EQ(b.attention, kAllKv);
  EXPECT_EQ(b.memory_bytes, 0);
  EXPECT_EQ(b.memory_fraction, 0.25);
  ASSERT_TRUE(b.summarize);
  EXPECT_EQ(b.summarize->prefix, "sum: ");
  EXPECT_EQ(b.summarize->suffix, " Short:");
  EXPECT_FALSE(b.questions);
  EXPECT_EQ(config.models[2].memory_bytes, 1 << 20);
  EXPECT_EQ(config.models[2].questions->format.kind, QuestionFormat::Kind::kHighlight);
  EXPECT_EQ(config.models[2].questions->format.prefix, "generate question: ");
  EXPECT_EQ(config.models[2].questions->format.highlight, "<hl>");
  EXPECT_EQ(config.models[2].questions->format.spaces, QuestionFormat::Spaces::kInside);
  EXPECT_EQ(config.logging.level, LogLevel::kDebug);
  EXPECT_EQ(config.logging.format, LogFormat::kJson);
}

TEST(ConfigTest, APrefixMayBeAbsentOrEmpty) {
  const auto prefix = [](const std::string& summarize) {
    return Good(std::string(kModel) + "    tasks: {summarize: " + summarize + "}\n").models[0].summarize->prefix;
  };
  EXPECT_EQ(prefix("{}"), std::nullopt);
  EXPECT_EQ(prefix("{prefix: \"\"}"), "");
  EXPECT_EQ(prefix("{prefix: \"sum: \"}"), "sum: ");
}

TEST(ConfigTest, TasksHaveTheirOwnDefaults) {
  const ServerConfig config = Good(std::string(kModel) + R"(    defaults: {num_beams: 4, min_length: ~}
    tasks:
      summarize: {defaults: {num_beams: 2, max_length: 60}}
      questions: {defaults: {length_penalty: null, eos_token_id: []}}
)");
  const ServedModelConfig& model = config.models[0];
  EXPECT_EQ(model.defaults.num_beams(), 4);
  EXPECT_THAT(model.defaults.reset(), ::testing::ElementsAre("min_length"));
  EXPECT_EQ(model.summarize->defaults.num_beams(), 2);
  EXPECT_EQ(model.summarize->defaults.max_length(), 60);
  EXPECT_FALSE(model.questions->defaults.has_num_beams());
  EXPECT_THAT(model.questions->defaults.reset(), ::testing::ElementsAre("length_penalty", "eos_token_id"));
}

TEST(ConfigTest, TheCommandLineReadsValuesAsTheFileDoes) {
  for (const char* assignment :
       {"num_beams=4", "eos_token_id=7", "eos_token_id=[2, 3]", "eos_token_id=[]", "early_stopping=never",
        "early_stopping='never'", "length_penalty=0.5", "max_length=null", "max_length=~", "bad_words_ids=[]",
        "stop_strings=[]", "length_penalty=1e-3", "do_sample=false"}) {
    const std::string_view text = assignment;
    const size_t equals = text.find('=');
    v1::DecodingParameters from_text;
    ASSERT_TRUE(SetParameterFromText(text, &from_text).ok()) << text;
    const ServerConfig config =
        Good(std::string(kModel) + "    defaults:\n      " + std::string(text.substr(0, equals)) + ": " +
             std::string(text.substr(equals + 1)) + "\n");
    EXPECT_EQ(config.models[0].defaults.SerializeAsString(), from_text.SerializeAsString()) << text;
  }
}

TEST(ConfigTest, BoundsAreAllowedAndWhatIsBeyondIsNot) {
  const struct {
    const char* where;  // "server" or "model"
    const char* key;
    std::vector<std::string> good, bad;
  } kCases[] = {
      {"server", "max_message_bytes", {"1024", "1KiB", "1024B", "1GiB"}, {"1023", "1073741825", "1.5KiB", "KiB"}},
      {"server", "drain_seconds", {"0", "86400", "0.25"}, {"-0.1", "86400.5", "true"}},
      {"server",
       "listen",
       {"a:0", "a:65535", "'[::1]:1'"},
       {"':1'", "'[]:1'", "'[::1:1'", "'a b:1'", "a:-1", "a:1x", "a:"}},
      {"model", "memory", {"1MiB", "1TiB", "1024TiB", "1.0", "0.001"}, {"1023KiB", "1025TiB", "1.001", "-0.5", "true"}},
      {"model", "max_rows", {"1", "16384"}, {"0", "16385"}},
      {"model", "attention_top_k", {"1", "1048576"}, {"0", "1048577", "all"}},
      {"model", "ffn_top_k", {"1", "1048576"}, {"0", "1048577"}},
      {"model", "encoder_memory_tokens", {"64", "2147483648"}, {"63", "2147483649"}},
      {"model", "decoder_memory_tokens", {"16", "2147483648"}, {"15", "2147483649"}},
      {"model", "encode_tokens_per_step", {"1", "1048576"}, {"0", "1048577"}},
      {"model", "max_queued_requests", {"1", "1000000"}, {"0", "1000001"}},
      {"model", "max_overtakes", {"0", "1000000"}, {"-1", "1000001"}},
      {"model", "encoder_cache", {"true", "false"}, {"yes", "1", "True", "[true]"}},
      {"model",
       "chunk",
       {"{}", "{window_tokens: 1048576}", "{max_rounds: 1}", "{max_rounds: 16}", "{max_document_bytes: 1024}",
        "{max_document_bytes: 64MiB}", "{overlap_tokens: 0}"},
       {"{window_tokens: -1}", "{window_tokens: 1048577}", "{max_rounds: 0}", "{max_rounds: 17}",
        "{max_document_bytes: 1023}", "{max_document_bytes: 65MiB}", "{overlap_tokens: -1}", "{join: both}", "{a: b}",
        "4"}},
      {"model", "single_flight", {"true", "false"}, {"on", "0"}},
      {"model", "answer_cache", {"0", "1", "64MiB", "1024TiB"}, {"-1", "1025TiB", "true", "0.5", "64MB"}},
      {"model", "device", {"cuda:0", "cuda:63"}, {"cuda:64", "cuda0", "CPU"}},
  };
  for (const auto& test : kCases) {
    const auto yaml = [&test](const std::string& value) {
      const std::string line = std::string(test.key) + ": " + value;
      return test.where == std::string("server") ? Server(line) : Model(line);
    };
    for (const std::string& value : test.good) EXPECT_TRUE(Parse(yaml(value)).ok()) << test.key << " " << value;
    for (const std::string& value : test.bad) EXPECT_FALSE(Parse(yaml(value)).ok()) << test.key << " " << value;
  }
}

TEST(ConfigTest, BytesAreWrittenWithUnits) {
  const struct {
    const char* text;
    int64_t bytes;
  } kCases[] = {{"2097152", 2 << 20}, {"2097152B", 2 << 20},      {"3072KiB", 3 << 20},
                {"5MiB", 5 << 20},    {"3GiB", int64_t{3} << 30}, {"2TiB", int64_t{2} << 40}};
  for (const auto& test : kCases) {
    EXPECT_EQ(Good(Model(std::string("memory: ") + test.text)).models[0].memory_bytes, test.bytes) << test.text;
  }
}

TEST(ConfigTest, NamesAndTextsHaveALength) {
  const auto named = [](size_t bytes) {
    return Parse("models: [{name: " + std::string(bytes, 'n') + ", path: ../models}]\n").ok();
  };
  EXPECT_TRUE(named(128));
  EXPECT_FALSE(named(129));
  const auto prefix = [](const std::string& text) {
    return Parse(Model("tasks: {summarize: {prefix: \"" + text + "\"}}")).ok();
  };
  EXPECT_TRUE(prefix(std::string(4096, 'p')));
  EXPECT_FALSE(prefix(std::string(4097, 'p')));
  EXPECT_TRUE(prefix("a\\tb\\n"));
  EXPECT_FALSE(prefix("a\\rb"));
  EXPECT_FALSE(prefix("a\\x1fb"));
}

TEST(ConfigTest, AtMost64Models) {
  std::string yaml = "models:\n";
  for (int i = 0; i < 64; ++i) yaml += "  - {name: m" + std::to_string(i) + ", path: ../models}\n";
  EXPECT_TRUE(Parse(yaml).ok());
  EXPECT_FALSE(Parse(yaml + "  - {name: more, path: ../models}\n").ok());
}

// The first mistake of a file is the one that is reported.
TEST(ConfigTest, TheFirstMistakeCounts) {
  EXPECT_THAT(std::string(Parse(Model("max_rows: 0\n    max_overtakes: -1")).status().message()),
              HasSubstr("max_rows is 0"));
}

TEST(ConfigTest, AddressesMayBeTheSameWherePortsAreFree) {
  EXPECT_TRUE(Parse("server: {listen: \"a:0\", ops_listen: \"a:0\"}\n" + std::string(kModel)).ok());
  EXPECT_FALSE(Parse("server: {listen: \"a:1\", ops_listen: \"a:1\"}\n" + std::string(kModel)).ok());
}

TEST(ConfigTest, AbsolutePathsStay) {
  EXPECT_EQ(Good("models: [{name: m, path: " ELSERVE_SOURCE_DIR "/engine}]").models[0].path,
            ELSERVE_SOURCE_DIR "/engine");
}

// Lines below are appended to the model's three: the first of them is line 4.
struct BadCase {
  const char* title;
  std::string yaml;
  int line;  // 0: none
  const char* message;
};

std::string Defaults(const std::string& key) { return std::string(kModel) + "    defaults:\n      " + key + "\n"; }

class BadConfigTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadConfigTest, NamesLineKeyValueAndWhatIsAllowed) {
  const auto config = Parse(GetParam().yaml);
  ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << GetParam().yaml;
  const std::string message(config.status().message());
  std::string where = kFile;
  if (GetParam().line != 0) where.append(":").append(std::to_string(GetParam().line));
  EXPECT_THAT(message, StartsWith(where.append(": ")));
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigTest,
    ::testing::Values(
        BadCase{"NoYaml", "server: {listen: \n", 2, "no YAML"}, BadCase{"Tab", "server:\n\tlisten: x\n", 2, "no YAML"},
        BadCase{"UnknownAlias", "server: *nobody\n", 1, "no YAML"},
        BadCase{"Empty", "", 0, "the file holds 0 YAML documents"},
        BadCase{"TwoDocuments", std::string(kModel) + "---\n" + kModel, 0, "the file holds 2 YAML documents"},
        BadCase{"List", "- 1\n", 1, "is a list; allowed is a map"},
        BadCase{"NoModels", "server: {}\n", 1, "models is missing"},
        BadCase{"ModelsEmpty", "models: []\n", 1, "models is a list; allowed is a list of 1 to 64"},
        BadCase{"ModelsNoList", "models: 4\n", 1, "models is 4; allowed is a list"},
        BadCase{"UnknownTopKey", std::string(kModel) + "sever: {}\n", 4, "the key sever; allowed is server, models"},
        BadCase{"UnknownServerKey", Server("port: 80"), 2, "server has the key port; allowed is listen"},
        BadCase{"ThreadsNegative", Server("threads: -1"), 2, "server.threads is -1; allowed is 0 to 1024"},
        BadCase{"ThreadsTooMany", Server("threads: 1025"), 2, "server.threads is 1025; allowed is 0 to 1024"},
        BadCase{"UnknownModelKey", Model("max_row: 4"), 4, "models[0] has the key max_row; allowed is name, path"},
        BadCase{"DuplicateTopKey", std::string(kModel) + kModel, 4, "models is there twice"},
        BadCase{"DuplicateKey", Model("path: ../models"), 4, "models[0].path is there twice"},
        BadCase{"DuplicateDefault", Defaults("num_beams: 4\n      num_beams: 2"), 6, "num_beams is there twice"},
        BadCase{"KeyThatIsAList", "? [a]\n: 1\n", 1, "a key that is no text"},
        BadCase{"NameMissing", "models:\n  - path: ../models\n", 2, "models[0].name is missing"},
        BadCase{"NameEmpty", "models:\n  - name: \"\"\n    path: ../models\n", 2, "models[0].name is empty"},
        BadCase{"NameWithBlank", "models:\n  - {name: a b, path: ../models}\n", 2, "models[0].name is a b; allowed"},
        BadCase{"NameTwice", "models:\n  - {name: m, path: ../models}\n  - {name: m, path: ../models}\n", 3,
                "models[1].name is m; allowed is a name that no model above has"},
        BadCase{"PathMissing", "models:\n  - name: m\n", 2, "models[0].path is missing"},
        BadCase{"PathNowhere", "models:\n  - name: m\n    path: ../nowhere\n", 3, "there is none at"},
        BadCase{"PathIsAFile", "models:\n  - name: m\n    path: ../CMakeLists.txt\n", 3, "a checkpoint's directory"},
        BadCase{"PathIsAMap", "models:\n  - name: m\n    path: {a: b}\n", 3,
                "models[0].path is a map; allowed is a text"},
        BadCase{"Device", Model("device: gpu"), 4, "device is gpu; allowed is auto, cpu, cuda or cuda:N"},
        BadCase{"DeviceWithoutNumber", Model("device: 'cuda:'"), 4, "device is cuda:; allowed"},
        BadCase{"DeviceBadNumber", Model("device: cuda:1x"), 4, "device is cuda:1x; allowed"},
        BadCase{"DeviceNegative", Model("device: cuda:-1"), 4, "device is cuda:-1; allowed"},
        BadCase{"DeviceTooHigh", Model("device: cuda:64"), 4, "N from 0 to 63"},
        BadCase{"PrecisionFloat16", Model("precision: float16"), 4,
                "precision is float16; allowed is auto, float32, bfloat16, int8"},
        BadCase{"Int8Without", Model("int8: {keep: [head]}"), 4,
                "int8 is a map; allowed is none without precision: int8"},
        BadCase{"Int8Keep", Model("precision: int8\n    int8: {keep: [head, tail]}"), 5,
                "int8.keep is tail; allowed is a list of head, first_layer, last_layer"},
        BadCase{"Int8KeepText", Model("precision: int8\n    int8: {keep: head}"), 5,
                "int8.keep is head; allowed is a list of head, first_layer, last_layer"},
        BadCase{"Int8Unknown", Model("precision: int8\n    int8: {drop: [head]}"), 5,
                "int8 has the key drop; allowed is keep"},
        BadCase{"MemoryPrecision", Model("memory_precision: bfloat16"), 4,
                "memory_precision is bfloat16; allowed is auto, int8"},
        BadCase{"Attention", Model("attention: flash"), 4, "attention is flash; allowed is auto, el, kv"},
        BadCase{"AttentionList", Model("attention: [el]"), 4, "attention is a list; allowed is auto, el, kv"},
        BadCase{"AttentionValues", Model("attention_values: 3bit"), 4,
                "attention_values is 3bit; allowed is exact, pruned, log3bit"},
        BadCase{"AttentionThreshold", Model("attention_threshold: 0.1"), 4,
                "attention_threshold is 0.1; allowed is none beside attention_values: exact"},
        BadCase{"AttentionThresholdRange", Model("attention_values: pruned\n    attention_threshold: 1.5"), 5,
                "attention_threshold is 1.5; allowed is 0 to 1"},
        BadCase{"MemoryUnit", Model("memory: 2GB"), 4, "memory is 2GB; allowed is bytes"},
        BadCase{"MemoryFraction", Model("memory: 1.5"), 4, "memory is 1.5; allowed is bytes"},
        BadCase{"MemoryZero", Model("memory: 0.0"), 4, "memory is 0.0; allowed is bytes"},
        BadCase{"MemoryTooSmall", Model("memory: 1024"), 4, "memory is 1024; allowed is bytes"},
        BadCase{"MemoryOverflow", Model("memory: 99999999999TiB"), 4, "memory is 99999999999TiB"},
        BadCase{"MemoryNegative", Model("memory: -2GiB"), 4, "memory is -2GiB"},
        BadCase{"SourceTokensZero", Model("max_source_tokens: 0"), 4,
                "max_source_tokens is 0; allowed is 1 to 1048576"},
        BadCase{"DecoderTokensOne", Model("max_decoder_tokens: 1"), 4,
                "max_decoder_tokens is 1; allowed is 2 to 1048576"},
        BadCase{"RowsZero", Model("max_rows: 0"), 4, "max_rows is 0; allowed is 1 to 16384"},
        BadCase{"RowsText", Model("max_rows: many"), 4, "max_rows is many; allowed is 1 to 16384"},
        BadCase{"RowsQuoted", Model("max_rows: \"8\""), 4, "max_rows is 8; allowed is 1 to 16384"},
        BadCase{"RowsFraction", Model("max_rows: 8.5"), 4, "max_rows is 8.5; allowed is 1 to 16384"},
        BadCase{"RowsHuge", Model("max_rows: 18446744073709551615"), 4, "max_rows is 18446744073709551615"},
        BadCase{"EncoderTokens", Model("encoder_memory_tokens: 1"), 4, "encoder_memory_tokens is 1; allowed is 64 to"},
        BadCase{"DecoderTokens", Model("decoder_memory_tokens: 0"), 4, "decoder_memory_tokens is 0; allowed is 16 to"},
        BadCase{"EncodeStep", Model("encode_tokens_per_step: -1"), 4, "encode_tokens_per_step is -1; allowed is 1"},
        BadCase{"EncoderCache", Model("encoder_cache: on"), 4, "encoder_cache is on; allowed is true, false"},
        BadCase{"SalienceZero", Model("salience: {heads: [1, 0]}"), 4,
                "models[0].salience.heads is a list; allowed is a list of 1 or more numbers from 1 to 1024"},
        BadCase{"SalienceEmpty", Model("salience: {layers: []}"), 4, "salience.layers is a list; allowed"},
        BadCase{"SalienceNumber", Model("salience: {layers: 1}"), 4, "salience.layers is 1; allowed is a list of"},
        BadCase{"SalienceText", Model("salience: {layers: [all]}"), 4, "salience.layers is a list; allowed is a list"},
        BadCase{"SalienceKey", Model("salience: {strength: 1}"), 4,
                "salience has the key strength; allowed is layers, heads"},
        BadCase{"Queue", Model("max_queued_requests: 0"), 4, "max_queued_requests is 0; allowed is 1 to"},
        BadCase{"Overtakes", Model("max_overtakes: -1"), 4, "max_overtakes is -1; allowed is 0 to"},
        BadCase{"Language", Model("target_language: [fr]"), 4, "target_language is a list; allowed is a text"},
        BadCase{"DefaultsUnknown", Defaults("beams: 4"), 5, "models[0].defaults.beams is no decoding parameter"},
        BadCase{"DefaultsRange", Defaults("num_beams: 64"), 5, "defaults.num_beams is 64; allowed is 1 to 32"},
        BadCase{"DefaultsType", Defaults("num_beams: four"), 5,
                "defaults.num_beams is \"four\"; allowed is an integer"},
        BadCase{"DefaultsSampling", Defaults("temperature: 0"), 5, "defaults.temperature is 0; allowed is 1e-05"},
        BadCase{"DefaultsRefused", Defaults("guidance_scale: 2.5"), 5,
                "defaults.guidance_scale is 2.5; allowed is 1.0 (this version does not honour the parameter)"},
        BadCase{"DefaultsWithoutCache", Defaults("use_cache: false"), 5,
                "defaults.use_cache is false; allowed is true"},
        BadCase{"DefaultsReset", Defaults("reset: [num_beams]"), 5, "defaults.reset is no decoding parameter"},
        BadCase{"TaskDefaults", Model("tasks: {summarize: {defaults: {num_beams: 64}}}"), 4,
                "tasks.summarize.defaults.num_beams is 64; allowed is 1 to 32"},
        BadCase{"QuestionsDefaults", Model("tasks: {questions: {defaults: {beams: 4}}}"), 4,
                "tasks.questions.defaults.beams is no decoding parameter"},
        BadCase{"DefaultsMap", Defaults("num_beams: {a: b}"), 5, "defaults.num_beams is a map; allowed is a number"},
        BadCase{"DefaultsNoMap", Model("defaults: 4"), 4, "models[0].defaults is 4; allowed is a map"},
        BadCase{"TaskUnknown", Model("tasks: {translate: {}}"), 4, "tasks has the key translate; allowed is summarize"},
        BadCase{"TaskKey", Model("tasks: {summarize: {infix: x}}"), 4, "tasks.summarize has the key infix"},
        BadCase{"TaskFormat", Model("tasks: {questions: {format: t5}}"), 4,
                "format is t5; allowed is highlight, template, end_to_end"},
        BadCase{"TaskSpaces", Model("tasks: {questions: {spaces: left}}"), 4,
                "spaces is left; allowed is inside, outside, both, none"},
        BadCase{"KeyOfHighlight", Model("tasks: {questions: {format: end_to_end, highlight: x}}"), 4,
                "tasks.questions.highlight is set with format: end_to_end; it is allowed with format: highlight"},
        BadCase{"SpacesOfHighlight", Model("tasks: {questions: {format: end_to_end, spaces: none}}"), 4,
                "tasks.questions.spaces is set with format: end_to_end; it is allowed with format: highlight"},
        BadCase{"KeyOfTemplate", Model("tasks: {questions: {template: x}}"), 4,
                "template is set with format: highlight; it is allowed with format: template"},
        BadCase{"KeyOfEndToEnd", Model("tasks: {questions: {separator: x}}"), 4,
                "separator is set with format: highlight; it is allowed with format: end_to_end"},
        BadCase{"ItemOfEndToEnd", Model("tasks: {questions: {item: x}}"), 4, "item is set with format: highlight"},
        BadCase{"SuffixOfEndToEnd", Model("tasks: {questions: {suffix: x}}"), 4,
                "suffix is set with format: highlight"},
        BadCase{"KeyOfTwo", Model("tasks: {questions: {format: template, prefix: x}}"), 4,
                "prefix is set with format: template; it is allowed with format: highlight or end_to_end"},
        BadCase{"TemplateMissing", Model("tasks: {questions: {format: template}}"), 4,
                "models[0].tasks.questions.template is missing"},
        BadCase{
            "TemplateWithoutContext", Model("tasks: {questions: {format: template, template: '{answer}'}}"), 4,
            "template is {answer}; allowed is a text with {answer} and {context} once each, and {{ and }} for braces; "
            "this has no {context}"},
        BadCase{"ItemWithoutAnswer", Model("tasks: {questions: {format: end_to_end, item: '{question}'}}"), 4,
                "item is {question}; allowed is a text with {question} and {answer} once each"},
        BadCase{"SeparatorEmpty", Model("tasks: {questions: {format: end_to_end, separator: ''}}"), 4,
                "separator is empty; allowed is a text that is not empty"},
        BadCase{"QuestionsUnknown", Model("tasks: {questions: {mark: x}}"), 4,
                "tasks.questions has the key mark; allowed is format, prefix, highlight, spaces, template,"},
        BadCase{"ChunkOverlap", Model("chunk: {window_tokens: 100, overlap_tokens: 51}"), 4,
                "chunk.overlap_tokens is 51; allowed is 0 to 50"},
        BadCase{"ChunkJoin", Model("chunk: {join: merge}"), 4,
                "chunk.join is merge; allowed is concatenate, resummarize"},
        BadCase{"TaskHighlight", Model("tasks: {questions: {highlight: \"\"}}"), 4, "highlight is empty; allowed"},
        BadCase{"ListenNoPort", Server("listen: localhost"), 2, "server.listen is localhost; allowed is HOST:PORT"},
        BadCase{"ListenPort", Server("listen: 127.0.0.1:65536"), 2, "server.listen is 127.0.0.1:65536"},
        BadCase{"ListenIpv6", Server("listen: ::1:80"), 2, "server.listen is ::1:80"},
        BadCase{"ListenEmpty", Server("listen: \"\""), 2, "server.listen is empty"},
        BadCase{"OpsListen", Server("ops_listen: 80"), 2, "server.ops_listen is 80"},
        BadCase{"OpsSame", Server("ops_listen: 127.0.0.1:8500"), 2, "another address than server.listen's"},
        BadCase{"Message", Server("max_message_bytes: 2GiB"), 2,
                "max_message_bytes is 2GiB; allowed is 1024 to 1073741824"},
        BadCase{"Drain", Server("drain_seconds: -1"), 2, "drain_seconds is -1; allowed is 0 to 86400"},
        BadCase{"DrainUnit", Server("drain_seconds: 30s"), 2, "drain_seconds is 30s; allowed is 0 to 86400"},
        BadCase{"LogLevel", std::string(kModel) + "logging: {level: loud}\n", 4,
                "logging.level is loud; allowed is debug"},
        BadCase{"LogFormat", std::string(kModel) + "logging: {format: xml}\n", 4,
                "logging.format is xml; allowed is text"}),
    [](const auto& info) { return std::string(info.param.title); });

TEST(ConfigTest, AliasesCannotBlowUp) {
  std::string yaml = std::string(kModel) + "    defaults:\n      suppress_tokens:\n        - &a [" + "1";
  for (int i = 0; i < 999; ++i) yaml += ",1";
  yaml += "]\n        - &b [*a";
  for (int i = 0; i < 999; ++i) yaml += ",*a";
  yaml += "]\n";
  EXPECT_THAT(std::string(Parse(yaml).status().message()), HasSubstr("suppress_tokens is a list; allowed is a number"));
  EXPECT_FALSE(Parse(std::string(kModel) + "    defaults:\n      suppress_tokens: &a [*a]\n").ok());
  EXPECT_FALSE(Parse(std::string(100000, '[')).ok());
}

TEST(ConfigTest, FilesThatCannotBeReadAreErrors) {
  EXPECT_EQ(LoadServerConfig("/nowhere/elserve.yaml").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(LoadServerConfig(ELSERVE_SOURCE_DIR).ok());
  const std::string path = ::testing::TempDir() + "/config_test_large.yaml";
  std::ofstream(path) << std::string((1 << 20) + 1, ' ');
  EXPECT_THAT(std::string(LoadServerConfig(path).status().message()), HasSubstr("bytes; allowed is at most"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace elserve
