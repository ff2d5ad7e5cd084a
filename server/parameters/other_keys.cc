#include "server/parameters/other_keys.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/parameters/shown.h"

namespace elserve {
namespace {

using nlohmann::json;

// `neutral` is the value, as JSON, that changes no token; null does not either.
struct OtherKey {
  std::string_view name;
  std::string_view neutral;
  bool any_in_checkpoint = false;
};
constexpr std::string_view kAnyValue = "*";  // the key cannot change tokens

constexpr OtherKey kOtherKeys[] = {
    // What generate() returns, how it caches, compiles and drafts: the tokens are the same.
    {"_commit_hash", kAnyValue},
    {"_from_model_config", kAnyValue},
    {"assistant_confidence_threshold", kAnyValue},
    {"assistant_lookbehind", kAnyValue},
    {"bos_token_id", kAnyValue},  // a checkpoint's stands in for decoder_start_token_id
    {"cache_config", kAnyValue},
    {"compile_config", kAnyValue},
    {"continuous_batching_config", kAnyValue},
    {"disable_compile", kAnyValue},
    {"is_assistant", kAnyValue},
    {"low_memory", kAnyValue},
    {"max_cache_len", kAnyValue},
    {"max_matching_ngram_size", kAnyValue},
    {"num_assistant_tokens", kAnyValue},
    {"num_assistant_tokens_schedule", kAnyValue},
    {"output_attentions", kAnyValue},
    {"output_hidden_states", kAnyValue},
    {"output_logits", kAnyValue},
    {"output_scores", kAnyValue},
    {"prefill_chunk_size", kAnyValue},
    {"return_dict_in_generate", kAnyValue},
    {"return_legacy_cache", kAnyValue},
    {"target_lookbehind", kAnyValue},
    {"transformers_version", kAnyValue},
    // Many checkpoints were saved with the setting of their training.
    {"use_cache", "true", /*any_in_checkpoint=*/true},
    // These do change tokens.
    {"assistant_early_exit", "null"},
    {"assistant_ensemble_weight", "null"},
    {"cache_implementation", "\"dynamic\""},
    {"constraints", "null"},
    {"dola_layers", "null"},
    {"force_words_ids", "null"},
    {"forced_decoder_ids", "null"},
    {"generation_kwargs", "{}"},
    {"guidance_scale", "1.0"},
    {"penalty_alpha", "0.0"},
    {"prompt_lookup_num_tokens", "null"},
    {"speculation_type", "null"},
    {"token_healing", "false"},
    {"use_mtp", "false"},
    {"watermarking_config", "null"},
};

}  // namespace

absl::Status CheckOtherKey(std::string_view name, const json& value, bool checkpoint) {
  const auto* key = std::find_if(std::begin(kOtherKeys), std::end(kOtherKeys),
                                 [name](const OtherKey& known) { return known.name == name; });
  if (key == std::end(kOtherKeys)) {
    return absl::NotFoundError(
        absl::StrCat(std::string(name), " is ", Shown(value), "; no decoding parameter of this name is known"));
  }
  if (value.is_null() || key->neutral == kAnyValue || (checkpoint && key->any_in_checkpoint)) return absl::OkStatus();
  if (value == json::parse(key->neutral)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(name), " is ", Shown(value), "; allowed is ",
                                                 std::string(key->neutral),
                                                 " (this version does not honour the parameter)"));
}

}  // namespace elserve
