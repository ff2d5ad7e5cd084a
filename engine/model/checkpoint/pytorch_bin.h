// pytorch_model.bin, a state dict as torch.save writes it (torch/serialization.py), in either of its formats:
// - since torch 1.6 a zip file, NAME/data.pkl with the state dict and NAME/data/KEY with the bytes of each storage;
// - before, pickles one behind the other (a magic number, the protocol, what machine wrote it, the state dict, the list
//   of storages' keys), then each storage as a number of numbers in 8 bytes and their bytes.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_PYTORCH_BIN_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_PYTORCH_BIN_H_

#include "absl/status/status.h"
#include "engine/model/checkpoint/weights_file.h"

namespace elserve {

// Adds the tensors of a file that has just been mapped, each a view into the file's storages, checked to lie in it.
absl::Status ReadPytorchBin(WeightsFile* file);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_PYTORCH_BIN_H_
