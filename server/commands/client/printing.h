// Answers as a person or a program reads them.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_PRINTING_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_PRINTING_H_

#include <google/protobuf/message.h>

#include <string>

#include "proto/elserve/v1/elserve.pb.h"

namespace elserve {

// Under the names of the API.
std::string ToJson(const google::protobuf::Message& message);

// One line: {"input": name, "seconds": ..., KEY: the message}.
std::string JsonLine(const std::string& input, double seconds, const std::string& key,
                     const google::protobuf::Message& message);

// "0.184 s (queue 0.000, encode 0.051, decode 0.132), 312 source tokens, 9 generated, 8 steps"
std::string Timings(const v1::Usage& usage, double seconds);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_PRINTING_H_
