// The engine alone on documents of a benchmark: documents and tokens a second, and where a step's time goes. See
// README.md here.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
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
  std::string model, ids, device = "auto", precision = "auto", attention = "auto";
  int beams = 4, out = 64, documents = 32, copies = 1, least = 1024, most = 1024, rows = 256, encode_tokens = 2048;
  int warm_documents = 0, repeated = 0, max_decoder_tokens = 0;
  unsigned seed = 7;
  int max_source_tokens = 0, top_k = 0, ffn_top_k = 0;
  std::string values = "exact";
  float threshold = kDefaultAttentionThreshold;
  double memory_gib = 4;
  int64_t encoder_memory_tokens = 0, decoder_memory_tokens = 0;
  bool int8_memory = false, json = false, no_encoder_cache = false, more = false;
  std::vector<std::string> decoding = {"plain"};
  int rounds = 1;
};

struct Measured {
  double seconds = 0, processor_seconds = 0;  // the latter of all threads
  int steps = 0, most_in_flight = 0;
  int64_t rows = 0, encoded_tokens = 0;
  Resources reserved;  // by all of them, one after the other
  StepTimes times;
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

// Random ordinary tokens between BART's special ones, of evenly spread lengths.
std::vector<std::vector<int32_t>> RandomDocuments(const Options& o, int count, int vocab, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> documents;
  for (int d = 0; d < count; ++d) {
    const int length = o.least + static_cast<int>(random() % (o.most - o.least + 1));
    std::vector<int32_t> ids(length);
    for (int32_t& id : ids) id = 5 + static_cast<int32_t>(random() % (vocab - 5));
    ids.front() = 0;
    ids.back() = 2;
    documents.push_back(std::move(ids));
  }
  return documents;
}

// Makes so many percent of the documents, evenly spread, equal to an earlier one that is not.
void Repeat(int percent, std::vector<std::vector<int32_t>>* documents) {
  std::mt19937 random(8);
  std::vector<size_t> first = {0};
  for (size_t d = 1; d < documents->size(); ++d) {
    if ((d + 1) * percent / 100 > d * percent / 100) {
      (*documents)[d] = (*documents)[first[random() % first.size()]];
    } else {
      first.push_back(d);
    }
  }
}

// Ways to decode, for what rules and sampling cost.
const std::map<std::string, void (*)(DecodingSpec&)> kDecodings = {
    {"plain", [](DecodingSpec&) {}},
    {"penalty", [](DecodingSpec& d) { d.repetition_penalty = 1.2f; }},
    {"source-penalty", [](DecodingSpec& d) { d.encoder_repetition_penalty = 1.2f; }},
    {"top-k", [](DecodingSpec& d) { d.do_sample = true, d.sampling.top_k = 50; }},
    {"top-p", [](DecodingSpec& d) { d.do_sample = true, d.sampling.top_p = 0.9; }},
    {"whole", [](DecodingSpec& d) { d.do_sample = true; }},
    {"typical", [](DecodingSpec& d) { d.do_sample = true, d.sampling.typical_p = 0.9; }},
    {"groups",
     [](DecodingSpec& d) {
       d.num_beam_groups = 2;
       d.diversity_penalty = 1;
     }},
    {"diverse",  // each beam a group of its own
     [](DecodingSpec& d) {
       d.num_beam_groups = d.num_beams;
       d.diversity_penalty = 1;
     }},
};

// What the engine gets of a document. A decoder-only model gets it as a prompt.
struct Work {
  std::vector<int32_t> source;
  DecodingSpec decoding;
};

std::vector<Work> ToWork(const Options& o, const ModelInfo& info, std::vector<std::vector<int32_t>> documents,
                         const std::string& decoding) {
  std::vector<Work> all;
  for (std::vector<int32_t>& document : documents) {
    Work work;
    work.decoding.num_beams = o.beams;
    work.decoding.prefix = {2};
    (info.decoder_only ? work.decoding.prefix : work.source) = std::move(document);
    work.decoding.max_length = static_cast<int>(work.decoding.prefix.size()) + o.out;
    work.decoding.min_length = work.decoding.max_length;
    work.decoding.eos_token_id = {2};
    work.decoding.early_stopping = EarlyStopping::kTrue;
    kDecodings.at(decoding)(work.decoding);
    all.insert(all.end(), o.copies, work);
  }
  return all;
}

absl::StatusOr<std::unique_ptr<Engine>> Load(const Options& o, ThreadPool* pool) {
  static const std::map<std::string, DeviceKind> devices = {
      {"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}};
  static const std::map<std::string, Precision> precisions = {{"auto", Precision::kAuto},
                                                              {"float32", Precision::kFloat32},
                                                              {"bfloat16", Precision::kBFloat16},
                                                              {"int8", Precision::kInt8}};
  static const std::map<std::string, std::optional<AttentionForms>> forms = {
      {"auto", std::nullopt}, {"el", kAllEl}, {"kv", kAllKv}};
  static const std::map<std::string, AttentionValues> values = {
      {"exact", AttentionValues::kExact}, {"pruned", AttentionValues::kPruned}, {"log3bit", AttentionValues::kLog3Bit}};
  EngineOptions options;
  options.checkpoint = o.model;
  options.device = devices.at(o.device);
  options.precision = precisions.at(o.precision);
  options.int8_memory = o.int8_memory;
  options.attention = forms.at(o.attention);
  options.memory_bytes = static_cast<int64_t>(o.memory_gib * (int64_t{1} << 30));
  options.encoder_memory_tokens = o.encoder_memory_tokens;
  options.decoder_memory_tokens = o.decoder_memory_tokens;
  options.max_decoder_tokens = o.max_decoder_tokens;
  options.max_rows = o.rows;
  options.encode_tokens_per_step = o.encode_tokens;
  options.max_source_tokens = o.max_source_tokens;
  options.approximation = {.top_k = o.top_k, .values = values.at(o.values), .threshold = o.threshold};
  options.ffn_top_k = o.ffn_top_k;
  options.encoder_cache = !o.no_encoder_cache && o.copies == 1;
  options.pool = pool;
  return Engine::Load(options);
}

// All of them, as many at once as the memory and the rows allow. `first_id`: of ids that were not used before.
absl::StatusOr<Measured> Measure(Engine& engine, const std::vector<Work>& works, SequenceId first_id) {
  Measured m;
  size_t next = 0, done = 0;
  StepResult result;
  const double begin = Seconds();
  const std::clock_t processor_begin = std::clock();
  while (done < works.size()) {
    StepPlan plan;
    Resources free = engine.free();
    while (next < works.size()) {
      const Work& work = works[next];
      const auto needed = engine.Measure({static_cast<int>(work.source.size()), &work.decoding});
      if (!needed.ok()) return needed.status();
      if (!needed->Fits(free)) break;
      free -= *needed;
      m.reserved += *needed;
      plan.admissions.push_back({first_id + next, work.source, work.decoding, false});
      ++next;
    }
    if (const absl::Status status = engine.Step(plan, &result); !status.ok()) return status;
    for (const SequenceUpdate& update : result.updates) {
      if (!update.status.ok()) return update.status;
      done += update.finished;
    }
    ++m.steps;
    m.rows += result.rows;
    m.encoded_tokens += result.encoded_tokens;
    m.most_in_flight = std::max(m.most_in_flight, result.sequences);
    m.times.encode += result.times.encode;
    m.times.decode += result.times.decode;
    m.times.select += result.times.select;
    m.times.search += result.times.search;
  }
  m.seconds = Seconds() - begin;
  m.processor_seconds = static_cast<double>(std::clock() - processor_begin) / CLOCKS_PER_SEC;
  return m;
}

int64_t PeakResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} << 10;
}

void Print(const Options& o, const ModelInfo& info, const Measured& m, int64_t source_tokens, size_t sequences) {
  const double n = static_cast<double>(sequences) / o.copies;
  const double tokens = static_cast<double>(sequences) * o.out;
  const double read = static_cast<double>(source_tokens) * o.copies / m.times.encode;
  if (o.json) {
    const double encoder_bytes =
        static_cast<double>(m.reserved.encoder_pages * info.page_tokens * info.bytes_per_encoder_token);
    const double decoder_bytes =
        static_cast<double>(m.reserved.decoder_blocks * info.block_positions * info.bytes_per_decoder_token);
    const nlohmann::json line = {{"device", info.device_name},
                                 {"precision", ToString(info.precision)},
                                 {"attention", ToString(info.attention)},
                                 {"beams", o.beams},
                                 {"copies", o.copies},
                                 {"documents", n},
                                 {"documents_per_second", n / m.seconds},
                                 {"tokens_per_second", tokens / m.seconds},
                                 {"source_tokens_per_encode_second", read},
                                 {"bytes_per_encoder_token", info.bytes_per_encoder_token},
                                 {"bytes_per_decoder_token", info.bytes_per_decoder_token},
                                 {"encoder_bytes_per_document", encoder_bytes / n},
                                 {"decoder_bytes_per_document", decoder_bytes / n},
                                 {"encoded_tokens", m.encoded_tokens},
                                 {"most_in_flight", m.most_in_flight},
                                 {"seconds", m.seconds},
                                 {"processor_seconds", m.processor_seconds},
                                 {"steps", m.steps},
                                 {"waiting_for_device", m.times.select / m.seconds},
                                 {"encode_seconds", m.times.encode},
                                 {"decode_seconds", m.times.decode},
                                 {"select_seconds", m.times.select},
                                 {"encode_seconds", m.times.encode},
                                 {"search_seconds", m.times.search},
                                 {"peak_resident_bytes", PeakResidentBytes()}};
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);  // somebody may wait for it before asking for more
    return;
  }
  std::printf("documents/s %.3f  tokens/s %.0f  seconds %.2f  steps %d  rows/step %.1f  most in flight %d\n",
              n / m.seconds, tokens / m.seconds, m.seconds, m.steps, static_cast<double>(m.rows) / m.steps,
              m.most_in_flight);
  std::printf("read %.0f tokens of documents a second of encoding; %lld bytes a source token, %lld a decoder token\n",
              read, static_cast<long long>(info.bytes_per_encoder_token),
              static_cast<long long>(info.bytes_per_decoder_token));
  std::printf("ms/document: encode %.1f  decode %.1f  vocabulary+select %.1f  search %.2f\n", 1e3 * m.times.encode / n,
              1e3 * m.times.decode / n, 1e3 * m.times.select / n, 1e3 * m.times.search / n);
  if (info.device == "cuda") {
    std::printf("the engine's thread waited %.1f%% of the time for the device, which idles at most the rest\n",
                100 * m.times.select / m.seconds);
  }
}

