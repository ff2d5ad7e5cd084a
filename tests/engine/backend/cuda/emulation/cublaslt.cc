// cublasLt's products: D = epilogue(alpha A^T B + beta C), for each matrix of a batch.
//
// It proposes algorithms that add in different orders, so that whoever changes the algorithm with the number of rows
// changes bits; one that refuses few rows; and one that splits sums by the number of rows.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <cstring>
#include <vector>

#include "tests/engine/backend/cuda/emulation/device.h"

struct EmulatedProducts {};

namespace {

enum Kind : uint64_t { kEightSums, kFourSums, kManyRowsOnly, kSplitSums, kKinds };
constexpr uint64_t kManyRows = 8;

template <typename T>
cublasStatus_t Take(const void* value, size_t bytes, T* to) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

float At(const void* data, cudaDataType_t type, int64_t index) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[index];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
}

struct Matrix {
  const void* data;
  cublasLtMatrixLayoutOpaque_t layout;

  // Column `col` of one of the batch.
  int64_t Column(int64_t batch, int64_t col) const { return batch * layout.batch_stride + col * layout.stride; }
  // All its columns, of `padded` values each, as floats; behind the last row are zeros.
  std::vector<float> Floats(int64_t batch, int64_t padded) const {
    std::vector<float> values(layout.cols * padded);
    for (int64_t col = 0; col < static_cast<int64_t>(layout.cols); ++col) {
      const int64_t from = Column(batch, col);
      for (int64_t row = 0; row < static_cast<int64_t>(layout.rows); ++row) {
        values[col * padded + row] = At(data, layout.type, from + row);
      }
    }
    return values;
  }
};

constexpr int64_t kSums = 8;  // side by side

template <int64_t kApart>
float Dot(const float* a, const float* b, int64_t n) {
  float sums[kApart] = {};
  for (int64_t k = 0; k < n; k += kApart) {
    for (int64_t i = 0; i < kApart; ++i) sums[i] += a[k + i] * b[k + i];
  }
  float sum = 0;
  for (const float each : sums) sum += each;
  return sum;
}

struct Job {
  cublasLtMatmulDescOpaque_t matmul;
  uint64_t kind;
  float alpha, beta;
  Matrix a, b, c, d;
  void* output;

