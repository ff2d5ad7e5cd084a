// Decoding parameters: one message, elserve.v1.DecodingParameters, filled by the checkpoint, YAML, the command line and
// requests, merged layer upon layer, and resolved to the numbers that the engine takes.
//
// Layers, each over the one before: BuiltInParameters() < LoadCheckpointParameters() (checkpoint.h) < YAML < request.
// A parameter is declared in three places: its proto field, its row in rules.cc, its rule in engine/search/.
#ifndef ELSERVE_SERVER_PARAMETERS_PARAMETERS_H_
#define ELSERVE_SERVER_PARAMETERS_PARAMETERS_H_

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/decoding.h"
#include "proto/elserve/v1/decoding_parameters.pb.h"

namespace elserve {

// What a model allows.
struct ModelLimits {
  int vocab_size = 0;
  int max_decoder_tokens = 0;  // the largest max_length; the start token is counted
};

// The lowest layer: transformers' GenerationConfig._get_default_generation_params(). The four lengths and the ids are
// not set: ResolveParameters() and the checkpoint give them.
v1::DecodingParameters BuiltInParameters();

// Sets the parameter `name` to a value as JSON and YAML write it: numbers, true, false, texts, lists; one number where
// a list of ids is meant; early_stopping is false, true or "never". What was set before is replaced. The type is
// checked, the range is ValidateParameters()'s. INVALID_ARGUMENT names parameter, value and what is allowed; an unknown
// name too.
absl::Status SetParameter(std::string_view name, const nlohmann::json& value, v1::DecodingParameters* parameters);

// Sets a parameter from "name=value", the value as in JSON ("num_beams=4", "eos_token_id=[2,3]",
// "early_stopping=never").
absl::Status SetParameterFromText(std::string_view assignment, v1::DecodingParameters* parameters);

// Checks every field that is set; INVALID_ARGUMENT names the first bad one, its value and what is allowed. Refuses
// parameters that this version does not honour unless their value is neutral, and fields that it does not know.
// `limits` adds the model's bounds and may be null. A layer is checked alone: how fields go together is checked by
// ResolveParameters().
absl::Status ValidateParameters(const v1::DecodingParameters& parameters, const ModelLimits* limits);

// Lays `upper` over `merged`. Fields that are set replace, lists as a whole; max_length clears max_new_tokens below and
// the reverse, likewise min_length and min_new_tokens.
void MergeParameters(const v1::DecodingParameters& upper, v1::DecodingParameters* merged);

struct ResolvedParameters {
  DecodingSpec spec;
  // What was used, for the answer: every parameter that this version honours is set (an id that is off is -1). Sent
  // with a request, it decodes in the same way.
  v1::DecodingParameters effective;
};

// All layers merged -> what the engine does. Validates everything, and how fields go together:
// - max_new_tokens wins over max_length; neither: 20 new tokens, cut to the model's maximum; a length beyond the
// model's
//   maximum is refused (GenerationMixin._prepare_generated_length, _validate_generated_length).
// - min_new_tokens wins over min_length; either may exceed max_length: EOS never comes then.
// - num_return_sequences is at most num_beams; decoder_start_token_id has to be known.
absl::StatusOr<ResolvedParameters> ResolveParameters(const v1::DecodingParameters& merged, const ModelLimits& limits);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_PARAMETERS_H_
