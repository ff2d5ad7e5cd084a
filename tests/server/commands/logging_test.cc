#include "server/commands/logging.h"

#include <spdlog/spdlog.h>

#include <ctime>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace elserve {
namespace {

using ::testing::EndsWith;
using ::testing::MatchesRegex;

class LoggingTest : public ::testing::Test {
 protected:
  ~LoggingTest() override { spdlog::set_default_logger(before_); }

  // What the messages become at level info.
  std::vector<std::string> Lines(const LoggingConfig& config, const std::vector<std::string>& messages) {
    testing::internal::CaptureStderr();
    SetUpLogging(config);
    for (const std::string& message : messages) spdlog::info(message);
    std::istringstream stream(testing::internal::GetCapturedStderr());
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

std::string Utc(std::time_t seconds) {
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  return text;
}

TEST_F(LoggingTest, TextHasALineForEachMessage) {
  const auto lines = Lines({}, {"request_id=a started", "b"});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], EndsWith(" info request_id=a started"));
  EXPECT_THAT(lines[1], EndsWith(" info b"));
}

TEST_F(LoggingTest, JsonTakesThePlainIdOutOfTheMessage) {
  const std::string before = Utc(std::time(nullptr));
  const auto lines = Lines({.format = LogFormat::kJson},
                           {"request_id=a-1 ended", "request_id=\"a b\" ended", "request_id=alone", "plain \xff text"});
  const std::string after = Utc(std::time(nullptr));
  ASSERT_EQ(lines.size(), 4u);
  std::vector<nlohmann::json> json;
  for (const std::string& line : lines) json.push_back(nlohmann::json::parse(line));
  EXPECT_EQ(json[0]["request_id"], "a-1");
  EXPECT_EQ(json[0]["message"], "ended");
  EXPECT_EQ(json[0]["level"], "info");
  const std::string time = json[0]["time"];
  EXPECT_THAT(time, MatchesRegex("....-..-..T..:..:..[.][0-9][0-9][0-9]Z"));
  EXPECT_GE(time.substr(0, before.size()), before);
  EXPECT_LE(time.substr(0, after.size()), after);
  for (const size_t i : {1, 2, 3}) EXPECT_FALSE(json[i].contains("request_id")) << lines[i];
  EXPECT_EQ(json[1]["message"], "request_id=\"a b\" ended");
  EXPECT_EQ(json[2]["message"], "request_id=alone");
  EXPECT_EQ(json[3]["message"], "plain \uFFFD text");
}

TEST_F(LoggingTest, LevelsHideWhatIsBelow) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo}) EXPECT_EQ(Lines({.level = level}, {"a"}).size(), 1u);
  for (const LogLevel level : {LogLevel::kWarning, LogLevel::kError})
    EXPECT_TRUE(Lines({.level = level}, {"a"}).empty());
  EXPECT_FALSE(spdlog::should_log(spdlog::level::warn));
  Lines({.level = LogLevel::kWarning}, {});
  EXPECT_TRUE(spdlog::should_log(spdlog::level::warn));
  Lines({.level = LogLevel::kInfo}, {});
  EXPECT_FALSE(spdlog::should_log(spdlog::level::debug));
}

}  // namespace
}  // namespace elserve
