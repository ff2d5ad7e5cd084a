// One sequence of the engine, and the jobs that are answered by it.
#ifndef ELSERVE_SERVER_SCHEDULING_FLIGHT_H_
#define ELSERVE_SERVER_SCHEDULING_FLIGHT_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/engine.h"
#include "server/scheduling/computation.h"
#include "server/scheduling/job.h"

namespace elserve {

struct Flight;

// Flights by what they compute: mostly one of each, but see Scheduler::Joinable.
using FlightsByComputation = std::unordered_multimap<const Computation*, Flight*, ComputationHash, EqualComputations>;

struct SourceHash {
  size_t operator()(const Computation* computation) const { return computation->source_hash(); }
};
struct EqualSources {
  bool operator()(const Computation* a, const Computation* b) const { return a == b || a->source() == b->source(); }
};
using ComputationsBySource = std::unordered_multiset<const Computation*, SourceHash, EqualSources>;

// A job on its flight.
struct Member {
  std::shared_ptr<Job> job;
  TimePoint submitted;
  bool cut = false;  // its deadline passed in flight: it ends with what the next update holds
};

struct Flight {
  SequenceId id = 0;  // the job's that began it, which may leave before the others
  std::shared_ptr<const Computation> computation;
  Resources resources;  // Engine::Measure: its worst case
  bool stream = false;  // a member streams, or did

  std::list<Member> members;  // oldest first; never empty between two calls of the Scheduler
  size_t cut = 0;             // of them
  bool finishing = false;     // all are cut, and the engine was told to finish it

  std::optional<TimePoint> admitted, encoded;
  int steps = 0;
  std::vector<int32_t> streamed;  // tokens reported so far

  // Where the Scheduler's lists have it.
  FlightsByComputation::iterator by_computation;
  std::list<Flight*>::iterator waiting;      // while not admitted
  ComputationsBySource::iterator by_source;  // from then on
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_FLIGHT_H_
