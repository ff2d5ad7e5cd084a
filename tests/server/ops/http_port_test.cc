#include "server/ops/http_port.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Sends the bytes and reads until the server closes.
std::string Exchange(int port, const std::string& bytes) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  EXPECT_EQ(connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(send(socket, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  std::string reply;
  char buffer[1024];
  for (ssize_t count; (count = recv(socket, buffer, sizeof(buffer), 0)) > 0;) {
    reply.append(buffer, static_cast<size_t>(count));
  }
  close(socket);
  return reply;
}

std::string Get(int port, const std::string& path) {
  return Exchange(port, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

HttpPortOptions Options(const std::string& listen, const std::string& reason = "") {
  return {.listen = listen, .metrics = [] { return "a_total 1\n"; }, .unhealthy_reason = [reason] { return reason; }};
}

TEST(HttpPortTest, ServesMetricsAndHealth) {
  const auto port = HttpPort::Start(Options("127.0.0.1:0"));
  ASSERT_TRUE(port.ok()) << port.status();
  ASSERT_GT((*port)->port(), 0);
  const std::string metrics = Get((*port)->port(), "/metrics");
  EXPECT_THAT(metrics, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(metrics, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(metrics, HasSubstr("\r\n\r\na_total 1\n"));
  EXPECT_THAT(Get((*port)->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Get((*port)->port(), "/etc/passwd"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get((*port)->port(), "/../../etc/passwd"), StartsWith("HTTP/1.1 404"));
}

TEST(HttpPortTest, SaysWhyItIsUnhealthy) {
  const auto port = HttpPort::Start(Options("127.0.0.1:0", "draining"));
  ASSERT_TRUE(port.ok());
  const std::string health = Get((*port)->port(), "/healthz");
  EXPECT_THAT(health, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(health, HasSubstr("draining"));
}

TEST(HttpPortTest, TakesNoBodies) {
  const auto port = HttpPort::Start(Options("127.0.0.1:0"));
  ASSERT_TRUE(port.ok());
  EXPECT_THAT(Exchange((*port)->port(), "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"),
              StartsWith("HTTP/1.1 4"));
  EXPECT_THAT(Exchange((*port)->port(), "\r\nnonsense\r\n\r\n"), Not(HasSubstr("200 OK")));
}

TEST(HttpPortTest, RefusesBadAndTakenAddresses) {
  for (const char* listen : {"", "8501", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", ":8501"}) {
    const auto port = HttpPort::Start(Options(listen));
    EXPECT_TRUE(absl::IsInvalidArgument(port.status())) << listen << ": " << port.status();
  }
  const auto first = HttpPort::Start(Options("127.0.0.1:0"));
  ASSERT_TRUE(first.ok());
  const std::string taken = "127.0.0.1:" + std::to_string((*first)->port());
  const auto second = HttpPort::Start(Options(taken));
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(taken));
}

}  // namespace
}  // namespace elserve
