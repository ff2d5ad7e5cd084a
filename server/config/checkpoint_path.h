// Where a checkpoint is, as the configuration and the command line name it.
#ifndef ELSERVE_SERVER_CONFIG_CHECKPOINT_PATH_H_
#define ELSERVE_SERVER_CONFIG_CHECKPOINT_PATH_H_

#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace elserve {

// `path` is a directory, relative to `folder` unless it is absolute; or hub:OWNER/NAME[@REVISION], a snapshot in the
// local cache of huggingface_hub, main unless a revision is given: a branch, a tag, or a commit's hash. hub:NAME is one
// of the old models without an owner. Nothing is downloaded.
//
// The cache is $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or
// ~/.cache/huggingface/hub, the first that is set (huggingface_hub/constants.py); a ~ at the beginning is $HOME.
//
// The directory that was found; else INVALID_ARGUMENT with what is allowed and where it was looked for, to stand behind
// "KEY is VALUE; allowed is ".
absl::StatusOr<std::string> FindCheckpoint(std::string_view path, const std::filesystem::path& folder);

}  // namespace elserve

#endif  // ELSERVE_SERVER_CONFIG_CHECKPOINT_PATH_H_
