// The decoding parameters that a checkpoint comes with.
#ifndef ELSERVE_SERVER_PARAMETERS_CHECKPOINT_H_
#define ELSERVE_SERVER_PARAMETERS_CHECKPOINT_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/decoding_parameters.pb.h"

namespace elserve {

// Reads generation_config.json of a Hugging Face directory; config.json only where that file is absent, and of it only
// the keys that transformers takes for generation (GenerationMixin.adjust_generation_fn). decoder_start_token_id falls
// back to the file's bos_token_id (_prepare_special_tokens). A null is no value.
//
// The result is validated, but for ranges that depend on the model. Sampling parameters are left out where do_sample is
// off: they have no effect. A value that is not honoured is an error that names file, key and value, unless `overrides`
// (the YAML's parameters, the layer above) sets or resets the same parameter; so is a key that names no parameter,
// unless it cannot change tokens (use_cache, output_scores, ...) or its value is neutral.
absl::StatusOr<v1::DecodingParameters> LoadCheckpointParameters(std::string_view directory,
                                                                const v1::DecodingParameters& overrides);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_CHECKPOINT_H_
