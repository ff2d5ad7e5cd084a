#include "engine/backend/cuda/product.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/cuda/buckets.h"
#include "engine/backend/cuda/kernels.h"

namespace elserve::cuda {
namespace {

constexpr int kMostCandidates = 16;
constexpr int kTimedRuns = 4;

cudaDataType_t CudaType(DataType type) { return type == DataType::kFloat32 ? CUDA_R_32F : CUDA_R_16BF; }

template <typename T>
bool Set(cublasLtMatmulDesc_t matmul, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  return cublasLtMatmulDescSetAttribute(matmul, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
}
template <typename T>
bool Set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
  return cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
}
template <typename T>
bool Set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
}

// cublasLt counts columns first: what is a row to us is a column to it.
cublasLtMatrixLayout_t MakeLayout(DataType type, int64_t cols, int64_t rows, int64_t stride, int64_t heads,
                                  int64_t head_stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  if (cublasLtMatrixLayoutCreate(&layout, CudaType(type), static_cast<uint64_t>(cols), static_cast<uint64_t>(rows),
                                 stride) != CUBLAS_STATUS_SUCCESS) {
    return nullptr;
  }
  if (heads > 1) {
    Set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(heads));
    Set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, head_stride);
  }
  return layout;
}

// What every head's part of a tensor is aligned to: it begins `head_stride` values after the head before.
uint32_t Alignment(DataType type, int64_t heads, int64_t head_stride) {
  constexpr int64_t kWhole = 256;  // as cudaMalloc aligns
  return static_cast<uint32_t>(heads > 1 ? std::gcd(kWhole, head_stride * SizeOf(type)) : kWhole);
}

// What was chosen in this process, for each device: engines of one model answer with the same bits, whatever the clock
// said when they were loaded.
struct Choices {
  std::mutex mutex;
  std::map<std::pair<int, decltype(ProductShape().Key())>, cublasLtMatmulAlgo_t> algorithms;
};
Choices& AllChoices() {
  static auto* const choices = new Choices;
  return *choices;
}

// One sum, from its first term to its last: no parts that are added at the end.
bool SplitsNothing(const cublasLtMatmulAlgo_t& algorithm) {
  int32_t splits = 1;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t written = 0;
  return cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof(splits),
                                              &written) == CUBLAS_STATUS_SUCCESS &&
         cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction,
                                              sizeof(reduction), &written) == CUBLAS_STATUS_SUCCESS &&
         splits <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Product>> Product::Create(Context& context, const ProductShape& shape,
                                                         const void* weight, const void* bias) {
  std::unique_ptr<Product> product(new Product(shape, weight));
  if (!product->Describe(bias)) {
    context.Fail(absl::InternalError("cublasLt cannot describe a product"));
    return context.status();
  }
  return product;
}

bool Product::Describe(const void* bias) {
  cublasLtMatmulDesc_t matmul = nullptr;
  // Float32 means float32: no TF32.
  if (cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS) return false;
  matmul_.reset(matmul);
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  if (shape_.relu) epilogue = shape_.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  if (!shape_.relu && shape_.bias) epilogue = CUBLASLT_EPILOGUE_BIAS;
  if (!Set(matmul, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T) || !Set(matmul, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue)) {
    return false;
  }
  if (shape_.bias && (!Set(matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias) ||
                      !Set(matmul, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CudaType(shape_.output)))) {
    return false;
  }
  const int64_t stride = RowStride(shape_.in, shape_.type);
  weight_layout_.reset(MakeLayout(shape_.type, shape_.in, shape_.out, stride, shape_.heads, shape_.out * stride));
  input_layout_.reset(MakeLayout(shape_.type, shape_.in, rows_, RowStride(shape_.heads * shape_.in, shape_.type),
                                 shape_.heads, shape_.in));
  output_layout_.reset(MakeLayout(shape_.output, shape_.out, rows_, RowStride(shape_.heads * shape_.out, shape_.output),
                                  shape_.heads, shape_.out));
  return weight_layout_ && input_layout_ && output_layout_;
}

