// Products by cublasLt: y = act(x W^T + b) or x W^T + b + residual, for one matrix or for one matrix a head.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_PRODUCT_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_PRODUCT_H_

#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"

namespace elserve::cuda {

// All that an algorithm's choice depends on. Rows are what varies from step to step.
struct ProductShape {
  Phase phase = Phase::kDecode;
  DataType type = DataType::kFloat32;    // of input and weight
  DataType output = DataType::kFloat32;  // and of the bias
  int64_t heads = 1;                     // of PerHeadLinear: head h reads inputs [h in, (h + 1) in) of a row
  int64_t out = 0, in = 0;               // of one head
  bool bias = false;
  bool relu = false;
  bool residual = false;  // float32, as the output is

  auto Key() const { return std::tuple(phase, type, output, heads, out, in, bias, relu, residual); }
};

// One weight's product in one form. Its algorithm is the same for every number of rows, and adds a row's terms in one
// order: so a row's bits do not depend on how many there are.
class Product {
 public:
  struct FreeMatmul {
    void operator()(cublasLtMatmulDesc_t matmul) const { cublasLtMatmulDescDestroy(matmul); }
  };
  struct FreeLayout {
    void operator()(cublasLtMatrixLayout_t layout) const { cublasLtMatrixLayoutDestroy(layout); }
  };

  // weight: [heads, out, RowStride(in)]; bias: [out] of the output's type, or null.
  static absl::StatusOr<std::unique_ptr<Product>> Create(Context& context, const ProductShape& shape,
                                                         const void* weight, const void* bias);

  const ProductShape& shape() const { return shape_; }
  void set_algorithm(const cublasLtMatmulAlgo_t& algorithm) { algorithm_ = algorithm; }

  // Algorithms that cublasLt proposes for `most_rows` rows, best guess first, which split no sum.
  std::vector<cublasLtMatmulAlgo_t> Candidates(Context& context, int64_t most_rows);
  // Whether the algorithm computes so many rows too, within the workspace.
  bool Runs(Context& context, const cublasLtMatmulAlgo_t& algorithm, int64_t rows);

  // input: [rows, RowStride(heads in)]; residual and output: [rows, RowStride(heads out)]; residual may be output.
  cublasStatus_t Run(Context& context, int64_t rows, const void* input, const void* residual, void* output);

 private:
  Product(const ProductShape& shape, const void* weight) : shape_(shape), weight_(weight) {}
  bool Describe(const void* bias);
  std::vector<cublasLtMatmulHeuristicResult_t> Propose(Context& context, uint32_t reductions) const;
  void SetRows(int64_t rows);

  const ProductShape shape_;
  const void* const weight_;
  std::unique_ptr<cublasLtMatmulDescOpaque_t, FreeMatmul> matmul_;
  std::unique_ptr<cublasLtMatrixLayoutOpaque_t, FreeLayout> weight_layout_, input_layout_, output_layout_;
  int64_t rows_ = 1;  // of the layouts
  cublasLtMatmulAlgo_t algorithm_ = {};
};

// Makes products and chooses an algorithm for each shape: once in a process and device, where one will do.
class ProductPlanner {
 public:
  explicit ProductPlanner(Context& context) : context_(context) {}

  // `most_rows`: of the phase; the algorithm is the fastest there of those that run every smaller bucket too. Waits and
  // allocates: at load. FAILED_PRECONDITION where cublasLt has none.
  absl::StatusOr<std::unique_ptr<Product>> Make(const ProductShape& shape, const void* weight, const void* bias,
                                                int64_t most_rows);

 private:
  absl::StatusOr<cublasLtMatmulAlgo_t> Choose(Product& product, int64_t most_rows);
  bool RunsEveryBucket(Product& product, const cublasLtMatmulAlgo_t& algorithm, int64_t most_rows);
  // Seconds of one run at `rows` rows, on memory of its own.
  double Time(Product& product, int64_t rows, std::byte* input, std::byte* output);

  Context& context_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_PRODUCT_H_
