#include "server/ops/snapshot_metrics.h"

#include <functional>
#include <string>
#include <utility>

#include "server/scheduling/engine_loop.h"

namespace elserve {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct Sample {
  const ModelInfo& info;
  const LoopSnapshot& loop;
  bool healthy;
};

// Bytes of states, keys/values and cells that these resources stand for.
double Bytes(const ModelInfo& info, const Resources& resources) {
  return static_cast<double>(resources.encoder_pages * info.page_tokens * info.bytes_per_encoder_token) +
         static_cast<double>(resources.decoder_blocks * info.block_positions * info.bytes_per_decoder_token);
}

struct Metric {
  const char* name;
  const char* help;
  MetricType type;
  double (*value)(const Sample&);
};

double D(int64_t value) { return static_cast<double>(value); }

constexpr MetricType kGauge = MetricType::Gauge, kCounter = MetricType::Counter;

const Metric kMetrics[] = {
    {"elserve_healthy", "1 while the model's device works, 0 once it failed.", kGauge,
     [](const Sample& s) { return s.healthy ? 1.0 : 0.0; }},
    {"elserve_queue_length", "Jobs accepted and not yet admitted; equal ones that are to share one sequence once.",
     kGauge, [](const Sample& s) { return D(s.loop.queued); }},
    {"elserve_sequences_in_flight", "Sequences in the engine: being encoded or decoded.", kGauge,
     [](const Sample& s) { return D(s.loop.in_flight); }},
    {"elserve_sequences_in_flight_peak", "The most sequences that were in the engine at once.", kGauge,
     [](const Sample& s) { return D(s.loop.peak_in_flight); }},
    {"elserve_memory_used_bytes", "Memory of encoder states, keys/values and decoder cells that is in use.", kGauge,
     [](const Sample& s) { return Bytes(s.info, s.loop.used); }},
    {"elserve_memory_peak_bytes", "The most of it that was in use at once.", kGauge,
     [](const Sample& s) { return Bytes(s.info, s.loop.peak_used); }},
    {"elserve_memory_capacity_bytes", "All of it.", kGauge,
     [](const Sample& s) { return Bytes(s.info, s.loop.capacity); }},
    {"elserve_weight_bytes", "Memory of the packed weights.", kGauge,
     [](const Sample& s) { return D(s.info.weight_bytes); }},
    {"elserve_rows_used", "Rows (hypotheses) reserved by sequences in flight.", kGauge,
     [](const Sample& s) { return D(s.loop.used.rows); }},
    {"elserve_rows_peak", "The most rows that were reserved at once.", kGauge,
     [](const Sample& s) { return D(s.loop.peak_used.rows); }},
    {"elserve_rows_capacity", "All rows.", kGauge, [](const Sample& s) { return D(s.loop.capacity.rows); }},
    {"elserve_encoder_pages_used", "Pages of 64 source tokens in use.", kGauge,
     [](const Sample& s) { return D(s.loop.used.encoder_pages); }},
    {"elserve_encoder_pages_capacity", "All pages.", kGauge,
     [](const Sample& s) { return D(s.loop.capacity.encoder_pages); }},
    {"elserve_decoder_blocks_used", "Blocks of 16 decoder positions in use.", kGauge,
     [](const Sample& s) { return D(s.loop.used.decoder_blocks); }},
    {"elserve_decoder_blocks_capacity", "All blocks.", kGauge,
     [](const Sample& s) { return D(s.loop.capacity.decoder_blocks); }},
    {"elserve_jobs_rejected_total", "Jobs refused because the queue was full.", kCounter,
     [](const Sample& s) { return D(s.loop.rejected); }},
    {"elserve_jobs_admitted_total", "Sequences that entered the engine, each for one job or for several equal ones.",
     kCounter, [](const Sample& s) { return D(s.loop.jobs.admitted); }},
    {"elserve_jobs_finished_total", "Jobs that were answered.", kCounter,
     [](const Sample& s) { return D(s.loop.jobs.finished); }},
    {"elserve_jobs_shared_total", "Of them: by the sequence of an equal job that waited or was in flight.", kCounter,
     [](const Sample& s) { return D(s.loop.jobs.shared); }},
    {"elserve_jobs_cached_total", "Of them: by an answer that was kept (answer_cache).", kCounter,
     [](const Sample& s) { return D(s.loop.jobs.cached); }},
    {"elserve_jobs_cancelled_total", "Jobs that were cancelled, also by gRPC at the deadline of their call.", kCounter,
     [](const Sample& s) { return D(s.loop.jobs.cancelled); }},
    {"elserve_jobs_expired_total", "Jobs whose time was over (max_time, deadline) before they had an answer.", kCounter,
     [](const Sample& s) { return D(s.loop.jobs.expired); }},
    {"elserve_jobs_failed_total", "Jobs that failed.", kCounter, [](const Sample& s) { return D(s.loop.jobs.failed); }},
    {"elserve_steps_total", "Steps of the engine.", kCounter, [](const Sample& s) { return D(s.loop.steps); }},
    {"elserve_decoded_rows_total", "Rows decoded, over all steps.", kCounter,
     [](const Sample& s) { return D(s.loop.rows); }},
    {"elserve_source_tokens_total", "Source tokens encoded.", kCounter,
     [](const Sample& s) { return D(s.loop.encoded_tokens); }},
    {"elserve_encoder_cache_hits_total",
     "Sequences whose source was encoded, or being encoded, when they were admitted: another one's, or kept.", kCounter,
     [](const Sample& s) { return D(s.loop.encoder_cache.hits); }},
    {"elserve_encoder_cache_misses_total", "Sequences whose source had to be encoded. 0 where encoder_cache is false.",
     kCounter, [](const Sample& s) { return D(s.loop.encoder_cache.misses); }},
    {"elserve_encoder_cache_evictions_total", "Encoded sources that were kept and given up for their memory.", kCounter,
     [](const Sample& s) { return D(s.loop.encoder_cache.evictions); }},
    {"elserve_encoder_cache_kept_tokens",
     "Source tokens that are kept encoded and that no sequence uses; their memory counts as free.", kGauge,
     [](const Sample& s) { return D(s.loop.encoder_cache.kept_tokens); }},
    {"elserve_answer_cache_bytes", "Memory of the answers that are kept.", kGauge,
     [](const Sample& s) { return D(s.loop.answer_cache.bytes); }},
    {"elserve_answer_cache_entries", "Answers that are kept.", kGauge,
     [](const Sample& s) { return D(s.loop.answer_cache.entries); }},
    {"elserve_answer_cache_evictions_total", "Answers that were kept and given up for others.", kCounter,
     [](const Sample& s) { return D(s.loop.answer_cache.evictions); }},
    {"elserve_generated_tokens_total",
     "Tokens in the answers of finished jobs that were computed: not in those that were shared or from the cache.",
     kCounter, [](const Sample& s) { return D(s.loop.jobs.generated_tokens); }},
};

// What was loaded, as labels.
MetricFamily ModelFamily(const std::vector<RunningModel>& models) {
  MetricFamily family;
  family.name = "elserve_model_info";
  family.help = "1, with what the model runs on and how.";
  family.type = kGauge;
  for (const RunningModel& model : models) {
    const v1::Model described = model.served->Describe();
    ClientMetric sample;
    sample.label = {{"model", model.served->name()},      {"family", described.family()},
                    {"device", described.device()},       {"device_name", described.device_name()},
                    {"precision", described.precision()}, {"attention", described.attention()}};
    sample.gauge.value = 1;
    family.metric.push_back(std::move(sample));
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> CollectSnapshots(const std::vector<RunningModel>& models) {
  std::vector<LoopSnapshot> snapshots;
  snapshots.reserve(models.size());
  for (const RunningModel& model : models) snapshots.push_back(model.loop->Snapshot());
  std::vector<MetricFamily> families;
  families.push_back(ModelFamily(models));
  for (const Metric& metric : kMetrics) {
    MetricFamily family;
    family.name = metric.name;
    family.help = metric.help;
    family.type = metric.type;
    for (size_t i = 0; i < models.size(); ++i) {
      const RunningModel& model = models[i];
      const double value =
          metric.value({.info = model.loop->info(), .loop = snapshots[i], .healthy = model.loop->healthy()});
      ClientMetric sample;
      sample.label = {{"model", model.served->name()}};
      if (metric.type == kGauge) {
        sample.gauge.value = value;
      } else {
        sample.counter.value = value;
      }
      family.metric.push_back(std::move(sample));
    }
    families.push_back(std::move(family));
  }
  return families;
}

}  // namespace elserve
