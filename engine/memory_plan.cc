#include "engine/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/host_resources.h"

namespace elserve {
namespace {

constexpr int kTypicalBeams = 4;
constexpr int kTypicalNewTokens = 64;

// A row's lists have so many bytes for each token: its prefix, two tables of ancestry, an edit and what the cpu backend
// keeps of its logit, a hypothesis of its search and two of its answer, and the tokens of two updates.
constexpr int64_t kListBytesPerDecoderToken = 76;
constexpr int64_t kMostListBytes = int64_t{64} << 20;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Shares {
  int64_t pages = 0, blocks = 0, bytes = 0;
};

// Pages of the longest source.
int64_t SourcePages(const MemoryPlanInput& in) {
  return in.cross_attention ? CeilDiv(in.max_source_tokens, kPageTokens) : 0;
}

int NewTokens(const MemoryPlanInput& in) { return std::min(kTypicalNewTokens, in.max_decoder_tokens); }
// Positions before the new ones; the beams share their cells.
int PromptTokens(const MemoryPlanInput& in) { return in.cross_attention ? 0 : in.max_decoder_tokens - NewTokens(in); }
// Of a typical sequence.
int64_t TypicalBlocks(const MemoryPlanInput& in) {
  return CeilDiv(PromptTokens(in) + kTypicalBeams * NewTokens(in), kBlockCells);
}

// One greedy sequence of the greatest length.
int64_t LeastPages(const MemoryPlanInput& in) { return SourcePages(in); }
int64_t LeastBlocks(const MemoryPlanInput& in) { return CeilDiv(in.max_decoder_tokens, kBlockCells); }
bool Suffice(const MemoryPlanInput& in, const Shares& s) {
  return s.pages >= LeastPages(in) && s.blocks >= LeastBlocks(in);
}

// Pages and blocks that the budget gives in one form.
Shares Share(const MemoryPlanInput& in, const MemoryCosts& costs) {
  const int64_t source_pages = SourcePages(in), sequence_blocks = TypicalBlocks(in);
  const int64_t most_pages = in.max_rows * source_pages;
  const int64_t most_blocks = in.max_rows * CeilDiv(in.max_decoder_tokens, kBlockCells);
  Shares s;
  if (!in.cross_attention) {
    s.blocks = in.decoder_memory_tokens > 0 ? CeilDiv(in.decoder_memory_tokens, kBlockCells)
                                            : std::min(most_blocks, in.budget_bytes / costs.per_decoder_block);
    s.bytes = s.blocks * costs.per_decoder_block;
    return s;
  }
  if (in.encoder_memory_tokens > 0) s.pages = CeilDiv(in.encoder_memory_tokens, kPageTokens);
  if (in.decoder_memory_tokens > 0) s.blocks = CeilDiv(in.decoder_memory_tokens, kBlockCells);
  const int64_t page_bytes = source_pages * costs.per_encoder_page,
                block_bytes = sequence_blocks * costs.per_decoder_block;
  const int64_t left = in.budget_bytes - s.pages * costs.per_encoder_page - s.blocks * costs.per_decoder_block;
  if (s.pages == 0 && s.blocks == 0) {
    const double sequences =
        static_cast<double>(std::max<int64_t>(left, 0)) / static_cast<double>(page_bytes + block_bytes);
    s.pages = std::min(most_pages, static_cast<int64_t>(sequences * source_pages));
    // What one side cannot use goes to the other.
    s.blocks = std::min(most_blocks, (left - s.pages * costs.per_encoder_page) / costs.per_decoder_block);
    s.pages = std::min(most_pages, (left - s.blocks * costs.per_decoder_block) / costs.per_encoder_page);
    // A small budget has to do for one long sequence before it is shared by what is typical.
    if (s.blocks < LeastBlocks(in)) {
      s.blocks = LeastBlocks(in);
      s.pages = std::min(most_pages, (left - s.blocks * costs.per_decoder_block) / costs.per_encoder_page);
    } else if (s.pages < LeastPages(in)) {
      s.pages = LeastPages(in);
      s.blocks = std::min(most_blocks, (left - s.pages * costs.per_encoder_page) / costs.per_decoder_block);
    }
  } else if (s.pages == 0) {
    s.pages = std::min(most_pages, left / costs.per_encoder_page);
  } else if (s.blocks == 0) {
    s.blocks = std::min(most_blocks, left / costs.per_decoder_block);
  }
  s.pages = std::max<int64_t>(s.pages, 0);
  s.blocks = std::max<int64_t>(s.blocks, 0);
  s.bytes = s.pages * costs.per_encoder_page + s.blocks * costs.per_decoder_block;
  return s;
}

// Typical documents that fit at once.
double Documents(const MemoryPlanInput& in, const Shares& s) {
  const double by_blocks = static_cast<double>(s.blocks) / static_cast<double>(TypicalBlocks(in));
  const double by_rows = static_cast<double>(in.max_rows) / kTypicalBeams;
  double documents = std::min(by_blocks, by_rows);
  if (in.cross_attention) {
    documents = std::min(documents, static_cast<double>(s.pages) / static_cast<double>(SourcePages(in)));
  }
  return std::max(1.0, documents);
}

// Seconds of one decode step for one document of a batch of `documents`: the decoder's weights are read once for the
// batch, the cross-attention's memory once for each document, and each row's own history (design: EL reads nd a layer
// and multiplies 4bhnd + 4bd^2; shared K/V reads 2nd and multiplies 4bnd).
double StepSeconds(const MemoryPlanInput& in, AttentionForms forms, const MemoryCosts& costs, double documents) {
  const double d = in.d_model, n = in.cross_attention ? in.max_source_tokens : 0, b = kTypicalBeams, h = in.heads,
               inner = double(in.heads) * in.head_dim;
  const OperationFigures& f = in.figures;
  const double weights = in.layers * ((in.cross_attention ? 6 : 4) * d * inner + 2 * d * in.ffn) + d * in.vocab;
  const double products =
      std::max(2 * weights * b / f.product_flops, weights * in.bytes_per_weight / f.bytes_per_second / documents);
  const bool el = forms.cross == AttentionForm::kEl, self_el = forms.self == AttentionForm::kEl;
  // EL's queries and sums go through W_K and W_V of each head. In self-attention keys and values do, as much.
  const double absorbed = el ? 4 * b * d * inner / f.product_flops : 0;
  const double attended = el ? 4 * b * h * n * d / f.el_attention_flops : 4 * b * n * inner / f.kv_attention_flops;
  // Each layer reads all that there is of a document by el, and its own by kv.
  const double token_bytes = static_cast<double>(costs.per_encoder_page) / kPageTokens / (el ? 1 : in.layers);
  const double read = n * token_bytes / f.bytes_per_second;
  // Half of the typical answer, on average, behind the prompt.
  const double t = PromptTokens(in) + NewTokens(in) / 2.0;
  const double self =
      self_el ? 4 * b * h * t * d / f.el_self_attention_flops : 4 * b * t * inner / f.kv_self_attention_flops;
  const double cell_bytes = static_cast<double>(costs.per_decoder_block) / kBlockCells / in.layers;
  const double self_read = b * t * cell_bytes / f.bytes_per_second;
  return products + in.layers * (absorbed + std::max(attended, read) + std::max(self, self_read));
}

// One way to run: its forms, what it gets of the budget, and what that comes to.
struct Choice {
  AttentionForms forms;
  MemoryCosts costs;
  Shares shares;
  double documents = 0;
  double seconds = 0;
};

Choice Evaluate(const MemoryPlanInput& in, AttentionForms forms) {
  Choice c{.forms = forms, .costs = {}, .shares = {}};
  c.costs = {.per_encoder_page = (forms.cross == AttentionForm::kEl ? in.el : in.kv).per_encoder_page,
             .per_decoder_block = (forms.self == AttentionForm::kEl ? in.el : in.kv).per_decoder_block};
  c.shares = Share(in, c.costs);
  c.documents = Documents(in, c.shares);
  c.seconds = StepSeconds(in, forms, c.costs, c.documents);
  return c;
}

// Those that take less memory first: what is equally fast has to be smaller.
std::vector<AttentionForms> Possible(const MemoryPlanInput& in) {
  constexpr AttentionForm kEl = AttentionForm::kEl, kKv = AttentionForm::kKv;
  std::vector<AttentionForms> all = {{kEl, kEl}, {kEl, kKv}, {kKv, kEl}, {kKv, kKv}};
  if (!in.cross_attention) all = {{std::nullopt, kEl}, {std::nullopt, kKv}};
  if (in.int8) all.resize(all.size() / 2);
  return all;
}

}  // namespace

int64_t ListBytes(const MemoryPlanInput& in) {
  return int64_t{in.max_rows} * kListBytesPerDecoderToken * in.max_decoder_tokens;
}

absl::StatusOr<MemoryPlan> PlanMemory(const MemoryPlanInput& in) {
  const int64_t most_list_bytes = std::max(kMostListBytes, in.budget_bytes / 8);
  if (ListBytes(in) > most_list_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_rows ", in.max_rows, " and max_decoder_tokens ",
                                                   in.max_decoder_tokens, " need lists of ", Mebibytes(ListBytes(in)),
                                                   "; allowed beside memory of ", Mebibytes(in.budget_bytes), " is ",
                                                   Mebibytes(most_list_bytes)));
  }
  if (in.cross_attention && in.forms && !in.forms->cross) {
    return absl::InvalidArgumentError("attention: the model has cross-attention, of which no form is given");
  }
  MemoryPlan plan;
  Choice chosen;
  if (in.forms) {
    chosen = Evaluate(in, {in.cross_attention ? in.forms->cross : std::nullopt, in.forms->self});
    plan.reason = "as configured";
  } else {
    std::vector<std::string> estimates;
    for (const AttentionForms& forms : Possible(in)) {
      const Choice choice = Evaluate(in, forms);
      // A form that does not fit is no choice, unless none fits: then the smallest is refused.
      const bool better = !Suffice(in, chosen.shares) || choice.seconds < chosen.seconds;
      if (estimates.empty() || (Suffice(in, choice.shares) && better)) chosen = choice;
      estimates.push_back(
          absl::StrFormat("%.2f ms by %s (%.0f fit)", 1e3 * choice.seconds, ToString(choice.forms), choice.documents));
    }
    plan.reason = absl::StrFormat("a decode step of a %s of %d tokens with %d beams is estimated at %s",
                                  in.cross_attention ? "document" : "prompt",
                                  in.cross_attention ? in.max_source_tokens : PromptTokens(in), kTypicalBeams,
                                  absl::StrJoin(estimates, "; "));
  }
  plan.forms = chosen.forms;
  const Shares& s = chosen.shares;
  if (!Suffice(in, s)) {
    const std::string source_memory =
        in.cross_attention ? absl::StrCat(s.pages * kPageTokens, " source tokens and ") : "";
    const std::string source = in.cross_attention ? absl::StrCat(in.max_source_tokens, " and ") : "";
    return absl::InvalidArgumentError(absl::StrCat(
        "memory: ", Mebibytes(in.budget_bytes), " gives ", source_memory, s.blocks * kBlockCells,
        " decoder positions; one sequence may need ", source, in.max_decoder_tokens, ": at least ",
        Mebibytes(LeastPages(in) * chosen.costs.per_encoder_page + LeastBlocks(in) * chosen.costs.per_decoder_block),
        " with attention ", ToString(chosen.forms)));
  }
  plan.encoder_pages = s.pages;
  plan.decoder_blocks = s.blocks;
  plan.bytes = s.bytes;
  return plan;
}

}  // namespace elserve
