// A loaded model, as requests see it.
#ifndef ELSERVE_SERVER_REQUESTS_SERVED_MODEL_H_
#define ELSERVE_SERVER_REQUESTS_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/config/config.h"
#include "server/parameters/checkpoint.h"
#include "server/parameters/parameters.h"
#include "server/requests/languages.h"
#include "server/scheduling/inbox.h"
#include "server/text/prompts.h"
#include "server/text/tokenizer.h"

namespace elserve {

// What Engine::Load is asked for.
EngineOptions ToEngineOptions(const ServedModelConfig& config, ThreadPool* pool);

// A task that a model is configured for.
struct ServedTask {
  TaskPrompt prompt;
  v1::DecodingParameters defaults;  // what its requests get where they set nothing
};

// Tokenizer, prompts, default parameters and limits of one model, and the way to the loop that computes for it.
// Constant; any thread may use it. Calls share it, and may keep it longer than the loop is there.
class ServedModel {
 public:
  // Reads the tokenizer and the checkpoint's parameters from config.path. Errors name the model, or the file. The rest
  // is of the model's loop.
  static absl::StatusOr<std::shared_ptr<const ServedModel>> Create(ServedModelConfig config, const ModelInfo& info,
                                                                   std::shared_ptr<Inbox> inbox);
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  const std::string& name() const { return config_.name; }
  const ServedModelConfig& config() const { return config_; }
  const ModelInfo& info() const { return info_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  Inbox& inbox() const { return *inbox_; }
  ModelLimits limits() const {
    return {.vocab_size = info().vocab_size,
            .max_decoder_tokens = info().max_decoder_tokens,
            .decoder_only = info().decoder_only};
  }
  // What a request of no task gets where it sets nothing.
  const v1::DecodingParameters& defaults() const { return defaults_; }
  // nullopt: the configuration does not name the task.
  const std::optional<ServedTask>& summarize() const { return summarize_; }
  const std::optional<ServedTask>& questions() const { return questions_; }

  // The languages that are named, and the configuration's where none is.
  TextLanguages LanguagesOf(std::string_view source, std::string_view target) const;
  // What a target language sets, a layer of parameters over the defaults: forced_bos_token_id, decoder_start_token_id
  // or nothing. INVALID_ARGUMENT names the field, the code and what is allowed, of the source language too.
  absl::StatusOr<v1::DecodingParameters> LanguageParameters(const TextLanguages& languages) const;

  // How many tokens of a text itself stay where it is truncated to `length`: the special ones around it stay too. The
  // languages have passed LanguageParameters.
  size_t KeptTokens(size_t length, const TextLanguages& languages) const;

  // What each token adds to a text, for stop strings; made when it is first asked for.
  std::shared_ptr<const TokenBytes> token_bytes() const;

  // The answer of GetModel.
  v1::Model Describe() const;

 private:
  ServedModel(ServedModelConfig config, const ModelInfo& info, std::shared_ptr<Inbox> inbox);
  absl::Status Read();
  // Fills defaults and tasks, checked against the limits.
  absl::Status MergeDefaultsAndTasks(const v1::DecodingParameters& checkpoint);
  // Checks what requests get that set nothing, of which `configured` is the upper layer, and makes ids of its words.
  absl::Status SettleDefaults(const v1::DecodingParameters& configured, v1::DecodingParameters* merged) const;
  // What the checkpoint sets for summaries, where the model makes any.
  absl::StatusOr<CheckpointTask> ReadSummarizeTask() const;
  v1::Model::Tasks DescribeTasks() const;

  const ServedModelConfig config_;
  const ModelInfo info_;
  const std::shared_ptr<Inbox> inbox_;
  // Set by Create.
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<int32_t> decoder_start_;  // where no language says it
  v1::DecodingParameters defaults_;
  std::optional<ServedTask> summarize_, questions_;

  mutable std::once_flag token_bytes_made_;
  mutable std::shared_ptr<const TokenBytes> token_bytes_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_SERVED_MODEL_H_
