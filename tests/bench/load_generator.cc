// Loads a server on the loopback interface with Generate or StreamGenerate and prints one line of JSON. See README.md
// here.
//
// Closed loop: so many requests in flight, a new one when one is answered. Open loop: Poisson arrivals at a rate,
// whatever the server does; a latency counts from the moment that a request should have been sent, so a server that
// falls behind cannot hide it.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "proto/elserve/v1/elserve.grpc.pb.h"

namespace elserve {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Options {
  std::string server, documents, model;
  bool stream = false;
  int in_flight = 64;  // closed loop; open loop: arrivals beyond this are not sent
  double rate = 0;     // arrivals a second; 0: closed loop
  int requests = 0;    // 0: each document once
  uint64_t seed = 1;
  int beams = 1;
  std::string new_tokens;  // "64", or "16:112": drawn evenly for each request; empty: until EOS
  double timeout_seconds = 300;
};

// What came of one request; seconds since it should have been sent.
struct Outcome {
  grpc::Status status;
  double latency = 0;
  std::optional<double> first_text;
  v1::Usage usage;
};

// All requests of a run. Thread-safe.
class Tally {
 public:
  void WaitForLess(int in_flight) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return in_flight_ < in_flight; });
  }
  // False: as many as `in_flight` are, and one more is counted as not sent.
  bool StartIfLess(int in_flight) {
    const std::lock_guard lock(mutex_);
    if (in_flight_ >= in_flight) {
      ++not_sent_;
      return false;
    }
    peak_ = std::max(peak_, ++in_flight_);
    return true;
  }
  void End(Outcome outcome) {
    const std::lock_guard lock(mutex_);
    outcomes_.push_back(std::move(outcome));
    --in_flight_;
    // Under the lock: once nothing is in flight the tally may go.
    ended_.notify_all();
  }

  // The rest once nothing is in flight.
  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  int not_sent() const { return not_sent_; }
  int peak() const { return peak_; }

 private:
  std::mutex mutex_;
  // Guarded by mutex_.
  std::condition_variable ended_;
  std::vector<Outcome> outcomes_;
  int in_flight_ = 0, peak_ = 0, not_sent_ = 0;
};

// One request and its answer; deletes itself when it is over.
class Exchange : public grpc::ClientReadReactor<v1::GenerateChunk> {
 public:
  Exchange(v1::GenerateRequest request, Clock::time_point due, Tally* tally)
      : request_(std::move(request)), due_(due), tally_(tally) {}

  void Start(v1::GenerationService::Stub* stub, bool stream, double timeout_seconds) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::system_clock::duration>(Seconds(timeout_seconds)));
    if (stream) {
      stub->async()->StreamGenerate(&context_, &request_, this);
      StartRead(&chunk_);
      StartCall();
    } else {
      stub->async()->Generate(&context_, &request_, &response_, [this](const grpc::Status& status) { OnDone(status); });
    }
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (!first_text_ && !(chunk_.has_delta() ? chunk_.delta().text() : FirstText(chunk_.response())).empty()) {
      first_text_ = Elapsed();
    }
    if (chunk_.has_response()) response_.Swap(chunk_.mutable_response());
    StartRead(&chunk_);
  }

  void OnDone(const grpc::Status& status) override {
    tally_->End({.status = status, .latency = Elapsed(), .first_text = first_text_, .usage = response_.usage()});
    delete this;
  }

 private:
  static std::string FirstText(const v1::GenerateResponse& response) {
    return response.hypotheses().empty() ? "" : response.hypotheses(0).text();
  }
  double Elapsed() const { return Seconds(Clock::now() - due_).count(); }

  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  const Clock::time_point due_;
  Tally* const tally_;
  v1::GenerateChunk chunk_;
  v1::GenerateResponse response_;
  std::optional<double> first_text_;
};

// Numbers from bits directly: the standard's distributions differ between libraries, and a seed should mean one load.
double Uniform(std::mt19937_64* bits) { return static_cast<double>((*bits)() >> 11) * 0x1p-53; }

bool ParseNewTokens(const std::string& text, std::pair<int, int>* range) {
  const size_t colon = text.find(':');
  range->first = std::atoi(text.c_str());
  range->second = colon == std::string::npos ? range->first : std::atoi(text.c_str() + colon + 1);
  return range->first >= 1 && range->first <= range->second && range->second <= 100000;
}