  float Sum(const float* x, const float* y, int64_t padded) const {
    if (kind == kFourSums) return Dot<4>(x, y, padded);
    if (kind != kSplitSums) return Dot<kSums>(x, y, padded);
    const int64_t cut = static_cast<int64_t>(d.layout.cols) % (padded / kSums + 1) * kSums;
    return Dot<kSums>(x, y, cut) + Dot<kSums>(x + cut, y + cut, padded - cut);
  }
  void RunOne(int64_t batch) const {
    const int64_t padded = (static_cast<int64_t>(a.layout.rows) + kSums - 1) / kSums * kSums;
    const std::vector<float> left = a.Floats(batch, padded), right = b.Floats(batch, padded);
    const bool bias = (matmul.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
    const bool relu = (matmul.epilogue & CUBLASLT_EPILOGUE_RELU) != 0;
    for (int64_t col = 0; col < static_cast<int64_t>(d.layout.cols); ++col) {
      for (int64_t row = 0; row < static_cast<int64_t>(d.layout.rows); ++row) {
        float value = alpha * Sum(&left[row * padded], &right[col * padded], padded);
        if (beta != 0) value += beta * At(c.data, c.layout.type, c.Column(batch, col) + row);
        if (bias) value += At(matmul.bias, matmul.bias_type, row);
        if (relu && value < 0) value = 0;
        const int64_t to = d.Column(batch, col) + row;
        if (d.layout.type == CUDA_R_32F) {
          static_cast<float*>(output)[to] = value;
        } else {
          static_cast<__nv_bfloat16*>(output)[to] = __float2bfloat16_rn(value);
        }
      }
    }
  }
};

bool Fits(const cublasLtMatmulDescOpaque_t& matmul, const cublasLtMatrixLayoutOpaque_t& a,
          const cublasLtMatrixLayoutOpaque_t& b, const cublasLtMatrixLayoutOpaque_t& c,
          const cublasLtMatrixLayoutOpaque_t& d) {
  const auto whole = [](const cublasLtMatrixLayoutOpaque_t& x) { return x.stride >= static_cast<int64_t>(x.rows); };
  return matmul.transpose_a == CUBLAS_OP_T && a.rows == b.rows && a.cols == d.rows && b.cols == d.cols &&
         c.rows == d.rows && c.cols == d.cols && c.type == d.type && a.type == b.type && a.batches == d.batches &&
         b.batches == d.batches && c.batches == d.batches && whole(a) && whole(b) && whole(c) && whole(d);
}

bool Aligned(const void* data, const cublasLtMatrixLayoutOpaque_t& layout, uint32_t alignment) {
  const int64_t size = layout.type == CUDA_R_32F ? 4 : 2;
  return reinterpret_cast<uintptr_t>(data) % alignment == 0 &&
         (layout.batches == 1 || layout.batch_stride * size % alignment == 0);
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "an error of cublasLt";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new EmulatedProducts;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* matmul, cublasComputeType_t, cudaDataType_t) {
  *matmul = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmul, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Take(value, bytes, &matmul->transpose_a);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Take(value, bytes, &matmul->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Take(value, bytes, &matmul->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return Take(value, bytes, &matmul->bias_type);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmul) {
  delete matmul;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t stride) {
  *layout = new cublasLtMatrixLayoutOpaque_t{.type = type, .rows = rows, .cols = cols, .stride = stride};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return Take(value, bytes, &layout->cols);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return Take(value, bytes, &layout->batches);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return Take(value, bytes, &layout->batch_stride);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return Take(value, bytes, &preference->workspace_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return Take(value, bytes, &preference->reductions);
    default:
      return Take(value, bytes, &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]);
  }
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t matmul, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  *count = 0;
  if (!Fits(*matmul, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  for (uint64_t kind = kKinds; kind > 0 && *count < most; --kind) {
    cublasLtMatmulHeuristicResult_t& result = results[*count];
    result = {.algo = {.kind = kind - 1, .alignment = {}}, .workspaceSize = 0, .state = CUBLAS_STATUS_SUCCESS};
    std::memcpy(result.algo.alignment, preference->alignment, sizeof(preference->alignment));
    // What splits is proposed even to those who did not want it: they have to look.
    if (result.algo.kind == kManyRowsOnly && d->cols < kManyRows) continue;
    ++*count;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void* value,
                                                    size_t bytes, size_t* written) {
  if (bytes != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool splits = algorithm->kind == kSplitSums;
  const uint32_t number = attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? (splits ? 2 : 1)
                          : splits                                     ? CUBLASLT_REDUCTION_SCHEME_INPLACE
                                                                       : CUBLASLT_REDUCTION_SCHEME_NONE;
  std::memcpy(value, &number, sizeof(number));
  *written = sizeof(number);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t matmul, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
  if (!Fits(*matmul, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (algorithm->kind == kManyRowsOnly && d->cols < kManyRows) return CUBLAS_STATUS_NOT_SUPPORTED;
  *result = {.algo = *algorithm, .workspaceSize = 0, .state = CUBLAS_STATUS_SUCCESS};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t matmul, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void*, size_t,
                              cudaStream_t stream) {
  cublasLtMatmulHeuristicResult_t checked;
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(nullptr, matmul, a_layout, b_layout, c_layout, d_layout, algorithm, &checked);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (!Aligned(a, *a_layout, algorithm->alignment[0]) || !Aligned(b, *b_layout, algorithm->alignment[1]) ||
      !Aligned(c, *c_layout, algorithm->alignment[2]) || !Aligned(d, *d_layout, algorithm->alignment[3])) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Job job = {.matmul = *matmul,
                   .kind = algorithm->kind,
                   .alpha = *static_cast<const float*>(alpha),
                   .beta = *static_cast<const float*>(beta),
                   .a = {a, *a_layout},
                   .b = {b, *b_layout},
                   .c = {c, *c_layout},
                   .d = {d, *d_layout},
                   .output = d};
  const cudaError_t error = elserve::cuda_emulation::Enqueue(stream, [job] {
    for (int32_t batch = 0; batch < job.d.layout.batches; ++batch) job.RunOne(batch);
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
