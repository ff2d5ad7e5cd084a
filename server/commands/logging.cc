#include "server/commands/logging.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace elserve {
namespace {

constexpr std::string_view kRequestId = "request_id=";

std::string Time(spdlog::log_clock::time_point time) {
  const auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = since_epoch / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec, since_epoch % 1000);
}

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    std::string_view message(line.payload.data(), line.payload.size());
    const auto level = spdlog::level::to_string_view(line.level);
    nlohmann::ordered_json json;
    json["time"] = Time(line.time);
    json["level"] = std::string(level.data(), level.size());
    const size_t space = message.find(' ');
    // An id in quotes may hold spaces; it stays in the message.
    if (message.starts_with(kRequestId) && space != std::string_view::npos && message[kRequestId.size()] != '"') {
      json["request_id"] = message.substr(kRequestId.size(), space - kRequestId.size());
      message.remove_prefix(space + 1);
    }
    json["message"] = message;
    const std::string text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(); }
};

spdlog::level::level_enum Level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void SetUpLogging(const LoggingConfig& config) {
  auto logger = std::make_shared<spdlog::logger>("elserve", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(Level(config.level));
  if (config.format == LogFormat::kJson) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  }
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace elserve