int Failed(const absl::Status& status) {
  std::fprintf(stderr, "engine_bench: %s\n", status.ToString().c_str());
  return 1;
}

// Rounds of all ways to decode, one after the other, so that what else the machine does meets them alike. Of each the
// median of its decoding steps' time.
int Compare(const Options& o, Engine& engine, const std::vector<std::vector<int32_t>>& documents) {
  std::map<std::string, std::vector<double>> milliseconds;
  SequenceId id = 1'000'000;
  for (int round = 0; round < o.rounds; ++round) {
    for (const std::string& decoding : o.decoding) {
      const std::vector<Work> works = ToWork(o, engine.info(), documents, decoding);
      const auto measured = Measure(engine, works, id);
      if (!measured.ok()) return Failed(measured.status());
      id += works.size();
      const StepTimes& t = measured->times;
      milliseconds[decoding].push_back(1e3 * (t.decode + t.select + t.search) / o.out);
    }
  }
  const auto median = [&milliseconds](const std::string& decoding) {
    std::vector<double>& all = milliseconds[decoding];
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  };
  for (const std::string& decoding : o.decoding) {
    std::printf("%-15s %.2f ms a step, %.3f of %s's\n", decoding.c_str(), median(decoding),
                median(decoding) / median(o.decoding.front()), o.decoding.front().c_str());
  }
  return 0;
}

