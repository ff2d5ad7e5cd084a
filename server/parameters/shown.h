// Values in error messages.
#ifndef ELSERVE_SERVER_PARAMETERS_SHOWN_H_
#define ELSERVE_SERVER_PARAMETERS_SHOWN_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace elserve {

// At most its first 80 bytes, cut between characters.
std::string Shown(std::string text);
// As JSON writes it, cut likewise.
std::string Shown(const nlohmann::json& value);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_SHOWN_H_
