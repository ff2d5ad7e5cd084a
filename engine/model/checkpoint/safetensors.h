// One safetensors file: 8 bytes of header length (little endian), a JSON header {name: {dtype, shape, data_offsets}},
// then the tensors' bytes. https://huggingface.co/docs/safetensors: the data section holds the tensors without gaps or
// overlaps.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_SAFETENSORS_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_SAFETENSORS_H_

#include "absl/status/status.h"
#include "engine/model/checkpoint/weights_file.h"

namespace elserve {

// Adds the tensors of a file that has just been mapped. Checks its header whole: at most 100 MB of it, every tensor's
// type, shape and place.
absl::Status ReadSafetensors(WeightsFile* file);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_SAFETENSORS_H_
