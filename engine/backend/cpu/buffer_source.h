// Where the cpu backend takes its memory from, so that a model too large for this machine is an error at load.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_BUFFER_SOURCE_H_
#define ELSERVE_ENGINE_BACKEND_CPU_BUFFER_SOURCE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "engine/backend/cpu/aligned_buffer.h"
#include "engine/thread_pool.h"

namespace elserve::cpu {

// The system promises more memory than it has and kills whoever touches what is not there. So what is left is asked
// for before anything is touched.
class BufferSource {
 public:
  // `host_root`: see host_resources.h. The pool must outlive it.
  BufferSource(ThreadPool& pool, std::string host_root) : pool_(pool), host_root_(std::move(host_root)) {}

  // Whether the system has so much. If not, that is the status from now on: RESOURCE_EXHAUSTED with `what`, which names
  // the buffer and the options that its size follows from, and what is left.
  bool Has(int64_t bytes, const std::string& what);
  // `bytes` of zeros, which the system backs when they are first touched; empty if status() is not ok.
  AlignedBuffer Take(int64_t bytes, const std::string& what);
  // The same, backed now, on all threads: no step has to wait for it.
  AlignedBuffer TakeBacked(int64_t bytes, const std::string& what);

  const absl::Status& status() const { return status_; }

 private:
  ThreadPool& pool_;
  const std::string host_root_;
  absl::Status status_;  // the first error
};

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_BUFFER_SOURCE_H_
