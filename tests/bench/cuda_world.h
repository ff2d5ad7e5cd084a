// What cuda_bench.cc measures on: a backend with made-up documents, a model of random weights, and a backend between
// that takes times.
#ifndef ELSERVE_TESTS_BENCH_CUDA_WORLD_H_
#define ELSERVE_TESTS_BENCH_CUDA_WORLD_H_

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/cuda/cuda_device.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace elserve::bench {

// BART-large.
constexpr int kLayers = 12, kHeads = 16, kHeadDim = 64, kWidth = 1024, kFfn = 4096, kVocab = 50265;
constexpr int kBeams = 4;
constexpr int kMaxPositions = 1024;

struct WorldShape {
  bool el = true;
  int layers = 1;
  int documents = 1;
  int source = kPageTokens;  // tokens of each document
  int beams = kBeams;        // rows of each
  int encode_documents = 8;  // of one slice, at most
  // Rows that have nothing to do with documents.
  static WorldShape Rows(int rows) { return {.documents = rows, .beams = 1}; }
};

// Ends the program where something fails: a benchmark has nobody to tell.
class CudaWorld {
 public:
  CudaWorld(DataType type, const WorldShape& shape);

  cuda::CudaBackend& cuda() const { return *backend_; }

  Tensor Make(int64_t rows, int64_t cols, Storage storage);  // with values between -0.5 and 0.5
  PackedWeightPtr Linear(int64_t out, int64_t in);
  PackedWeightPtr PerHead(int64_t in, int64_t out);  // for kHeads heads
  // States into all pages and layers.
  void FillPages();

  // A step in which all documents decode, or the first ones are encoded.
  void Begin(Phase phase);
  void Finish();  // waits for it

  // Seconds of one of `runs` launches, captured together. They belong to the step that began last.
  double TimeCaptured(Phase phase, int runs, const std::function<void(int)>& launch);
  // Seconds of a whole decode step, from its layout to its candidates, and of the device's work in it.
  std::pair<double, double> TimeSteps(int runs, const std::function<void()>& body);

  void Require(const absl::Status& status) const;
  void Require(cudaError_t error) const;

 private:
  int EncodeDocuments() const { return std::min(shape_.documents, shape_.encode_documents); }
  void BeginEncode(int first, int count);

  WorldShape shape_;
  std::unique_ptr<Backend> owner_;
  cuda::CudaBackend* backend_ = nullptr;
  std::vector<int32_t> page_list_, ids_, row_ids_, places_, ancestry_;
  std::vector<DecodeRow> rows_;
  std::vector<EncodeDocument> sources_;
  std::vector<DecodeDocument> targets_;
  std::vector<SelectRow> select_;
};

// Weights of BART-large's shape: every tensor is a view into the same random numbers.
class RandomModel {
 public:
  RandomModel();
  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }

 private:
  HostTensor Matrix(int64_t rows, int64_t cols) const;
  LinearWeights Linear(int64_t out, int64_t in) const;
  NormWeights Norm() const;
  AttentionWeights Attention() const;

  std::vector<float> numbers_;
  ModelConfig config_;
  ModelWeights weights_;
};

// Hands operations on, with an event before and after each.
class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(cuda::CudaBackend* inner) : inner_(*inner) {}
  ~TimedBackend() override;

  void Start() { spans_.clear(); }  // forgets what was timed
  // A line for each kind of operation, per step of `steps`. After Finish.
  void Report(int steps) const;

  std::string name() const override { return inner_.name(); }
  std::string device_name() const override { return inner_.device_name(); }
  DataType state_type() const override { return inner_.state_type(); }
  PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias, WeightType type) override {
    return inner_.PackLinear(weight, bias, type);
  }
  PackedWeightPtr PackGatedLinear(const GatedWeights& weights) override { return inner_.PackGatedLinear(weights); }
  PackedWeightPtr PackPositionBias(const HostTensor& table) override { return inner_.PackPositionBias(table); }
  PackedWeightPtr PackPerHead(const HostTensor& weight, const HostTensor* bias, WeightType type) override {
    return inner_.PackPerHead(weight, bias, type);
  }
  PackedWeightPtr PackEmbedding(const HostTensor& table) override { return inner_.PackEmbedding(table); }
  PackedWeightPtr PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) override {
    return inner_.PackNorm(kind, gamma, beta, epsilon);
  }
  OperationFigures Figures() const override { return inner_.Figures(); }
  StepSizes PreferredSizes() const override { return inner_.PreferredSizes(); }
  MemoryCosts Costs(const MemoryShape& shape) const override { return inner_.Costs(shape); }
  absl::Status AllocateMemory(const MemoryShape& shape, int64_t pages, int64_t blocks,
                              const StepLimits& limits) override {
    return inner_.AllocateMemory(shape, pages, blocks, limits);
  }
  absl::StatusOr<Tensor> AllocateTensor(int64_t rows, int64_t cols, Storage storage) override {
    return inner_.AllocateTensor(rows, cols, storage);
  }
  void BeginStep(const StepLayout& layout) override { inner_.BeginStep(layout); }
  void Replay(absl::FunctionRef<void()> body) override { inner_.Replay(body); }

  void Embed(const EmbedArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void PerHeadLinear(const PerHeadLinearArgs& args) override;
  void Norm(const NormArgs& args) override;
  void EncoderAttention(const EncoderAttentionArgs& args) override;
  void StoreEncoder(const StoreEncoderArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void PrefillAttention(const PrefillAttentionArgs& args) override;
  void SelectTokens(const SelectTokensArgs& args) override;
  absl::StatusOr<std::span<const SelectedRow>> Selected() override { return inner_.Selected(); }
  std::vector<float> Read(const Tensor& tensor, int64_t rows) override { return inner_.Read(tensor, rows); }
  void Write(const Tensor& tensor, std::span<const float> values) override { inner_.Write(tensor, values); }

 private:
  struct Span {
    const char* name;
    cudaEvent_t begin, end;
  };
  void Time(const char* name, Phase phase, const std::function<void()>& operation);
  cudaEvent_t TakeEvent();

  cuda::CudaBackend& inner_;
  std::vector<Span> spans_;
  std::vector<cudaEvent_t> events_;  // all that were made; the first 2 * spans_.size() are in use
};

}  // namespace elserve::bench

#endif  // ELSERVE_TESTS_BENCH_CUDA_WORLD_H_