// What a line of --more changes for its run.
Options Changed(Options o, const nlohmann::json& line) {
  o.beams = line.value("beams", o.beams);
  o.out = line.value("out", o.out);
  o.documents = line.value("documents", o.documents);
  o.least = o.most = line.value("source", o.least);
  o.seed = line.value("seed", o.seed);
  o.decoding = {line.value("decoding", o.decoding.front())};
  return o;
}

// One run for each line of standard input, on the engine as it is, whose encoder cache has what earlier ones encoded.
int RunMore(const Options& o, Engine& engine) {
  SequenceId id = 1'000'000;
  for (std::string line; std::getline(std::cin, line);) {
    const Options run = Changed(o, nlohmann::json::parse(line));
    const int vocab = engine.info().vocab_size;
    const std::vector<Work> works =
        ToWork(run, engine.info(), RandomDocuments(run, run.documents, vocab, run.seed), run.decoding.front());
    const auto measured = Measure(engine, works, id);
    if (!measured.ok()) return Failed(measured.status());
    id += works.size();
    Print(run, engine.info(), *measured, int64_t{run.documents} * run.least, works.size());
  }
  return 0;
}

int Run(const Options& o) {
  ThreadPool pool(ThreadPool::AvailableProcessors());
  const absl::StatusOr<std::unique_ptr<Engine>> engine = Load(o, &pool);
  if (!engine.ok()) return Failed(engine.status());
  const ModelInfo& info = (*engine)->info();
  if (!o.json) {
    std::printf("%s (%s)\n%s, attention %s (%s)\n", info.device_name.c_str(), info.device_reason.c_str(),
                ToString(info.precision), ToString(info.attention).c_str(), info.attention_reason.c_str());
  }
  if (o.more) return RunMore(o, **engine);
  std::vector<std::vector<int32_t>> documents =
      o.ids.empty() ? RandomDocuments(o, o.documents, info.vocab_size, o.seed) : ReadDocuments(o.ids, o.documents);
  if (documents.empty()) return Failed(absl::InvalidArgumentError("there are no documents"));
  Repeat(o.repeated, &documents);
  int64_t source_tokens = 0;
  for (const auto& document : documents) source_tokens += static_cast<int64_t>(document.size());
  if (o.warm_documents > 0) {
    const auto warm = RandomDocuments(o, o.warm_documents, info.vocab_size, 6);
    const auto measured = Measure(**engine, ToWork(o, info, warm, o.decoding.front()), 1);
    if (!measured.ok()) return Failed(measured.status());
  }
  if (o.rounds > 1 || o.decoding.size() > 1) return Compare(o, **engine, documents);
  const std::vector<Work> works = ToWork(o, info, std::move(documents), o.decoding.front());
  const auto measured = Measure(**engine, works, 1'000'000);
  if (!measured.ok()) return Failed(measured.status());
  Print(o, info, *measured, source_tokens, works.size());
  return 0;
}

}  // namespace
}  // namespace elserve

