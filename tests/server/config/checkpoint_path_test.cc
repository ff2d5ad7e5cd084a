#include "server/config/checkpoint_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "server/config/config.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kVariables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"};
constexpr char kHash[] = "0123456789abcdef0123456789abcdef01234567";
constexpr char kOther[] = "fedcba9876543210fedcba9876543210fedcba98";

// A cache as huggingface_hub lays it out: files are links into blobs/.
class CheckpointPathTest : public ::testing::Test {
 protected:
  CheckpointPathTest() {
    top_ = fs::path(::testing::TempDir()) /
           ("checkpoint_path_test." + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(top_);
    for (const char* name : kVariables) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      unsetenv(name);
    }
    AddRepository(top_ / "hub" / "models--facebook--bart-base");
    setenv("HF_HUB_CACHE", (top_ / "hub").c_str(), 1);
  }
  ~CheckpointPathTest() override {
    for (const char* name : kVariables) {
      unsetenv(name);
      if (before_.contains(name)) setenv(name, before_[name].c_str(), 1);
    }
    fs::remove_all(top_);
  }

  static void Write(const fs::path& path, std::string_view text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  static void AddRepository(const fs::path& repository) {
    Write(repository / "blobs" / "abc", "{}");
    for (const char* hash : {kHash, kOther}) {
      fs::create_directories(repository / "snapshots" / hash);
      fs::create_symlink("../../blobs/abc", repository / "snapshots" / hash / "config.json");
    }
    Write(repository / "refs" / "main", kHash);
    Write(repository / "refs" / "v1.0", std::string(kOther) + "\n");
    Write(repository / "refs" / "refs" / "pr" / "1", kOther);
  }
  std::string Snapshot(const char* hash) const {
    return (top_ / "hub/models--facebook--bart-base/snapshots" / hash).string();
  }
  static std::string Find(std::string_view path) {
    const auto found = FindCheckpoint(path, "/");
    return found.ok() ? *found : "error: " + std::string(found.status().message());
  }

  fs::path top_;
  std::map<std::string, std::string> before_;
};

TEST_F(CheckpointPathTest, FindsSnapshots) {
  EXPECT_EQ(Find("hub:facebook/bart-base"), Snapshot(kHash));
  EXPECT_EQ(Find("hub:facebook/bart-base@main"), Snapshot(kHash));
  EXPECT_EQ(Find("hub:facebook/bart-base@v1.0"), Snapshot(kOther));
  EXPECT_EQ(Find("hub:facebook/bart-base@refs/pr/1"), Snapshot(kOther));
  EXPECT_EQ(Find(std::string("hub:facebook/bart-base@") + kOther), Snapshot(kOther));
  EXPECT_TRUE(fs::is_regular_file(fs::path(Snapshot(kHash)) / "config.json"));
  AddRepository(top_ / "hub" / "models--t5-small");
  EXPECT_EQ(Find("hub:t5-small"), (top_ / "hub/models--t5-small/snapshots" / kHash).string());
}

TEST_F(CheckpointPathTest, FollowsLinksOfFolders) {
  fs::create_directories(top_ / "disk");
  fs::rename(top_ / "hub", top_ / "disk" / "cache");
  fs::create_directory_symlink(top_ / "disk" / "cache", top_ / "hub");
  EXPECT_EQ(Find("hub:facebook/bart-base"), Snapshot(kHash));
}

TEST_F(CheckpointPathTest, TheFirstVariableThatIsSetNamesTheCache) {
  const std::string cache = (top_ / "hub").string();
  struct Case {
    const char* name;
    std::string value;
  };
  // From the last that is asked on: each is set over those before.
  fs::create_directories(top_ / "home/.cache/huggingface");
  fs::create_directory_symlink(cache, top_ / "home/.cache/huggingface/hub");
  fs::create_directories(top_ / "xdg/huggingface");
  fs::create_directory_symlink(cache, top_ / "xdg/huggingface/hub");
  unsetenv("HF_HUB_CACHE");
  EXPECT_THAT(Find("hub:facebook/bart-base"), HasSubstr("none of HF_HUB_CACHE, HF_HOME and HOME is set"));
  for (const Case& c :
       {Case{"HOME", (top_ / "home").string()}, Case{"XDG_CACHE_HOME", (top_ / "xdg").string()},
        Case{"HF_HOME", top_.string()}, Case{"HUGGINGFACE_HUB_CACHE", cache}, Case{"HF_HUB_CACHE", cache}}) {
    setenv(c.name, "/nowhere", 1);
    EXPECT_THAT(Find("hub:facebook/bart-base"), HasSubstr("; /nowhere")) << c.name;
    setenv(c.name, c.value.c_str(), 1);
    EXPECT_THAT(Find("hub:facebook/bart-base"), HasSubstr(kHash)) << c.name;
  }
  setenv("HF_HUB_CACHE", "", 1);  // as if it was not set
  EXPECT_EQ(Find("hub:facebook/bart-base"), Snapshot(kHash));
  setenv("HOME", top_.c_str(), 1);
  setenv("HF_HUB_CACHE", "~/hub", 1);
  EXPECT_EQ(Find("hub:facebook/bart-base"), Snapshot(kHash));
}

TEST_F(CheckpointPathTest, ErrorsSayWhereItLookedAndWhatIsThere) {
  AddRepository(top_ / "hub" / "models--a--b");
  Write(top_ / "hub" / "version.txt", "1");
  EXPECT_EQ(Find("hub:facebook/bart-large"),
            "error: a model in the Hugging Face cache, since nothing is downloaded; " + (top_ / "hub").string() +
                " has no models--facebook--bart-large, it has models--a--b, models--facebook--bart-base");
  EXPECT_THAT(Find("hub:facebook/bart-base@v2"),
              AllOf(HasSubstr("a snapshot in the Hugging Face cache, since nothing is downloaded; "),
                    HasSubstr("/hub/models--facebook--bart-base has no revision v2, its refs are main, refs, v1.0, its "
                              "snapshots 0123456789abcdef0123456789abcdef01234567, fedcba98")));
  fs::remove_all(Snapshot(kHash));
  EXPECT_THAT(Find("hub:facebook/bart-base"), HasSubstr(std::string("has no snapshot ") + kHash));
  setenv("HF_HUB_CACHE", (top_ / "empty").c_str(), 1);
  EXPECT_THAT(Find("hub:a/b"), HasSubstr("/empty has no models--a--b, it has nothing"));
  setenv("HF_HUB_CACHE", (top_ / "hub").c_str(), 1);
  for (int i = 0; i < 20; ++i) fs::create_directories(top_ / "hub" / ("models--c--" + std::to_string(i)));
  EXPECT_THAT(Find("hub:x/y"), AllOf(HasSubstr("models--c--14, ..."), ::testing::Not(HasSubstr("models--c--19"))));
}

TEST_F(CheckpointPathTest, NamesThatAreNoneAreRefused) {
  const std::string allowed = "error: hub:OWNER/NAME or hub:OWNER/NAME@REVISION";
  for (const char* path : {"hub:",
                           "hub:/",
                           "hub:facebook/",
                           "hub:/bart-base",
                           "hub:facebook/bart/base",
                           "hub:../x",
                           "hub:a/..",
                           "hub:.a/b",
                           "hub:a/b.",
                           "hub:-a/b",
                           "hub:a/b-",
                           "hub:a--b/c",
                           "hub:a/b--c",
                           "hub:a/b..c",
                           "hub:a b/c",
                           "hub:a/b\\c",
                           "hub:\xc3\xa4/b",
                           "hub:facebook/bart-base@",
                           "hub:facebook/bart-base@../main",
                           "hub:facebook/bart-base@/etc",
                           "hub:facebook/bart-base@a//b",
                           "hub:facebook/bart-base@a/.",
                           "hub:facebook/bart-base@a@b",
                           "hub:facebook/bart-base@a b"}) {
    EXPECT_THAT(Find(path), ::testing::StartsWith(allowed)) << path;
  }
  EXPECT_THAT(Find("hub:" + std::string(97, 'a') + "/b"), ::testing::StartsWith(allowed));
  EXPECT_THAT(Find("hub:" + std::string(96, 'a') + "/b"), HasSubstr("has no models--aaa"));
  EXPECT_THAT(Find("hub:facebook/bart-base@" + std::string(257, 'a')), ::testing::StartsWith(allowed));
}

// A ref is a file that others write.
TEST_F(CheckpointPathTest, SpoiltRefsAreErrors) {
  const fs::path ref = top_ / "hub/models--facebook--bart-base/refs/main";
  for (const std::string text : {"", "\n", "..", "../../../other", "a/b", "\x01"}) {
    Write(ref, text);
    EXPECT_THAT(Find("hub:facebook/bart-base"), HasSubstr("/refs/main holds no commit's hash")) << text;
  }
  Write(ref, std::string(1000, 'a'));
  EXPECT_THAT(Find("hub:facebook/bart-base"), HasSubstr("bytes; allowed is at most 256"));
}

TEST_F(CheckpointPathTest, DirectoriesAreRelativeToTheFolder) {
  EXPECT_EQ(*FindCheckpoint("hub/../hub", top_), (top_ / "hub").string());
  EXPECT_EQ(*FindCheckpoint((top_ / "hub").string(), "/nowhere"), (top_ / "hub").string());
  EXPECT_EQ(std::string(FindCheckpoint("x", top_).status().message()),
            "a checkpoint's directory, or hub:OWNER/NAME; there is none at " + (top_ / "x").string());
  EXPECT_FALSE(FindCheckpoint("", top_).ok());
}

TEST_F(CheckpointPathTest, TheConfigurationTakesHubNames) {
  const auto config = ParseServerConfig("models: [{name: m, path: \"hub:facebook/bart-base\"}]", "/x/test.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->models[0].path, Snapshot(kHash));
  EXPECT_THAT(
      std::string(
          ParseServerConfig("models:\n  - {name: m, path: \"hub:facebook/x\"}", "/x/test.yaml").status().message()),
      AllOf(HasSubstr("/x/test.yaml:2: models[0].path is hub:facebook/x; allowed is a model in the Hugging Face"),
            HasSubstr("/hub has no models--facebook--x, it has models--facebook--bart-base")));
}

}  // namespace
}  // namespace elserve