// A list of token ids or a text a line.
std::vector<v1::GenerateRequest> ReadDocuments(const std::string& path) {
  std::vector<v1::GenerateRequest> documents;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const Json value = Json::parse(line, nullptr, false);
    v1::GenerateRequest request;
    if (value.is_string()) {
      request.set_text(value.get<std::string>());
    } else if (value.is_array() &&
               std::all_of(value.begin(), value.end(), [](const Json& id) { return id.is_number_integer(); })) {
      for (const Json& id : value) request.mutable_token_ids()->add_ids(id.get<int32_t>());
    } else {
      std::fprintf(stderr, "%s:%zu: not a list of token ids and not a text\n", path.c_str(), documents.size() + 1);
      return {};
    }
    documents.push_back(std::move(request));
  }
  if (documents.empty()) std::fprintf(stderr, "%s: no documents\n", path.c_str());
  return documents;
}

void SetParameters(const Options& o, std::mt19937_64* bits, v1::GenerateRequest* request) {
  request->set_model(o.model);
  v1::DecodingParameters& p = *request->mutable_parameters();
  p.set_num_beams(o.beams);
  if (std::pair<int, int> range; ParseNewTokens(o.new_tokens, &range)) {
    const int tokens = range.first + static_cast<int>(Uniform(bits) * (range.second - range.first + 1));
    p.set_max_new_tokens(tokens);
    p.set_min_new_tokens(tokens);  // no EOS before
    p.set_early_stopping(v1::EARLY_STOPPING_TRUE);
    p.add_forced_eos_token_id(-1);
    p.set_forced_bos_token_id(-1);
    p.set_no_repeat_ngram_size(0);
  }
}

void Send(const Options& o, const std::vector<v1::GenerateRequest>& documents, v1::GenerationService::Stub* stub,
          Tally* tally) {
  std::mt19937_64 bits(o.seed);
  const Clock::time_point begin = Clock::now();
  double due = 0;
  for (int i = 0; i < o.requests; ++i) {
    v1::GenerateRequest request = documents[static_cast<size_t>(i) % documents.size()];
    SetParameters(o, &bits, &request);
    Clock::time_point sent = Clock::now();
    if (o.rate > 0) {
      due -= std::log1p(-Uniform(&bits)) / o.rate;
      sent = begin + std::chrono::duration_cast<Clock::duration>(Seconds(due));
      std::this_thread::sleep_until(sent);
    } else {
      tally->WaitForLess(o.in_flight);
      sent = Clock::now();
    }
    if (!tally->StartIfLess(o.in_flight)) continue;
    (new Exchange(std::move(request), sent, tally))->Start(stub, o.stream, o.timeout_seconds);
  }
  tally->WaitForLess(1);
}

// By nearest rank.
Json Percentiles(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<size_t>(rank, 1) - 1];
  };
  double sum = 0;
  for (const double value : values) sum += value;
  return {{"mean", sum / static_cast<double>(values.size())},
          {"p50", at(0.50)},
          {"p95", at(0.95)},
          {"p99", at(0.99)},
          {"max", values.back()}};
}