int main(int argc, char** argv) {
  elserve::Options o;
  CLI::App app("Times the engine alone on a benchmark's documents");
  app.add_option("model", o.model, "checkpoint directory")->required();
  app.add_option("ids", o.ids, "token ids, one JSON list a line; none: random documents");
  app.add_option("--least", o.least, "tokens of random documents, at least")->check(CLI::Range(2, 1 << 20));
  app.add_option("--most", o.most, "likewise, at most")->check(CLI::Range(2, 1 << 20));
  app.add_option("--device", o.device)->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"auto", "float32", "bfloat16", "int8"}));
  app.add_flag("--int8-memory", o.int8_memory, "hidden states in int8");
  app.add_option("--attention", o.attention)->check(CLI::IsMember({"auto", "el", "kv"}));
  app.add_option("--attention-top-k", o.top_k)->check(CLI::Range(1, 1 << 20));
  app.add_option("--attention-values", o.values)->check(CLI::IsMember({"exact", "pruned", "log3bit"}));
  app.add_option("--attention-threshold", o.threshold)->check(CLI::Range(0.0, 1.0));
  app.add_option("--ffn-top-k", o.ffn_top_k)->check(CLI::Range(1, 1 << 20));
  app.add_option("--max-source-tokens", o.max_source_tokens, "0: what the checkpoint says")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--beams", o.beams);
  app.add_option("--out", o.out, "new tokens of each document");
  app.add_option("--documents", o.documents);
  app.add_option("--copies", o.copies, "give each document so many times: with one beam, a row with memory of its own")
      ->check(CLI::Range(1, 64));
  app.add_option("--repeated", o.repeated, "percent of the documents that came before")->check(CLI::Range(0, 100));
  app.add_flag("--no-encoder-cache", o.no_encoder_cache, "each encodes its own; so it is with --copies");
  app.add_option("--warm-documents", o.warm_documents, "run so many before, which do not count");
  std::vector<std::string> decodings;
  for (const auto& [name, set] : elserve::kDecodings) decodings.push_back(name);
  app.add_option("--decoding", o.decoding, "rules or sampling; several are compared, over --rounds")
      ->check(CLI::IsMember(decodings));
  app.add_option("--rounds", o.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--seed", o.seed, "of random documents");
  app.add_flag("--json", o.json, "one line of JSON");
  app.add_flag("--more", o.more,
               "a run for each line of standard input: {\"documents\": 8, \"source\": 512, \"seed\": 7, \"beams\": 4, "
               "\"decoding\": \"plain\", \"out\": 64}, keys left out: as above");
  app.add_option("--max-rows", o.rows);
  app.add_option("--max-decoder-tokens", o.max_decoder_tokens);
  app.add_option("--memory-gib", o.memory_gib);
  app.add_option("--encoder-memory-tokens", o.encoder_memory_tokens);
  app.add_option("--decoder-memory-tokens", o.decoder_memory_tokens);
  app.add_option("--encode-tokens-per-step", o.encode_tokens);
  CLI11_PARSE(app, argc, argv);
  o.most = std::max(o.most, o.least);
  return elserve::Run(o);
}
