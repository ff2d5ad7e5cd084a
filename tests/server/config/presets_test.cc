// The files of configs/presets/: each is served as it is, once its checkpoint is in the Hugging Face cache, and what it
// says of other searches is what a request may ask for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "server/config/config.h"
#include "server/parameters/parameters.h"
#include "tests/test_directory.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;

// BART-large's, of which all of them are.
constexpr ModelLimits kLimits = {.vocab_size = 50265, .max_decoder_tokens = 1024};

struct Preset {
  std::string repository;  // OWNER/NAME, whose snapshot the cache has
  int source_tokens, beams, groups;
  double length_penalty;
  int min_length, max_length;  // resolved: the start token counts
  int no_repeat_ngram_size;
};

const std::map<std::string, Preset> kPresets = {
    {"cnn_dm.yaml", {"facebook/bart-large-cnn", 1024, 4, 4, 2.0, 56, 142, 3}},
    {"xsum.yaml", {"facebook/bart-large-xsum", 1024, 6, 6, 1.0, 11, 62, 3}},
    {"squad_questions.yaml", {"lmqg/bart-large-squad-qg", 512, 4, 4, 1.0, 0, 65, 0}},
};

std::string Path(const std::string& name) { return ELSERVE_SOURCE_DIR "/configs/presets/" + name; }

class PresetsTest : public ::testing::Test {
 protected:
  PresetsTest() {
    for (const auto& [name, preset] : kPresets) {
      std::string folder = "models--" + preset.repository;
      folder.replace(folder.find('/'), 1, "--");
      fs::create_directories(fs::path(cache_.path()) / folder / "snapshots/0123");
      fs::create_directories(fs::path(cache_.path()) / folder / "refs");
      cache_.Write(folder + "/refs/main", "0123");
    }
    setenv("HF_HUB_CACHE", cache_.path().c_str(), 1);
  }
  ~PresetsTest() override { unsetenv("HF_HUB_CACHE"); }

  static ServedModelConfig Load(const std::string& name) {
    const auto config = LoadServerConfig(Path(name));
    EXPECT_TRUE(config.ok()) << config.status();
    if (!config.ok() || config->models.size() != 1) return {};
    return config->models[0];
  }

  TestDirectory cache_;
};

// The defaults of a model with the request's parameters over them. The checkpoints' own have nothing that these leave.
absl::StatusOr<ResolvedParameters> Resolve(const ServedModelConfig& model, const v1::DecodingParameters& request) {
  v1::DecodingParameters merged = BuiltInParameters();
  MergeParameters(model.defaults, &merged);
  if (model.questions) MergeParameters(model.questions->defaults, &merged);
  MergeParameters(request, &merged);
  merged.set_decoder_start_token_id(2);
  merged.add_eos_token_id(2);
  return ResolveParameters(merged, kLimits);
}

// What follows each --param of the first comment that begins with `search`.
v1::DecodingParameters Variant(const std::string& name, const std::string& search) {
  v1::DecodingParameters parameters;
  std::ifstream file(Path(name));
  int found = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("#   " + search + ":", 0) != 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word != "--param") continue;
      words >> word;
      EXPECT_TRUE(SetParameterFromText(word, &parameters).ok()) << name << ": " << line;
      ++found;
    }
  }
  EXPECT_GT(found, 0) << name << " says nothing of " << search;
  return parameters;
}

TEST_F(PresetsTest, TheseAreAllOfThem) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(Path(""))) names.push_back(entry.path().filename().string());
  std::vector<std::string> expected;
  for (const auto& [name, preset] : kPresets) expected.push_back(name);
  EXPECT_THAT(names, ::testing::UnorderedElementsAreArray(expected));
}

TEST_F(PresetsTest, AreThePapersSettings) {
  for (const auto& [name, preset] : kPresets) {
    SCOPED_TRACE(name);
    const ServedModelConfig model = Load(name);
    EXPECT_EQ(fs::path(model.path).filename(), "0123");
    EXPECT_EQ(model.max_source_tokens, preset.source_tokens);
    EXPECT_EQ(model.attention, kAllEl);
    const auto resolved = Resolve(model, {});
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    const DecodingSpec& spec = resolved->spec;
    EXPECT_EQ(spec.num_beams, preset.beams);
    EXPECT_EQ(spec.num_beam_groups, 1);
    EXPECT_EQ(spec.length_penalty, preset.length_penalty);
    EXPECT_EQ(spec.min_length, preset.min_length);
    EXPECT_EQ(spec.max_length, preset.max_length);
    EXPECT_EQ(spec.no_repeat_ngram_size, preset.no_repeat_ngram_size);
    EXPECT_EQ(spec.early_stopping, EarlyStopping::kTrue);
  }
}

TEST_F(PresetsTest, TheirOtherSearchesMayBeAskedFor) {
  for (const auto& [name, preset] : kPresets) {
    SCOPED_TRACE(name);
    const ServedModelConfig model = Load(name);
    const auto diverse = Resolve(model, Variant(name, "diverse"));
    ASSERT_TRUE(diverse.ok()) << diverse.status();
    EXPECT_EQ(diverse->spec.num_beams, preset.beams);
    EXPECT_EQ(diverse->spec.num_beam_groups, preset.groups);
    EXPECT_GT(diverse->spec.diversity_penalty, 0);
    const auto greedy = Resolve(model, Variant(name, "greedy"));
    ASSERT_TRUE(greedy.ok()) << greedy.status();
    EXPECT_EQ(greedy->spec.num_beams, 1);
    EXPECT_EQ(greedy->spec.max_length, preset.max_length);
  }
}

TEST_F(PresetsTest, QuestionsAreMarkedAsTheCheckpointWasTrained) {
  const ServedModelConfig model = Load("squad_questions.yaml");
  EXPECT_FALSE(model.summarize);
  ASSERT_TRUE(model.questions);
  EXPECT_EQ(MakeQuestionPrompt(model.questions->format, "a b c", {2, 3}).text, "a <hl> b <hl> c");
}

}  // namespace
}  // namespace elserve
