#include "server/config/checkpoint_path.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/parameters/bounded_file.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHub = "hub:";
constexpr size_t kMaxNameBytes = 96;  // huggingface_hub's validate_repo_id
constexpr size_t kMaxRevisionBytes = 256;
constexpr char kNameBytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

absl::Status Allow(std::string_view allowed) { return absl::InvalidArgumentError(std::string(allowed)); }

bool IsDirectory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool HasOnlyNameBytes(std::string_view text) {
  return !text.empty() && text.find_first_not_of(kNameBytes) == std::string_view::npos;
}

// An owner's or a model's name. "--" stands between the two in the cache.
bool IsHubName(std::string_view name) {
  constexpr std::string_view kEnds = "-.";
  return HasOnlyNameBytes(name) && name.size() <= kMaxNameBytes && kEnds.find(name.front()) == std::string_view::npos &&
         kEnds.find(name.back()) == std::string_view::npos && name.find("--") == std::string_view::npos &&
         name.find("..") == std::string_view::npos;
}

// A name below refs/, which may have folders: "refs/pr/1".
bool IsRevision(std::string_view revision) {
  if (revision.size() > kMaxRevisionBytes) return false;
  const std::vector<std::string> parts = absl::StrSplit(std::string(revision), '/');
  return std::all_of(parts.begin(), parts.end(),
                     [](const std::string& part) { return HasOnlyNameBytes(part) && part != "." && part != ".."; });
}

struct HubName {
  std::vector<std::string> parts;  // [OWNER,] NAME
  std::string revision = "main";
};

std::optional<HubName> ParseHubName(std::string_view text) {
  HubName name;
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    name.revision = std::string(text.substr(at + 1));
    text = text.substr(0, at);
  }
  name.parts = absl::StrSplit(std::string(text), '/');
  const bool valid = name.parts.size() <= 2 && std::all_of(name.parts.begin(), name.parts.end(), IsHubName);
  if (!valid || !IsRevision(name.revision)) return std::nullopt;
  return name;
}

std::optional<fs::path> Variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  const std::string text = value;
  const char* const home = std::getenv("HOME");
  if (home != nullptr && (text == "~" || text.starts_with("~/"))) return fs::path(home + text.substr(1));
  return fs::path(text);
}

std::optional<fs::path> CacheFolder() {
  if (auto cache = Variable("HF_HUB_CACHE")) return cache;
  if (auto cache = Variable("HUGGINGFACE_HUB_CACHE")) return cache;
  if (const auto home = Variable("HF_HOME")) return *home / "hub";
  if (const auto cache = Variable("XDG_CACHE_HOME")) return *cache / "huggingface/hub";
  if (const auto home = Variable("HOME")) return *home / ".cache/huggingface/hub";
  return std::nullopt;
}

// What a folder holds, for a message: a few names in order.
std::string Contents(const fs::path& folder, std::string_view prefix = "") {
  constexpr size_t kMostRead = 1000, kMostShown = 8;
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end && names.size() < kMostRead;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && HasOnlyNameBytes(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  const size_t left_out = names.size() - std::min(names.size(), kMostShown);
  names.resize(names.size() - left_out);
  if (names.empty()) return "nothing";
  return absl::StrCat(absl::StrJoin(names, ", "), left_out > 0 ? ", ..." : "");
}

// The snapshot's name: a ref is a file that holds it, and a commit's hash is one itself.
absl::StatusOr<std::string> SnapshotOf(const fs::path& repository, const std::string& revision) {
  const fs::path ref = repository / "refs" / revision;
  std::error_code ignored;
  if (!fs::is_regular_file(ref, ignored)) return revision;
  const absl::StatusOr<std::string> text = ReadBoundedFile(ref, kMaxRevisionBytes);
  if (!text.ok()) return Allow(absl::StrCat("a revision that can be read; ", std::string(text.status().message())));
  std::string hash = *text;
  hash.erase(std::find_if(hash.begin(), hash.end(), [](char c) { return c == '\n' || c == '\r' || c == ' '; }),
             hash.end());
  if (HasOnlyNameBytes(hash) && hash != "." && hash != "..") return hash;
  return Allow(absl::StrCat("a revision that names a snapshot; ", ref.string(), " holds no commit's hash"));
}

absl::StatusOr<std::string> FindInHub(std::string_view text) {
  const std::optional<HubName> name = ParseHubName(text);
  if (!name) {
    return Allow(
        "hub:OWNER/NAME or hub:OWNER/NAME@REVISION, names of A-Z a-z 0-9 . _ - as on the Hugging Face hub, and a "
        "branch, a "
        "tag or a commit's hash");
  }
  const std::optional<fs::path> cache = CacheFolder();
  if (!cache) return Allow("a model in the Hugging Face cache; none of HF_HUB_CACHE, HF_HOME and HOME is set");
  const std::string folder = absl::StrCat("models--", absl::StrJoin(name->parts, "--"));
  const fs::path repository = *cache / folder;
  if (!IsDirectory(repository)) {
    return Allow(absl::StrCat("a model in the Hugging Face cache, since nothing is downloaded; ", cache->string(),
                              " has no ", folder, ", it has ", Contents(*cache, "models--")));
  }
  const absl::StatusOr<std::string> snapshot = SnapshotOf(repository, name->revision);
  if (!snapshot.ok()) return snapshot.status();
  const fs::path found = repository / "snapshots" / *snapshot;
  // A revision with a / is a ref alone.
  if (snapshot->find('/') == std::string::npos && IsDirectory(found)) return found.string();
  return Allow(absl::StrCat("a snapshot in the Hugging Face cache, since nothing is downloaded; ", repository.string(),
                            " has no ", *snapshot == name->revision ? "revision " : "snapshot ", *snapshot,
                            ", its refs are ", Contents(repository / "refs"), ", its snapshots ",
                            Contents(repository / "snapshots")));
}

}  // namespace

absl::StatusOr<std::string> FindCheckpoint(std::string_view path, const fs::path& folder) {
  if (path.starts_with(kHub)) return FindInHub(path.substr(kHub.size()));
  const fs::path full = (folder / path).lexically_normal();
  if (!path.empty() && IsDirectory(full)) return full.string();
  return Allow(absl::StrCat("a checkpoint's directory, or hub:OWNER/NAME; there is none at ", full.string()));
}

}  // namespace elserve
