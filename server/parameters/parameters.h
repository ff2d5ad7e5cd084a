// Decoding parameters: one message, elserve.v1.DecodingParameters, filled by the checkpoint, YAML, the command line and
// requests, merged layer upon layer, and resolved to the numbers that the engine takes.
//
// decoding_parameters.proto says which layers there are, and how one lies over the other. A parameter is declared in
// three places: its proto field, its row in rules.cc, its rule in engine/search/.
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
  bool decoder_only = false;   // a prompt stands in place of the start token, which is then no parameter
};

// The lowest layer: transformers' GenerationConfig._get_default_generation_params(). The four lengths and the ids are
// not set: ResolveParameters() and the checkpoint give them.
v1::DecodingParameters BuiltInParameters();

// Sets the parameter `name` to a value as JSON and YAML write it: numbers, true, false, texts, lists; one number where
// a list of ids is meant; early_stopping is false, true or "never". null, and a list without entries, drop what the
// layers below say (DecodingParameters.reset). What was set before is replaced. The type is checked, the range is
// ValidateParameters()'s. Another key of transformers' GenerationConfig is accepted where its value changes nothing.
// INVALID_ARGUMENT names parameter, value and what is allowed; an unknown name too.
absl::Status SetParameter(std::string_view name, const nlohmann::json& value, v1::DecodingParameters* parameters);

// Sets a parameter from "name=value", the value as in YAML: "num_beams=4", "eos_token_id=[2, 3]",
// "early_stopping=never", "max_length=null".
absl::Status SetParameterFromText(std::string_view assignment, v1::DecodingParameters* parameters);

// Checks every field that is set; INVALID_ARGUMENT names the first bad one, its value and what is allowed. Refuses
// names in `reset` that are none. `limits` adds the model's bounds and may be null. A layer is checked alone: how
// fields go together is checked by ResolveParameters().
absl::Status ValidateParameters(const v1::DecodingParameters& parameters, const ModelLimits* limits);

// Lays `upper` over `merged`. What it resets goes back to the built-in value; then fields that are set replace, lists
// as a whole; max_length clears max_new_tokens below and the reverse, likewise min_length and min_new_tokens; bad_words
// or bad_words_ids clears both below.
void MergeParameters(const v1::DecodingParameters& upper, v1::DecodingParameters* merged);

// Whether what the layer sets of sampling may act: `merged` is that layer over those below it. INVALID_ARGUMENT names
// the first parameter that does not, its value and what is allowed. Of a checkpoint it may stand there without
// do_sample.
absl::Status CheckSampling(const v1::DecodingParameters& layer, const v1::DecodingParameters& merged);

// How parameters go together, of all layers merged and each checked alone; what depends on lengths is
// ResolveParameters()'s.
absl::Status CheckTogether(const v1::DecodingParameters& merged, const ModelLimits& limits);

// The layers between the built-in values and a request, each over the one before.
struct DefaultLayers {
  v1::DecodingParameters checkpoint;              // LoadCheckpointParameters()
  v1::DecodingParameters checkpoint_task;         // LoadCheckpointTask()
  v1::DecodingParameters configuration_language;  // YAML: what models[].target_language sets
  v1::DecodingParameters configuration;           // YAML: models[].defaults
  v1::DecodingParameters configuration_task;      // YAML: models[].tasks.TASK.defaults
};

// What a request that sets nothing gets, over BuiltInParameters(); lengths are not yet resolved.
v1::DecodingParameters MergeDefaults(const DefaultLayers& layers);

struct ResolvedParameters {
  DecodingSpec spec;
  // What was used, for the answer: every parameter that this version honours is set (an id that is off is -1), those of
  // sampling only where do_sample is true. Sent with a request, it decodes in the same way.
  v1::DecodingParameters effective;
};

// All layers merged -> what the engine does. Validates everything, and how fields go together:
// - max_new_tokens wins over max_length; neither: 20 new tokens, cut to the model's maximum; a length beyond the
// model's
//   maximum is refused (GenerationMixin._prepare_generated_length, _validate_generated_length).
// - min_new_tokens wins over min_length; either may exceed max_length: EOS never comes then.
// - the rules across parameters of rules.cc.
// `answer_prefix`: decoder_input_ids of the request, checked; the start token is put before them unless they begin with
// it (GenerationMixin._prepare_decoder_input_ids_for_generation). max_length counts them, max_new_tokens does not. Of a
// decoder-only model it is the prompt, before which nothing is put.
absl::StatusOr<ResolvedParameters> ResolveParameters(const v1::DecodingParameters& merged, const ModelLimits& limits,
                                                     std::span<const int32_t> answer_prefix = {});

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_PARAMETERS_H_
