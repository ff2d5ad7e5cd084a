// The limits of untrusted JSON, exactly, and how errors read.
#include "engine/model/checkpoint/bounded_json.h"

#include <string>

#include "engine/model/checkpoint/quoted.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Error(const std::string& text) {
  const auto parsed = ParseJsonObject("file", text);
  return parsed.ok() ? "no error" : std::string(parsed.status().message());
}

TEST(BoundedJson, DepthEndsAtItsLimit) {
  // The object is the first level.
  const auto nested = [](int levels) {
    return "{\"a\": " + std::string(levels - 1, '[') + std::string(levels - 1, ']') + "}";
  };
  EXPECT_EQ(Error(nested(kMaxJsonDepth)), "no error");
  EXPECT_THAT(Error(nested(kMaxJsonDepth + 1)), HasSubstr("nested deeper than 64 levels"));
}

// Containers count as values, keys do not.
TEST(BoundedJson, ValuesEndAtTheirLimit) {
  std::string numbers = "0";
  for (int64_t i = 1; i < kMaxJsonValues - 2; ++i) numbers += ",0";
  EXPECT_EQ(Error("{\"a\": [" + numbers + "]}"), "no error");
  EXPECT_THAT(Error("{\"a\": [" + numbers + ",0]}"), HasSubstr("has more than 1000000 JSON values"));
  EXPECT_THAT(Error("{\"a\": [" + numbers + ",{}]}"), HasSubstr("has more than 1000000 JSON values"));
}

TEST(BoundedJson, ReadsEveryKindOfValueInItsPlace) {
  const auto parsed =
      ParseJsonObject("file", R"({"a": [1, -2, 0.5, "x", true, null, {"b": []}], "c": {"d": 3}, "e": 4})");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->dump(), R"({"a":[1,-2,0.5,"x",true,null,{"b":[]}],"c":{"d":3},"e":4})");
}

TEST(BoundedJson, ErrorsSayWhereInPlainWords) {
  const std::string error = Error(R"({"a": 1,})");
  EXPECT_THAT(error, HasSubstr("file: not valid JSON at byte 9: "));
  EXPECT_THAT(error, Not(HasSubstr("[json")));
  EXPECT_EQ(Error(R"({"a": {"b": 1, "b": 2}})"), R"(file: key "b" stands twice in one object; expected once)");
  EXPECT_EQ(Error("3"), "file: the top is 3; expected a JSON object");
}

TEST(Quoted, KeepsWhatIsPrintableAndCutsAtTwoHundredBytes) {
  EXPECT_EQ(Quoted(" ~\x1f\x7f\xff"), R"(" ~\x1f\x7f\xff")");
  EXPECT_EQ(Printable(std::string(200, 'x')), std::string(200, 'x'));
  EXPECT_EQ(Printable(std::string(201, 'x')), std::string(200, 'x') + "...");
}

TEST(Quoted, ShapesReadAsLists) {
  EXPECT_EQ(ShapeText({}), "[]");
  const int64_t shape[] = {8192, 256, 1};
  EXPECT_EQ(ShapeText(shape), "[8192, 256, 1]");
}

}  // namespace
}  // namespace elserve
