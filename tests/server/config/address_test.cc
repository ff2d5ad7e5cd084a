#include "server/config/address.h"

#include "gtest/gtest.h"

namespace elserve {
namespace {

TEST(AddressTest, TakesHostAndPort) {
  const struct {
    const char* text;
    const char* host;
    int port;
  } cases[] = {{"127.0.0.1:8500", "127.0.0.1", 8500},
               {"localhost:0", "localhost", 0},
               {"h:65535", "h", 65535},
               {"[::1]:80", "::1", 80},
               {"[::]:1", "::", 1},
               {"[a]:1", "a", 1}};
  for (const auto& test : cases) {
    const std::optional<Address> address = ParseAddress(test.text);
    ASSERT_TRUE(address.has_value()) << test.text;
    EXPECT_EQ(address->host, test.host);
    EXPECT_EQ(address->port, test.port);
  }
}

TEST(AddressTest, RefusesWhatIsNone) {
  for (const char* text : {"", ":", "8500", "host", ":8500", "host:", "host:65536", "host:-1", "host:+1", "host:80x",
                           "host: 80", "::1:80", "[]:80", "[::1]80", "[::1:80", "::1]:80", "http://h:80", "a b:80"}) {
    EXPECT_FALSE(ParseAddress(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace elserve
