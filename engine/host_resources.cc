#include "engine/host_resources.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace elserve {
namespace {

struct Group {
  std::string folder;
  bool unified;  // version 2
};

// Whether `list`, with commas between its words, has `word`.
bool Lists(std::string_view list, std::string_view word) {
  while (true) {
    const size_t comma = list.find(',');
    if (list.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

struct Mount {
  std::string group;  // the group that is mounted
  std::string point;
};

// Where the hierarchy is mounted: the unified one, or that of `controller`.
std::optional<Mount> FindMount(const std::string& root, bool unified, std::string_view controller) {
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, type, source, options, word;
    Mount mount;
    words >> id >> parent >> device >> mount.group >> mount.point;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> options;
    if (unified ? type == "cgroup2" : type == "cgroup" && Lists(options, controller)) return mount;
  }
  return std::nullopt;
}

// The group `path` as it is seen below its mount: "" for the one that is mounted, and for one outside of it.
std::string BelowMount(const std::string& path, const Mount& mount) {
  const std::string top = mount.group == "/" ? "" : mount.group;
  if (!path.starts_with(top + "/") || path.find("/..") != std::string::npos) return "";
  const std::string below = path.substr(top.size());
  return below == "/" ? "" : below;
}

// The process's groups that may limit `controller`, its own first, then those above.
std::vector<Group> GroupsOf(const std::string& root, std::string_view controller) {
  std::vector<Group> groups;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && !Lists(controllers, controller)) continue;
    const std::optional<Mount> mount = FindMount(root, unified, controller);
    if (!mount) continue;
    for (std::string below = BelowMount(line.substr(second + 1), *mount);; below.resize(below.rfind('/'))) {
      groups.push_back({absl::StrCat(root, mount->point, below), unified});
      if (below.empty()) break;
    }
  }
  return groups;
}

// The first number of a file; none if there is none, or "max".
std::optional<int64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  int64_t n = 0;
  return file >> n ? std::optional(n) : std::nullopt;
}

// The sum of what a file of lines "key value" says of two keys; 0 for those it lacks.
int64_t SumIn(const std::string& path, std::string_view one, std::string_view other) {
  std::ifstream file(path);
  int64_t sum = 0, value = 0;
  for (std::string key; file >> key >> value;) {
    if (key == one || key == other) sum += value;
  }
  return sum;
}

std::optional<double> QuotaOf(const Group& group) {
  int64_t quota = 0, period = 0;
  if (group.unified) {
    std::ifstream file(group.folder + "/cpu.max");
    if (!(file >> quota >> period)) return std::nullopt;
  } else {
    quota = NumberIn(group.folder + "/cpu.cfs_quota_us").value_or(-1);
    period = NumberIn(group.folder + "/cpu.cfs_period_us").value_or(0);
  }
  if (quota <= 0 || period <= 0) return std::nullopt;
  return static_cast<double>(quota) / static_cast<double>(period);
}

std::optional<int64_t> LeftOf(const Group& group) {
  const std::string& folder = group.folder;
  const std::optional<int64_t> limit = NumberIn(folder + (group.unified ? "/memory.max" : "/memory.limit_in_bytes"));
  const std::optional<int64_t> used = NumberIn(folder + (group.unified ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !used) return std::nullopt;
  const int64_t cache = group.unified ? SumIn(folder + "/memory.stat", "active_file", "inactive_file")
                                      : SumIn(folder + "/memory.stat", "total_active_file", "total_inactive_file");
  return std::max<int64_t>(*limit - std::max<int64_t>(*used - cache, 0), 0);
}

}  // namespace

std::string Mebibytes(int64_t bytes) { return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); }

std::optional<double> CpuQuota(const std::string& root) {
  std::optional<double> least;
  for (const Group& group : GroupsOf(root, "cpu")) {
    const std::optional<double> quota = QuotaOf(group);
    if (quota && (!least || *quota < *least)) least = quota;
  }
  return least;
}

int64_t HostMemory::free() const { return group_left ? std::min(available, *group_left) : available; }

std::string HostMemory::Text() const {
  const std::string system = Mebibytes(available) + " are available in the system";
  return group_left ? system + " and " + Mebibytes(*group_left) + " left in the control group" : system;
}

HostMemory ReadHostMemory(const std::string& root) {
  HostMemory memory;
  std::ifstream file(root + "/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t kilobytes = 0;
    if (words >> key >> kilobytes && key == "MemAvailable:") memory.available = kilobytes * 1024;
  }
  for (const Group& group : GroupsOf(root, "memory")) {
    const std::optional<int64_t> left = LeftOf(group);
    if (left && (!memory.group_left || *left < *memory.group_left)) memory.group_left = left;
  }
  return memory;
}

}  // namespace elserve
