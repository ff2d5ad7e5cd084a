// The server's configuration: a YAML file, checked whole before anything starts.
#ifndef ELSERVE_SERVER_CONFIG_CONFIG_H_
#define ELSERVE_SERVER_CONFIG_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "proto/elserve/v1/decoding_parameters.pb.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/text/question_format.h"

namespace elserve {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// The prompt is prefix + document + suffix.
struct SummarizeTask {
  std::optional<std::string> prefix;  // not set: the checkpoint's, if it has one; empty: none
  // Not set: none, or of a decoder-only model "\nTL;DR:", with which GPT-2 summarizes (Radford et al. 2019, 3.6).
  std::optional<std::string> suffix;
  v1::DecodingParameters defaults;  // of this task's requests, over ServedModelConfig::defaults
};

struct QuestionsTask {
  QuestionFormat format;
  v1::DecodingParameters defaults;  // as SummarizeTask::defaults
};

inline constexpr int kMaxChunkRounds = 16;

// What requests get that want a document in windows and do not say how (TRUNCATION_CHUNK).
struct ChunkDefaults {
  int window_tokens = 0;  // of a window with its prompt; 0: the model's max_source_tokens
  // That a window has of the one before, at most half a window; where that is less, the default is that.
  int overlap_tokens = 32;
  v1::Join join = v1::JOIN_CONCATENATE;
  int max_rounds = 4;                    // of JOIN_RESUMMARIZE, the first included
  int64_t max_document_bytes = 1 << 20;  // of a document or context
};

struct ServedModelConfig {
  std::string name;  // unique; 1 to 128 of A-Z a-z 0-9 . _ -
  std::string path;  // an existing directory: what FindCheckpoint() found, from the configuration file's directory on
  DeviceKind device = DeviceKind::kAuto;  // never kReference
  int device_index = 0;                   // N of `device: cuda:N`
  Precision precision = Precision::kAuto;
  Int8Keep int8_keep;                       // `int8: {keep: [...]}`, of precision: int8
  bool int8_memory = false;                 // `memory_precision: int8`
  std::optional<AttentionForms> attention;  // nullopt: auto
  AttentionApproximation approximation;     // `attention_top_k`, `attention_values`, `attention_threshold`
  int ffn_top_k = 0;                        // EngineOptions::ffn_top_k
  // `memory`: bytes, or (memory_bytes 0) a fraction of the device's free memory.
  int64_t memory_bytes = 0;
  double memory_fraction = 0.5;
  int max_source_tokens = 0;          // of a request's source; 0: what the model's positions allow
  int max_decoder_tokens = 0;         // of an answer, its start token included; 0: likewise
  int max_rows = 0;                   // hypotheses decoded in one step; 0: as the device prefers
  int64_t encoder_memory_tokens = 0;  // tokens of all documents in flight; 0: what `memory` gives
  int64_t decoder_memory_tokens = 0;  // decoder positions of all requests; 0: what `memory` gives
  int encode_tokens_per_step = 0;     // source tokens encoded in one step; 0: as the device prefers
  bool encoder_cache = true;          // EngineOptions::encoder_cache
  SalientHeads salience;              // EngineOptions::salience; the loaded model has to have them
  int max_queued_requests = 1024;     // requests that may wait
  int max_overtakes = 16;             // times that later requests may be admitted before the oldest one
  bool single_flight = true;          // SchedulerOptions
  int64_t answer_cache_bytes = 0;     // `answer_cache`; SchedulerOptions
  bool admit_only_when_idle = false;  // SchedulerOptions: static batching, to compare with; no key sets it
  // Codes of requests that name none; the loaded tokenizer has to know them. Empty: as the checkpoint has it.
  std::string source_language;
  std::string target_language;
  v1::DecodingParameters defaults;  // validated, but for the ranges that depend on the model
  // Without `tasks` in the file: summarize. With it: those that it names.
  std::optional<SummarizeTask> summarize = SummarizeTask();
  std::optional<QuestionsTask> questions;
  ChunkDefaults chunk;
};

struct LoggingConfig {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
};

struct ServerConfig {
  std::string listen = "127.0.0.1:8500";      // host:port; port 0: any free one
  std::string ops_listen = "127.0.0.1:8501";  // /metrics and /healthz; empty: off
  int max_message_bytes = 16 << 20;           // of a request, at most
  double drain_seconds = 30;                  // what running requests get at the end
  int threads = 0;                            // that compute, for all models; 0: as many as processors may be used
  std::vector<ServedModelConfig> models;      // at least one
  LoggingConfig logging;
};

// Reads and checks a file. Errors are INVALID_ARGUMENT (NOT_FOUND for the file itself) and read
// "FILE:LINE: KEY is VALUE; allowed is ...": unknown or duplicate keys, bad types and ranges, names used twice, paths
// that are no directory. Reads nothing but the file; of the environment only where the Hugging Face cache is, for
// paths that begin with hub:.
absl::StatusOr<ServerConfig> LoadServerConfig(std::string_view path);

// The same for text; `path` names it in errors and anchors relative paths.
absl::StatusOr<ServerConfig> ParseServerConfig(std::string_view yaml, std::string_view path);

}  // namespace elserve

#endif  // ELSERVE_SERVER_CONFIG_CONFIG_H_
