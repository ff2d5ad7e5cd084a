#include "server/requests/log.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

// What a client sent may stand in a message: it must not be able to forge a line of the log.
std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape({text.data(), text.size()}), "\"");
}

// Ids of refused requests were not checked.
std::string Id(std::string_view request_id) {
  if (request_id.empty()) return "-";
  const bool plain = std::all_of(request_id.begin(), request_id.end(),
                                 [](char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '\\'; });
  return plain && request_id.size() <= 128 ? std::string(request_id) : Quoted(request_id.substr(0, 128));
}

}  // namespace

void LogCallStart(std::string_view request_id, Rpc rpc, std::string_view model, const CallSize& size) {
  spdlog::debug("request_id={} started rpc={} model={} jobs={} source_tokens={}", Id(request_id), RpcName(rpc), model,
                size.jobs, size.source_tokens);
}

void LogCallEnd(std::string_view request_id, const CallRecord& record, const absl::Status& status,
                const CallSize& size) {
  const auto level = absl::IsInternal(status) ? spdlog::level::err : spdlog::level::info;
  const std::string error =
      status.ok() ? std::string() : absl::StrCat(" error=", Quoted({status.message().data(), status.message().size()}));
  spdlog::log(level,
              "request_id={} ended rpc={} model={} outcome={} seconds={:.4f} queue_seconds={:.4f} jobs={} "
              "source_tokens={} generated_tokens={}{}",
              Id(request_id), RpcName(record.rpc), record.model, absl::StatusCodeToString(record.outcome),
              record.seconds, record.longest_queue_seconds.value_or(0), size.jobs, size.source_tokens,
              size.generated_tokens, error);
}

}  // namespace elserve
