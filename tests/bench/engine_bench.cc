// The engine alone on documents of a benchmark: documents a second and where a step's time goes. See README.md here.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "nlohmann/json.hpp"

namespace elserve {
namespace {

struct Options {
  std::string model, ids, precision = "auto", attention = "auto";
  int beams = 4, out = 64, documents = 32, rows = 256, encode_tokens = 2048;
  double memory_gib = 4;
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// One JSON list of token ids a line, as peers.py --ids writes them.
std::vector<std::vector<int32_t>> ReadDocuments(const std::string& path, int most) {
  std::vector<std::vector<int32_t>> documents;
  std::ifstream file(path);
  for (std::string line; static_cast<int>(documents.size()) < most && std::getline(file, line);) {
    documents.push_back(nlohmann::json::parse(line).get<std::vector<int32_t>>());
  }
  return documents;
}

DecodingSpec Spec(const Options& o) {
  DecodingSpec spec;
  spec.num_beams = o.beams;
  spec.max_length = spec.min_length = o.out + 1;
  spec.decoder_start_token_id = 2;
  spec.eos_token_id = {2};
  spec.early_stopping = EarlyStopping::kTrue;
  return spec;
}

int Run(const Options& o) {
  ThreadPool pool(ThreadPool::AvailableProcessors());
  EngineOptions options;
  options.checkpoint = o.model;
  options.precision = o.precision == "auto"      ? Precision::kAuto
                      : o.precision == "float32" ? Precision::kFloat32
                                                 : Precision::kBFloat16;
  options.attention = o.attention == "auto" ? AttentionForm::kAuto
                      : o.attention == "el" ? AttentionForm::kEl
                                            : AttentionForm::kKv;
  options.memory_bytes = static_cast<int64_t>(o.memory_gib * (int64_t{1} << 30));
  options.max_rows = o.rows;
  options.encode_tokens_per_step = o.encode_tokens;
  options.pool = &pool;
  auto engine = Engine::Load(options);
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
    return 1;
  }
  const ModelInfo& info = (*engine)->info();
  std::printf("%s\n%s, attention %s (%s)\n", info.device_name.c_str(),
              info.precision == Precision::kFloat32 ? "float32" : "bfloat16",
              info.attention == AttentionForm::kEl ? "el" : "kv", info.attention_reason.c_str());
  const auto documents = ReadDocuments(o.ids, o.documents);
  const DecodingSpec spec = Spec(o);
  StepTimes total;
  size_t next = 0, done = 0;
  int steps = 0, most = 0;
  int64_t rows = 0;
  StepResult result;
  const double begin = Seconds();
  while (done < documents.size()) {
    StepPlan plan;
    Resources free = (*engine)->free();
    while (next < documents.size()) {
      const auto needed = (*engine)->Measure({static_cast<int>(documents[next].size()), &spec});
      if (!needed.ok()) {
        std::fprintf(stderr, "%s\n", needed.status().ToString().c_str());
        return 1;
      }
      if (!needed->Fits(free)) break;
      free -= *needed;
      plan.admissions.push_back({next + 1, documents[next], spec, false});
      ++next;
    }
    if (const absl::Status status = (*engine)->Step(plan, &result); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return 1;
    }
    for (const SequenceUpdate& update : result.updates) done += update.finished;
    ++steps;
    rows += result.rows;
    most = std::max(most, result.sequences);
    total.encode += result.times.encode;
    total.decode += result.times.decode;
    total.select += result.times.select;
    total.search += result.times.search;
  }
  const double seconds = Seconds() - begin;
  const double n = static_cast<double>(documents.size());
  std::printf("documents/s %.3f  seconds %.2f  steps %d  rows/step %.1f  most in flight %d\n", n / seconds, seconds,
              steps, static_cast<double>(rows) / steps, most);
  std::printf("ms/document: encode %.1f  decode %.1f  vocabulary+select %.1f  search %.2f\n", 1e3 * total.encode / n,
              1e3 * total.decode / n, 1e3 * total.select / n, 1e3 * total.search / n);
  return 0;
}

}  // namespace
}  // namespace elserve

int main(int argc, char** argv) {
  elserve::Options o;
  CLI::App app("Times the engine alone on a benchmark's documents");
  app.add_option("model", o.model, "checkpoint directory")->required();
  app.add_option("ids", o.ids, "token ids, one JSON list a line")->required();
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"auto", "float32", "bfloat16"}));
  app.add_option("--attention", o.attention)->check(CLI::IsMember({"auto", "el", "kv"}));
  app.add_option("--beams", o.beams);
  app.add_option("--out", o.out, "new tokens of each document");
  app.add_option("--documents", o.documents);
  app.add_option("--max-rows", o.rows);
  app.add_option("--memory-gib", o.memory_gib);
  app.add_option("--encode-tokens-per-step", o.encode_tokens);
  CLI11_PARSE(app, argc, argv);
  return elserve::Run(o);
}
