// What YAML writes as a value, in JSON's types: the one way in which parameters are written for elserve, in its
// configuration and on its command line.
#ifndef ELSERVE_SERVER_PARAMETERS_YAML_VALUE_H_
#define ELSERVE_SERVER_PARAMETERS_YAML_VALUE_H_

#include <yaml-cpp/node/node.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>

namespace elserve {

// What the scalar or list is in JSON: plain scalars that read as numbers, true, false or null are those, all others
// texts. Maps, and lists deeper than four, are no value.
std::optional<nlohmann::json> YamlToJson(const YAML::Node& node);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_YAML_VALUE_H_
