// The cuda backend on BART-large's shapes, by CUDA events: what each operation reaches, and where a step's time goes.
// See README.md here.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/backend/cuda/cuda_device.h"
#include "engine/backend/cuda/device_figures.h"
#include "engine/model/decoder.h"
#include "engine/model/encoder.h"
#include "engine/model/packed_weights.h"
#include "tests/bench/cuda_world.h"

namespace elserve::bench {
namespace {

constexpr int kHistory = 50;         // decoder positions of every row
constexpr int kEncodeTokens = 2048;  // of a slice of encoding
constexpr int64_t kBeyondCache =
    256;  // MiB of weights or keys that a measurement goes through, so that none stay cached

struct Options {
  bool float32 = false, operations = true, steps = true;
  int runs = 20;
};

// Work of one launch.
struct Work {
  double flops = 0, bytes = 0;
};

class Reporter {
 public:
  Reporter(const CudaWorld& world, int runs)
      : runs_(runs), peak_(cuda::PeakFigures(world.cuda().context().Clocks(), world.cuda().state_type())) {}

  void Title() const {
    std::printf("%-34s %6s %6s %10s %9s %7s %9s %7s\n", "operation", "rows", "source", "us", "TFLOP/s", "of peak",
                "GB/s", "of peak");
  }
  // Times `launch(i)`, i counting the runs: captured one after the other, so that no launch waits for the processor.
  void Run(CudaWorld& world, Phase phase, const std::string& name, int rows, int source, const Work& work,
           const std::function<void(int)>& launch) const {
    for (int i = 0; i < 2; ++i) launch(i);  // makes its product
    const double seconds = world.TimeCaptured(phase, runs_, launch);
    std::printf("%-34s %6d %6d %10.1f %9.1f %6.1f%% %9.0f %6.1f%%\n", name.c_str(), rows, source, 1e6 * seconds,
                work.flops / seconds / 1e12, 100 * work.flops / seconds / peak_.product_flops,
                work.bytes / seconds / 1e9, 100 * work.bytes / seconds / peak_.bytes_per_second);
    std::fflush(stdout);
  }

