#include "server/commands/client/printing.h"

#include <google/protobuf/util/json_util.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace elserve {

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  return status.ok() ? text : "null";
}

std::string JsonLine(const std::string& input, double seconds, const std::string& key,
                     const google::protobuf::Message& message) {
  using Json = nlohmann::ordered_json;
  Json value = Json::parse(ToJson(message), nullptr, /*allow_exceptions=*/false);
  Json line;
  if (!input.empty()) line["input"] = input;
  line["seconds"] = seconds;
  line[key] = std::move(value);
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Timings(const v1::Usage& usage, double seconds) {
  const char* answered_by = "";
  if (usage.answered_by() == v1::ANSWERED_BY_SHARING) answered_by = ", shared with an equal request";
  if (usage.answered_by() == v1::ANSWERED_BY_CACHE) answered_by = ", from the answer cache";
  char text[256];
  std::snprintf(text, sizeof(text),
                "%.3f s (queue %.3f, encode %.3f, decode %.3f), %d source tokens%s, %d generated, %d steps%s", seconds,
                usage.queue_seconds(), usage.encode_seconds(), usage.decode_seconds(), usage.source_tokens(),
                usage.truncated() ? " (cut)" : "", usage.generated_tokens(), usage.steps(), answered_by);
  return text;
}

}  // namespace elserve
