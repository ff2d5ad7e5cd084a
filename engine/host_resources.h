// What the system leaves this process of its processors and its memory, control groups included.
//
// Of control groups, version 1 and 2 alike, the process's own counts and every one above it: the tightest decides.
// `root` is put before every path that is read: tests write trees.
#ifndef ELSERVE_ENGINE_HOST_RESOURCES_H_
#define ELSERVE_ENGINE_HOST_RESOURCES_H_

#include <cstdint>
#include <optional>
#include <string>

namespace elserve {

// How many processors' time the control groups' quota gives: 1.5 is 150 ms in each 100 ms. None: there is no quota.
std::optional<double> CpuQuota(const std::string& root = "");

// In bytes. Page cache counts as free in both: it goes when somebody needs memory.
struct HostMemory {
  int64_t available = 0;              // in the system (MemAvailable)
  std::optional<int64_t> group_left;  // in the control group that has the least left; none: there is no limit

  // What the process may take before it, or another one, is killed for it.
  int64_t free() const;
  // Both figures, for an error: "3.0 MiB are available in the system and 1.5 MiB left in the control group".
  std::string Text() const;
};
HostMemory ReadHostMemory(const std::string& root = "");

std::string Mebibytes(int64_t bytes);  // "3.0 MiB"

}  // namespace elserve

#endif  // ELSERVE_ENGINE_HOST_RESOURCES_H_