void Product::SetRows(int64_t rows) {
  if (rows == rows_) return;
  Set(input_layout_.get(), CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<uint64_t>(rows));
  Set(output_layout_.get(), CUBLASLT_MATRIX_LAYOUT_COLS, static_cast<uint64_t>(rows));
  rows_ = rows;
}

std::vector<cublasLtMatmulAlgo_t> Product::Candidates(Context& context, int64_t most_rows) {
  SetRows(most_rows);
  std::vector<cublasLtMatmulAlgo_t> candidates;
  // Asked for no reductions; where that gives nothing, asked for anything, of which some may have none.
  for (const uint32_t reductions :
       {uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE}, uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK}}) {
    for (const cublasLtMatmulHeuristicResult_t& proposal : Propose(context, reductions)) {
      if (proposal.state == CUBLAS_STATUS_SUCCESS && SplitsNothing(proposal.algo)) candidates.push_back(proposal.algo);
    }
    if (!candidates.empty()) break;
  }
  return candidates;
}

std::vector<cublasLtMatmulHeuristicResult_t> Product::Propose(Context& context, uint32_t reductions) const {
  cublasLtMatmulPreference_t preference = nullptr;
  if (!context.Check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate")) return {};
  Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(Context::kProductWorkspace));
  Set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  const uint32_t in = Alignment(shape_.type, shape_.heads, shape_.in);
  const uint32_t out = Alignment(shape_.output, shape_.heads, shape_.out);
  const int64_t weight_stride = shape_.out * RowStride(shape_.in, shape_.type);
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Alignment(shape_.type, shape_.heads, weight_stride));
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, in);
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out);
  Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out);
  std::vector<cublasLtMatmulHeuristicResult_t> results(kMostCandidates);
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      context.products(), matmul_.get(), weight_layout_.get(), input_layout_.get(), output_layout_.get(),
      output_layout_.get(), preference, kMostCandidates, results.data(), &count);
  cublasLtMatmulPreferenceDestroy(preference);
  // An error is no proposal: the planner tells that there is none.
  results.resize(status == CUBLAS_STATUS_SUCCESS ? count : 0);
  return results;
}

bool Product::Runs(Context& context, const cublasLtMatmulAlgo_t& algorithm, int64_t rows) {
  SetRows(rows);
  cublasLtMatmulHeuristicResult_t result = {};
  return cublasLtMatmulAlgoCheck(context.products(), matmul_.get(), weight_layout_.get(), input_layout_.get(),
                                 output_layout_.get(), output_layout_.get(), &algorithm,
                                 &result) == CUBLAS_STATUS_SUCCESS &&
         static_cast<int64_t>(result.workspaceSize) <= Context::kProductWorkspace;
}

cublasStatus_t Product::Run(Context& context, int64_t rows, const void* input, const void* residual, void* output) {
  SetRows(rows);
  const float alpha = 1, beta = residual != nullptr ? 1 : 0;
  return cublasLtMatmul(context.products(), matmul_.get(), &alpha, weight_, weight_layout_.get(), input,
                        input_layout_.get(), &beta, residual != nullptr ? residual : output, output_layout_.get(),
                        output, output_layout_.get(), &algorithm_, context.product_workspace(shape_.phase),
                        Context::kProductWorkspace, context.stream(shape_.phase));
}

