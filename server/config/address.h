// Where a port listens, as the configuration and the command line write it.
#ifndef ELSERVE_SERVER_CONFIG_ADDRESS_H_
#define ELSERVE_SERVER_CONFIG_ADDRESS_H_

#include <optional>
#include <string>
#include <string_view>

namespace elserve {

struct Address {
  std::string host;  // without an IPv6 address's brackets
  int port = 0;      // 0: any free one
};

// "HOST:PORT" or "[IPV6]:PORT" with a port of 0 to 65535; nullopt: it is neither.
std::optional<Address> ParseAddress(std::string_view text);

}  // namespace elserve

#endif  // ELSERVE_SERVER_CONFIG_ADDRESS_H_
