#include "server/serving/serving.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

// Turning tokens into text is little work beside a decoding step.
constexpr int kExecutorThreads = 2;

void LogModel(const v1::Model& model) {
  spdlog::info(
      "model={} loaded family={} parameters={} device={} device_name=\"{}\" device_reason=\"{}\" precision={} "
      "memory_precision={} attention={} reason=\"{}\" max_source_tokens={} max_decoder_tokens={} "
      "max_tokens_reason=\"{}\" "
      "encoder_memory_tokens={} decoder_memory_tokens={} max_rows={}",
      model.name(), model.family(), model.parameter_count(), model.device(), model.device_name(), model.device_reason(),
      model.precision(), model.memory_precision(), model.attention(), model.attention_reason(),
      model.limits().max_source_tokens(), model.limits().max_decoder_tokens(), model.limits().max_tokens_reason(),
      model.limits().encoder_memory_tokens(), model.limits().decoder_memory_tokens(), model.limits().max_rows());
  if (const v1::Model::Approximation& lossy = model.approximation(); model.has_approximation()) {
    spdlog::info("model={} approximates attention_top_k={} attention_values={} attention_threshold={} ffn_top_k={}",
                 model.name(), lossy.attention_top_k(), lossy.attention_values(), lossy.attention_threshold(),
                 lossy.ffn_top_k());
  }
}

}  // namespace

Serving::Serving(const ServerConfig& config)
    : pool_(config.threads > 0 ? config.threads : ThreadPool::AvailableProcessors()), executor_(kExecutorThreads) {
  spdlog::info("threads={} computing reason=\"{}\"", pool_.threads(),
               config.threads > 0 ? "as configured" : "auto: what affinity and the control group's quota allow");
}

Serving::~Serving() = default;

absl::StatusOr<std::unique_ptr<Serving>> Serving::Load(const ServerConfig& config, const EngineLoader& load) {
  std::unique_ptr<Serving> serving(new Serving(config));
  std::vector<RunningModel> models;
  for (const ServedModelConfig& one : config.models) {
    absl::StatusOr<RunningModel> model = serving->LoadModel(one, load);
    if (!model.ok()) return model.status();
    LogModel(model->served->Describe());
    models.push_back(*std::move(model));
  }
  serving->models_ = std::make_unique<ModelRegistry>(std::move(models));
  serving->intake_ = std::make_unique<Intake>(serving->models_.get(), &serving->executor_, &serving->metrics_);
  return serving;
}

absl::StatusOr<RunningModel> Serving::LoadModel(const ServedModelConfig& config, const EngineLoader& load) {
  spdlog::info("model={} loading path={}", config.name, config.path);
  absl::StatusOr<std::unique_ptr<Engine>> engine = load(ToEngineOptions(config, &pool_));
  if (!engine.ok()) {
    return absl::Status(engine.status().code(), absl::StrCat("model ", config.name, ": ", engine.status().message()));
  }
  watches_.push_back(std::make_unique<ModelWatch>(config.name, metrics_.AddModel(config.name)));
  return RunningModel::Create(config, *std::move(engine), watches_.back().get());
}

void Serving::SetFailureListener(const std::function<void()>& listener) {
  for (const std::unique_ptr<ModelWatch>& watch : watches_) watch->SetListener(listener);
}

void Serving::End(TimePoint deadline) {
  intake_->StartDraining();
  for (const RunningModel& model : models_->models()) model.loop->Drain(deadline);
}

}  // namespace elserve
