// The state of a model's loop as metrics, taken when somebody asks.
#ifndef ELSERVE_SERVER_OPS_SNAPSHOT_METRICS_H_
#define ELSERVE_SERVER_OPS_SNAPSHOT_METRICS_H_

#include <prometheus/metric_family.h>

#include <vector>

#include "server/requests/running_model.h"

namespace elserve {

// A family for each metric, with a sample for each model.
std::vector<prometheus::MetricFamily> CollectSnapshots(const std::vector<RunningModel>& models);

}  // namespace elserve

#endif  // ELSERVE_SERVER_OPS_SNAPSHOT_METRICS_H_
