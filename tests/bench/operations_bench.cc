// The cpu backend's operations at BART-base's shapes, in GFLOP/s over all threads. See README.md here.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/thread_pool.h"

namespace elserve {
namespace {

constexpr int kHeads = 12, kHeadDim = 64, kWidth = 768;

ThreadPool& Pool() {
  static ThreadPool pool(ThreadPool::AvailableProcessors());
  return pool;
}

// Evenly between -0.5 and 0.5. Random, since among periodic numbers many logits would be equal.
std::vector<float> Random(int64_t n) {
  std::minstd_rand engine(1);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(engine()) / static_cast<float>(engine.max()) - 0.5f;
  return values;
}

// A backend with the memory of `documents` documents of `tokens` tokens, decoded by `beams` rows each at position
// `history`. The beams share their histories but for the last four cells.
struct Bench {
  Bench(int64_t bits, bool el, int documents, int tokens, int beams, int history = 32)
      : weights(bits == 8 ? WeightType::kInt8 : WeightType::kState) {
    backend = *MakeCpuBackend({bits == 32 ? DataType::kFloat32 : DataType::kBFloat16, &Pool()});
    const int rows = documents * beams, pages = (tokens + kPageTokens - 1) / kPageTokens;
    const int length = history + 1, blocks = (rows * length + kBlockCells - 1) / kBlockCells;
    const AttentionForm form = el ? AttentionForm::kEl : AttentionForm::kKv;
    if (!backend
             ->AllocateMemory({.cross = form,
                               .self = form,
                               .layers = 1,
                               .d = kWidth,
                               .heads = kHeads,
                               .head_dim = kHeadDim,
                               .int8 = bits == 8},
                              documents * pages, blocks,
                              {.encode_positions = documents * tokens,
                               .decode_positions = rows,
                               .select_rows = rows,
                               .decoder_length = length,
                               .source_length = tokens})
             .ok()) {
      std::abort();
    }
    page_list.resize(documents * pages);
    for (size_t i = 0; i < page_list.size(); ++i) page_list[i] = static_cast<int32_t>(i);
    ids.assign(static_cast<size_t>(documents) * tokens, 3);
    for (int d = 0; d < documents; ++d) {
      const std::span<const int32_t> own(page_list.data() + d * pages, pages);
      sources.push_back({d * tokens, tokens, own});
      targets.push_back({d * beams, beams, tokens, own});
    }
    ancestry.reserve(static_cast<size_t>(rows) * length);
    for (int r = 0; r < rows; ++r) {
      row_ids.push_back(3);
      places.push_back(history);
      const std::span<const int32_t> own(ancestry.data() + ancestry.size(), length);
      this->rows.push_back({.begin = r, .first = history, .ancestry = own});
      select.push_back({r, SelectSpace::kLogProbs, beams + 1, {}, {}, false});
      for (int t = 0; t < length; ++t) ancestry.push_back((t + 4 < length ? r / beams * beams : r) * length + t);
    }
    encode = {ids, ids, sources};
    decode = {row_ids, places, this->rows, targets, select};
  }

  Tensor Make(int64_t rows, int64_t cols, Storage storage) {
    Tensor t = *backend->AllocateTensor(rows, cols, storage);
    backend->Write(t, Random(rows * cols));
    return t;
  }
  PackedWeightPtr Weight(int64_t out, int64_t in, bool per_head = false) {
    const std::vector<float> values = Random((per_head ? kHeads : 1) * out * in);
    HostTensor t{DataType::kFloat32, {out, in}, reinterpret_cast<const std::byte*>(values.data())};
    if (per_head) t.shape = {kHeads, in, out};
    return per_head ? backend->PackPerHead(t, nullptr, weights) : backend->PackLinear(t, nullptr, weights);
  }

