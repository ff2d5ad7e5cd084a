#include "tests/bench/cuda_world.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>

#include "engine/backend/cuda/cuda_backend.h"

namespace elserve::bench {
namespace {

constexpr int kHistory = 50;

std::vector<float> Values(int64_t n) {
  std::vector<float> values(n);
  std::minstd_rand random(7);
  for (float& value : values) value = static_cast<float>(random() % 4096) / 4096 - 0.5f;
  return values;
}

HostTensor View(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {
      .type = DataType::kFloat32, .shape = std::move(shape), .data = reinterpret_cast<const std::byte*>(values.data())};
}

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

void CudaWorld::Require(const absl::Status& status) const {
  if (status.ok()) return;
  std::fprintf(stderr, "cuda_bench: %s\n", status.ToString().c_str());
  std::exit(EXIT_FAILURE);
}

void CudaWorld::Require(cudaError_t error) const {
  if (error != cudaSuccess) Require(absl::InternalError(cudaGetErrorString(error)));
}

CudaWorld::CudaWorld(DataType type, const WorldShape& shape) : shape_(shape) {
  auto backend = MakeCudaBackend({.state_type = type});
  Require(backend.status());
  owner_ = *std::move(backend);
  backend_ = static_cast<cuda::CudaBackend*>(owner_.get());
  const int rows = shape.documents * shape.beams, length = kHistory + 1;
  const int pages = (shape.source + kPageTokens - 1) / kPageTokens;
  const int blocks = (rows * length + kBlockCells - 1) / kBlockCells;
  const int encode = std::max(2048, EncodeDocuments() * shape.source);
  const AttentionForm form = shape.el ? AttentionForm::kEl : AttentionForm::kKv;
  Require(backend_->AllocateMemory(
      {.cross = form, .self = form, .layers = shape.layers, .d = kWidth, .heads = kHeads, .head_dim = kHeadDim},
      shape.documents * pages, blocks,
      {.encode_positions = encode,
       .decode_positions = rows,
       .select_rows = rows,
       .decoder_length = kMaxPositions,
       .source_length = std::max(shape.source, kPageTokens)}));
  for (int i = 0; i < shape.documents * pages; ++i) page_list_.push_back(i);
  ids_.assign(encode, 3);
  for (int d = 0; d < shape.documents; ++d) {
    const std::span<const int32_t> own(page_list_.data() + d * pages, pages);
    sources_.push_back({0, shape.source, own});
    targets_.push_back({d * shape.beams, shape.beams, shape.source, own});
  }
  for (int r = 0; r < rows; ++r) {
    row_ids_.push_back(3);
    places_.push_back(kHistory);
    select_.push_back({r, SelectSpace::kLogProbs, shape.beams + 1, {}, {}, false});
    for (int t = 0; t < length; ++t) ancestry_.push_back(r * length + t);
  }
  for (int r = 0; r < rows; ++r) {
    const std::span<const int32_t> own(ancestry_.data() + static_cast<size_t>(r) * length, length);
    rows_.push_back({.begin = r, .first = kHistory, .ancestry = own});
  }
}

Tensor CudaWorld::Make(int64_t rows, int64_t cols, Storage storage) {
  const absl::StatusOr<Tensor> tensor = backend_->AllocateTensor(rows, cols, storage);
  Require(tensor.status());
  backend_->Write(*tensor, Values(rows * cols));
  return *tensor;
}

PackedWeightPtr CudaWorld::Linear(int64_t out, int64_t in) {
  const std::vector<float> values = Values(out * in), bias = Values(out);
  const HostTensor bias_view = View(bias, {out});
  return backend_->PackLinear(View(values, {out, in}), &bias_view, WeightType::kState);
}

PackedWeightPtr CudaWorld::PerHead(int64_t in, int64_t out) {
  const std::vector<float> values = Values(kHeads * in * out);
  return backend_->PackPerHead(View(values, {kHeads, in, out}), nullptr, WeightType::kState);
}

void CudaWorld::BeginEncode(int first, int count) {
  for (int d = 0; d < count; ++d) sources_[first + d].begin = d * shape_.source;
  const std::span<const int32_t> tokens(ids_.data(), static_cast<size_t>(count) * shape_.source);
  backend_->BeginStep({.encode = {tokens, tokens, std::span<const EncodeDocument>(sources_).subspan(first, count)},
                       .prefill = {},
                       .decode = {}});
}

void CudaWorld::FillPages() {
  const int64_t width = shape_.el ? kWidth : 2 * kHeads * kHeadDim;
  const Tensor states = Make(int64_t{EncodeDocuments()} * shape_.source, width, Storage::kState);
  for (int first = 0; first < shape_.documents; first += EncodeDocuments()) {
    BeginEncode(first, std::min(EncodeDocuments(), shape_.documents - first));
    for (int layer = 0; layer < (shape_.el ? 1 : shape_.layers); ++layer) backend_->StoreEncoder({layer, states});
    Finish();
  }
}

void CudaWorld::Begin(Phase phase) {
  if (phase == Phase::kEncode) return BeginEncode(0, EncodeDocuments());
  StepLayout layout;
  layout.decode = {row_ids_, places_, rows_, targets_, select_};
  backend_->BeginStep(layout);
}

void CudaWorld::Finish() { Require(backend_->Selected().status()); }

double CudaWorld::TimeCaptured(Phase phase, int runs, const std::function<void(int)>& launch) {
  const cudaStream_t stream = backend_->stream(phase);
  Require(cudaStreamSynchronize(stream));
  Require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < runs; ++i) launch(i);
  cudaGraph_t graph = nullptr;
  Require(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t executable = nullptr;
  Require(cudaGraphInstantiate(&executable, graph, 0));
  cudaEvent_t begin = nullptr, end = nullptr;
  Require(cudaEventCreate(&begin));
  Require(cudaEventCreate(&end));
  double best = 1e30;
  for (int round = 0; round < 4; ++round) {  // the first warms up
    Require(cudaEventRecord(begin, stream));
    Require(cudaGraphLaunch(executable, stream));
    Require(cudaEventRecord(end, stream));
    Require(cudaStreamSynchronize(stream));
    float milliseconds = 0;
    Require(cudaEventElapsedTime(&milliseconds, begin, end));
    if (round > 0) best = std::min(best, milliseconds / 1e3 / runs);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  Finish();
  return best;
}

std::pair<double, double> CudaWorld::TimeSteps(int runs, const std::function<void()>& body) {
  const cudaStream_t stream = backend_->stream(Phase::kDecode);
  cudaEvent_t begin = nullptr, end = nullptr;
  Require(cudaEventCreate(&begin));
  Require(cudaEventCreate(&end));
  double busy = 0, start = 0;
  for (int i = -2; i < runs; ++i) {  // the first two warm up
    if (i == 0) start = Seconds();
    Begin(Phase::kDecode);
    Require(cudaEventRecord(begin, stream));
    backend_->Replay(body);
    Require(cudaEventRecord(end, stream));
    Finish();
    float milliseconds = 0;
    Require(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 0) busy += milliseconds / 1e3;
  }
  const double wall = Seconds() - start;
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return {wall / runs, busy / runs};
}

RandomModel::RandomModel() : numbers_(Values(int64_t{kVocab} * kWidth)) {
  // Small enough that nothing grows without bound through the layers.
  for (float& number : numbers_) number *= 0.06f;
  config_.model_type = "bart";
  config_.vocab_size = kVocab;
  config_.d_model = kWidth;
  config_.encoder = {.layers = kLayers,
                     .heads = kHeads,
                     .head_dim = kHeadDim,
                     .ffn = kFfn,
                     .score_scale = 0.125f,
                     .max_positions = kMaxPositions};
  config_.decoder = config_.encoder;
  config_.position_offset = 2;
  const EmbeddingWeights embedding{Matrix(kVocab, kWidth), Matrix(kMaxPositions + 2, kWidth), Norm()};
  LayerWeights layer;
  layer.self_attention = Attention();
  layer.feed_forward = {.fc1 = Linear(kFfn, kWidth), .gate = {}, .fc2 = Linear(kWidth, kFfn), .norm = Norm()};
  weights_.encoder.embedding = weights_.decoder.embedding = embedding;
  weights_.encoder.layers.assign(kLayers, layer);
  layer.cross_attention = Attention();
  weights_.decoder.layers.assign(kLayers, layer);
  weights_.head = Matrix(kVocab, kWidth);
}

HostTensor RandomModel::Matrix(int64_t rows, int64_t cols) const { return View(numbers_, {rows, cols}); }
LinearWeights RandomModel::Linear(int64_t out, int64_t in) const { return {Matrix(out, in), View(numbers_, {out})}; }
NormWeights RandomModel::Norm() const { return {View(numbers_, {kWidth}), View(numbers_, {kWidth})}; }
AttentionWeights RandomModel::Attention() const {
  const LinearWeights square = Linear(kWidth, kWidth);
  return {.q = square, .k = square, .v = square, .o = square, .norm = Norm(), .features = {}};
}

TimedBackend::~TimedBackend() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

cudaEvent_t TimedBackend::TakeEvent() {
  cudaEvent_t event = nullptr;
  if (cudaEventCreate(&event) != cudaSuccess) std::abort();
  events_.push_back(event);
  return event;
}

void TimedBackend::Time(const char* name, Phase phase, const std::function<void()>& operation) {
  const cudaStream_t stream = inner_.stream(phase);
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream, &capturing);
  if (capturing != cudaStreamCaptureStatusNone) return operation();
  const Span span{name, TakeEvent(), TakeEvent()};
  cudaEventRecord(span.begin, stream);
  operation();
  cudaEventRecord(span.end, stream);
  spans_.push_back(span);
}

void TimedBackend::Report(int steps) const {
  cudaDeviceSynchronize();
  struct Sum {
    double milliseconds = 0;
    int count = 0;
  };
  std::map<std::string, Sum> sums;
  double all = 0;
  for (const Span& span : spans_) {
    float milliseconds = 0;
    if (cudaEventElapsedTime(&milliseconds, span.begin, span.end) != cudaSuccess) continue;
    sums[span.name].milliseconds += milliseconds;
    ++sums[span.name].count;
    all += milliseconds;
  }
  for (const auto& [name, sum] : sums) {
    std::printf("%-24s %9.3f ms a step, %5.1f%%, %d launches\n", name.c_str(), sum.milliseconds / steps,
                100 * sum.milliseconds / all, sum.count / steps);
  }
  std::printf("%-24s %9.3f ms a step\n", "all, one by one", all / steps);
}

void TimedBackend::Embed(const EmbedArgs& args) {
  Time("Embed", args.phase, [&] { inner_.Embed(args); });
}
void TimedBackend::Linear(const LinearArgs& args) {
  const char* const name = args.input.cols > args.output.cols   ? "Linear ffn to d"
                           : args.input.cols < args.output.cols ? "Linear d to wider"
                                                                : "Linear d to d";
  Time(name, args.phase, [&] { inner_.Linear(args); });
}
void TimedBackend::PerHeadLinear(const PerHeadLinearArgs& args) {
  Time(args.input.cols > args.output.cols ? "PerHeadLinear expand" : "PerHeadLinear absorb", args.phase,
       [&] { inner_.PerHeadLinear(args); });
}
void TimedBackend::Norm(const NormArgs& args) {
  Time("Norm", args.phase, [&] { inner_.Norm(args); });
}
void TimedBackend::EncoderAttention(const EncoderAttentionArgs& args) {
  Time("EncoderAttention", Phase::kEncode, [&] { inner_.EncoderAttention(args); });
}
void TimedBackend::StoreEncoder(const StoreEncoderArgs& args) {
  Time("StoreEncoder", Phase::kEncode, [&] { inner_.StoreEncoder(args); });
}
void TimedBackend::CrossAttention(const CrossAttentionArgs& args) {
  Time("CrossAttention", args.phase, [&] { inner_.CrossAttention(args); });
}
void TimedBackend::SelfAttention(const SelfAttentionArgs& args) {
  Time("SelfAttention", Phase::kDecode, [&] { inner_.SelfAttention(args); });
}
void TimedBackend::PrefillAttention(const PrefillAttentionArgs& args) {
  Time("PrefillAttention", Phase::kPrefill, [&] { inner_.PrefillAttention(args); });
}
void TimedBackend::SelectTokens(const SelectTokensArgs& args) {
  Time("SelectTokens", args.phase, [&] { inner_.SelectTokens(args); });
}

}  // namespace elserve::bench