absl::StatusOr<std::unique_ptr<Product>> ProductPlanner::Make(const ProductShape& shape, const void* weight,
                                                              const void* bias, int64_t most_rows) {
  absl::StatusOr<std::unique_ptr<Product>> product = Product::Create(context_, shape, weight, bias);
  if (!product.ok()) return product;
  Choices& choices = AllChoices();
  const std::lock_guard lock(choices.mutex);
  const auto key = std::pair(context_.number(), shape.Key());
  const auto known = choices.algorithms.find(key);
  if (known != choices.algorithms.end() && RunsEveryBucket(**product, known->second, most_rows)) {
    (*product)->set_algorithm(known->second);
    return product;
  }
  const absl::StatusOr<cublasLtMatmulAlgo_t> algorithm = Choose(**product, most_rows);
  if (!algorithm.ok()) return algorithm.status();
  choices.algorithms[key] = *algorithm;
  (*product)->set_algorithm(*algorithm);
  return product;
}

bool ProductPlanner::RunsEveryBucket(Product& product, const cublasLtMatmulAlgo_t& algorithm, int64_t most_rows) {
  const std::vector<int> buckets = Buckets(static_cast<int>(most_rows));
  return std::all_of(buckets.begin(), buckets.end(), [&](int rows) { return product.Runs(context_, algorithm, rows); });
}

absl::StatusOr<cublasLtMatmulAlgo_t> ProductPlanner::Choose(Product& product, int64_t most_rows) {
  const ProductShape& shape = product.shape();
  std::vector<cublasLtMatmulAlgo_t> candidates = product.Candidates(context_, most_rows);
  std::erase_if(candidates,
                [&](const cublasLtMatmulAlgo_t& algorithm) { return !RunsEveryBucket(product, algorithm, most_rows); });
  if (!context_.ok()) return context_.status();
  if (candidates.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("cublasLt has no algorithm for products of ", shape.heads, " x [",
                                                      shape.out, ", ", shape.in, "] and 1 to ", most_rows, " rows on ",
                                                      context_.name()));
  }
  if (candidates.size() == 1) return candidates[0];
  absl::StatusOr<DeviceBlock> input =
      context_.AllocateZeroed(most_rows * RowStride(shape.heads * shape.in, shape.type) * SizeOf(shape.type));
  if (!input.ok()) return input.status();
  absl::StatusOr<DeviceBlock> output =
      context_.AllocateZeroed(most_rows * RowStride(shape.heads * shape.out, shape.output) * SizeOf(shape.output));
  if (!output.ok()) return output.status();
  double best = std::numeric_limits<double>::infinity();
  cublasLtMatmulAlgo_t chosen = candidates[0];
  for (const cublasLtMatmulAlgo_t& algorithm : candidates) {
    product.set_algorithm(algorithm);
    const double seconds = Time(product, most_rows, input->data(), output->data());
    if (seconds >= best) continue;
    best = seconds;
    chosen = algorithm;
  }
  if (!context_.ok()) return context_.status();
  return chosen;
}

double ProductPlanner::Time(Product& product, int64_t rows, std::byte* input, std::byte* output) {
  const cudaStream_t stream = context_.stream(product.shape().phase);
  cudaEvent_t begin = nullptr, end = nullptr;
  context_.Check(cudaEventCreate(&begin), "cudaEventCreate");
  context_.Check(cudaEventCreate(&end), "cudaEventCreate");
  const void* residual = product.shape().residual ? output : nullptr;
  bool ran = true;
  // The first run loads the kernel.
  for (int run = 0; run <= kTimedRuns && ran && context_.ok(); ++run) {
    if (run == 1) context_.Check(cudaEventRecord(begin, stream), "cudaEventRecord");
    ran = product.Run(context_, rows, input, residual, output) == CUBLAS_STATUS_SUCCESS;
  }
  context_.Check(cudaEventRecord(end, stream), "cudaEventRecord");
  context_.Check(cudaStreamSynchronize(stream), "trying a product");
  float milliseconds = 0;
  if (context_.ok()) context_.Check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  if (begin != nullptr) cudaEventDestroy(begin);
  if (end != nullptr) cudaEventDestroy(end);
  return ran ? milliseconds / kTimedRuns / 1e3 : std::numeric_limits<double>::infinity();
}

}  // namespace elserve::cuda