Json Report(const Options& o, const Tally& tally, const v1::Model& model, double seconds) {
  std::vector<double> latencies, first_texts;
  double queue = 0, encode = 0, decode = 0;
  int64_t source = 0, generated = 0;
  std::map<std::string, int> errors;
  std::string first_error;
  for (const Outcome& outcome : tally.outcomes()) {
    if (!outcome.status.ok()) {
      ++errors[absl::StatusCodeToString(static_cast<absl::StatusCode>(outcome.status.error_code()))];
      if (first_error.empty()) first_error = outcome.status.error_message();
      continue;
    }
    latencies.push_back(outcome.latency);
    if (outcome.first_text) first_texts.push_back(*outcome.first_text);
    queue += outcome.usage.queue_seconds();
    encode += outcome.usage.encode_seconds();
    decode += outcome.usage.decode_seconds();
    source += outcome.usage.source_tokens();
    generated += outcome.usage.generated_tokens();
  }
  const auto ok = static_cast<double>(latencies.size());
  const double each = 1 / std::max(ok, 1.0);
  return {{"loop", o.rate > 0 ? "open" : "closed"},
          {"rate", o.rate},
          {"stream", o.stream},
          {"beams", o.beams},
          {"requests", o.requests},
          {"ok", latencies.size()},
          {"errors", errors},
          {"first_error", first_error},
          {"not_sent", tally.not_sent()},
          {"peak_in_flight", tally.peak()},
          {"seconds", seconds},
          {"documents_per_second", ok / seconds},
          {"generated_tokens_per_second", static_cast<double>(generated) / seconds},
          {"source_tokens", static_cast<double>(source) * each},
          {"generated_tokens", static_cast<double>(generated) * each},
          {"latency", Percentiles(std::move(latencies))},
          {"first_text", Percentiles(std::move(first_texts))},
          {"mean_seconds", {{"queue", queue * each}, {"encode", encode * each}, {"decode", decode * each}}},
          {"model",
           {{"name", model.name()},
            {"device", model.device_name()},
            {"precision", model.precision()},
            {"attention", model.attention()},
            {"attention_reason", model.attention_reason()},
            {"memory_bytes", model.limits().memory_bytes()},
            {"encoder_memory_tokens", model.limits().encoder_memory_tokens()},
            {"decoder_memory_tokens", model.limits().decoder_memory_tokens()},
            {"bytes_per_encoder_token", model.limits().bytes_per_encoder_token()},
            {"bytes_per_decoder_token", model.limits().bytes_per_decoder_token()}}}};
}

bool Loopback(const std::string& server) {
  for (const std::string_view host : {"127.0.0.1:", "localhost:", "[::1]:"}) {
    if (server.starts_with(host)) return true;
  }
  return false;
}

int Run(Options o) {
  if (!Loopback(o.server)) {
    std::fprintf(stderr, "--server is %s; allowed is a port of 127.0.0.1, [::1] or localhost\n", o.server.c_str());
    return EXIT_FAILURE;
  }
  std::pair<int, int> range;
  if (!o.new_tokens.empty() && !ParseNewTokens(o.new_tokens, &range)) {
    std::fprintf(stderr, "--new-tokens is %s; allowed is N or LEAST:MOST, at least 1\n", o.new_tokens.c_str());
    return EXIT_FAILURE;
  }
  const std::vector<v1::GenerateRequest> documents = ReadDocuments(o.documents);
  if (documents.empty()) return EXIT_FAILURE;
  if (o.requests == 0) o.requests = static_cast<int>(documents.size());

  const auto channel = grpc::CreateChannel(o.server, grpc::InsecureChannelCredentials());
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  v1::GetModelRequest which;
  which.set_model(o.model);
  v1::Model model;
  if (const grpc::Status status = stub->GetModel(&context, which, &model); !status.ok()) {
    std::fprintf(stderr, "%s: %s\n", o.server.c_str(), status.error_message().c_str());
    return EXIT_FAILURE;
  }
  Tally tally;
  const Clock::time_point begin = Clock::now();
  Send(o, documents, stub.get(), &tally);
  const Json report = Report(o, tally, model, Seconds(Clock::now() - begin).count());
  std::printf("%s\n", report.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  return report["ok"] == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace
}  // namespace elserve

int main(int argc, char** argv) {
  elserve::Options o;
  CLI::App app("Loads a server with documents and prints what it did as JSON");
  app.add_option("documents", o.documents, "one JSON list of token ids, or one JSON string, a line")->required();
  app.add_option("--server", o.server, "127.0.0.1:PORT")->required();
  app.add_option("--model", o.model, "the only one, if not given");
  app.add_flag("--stream", o.stream, "StreamGenerate instead of Generate");
  app.add_option("--in-flight", o.in_flight, "requests at once; with --rate, what comes beyond them is not sent")
      ->check(CLI::Range(1, 10000));
  app.add_option("--rate", o.rate, "Poisson arrivals a second; 0: closed loop")->check(CLI::Range(0.0, 10000.0));
  app.add_option("--requests", o.requests, "the documents in a circle; 0: each once")->check(CLI::Range(0, 1000000));
  app.add_option("--seed", o.seed, "of arrivals and answers' lengths");
  app.add_option("--beams", o.beams);
  app.add_option("--new-tokens", o.new_tokens, "N, or LEAST:MOST drawn for each request; not given: until EOS");
  app.add_option("--timeout", o.timeout_seconds, "deadline of a request in seconds")->check(CLI::Range(0.001, 3600.0));
  CLI11_PARSE(app, argc, argv);
  return elserve::Run(std::move(o));
}
