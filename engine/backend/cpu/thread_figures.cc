#include "engine/backend/cpu/thread_figures.h"

namespace elserve::cpu {
namespace {

struct Row {
  Isa isa;
  DataType type;
  ThreadFigures figures;
};

// GFLOP/s, and GB/s. AVX2 is of Zen 3, AVX512 and AVX512-BF16 of Zen 4, AMX of Sapphire Rapids. bfloat16 by AVX512
// alone is float32's by the ratio that AVX2 has. Self-attention (of four beams), and bfloat16 by AVX2, were measured on
// another Zen 3, and scaled by what products reach there; self-attention above AVX2 is in proportion to el
// cross-attention and memory. int8's are in proportion to el's of the level's bfloat16 on Zen 5, and AMX's those of the
// level below, whose kernels it has.
constexpr double kG = 1e9;
constexpr Row kRows[] = {
    {.isa = Isa::kAvx2,
     .type = DataType::kFloat32,
     .figures = {.operations = {.product_flops = 78 * kG,
                                .el_attention_flops = 65 * kG,
                                .kv_attention_flops = 67 * kG,
                                .el_self_attention_flops = 36 * kG,
                                .kv_self_attention_flops = 15 * kG,
                                .bytes_per_second = 10 * kG},
                 .rows = 16,
                 .encode_tokens = 128}},
    {.isa = Isa::kAvx2,
     .type = DataType::kBFloat16,
     .figures = {.operations = {.product_flops = 75 * kG,
                                .el_attention_flops = 65 * kG,
                                .kv_attention_flops = 66 * kG,
                                .el_self_attention_flops = 34 * kG,
                                .kv_self_attention_flops = 17 * kG,
                                .int8_el_attention_flops = 165 * kG,
                                .int8_el_self_attention_flops = 54 * kG,
                                .bytes_per_second = 10 * kG},
                 .rows = 16,
                 .encode_tokens = 128}},
    {.isa = Isa::kAvx512,
     .type = DataType::kFloat32,
     .figures = {.operations = {.product_flops = 100 * kG,
                                .el_attention_flops = 80 * kG,
                                .kv_attention_flops = 78 * kG,
                                .el_self_attention_flops = 44 * kG,
                                .kv_self_attention_flops = 20 * kG,
                                .bytes_per_second = 25 * kG},
                 .rows = 16,
                 .encode_tokens = 128}},
    {.isa = Isa::kAvx512,
     .type = DataType::kBFloat16,
     .figures = {.operations = {.product_flops = 96 * kG,
                                .el_attention_flops = 80 * kG,
                                .kv_attention_flops = 77 * kG,
                                .el_self_attention_flops = 42 * kG,
                                .kv_self_attention_flops = 23 * kG,
                                .int8_el_attention_flops = 230 * kG,
                                .int8_el_self_attention_flops = 89 * kG,
                                .bytes_per_second = 25 * kG},
                 .rows = 16,
                 .encode_tokens = 128}},
    {.isa = Isa::kAvx512Bf16,
     .type = DataType::kBFloat16,
     .figures = {.operations = {.product_flops = 195 * kG,
                                .el_attention_flops = 170 * kG,
                                .kv_attention_flops = 112 * kG,
                                .el_self_attention_flops = 90 * kG,
                                .kv_self_attention_flops = 38 * kG,
                                .int8_el_attention_flops = 250 * kG,
                                .int8_el_self_attention_flops = 90 * kG,
                                .bytes_per_second = 25 * kG},
                 .rows = 16,
                 .encode_tokens = 128}},
    // EL's is of a prototype of these tiles, 48 queries over 1024 tokens of 768 columns; small documents reach less.
    {.isa = Isa::kAmx,
     .type = DataType::kBFloat16,
     .figures = {.operations = {.product_flops = 950 * kG,
                                .el_attention_flops = 1000 * kG,
                                .kv_attention_flops = 325 * kG,
                                .el_self_attention_flops = 110 * kG,
                                .kv_self_attention_flops = 38 * kG,
                                .int8_el_attention_flops = 250 * kG,
                                .int8_el_self_attention_flops = 90 * kG,
                                .bytes_per_second = 14 * kG},
                 .rows = 64,
                 .encode_tokens = 256}},
};

}  // namespace

const ThreadFigures& FiguresOf(Isa isa, DataType state_type) {
  const Row* row = kRows;
  while (row->isa != isa || row->type != state_type) ++row;
  return row->figures;
}

}  // namespace elserve::cpu
