// Where log lines go and what they look like.
#ifndef ELSERVE_SERVER_COMMANDS_LOGGING_H_
#define ELSERVE_SERVER_COMMANDS_LOGGING_H_

#include "server/config/config.h"

namespace elserve {

// spdlog's default logger writes to standard error from here on: lines of text, or one JSON object a line with time,
// level, message and, where the message begins with one, request_id.
void SetUpLogging(const LoggingConfig& config);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_LOGGING_H_
