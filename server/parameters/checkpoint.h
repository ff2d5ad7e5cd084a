// The decoding parameters that a checkpoint comes with.
#ifndef ELSERVE_SERVER_PARAMETERS_CHECKPOINT_H_
#define ELSERVE_SERVER_PARAMETERS_CHECKPOINT_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/decoding_parameters.pb.h"

namespace elserve {

// Reads generation_config.json of a Hugging Face directory; config.json only where that file is absent, and of it only
// the keys that transformers takes for generation (GenerationMixin.adjust_generation_fn). decoder_start_token_id falls
// back to the file's bos_token_id (_prepare_special_tokens). A null is no value.
//
// The result is validated, but for ranges that depend on the model. Sampling parameters are kept where
// do_sample is off, for a layer above may set it; those out of their range are left out there, as they do not act. A
// value that is not honoured is an error that names file, key and value, unless `overrides` (the YAML's parameters, the
// layer above) sets or resets the same parameter; so is a key that names no parameter, unless it cannot change tokens
// (use_cache, output_scores, ...) or its value is neutral.
absl::StatusOr<v1::DecodingParameters> LoadCheckpointParameters(std::string_view directory,
                                                                const v1::DecodingParameters& overrides);

// What a checkpoint sets for one task.
struct CheckpointTask {
  std::string prefix;                 // of the prompt; empty: none
  v1::DecodingParameters parameters;  // a layer over LoadCheckpointParameters()
};

// Reads task_specific_params[task] of config.json, as transformers' pipelines used it up to 4.49
// (Pipeline.__init__): "summarization" is what T5 and BART have. The prefix is the task's, else config.json's own. Keys
// and values are held to the rules of generation_config.json, and `overrides` are the YAML's for the task and for all
// of them; but a null resets the parameter.
absl::StatusOr<CheckpointTask> LoadCheckpointTask(std::string_view directory, std::string_view task,
                                                  const v1::DecodingParameters& overrides);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_CHECKPOINT_H_
