#include "engine/backend/cpu/choose_isa.h"

#include <iterator>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace elserve::cpu {
namespace {

struct Level {
  const char* forced;  // what ELSERVE_ISA calls it
  const char* name;
};
// By Isa.
constexpr Level kLevels[] = {
    {.forced = "avx2", .name = "AVX2"},
    {.forced = "avx512", .name = "AVX512"},
    {.forced = "avx512_bf16", .name = "AVX512-BF16"},
    {.forced = "amx", .name = "AMX"},
};
static_assert(std::size(kLevels) == static_cast<size_t>(Isa::kAmx) + 1);

}  // namespace

const char* IsaName(Isa isa) { return kLevels[static_cast<int>(isa)].name; }

absl::StatusOr<Isa> ChooseIsa(const char* forced) {
  if (!HasAvx2()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the cpu backend needs AVX2 and FMA; this processor is ", ProcessorName()));
  }
  const Isa best = DetectIsa();
  if (!forced || !*forced) return best;
  for (size_t i = 0; i < std::size(kLevels); ++i) {
    if (std::string_view(kLevels[i].forced) != forced) continue;
    const Isa isa = static_cast<Isa>(i);
    if (isa <= best) return isa;
    return absl::FailedPreconditionError(absl::StrCat("ELSERVE_ISA is ", forced, "; this processor has no more than ",
                                                      kLevels[static_cast<int>(best)].forced, ": it is ",
                                                      ProcessorName()));
  }
  std::string allowed;
  for (const Level& level : kLevels) absl::StrAppend(&allowed, allowed.empty() ? "" : ", ", level.forced);
  return absl::InvalidArgumentError(absl::StrCat("ELSERVE_ISA is \"", forced, "\"; allowed is one of ", allowed));
}

}  // namespace elserve::cpu