 private:
  const int runs_;
  const OperationFigures peak_;
};

int Copies(int64_t bytes_each) { return static_cast<int>(std::max<int64_t>(1, (kBeyondCache << 20) / bytes_each)); }

// Products with weights of their own in every run, as in a step.
void RunLinear(const Reporter& reporter, DataType type, Phase phase, int rows, int out, int in, Activation activation) {
  CudaWorld world(type, WorldShape::Rows(rows));
  const int64_t bytes = SizeOf(type);
  std::vector<PackedWeightPtr> weights;
  const int copies = std::min(Copies(int64_t{out} * in * bytes), 32);
  for (int i = 0; i < copies; ++i) weights.push_back(world.Linear(out, in));
  const Tensor input = world.Make(rows, in, Storage::kState), output = world.Make(rows, out, Storage::kState);
  world.Begin(phase);
  const Work work{2.0 * rows * out * in, static_cast<double>(bytes) * (int64_t{out} * in + int64_t{rows} * (in + out))};
  reporter.Run(world, phase,
               std::string(phase == Phase::kEncode ? "encode " : "") + "Linear " + std::to_string(in) + " to " +
                   std::to_string(out) + (activation == Activation::kGelu ? " gelu" : ""),
               rows, 0, work, [&](int i) {
                 world.cuda().Linear({phase, input, weights[i % copies].get(), activation, nullptr, output});
               });
}

void RunPerHead(const Reporter& reporter, DataType type, int rows, int in, int out) {
  CudaWorld world(type, WorldShape::Rows(rows));
  const int64_t bytes = SizeOf(type);
  const int copies = std::min(Copies(kHeads * int64_t{in} * out * bytes), 32);
  std::vector<PackedWeightPtr> weights;
  for (int i = 0; i < copies; ++i) weights.push_back(world.PerHead(in, out));
  const Tensor input = world.Make(rows, int64_t{kHeads} * in, Storage::kState);
  const Tensor output = world.Make(rows, int64_t{kHeads} * out, Storage::kState);
  world.Begin(Phase::kDecode);
  const double numbers = static_cast<double>(kHeads) * (double{1} * in * out + double{1} * rows * (in + out));
  reporter.Run(world, Phase::kDecode, "PerHeadLinear " + std::to_string(in) + " to " + std::to_string(out), rows, 0,
               {2.0 * rows * kHeads * in * out, numbers * static_cast<double>(bytes)}, [&](int i) {
                 world.cuda().PerHeadLinear({Phase::kDecode, input, weights[i % copies].get(), output});
               });
}

void RunAttention(const Reporter& reporter, DataType type, bool el, int rows, int source) {
  // el reads the same states in every layer; of keys and values each layer has its own.
  const int64_t documents = rows / kBeams;
  const int64_t inner = int64_t{kHeads} * kHeadDim;
  const int64_t document_bytes = documents * source * 2 * inner * SizeOf(type);
  const int layers = el ? 1 : std::min(Copies(document_bytes), 12);
  CudaWorld world(type, {.el = el, .layers = layers, .documents = static_cast<int>(documents), .source = source});
  const int64_t width = el ? int64_t{kHeads} * kWidth : inner;
  const Tensor query = world.Make(rows, width, Storage::kState), output = world.Make(rows, width, Storage::kState);
  const Tensor states = world.Make(rows, el ? kWidth : 3 * inner, Storage::kState);
  world.FillPages();
  world.Begin(Phase::kDecode);
  const double bytes = static_cast<double>(SizeOf(type));
  const double lanes = static_cast<double>(rows) * static_cast<double>(width), read = el ? kWidth : 2.0 * inner;
  const std::string form = el ? "el " : "kv ";
  reporter.Run(world, Phase::kDecode, form + "CrossAttention", rows, source,
               {4.0 * lanes * source, bytes * (static_cast<double>(documents) * source * read + 2 * lanes)},
               [&](int i) {
                 world.cuda().CrossAttention({Phase::kDecode, i % layers, query, output});
               });
  reporter.Run(world, Phase::kDecode, form + "SelfAttention", rows, kHistory + 1,
               {4.0 * lanes * (kHistory + 1), bytes * (static_cast<double>(rows) * (kHistory + 1) * read + 2 * lanes)},
               [&](int i) {
                 world.cuda().SelfAttention({i % layers, states, query, output});
               });
}

void RunEncoderAttention(const Reporter& reporter, DataType type, int source) {
  const int documents = kEncodeTokens / source;
  CudaWorld world(type, {.documents = documents, .source = source});
  const int64_t inner = int64_t{kHeads} * kHeadDim;
  const Tensor qkv = world.Make(kEncodeTokens, 3 * inner, Storage::kState);
  const Tensor output = world.Make(kEncodeTokens, inner, Storage::kState);
  world.Begin(Phase::kEncode);
  const double tokens = static_cast<double>(kEncodeTokens), width = static_cast<double>(inner);
  reporter.Run(world, Phase::kEncode, "EncoderAttention", kEncodeTokens, source,
               {4.0 * tokens * source * width, 4.0 * tokens * width * static_cast<double>(SizeOf(type))}, [&](int) {
                 world.cuda().EncoderAttention({qkv, kHeads, kHeadDim, output});
               });
}

void RunSelect(const Reporter& reporter, DataType type, int rows) {
  CudaWorld world(type, WorldShape::Rows(rows));
  const PackedWeightPtr head = world.Linear(kVocab, kWidth);
  const Tensor states = world.Make(rows, kWidth, Storage::kState);
  world.Begin(Phase::kDecode);
  const double logits = static_cast<double>(rows) * kVocab;
  reporter.Run(world, Phase::kDecode, "SelectTokens (logits and best)", rows, 0,
               {2.0 * logits * kWidth, static_cast<double>(SizeOf(type)) * kVocab * kWidth + 8.0 * logits}, [&](int) {
                 world.cuda().SelectTokens({Phase::kDecode, states, head.get()});
               });
}

void RunOperations(const Options& o, DataType type) {
  const Reporter reporter(CudaWorld(type, WorldShape::Rows(4)), o.runs);
  reporter.Title();
  for (const int rows : {4, 64, 512, 2048}) {
    for (const auto& [out, in] : {std::pair{kWidth, kWidth}, {kFfn, kWidth}, {kWidth, kFfn}}) {
      RunLinear(reporter, type, Phase::kDecode, rows, out, in, out == kFfn ? Activation::kGelu : Activation::kNone);
    }
    RunPerHead(reporter, type, rows, kHeadDim, kWidth);
    RunPerHead(reporter, type, rows, kWidth, kHeadDim);
    for (const int source : {128, 512, 1024}) {
      for (const bool el : {true, false}) RunAttention(reporter, type, el, rows, source);
    }
    RunSelect(reporter, type, rows);
  }
  for (const auto& [out, in] : {std::pair{3 * kWidth, kWidth}, {kWidth, kWidth}, {kFfn, kWidth}, {kWidth, kFfn}}) {
    RunLinear(reporter, type, Phase::kEncode, kEncodeTokens, out, in,
              out == kFfn ? Activation::kGelu : Activation::kNone);
  }
  for (const int source : {128, 512, 1024}) RunEncoderAttention(reporter, type, source);
}

// One decode step of `documents` documents, operation by operation and as a step is really run.
void RunStep(const Options& o, DataType type, bool el, int documents, int source) {
  CudaWorld world(type, {.el = el, .layers = kLayers, .documents = documents, .source = source});
  const RandomModel model;
  const AttentionForms forms = el ? kAllEl : kAllKv;
  const PackedModel weights = PackModel(model.config(), model.weights(), {.forms = forms}, world.cuda());
  TimedBackend timed(&world.cuda());
  const int rows = documents * kBeams;
  auto decoder = Decoder::Create(model.config(), weights, {Phase::kDecode, rows, forms}, timed);
  const int encoded = std::min(documents, WorldShape().encode_documents) * source;
  auto encoder = Encoder::Create(model.config(), weights, forms.cross, std::max(encoded, kEncodeTokens), timed);
  if (!decoder.ok() || !encoder.ok()) {
    std::printf("step of %d documents: %s\n", documents,
                (decoder.ok() ? encoder.status() : decoder.status()).ToString().c_str());
    return;
  }
  world.FillPages();
  const auto body = [&] {
    (*decoder)->Run();
    (*decoder)->Select();
  };
  std::printf("\ndecode step, %s, %d documents of %d tokens, %d rows, %d positions of history\n", el ? "el" : "kv",
              documents, source, rows, kHistory);
  world.Require(world.cuda().Prepare(Phase::kDecode, body));
  timed.Start();
  for (int i = 0; i < o.runs; ++i) {
    world.Begin(Phase::kDecode);
    body();
    world.Finish();
  }
  timed.Report(o.runs);
  const auto [wall, busy] = world.TimeSteps(o.runs, body);
  std::printf("%-24s %9.3f ms a step, %.3f ms of it on the device: idle %.1f%% (the search comes on top)\n", "replayed",
              1e3 * wall, 1e3 * busy, 100 * (1 - busy / wall));

  std::printf("encoding %d tokens\n", encoded);
  world.Require(world.cuda().Prepare(Phase::kEncode, [&] { (*encoder)->RunLayer(0), (*encoder)->Store(); }));
  timed.Start();
  world.Begin(Phase::kEncode);
  (*encoder)->Embed();
  for (int layer = 0; layer < (*encoder)->layers(); ++layer) (*encoder)->RunLayer(layer);
  (*encoder)->Store();
  world.Finish();
  timed.Report(1);
}

int Run(const Options& o) {
  const DataType type = o.float32 ? DataType::kFloat32 : DataType::kBFloat16;
  const auto backend = MakeCudaBackend({.state_type = type});
  if (!backend.ok()) {
    std::fprintf(stderr, "cuda_bench: nothing can be measured: %s\n", std::string(backend.status().message()).c_str());
    return EXIT_FAILURE;
  }
  std::printf("%s, %s\n", (*backend)->device_name().c_str(), o.float32 ? "float32" : "bfloat16");
  if (o.operations) RunOperations(o, type);
  if (!o.steps) return EXIT_SUCCESS;
  for (const bool el : {true, false}) {
    for (const int documents : {1, 32, 128, 512}) RunStep(o, type, el, documents, 1024);
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace elserve::bench

int main(int argc, char** argv) {
  elserve::bench::Options o;
  CLI::App app("Times the cuda backend's operations and steps at BART-large's shapes");
  app.add_flag("--float32", o.float32, "in float32; else in bfloat16");
  app.add_flag("!--no-operations", o.operations, "leave out the operations");
  app.add_flag("!--no-steps", o.steps, "leave out whole steps");
  app.add_option("--runs", o.runs, "of each measurement")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  return elserve::bench::Run(o);
}
