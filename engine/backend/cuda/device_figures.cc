#include "engine/backend/cuda/device_figures.h"

namespace elserve::cuda {
namespace {

// Of the data sheet's peak. Assumed, and to be measured on a card (`make bench-gpu`): what attention's kernels, on
// mma.sync and without asynchronous products, and what streams of memory reach.
constexpr double kShareOfFlops = 0.35;
constexpr double kShareOfBandwidth = 0.75;

// Operations (a multiplication and an addition are two) a clock and multiprocessor: dense bfloat16 with float32 sums on
// the tensor cores, and plain float32. From the data sheets of A100, RTX 3090, RTX 4090, H100 and B200.
double BFloat16PerClock(const CardClocks& card) {
  if (card.major == 8) return card.minor == 0 ? 2048 : 512;
  return card.major == 9 ? 4096 : 8192;
}
double Float32PerClock(const CardClocks& card) { return card.major == 8 && card.minor == 0 ? 128 : 256; }

}  // namespace

OperationFigures PeakFigures(const CardClocks& card, DataType type) {
  const double per_clock = type == DataType::kBFloat16 ? BFloat16PerClock(card) : Float32PerClock(card);
  const double flops = per_clock * card.processors * card.clock_hertz;
  return {.product_flops = flops,
          .el_attention_flops = flops,
          .kv_attention_flops = flops,
          .el_self_attention_flops = flops,
          .kv_self_attention_flops = flops,
          .bytes_per_second = 2 * card.memory_hertz * card.memory_bits / 8};
}

OperationFigures AssumedFigures(const CardClocks& card, DataType type) {
  OperationFigures figures = PeakFigures(card, type);
  for (double* flops : {&figures.product_flops, &figures.el_attention_flops, &figures.kv_attention_flops,
                        &figures.el_self_attention_flops, &figures.kv_self_attention_flops}) {
    *flops *= kShareOfFlops;
  }
  figures.bytes_per_second *= kShareOfBandwidth;
  return figures;
}

}  // namespace elserve::cuda