  WeightType weights;
  std::unique_ptr<Backend> backend;
  std::vector<int32_t> page_list, ids, row_ids, places, ancestry;
  std::vector<DecodeRow> rows;
  std::vector<EncodeDocument> sources;
  std::vector<DecodeDocument> targets;
  std::vector<SelectRow> select;
  EncodeLayout encode;
  DecodeLayout decode;
};

// 32, 16, or 8: bfloat16 with int8 weights, and with el's states in int8.
int64_t BitsOf(const benchmark::State& state) { return state.range(0); }

// Where the processor has no int8.
bool Skips(benchmark::State& state) {
  const bool skips = BitsOf(state) == 8 && !(*MakeCpuBackend({DataType::kBFloat16, &Pool()}))->has_int8();
  if (skips) state.SkipWithError("this processor has no int8");
  return skips;
}

void Report(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t whole = 0, resident = 0;
  statm >> whole >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// What an operation took beside its tensors.
void ReportMemory(benchmark::State& state, int64_t resident_before) {
  state.counters["MiB"] = static_cast<double>(ResidentBytes() - resident_before) / (1 << 20);
}

// {bits, positions, in, out}
void BM_Linear(benchmark::State& state) {
  if (Skips(state)) return;
  const int rows = static_cast<int>(state.range(1));
  const int64_t in = state.range(2), out = state.range(3);
  Bench b(BitsOf(state), true, rows, 64, 1);
  const Tensor input = b.Make(rows, in, Storage::kState), output = b.Make(rows, out, Storage::kState);
  const PackedWeightPtr weight = b.Weight(out, in);
  b.backend->BeginStep({.encode = {}, .prefill = {}, .decode = b.decode});
  for (auto _ : state) b.backend->Linear({Phase::kDecode, input, weight.get(), Activation::kNone, nullptr, output});
  Report(state, 2.0 * rows * in * out);
}

// {bits, positions, in, out} of each of 12 heads
void BM_PerHeadLinear(benchmark::State& state) {
  if (Skips(state)) return;
  const int rows = static_cast<int>(state.range(1));
  const int64_t in = state.range(2), out = state.range(3);
  Bench b(BitsOf(state), true, rows, 64, 1);
  const Tensor input = b.Make(rows, kHeads * in, Storage::kState), output = b.Make(rows, kHeads * out, Storage::kState);
  const PackedWeightPtr weight = b.Weight(out, in, true);
  b.backend->BeginStep({.encode = {}, .prefill = {}, .decode = b.decode});
  for (auto _ : state) b.backend->PerHeadLinear({Phase::kDecode, input, weight.get(), output});
  Report(state, 2.0 * rows * kHeads * in * out);
}

// {bits, documents, tokens}
void BM_EncoderAttention(benchmark::State& state) {
  const int documents = static_cast<int>(state.range(1)), tokens = static_cast<int>(state.range(2));
  Bench b(BitsOf(state), true, documents, tokens, 1);
  const Tensor qkv = b.Make(documents * tokens, 3 * kWidth, Storage::kState),
               out = b.Make(documents * tokens, kWidth, Storage::kState);
  b.backend->BeginStep({.encode = b.encode, .prefill = {}, .decode = {}});
  const int64_t before = ResidentBytes();
  for (auto _ : state) b.backend->EncoderAttention({qkv, kHeads, kHeadDim, out});
  ReportMemory(state, before);
  Report(state, 4.0 * documents * tokens * tokens * kWidth);
}

// {bits, documents, tokens, features}: the operations of its two pairs of products. See performer.md.
void BM_FavorAttention(benchmark::State& state) {
  const int documents = static_cast<int>(state.range(1)), tokens = static_cast<int>(state.range(2)),
            features = static_cast<int>(state.range(3));
  Bench b(BitsOf(state), true, documents, tokens, 1);
  const Tensor qkv = b.Make(documents * tokens, 3 * kWidth, Storage::kState),
               out = b.Make(documents * tokens, kWidth, Storage::kState);
  const std::vector<float> values = Random(int64_t{features} * kHeadDim);
  const PackedWeightPtr drawn = b.backend->PackEmbedding(
      {DataType::kFloat32, {features, kHeadDim}, reinterpret_cast<const std::byte*>(values.data())});
  b.backend->BeginStep({.encode = b.encode, .prefill = {}, .decode = {}});
  const int64_t before = ResidentBytes();
  for (auto _ : state) b.backend->FavorAttention({qkv, drawn.get(), kHeads, kHeadDim, out});
  ReportMemory(state, before);
  Report(state, 8.0 * documents * tokens * features * kWidth);
}

// {bits, 1: el, documents, tokens, beams}
void BM_CrossAttention(benchmark::State& state) {
  if (Skips(state)) return;
  const bool el = state.range(1) != 0;
  const int documents = static_cast<int>(state.range(2)), tokens = static_cast<int>(state.range(3)),
            beams = static_cast<int>(state.range(4));
  Bench b(BitsOf(state), el, documents, tokens, beams);
  const Tensor states = b.Make(documents * tokens, el ? kWidth : 2 * kWidth, Storage::kState);
  const int64_t width = el ? kHeads * kWidth : kWidth;
  const Tensor query = b.Make(documents * beams, width, Storage::kState),
               out = b.Make(documents * beams, width, Storage::kState);
  b.backend->BeginStep({.encode = b.encode, .prefill = {}, .decode = b.decode});
  b.backend->StoreEncoder({0, states});
  for (auto _ : state) b.backend->CrossAttention({Phase::kDecode, 0, query, out});
  Report(state, 4.0 * documents * beams * tokens * (el ? kHeads * kWidth : kWidth));
}

// {bits, 1: el, rows, cells of each}: four beams a document
void BM_SelfAttention(benchmark::State& state) {
  if (Skips(state)) return;
  const bool el = state.range(1) != 0;
  const int rows = static_cast<int>(state.range(2)), history = static_cast<int>(state.range(3));
  Bench b(BitsOf(state), el, rows / 4, 64, 4, history - 1);
  const Tensor states = b.Make(rows, el ? kWidth : 3 * kWidth, Storage::kState);
  const int64_t width = el ? kHeads * kWidth : kWidth;
  const Tensor query = b.Make(rows, width, Storage::kState), out = b.Make(rows, width, Storage::kState);
  b.backend->BeginStep({.encode = {}, .prefill = {}, .decode = b.decode});
  for (auto _ : state) b.backend->SelfAttention({0, states, query, out});
  Report(state, 4.0 * rows * history * (el ? kHeads * kWidth : kWidth));
}

// {bits, rows}: the vocabulary product and the choice of candidates
void BM_SelectTokens(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(1));
  Bench b(BitsOf(state), true, rows, 64, 1);
  const Tensor input = b.Make(rows, kWidth, Storage::kState);
  const PackedWeightPtr weight = b.Weight(50265, kWidth);
  for (SelectRow& row : b.select) row.count = 5;  // as four beams ask
  b.backend->BeginStep({.encode = {}, .prefill = {}, .decode = b.decode});
  for (auto _ : state) b.backend->SelectTokens({Phase::kDecode, input, weight.get()});
  Report(state, 2.0 * rows * kWidth * 50265);
}

void Linears(benchmark::internal::Benchmark* b) {
  for (int bits : {8, 16, 32}) {
    for (int rows : {4, 64, 128, 2048}) {
      b->Args({bits, rows, 768, 2304})
          ->Args({bits, rows, 768, 768})
          ->Args({bits, rows, 768, 3072})
          ->Args({bits, rows, 3072, 768});
    }
  }
}

BENCHMARK(BM_Linear)->Apply(Linears)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(BM_PerHeadLinear)
    ->ArgsProduct({{8, 16, 32}, {128}, {64}, {768}})
    ->ArgsProduct({{8, 16, 32}, {128}, {768}, {64}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_EncoderAttention)
    ->Args({16, 2, 1024})
    ->Args({16, 8, 256})
    ->Args({32, 2, 1024})
    ->ArgsProduct({{16, 32}, {1}, {1024, 4096, 16384}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_FavorAttention)
    ->ArgsProduct({{16, 32}, {1}, {1024, 4096, 16384, 65536}, {256}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_CrossAttention)
    ->ArgsProduct({{16, 32}, {0, 1}, {32}, {1024}, {1, 4, 8}})
    ->ArgsProduct({{8}, {1}, {32}, {256, 1024}, {1, 4, 8}})
    ->Args({16, 1, 32, 256, 4})
    ->Args({16, 1, 1, 1024, 4})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_SelfAttention)
    ->ArgsProduct({{16, 32}, {0, 1}, {8, 128}, {32}})
    ->ArgsProduct({{8}, {1}, {8, 128}, {32}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_SelectTokens)->ArgsProduct({{16, 32}, {1, 4, 64, 128}})->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace elserve

BENCHMARK_MAIN();
