#include "engine/model/checkpoint/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/engine/model/checkpoint/written_torch_file.h"

namespace elserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kGlobals[] = {"collections.OrderedDict", "torch.FloatStorage"};

std::string ErrorOf(const std::string& pickle) {
  const auto read = ReadPickle(pickle, kGlobals);
  return read.ok() ? "no error" : std::string(read.status().message());
}

std::vector<int64_t> NumbersOf(const Pickle& pickle, const PickleValue& value) {
  std::vector<int64_t> numbers;
  for (const PickleId id : value.items) numbers.push_back(pickle[id].number);
  return numbers;
}

TEST(PickleTest, ReadsNumbers) {
  const std::string bytes = std::string("\x80\x02(K\xff", 5) + std::string("M\xff\xff", 3) + PickledInt(-2) +
                            PickledInt(int64_t{-3} << 40) + std::string("\x8a\0", 2) + "\x8a\x01\xff" +
                            std::string("\x8a\x02\xff\0", 4) + "\x88\x89t.rest";
  const auto pickle = ReadPickle(bytes, {});
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  EXPECT_EQ(pickle->bytes, bytes.size() - 4);
  EXPECT_EQ((*pickle)[pickle->top].kind, PickleKind::kTuple);
  EXPECT_THAT(NumbersOf(*pickle, (*pickle)[pickle->top]),
              ElementsAre(255, 65535, -2, int64_t{-3} << 40, 0, -1, 255, 1, 0));
}

TEST(PickleTest, ReadsTextsContainersAndCalls) {
  const std::string bytes = std::string("(") + PickledText("a\xc3\xa4") + "U\x03xyz" + "NG12345678" +
                            "]K\1aK\2a(K\3K\4e" + "}K\1K\2s(K\3K\4u" + PickledGlobal("torch", "FloatStorage") +
                            kPickledOrderedDict + "K\5K\6s}b" + ")K\7\x85K\7K\x08\x86K\7K\x08K\x09\x87" + "K\1Qt.";
  const auto pickle = ReadPickle(bytes, kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  std::vector<PickleValue> values;
  for (const PickleId id : (*pickle)[pickle->top].items) values.push_back((*pickle)[id]);
  ASSERT_EQ(values.size(), 13u);
  EXPECT_EQ(values[0].text, "a\xc3\xa4");
  EXPECT_EQ(values[1].text, "xyz");
  EXPECT_EQ(values[2].kind, PickleKind::kNone);
  EXPECT_EQ(values[3].kind, PickleKind::kFloat);
  EXPECT_EQ(values[4].kind, PickleKind::kList);
  EXPECT_THAT(NumbersOf(*pickle, values[4]), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(values[5].kind, PickleKind::kDict);
  EXPECT_THAT(NumbersOf(*pickle, values[5]), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(values[6].kind, PickleKind::kGlobal);
  EXPECT_EQ(values[6].number, 1);
  EXPECT_EQ(values[7].kind, PickleKind::kCall);
  EXPECT_EQ(values[7].number, 0);
  EXPECT_TRUE(values[7].built);
  EXPECT_THAT(NumbersOf(*pickle, values[7]), ElementsAre(5, 6));
  EXPECT_TRUE(values[8].items.empty());
  EXPECT_THAT(NumbersOf(*pickle, values[9]), ElementsAre(7));
  EXPECT_THAT(NumbersOf(*pickle, values[10]), ElementsAre(7, 8));
  EXPECT_THAT(NumbersOf(*pickle, values[11]), ElementsAre(7, 8, 9));
  EXPECT_EQ(values[12].kind, PickleKind::kPersistent);
  EXPECT_EQ((*pickle)[values[12].arguments].number, 1);
}

TEST(PickleTest, TheMemoGivesTheSameValue) {
  // Entry 1 is stored twice.
  const std::string far = LittleEndian(70000, 4);
  const auto pickle = ReadPickle(std::string("(K\1q\1r") + far + "K\2q\1h\1j" + far + "t.", {});
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  EXPECT_THAT(NumbersOf(*pickle, (*pickle)[pickle->top]), ElementsAre(1, 2, 2, 1));
  // A list that holds itself.
  const auto own = ReadPickle(std::string("]q\1h\1aj") + LittleEndian(1, 4) + "a.", {});
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_THAT((*own)[own->top].items, ElementsAre(own->top, own->top));
}

TEST(PickleTest, NamesWhatIsWrong) {
  struct Case {
    std::string pickle;
    std::string error;
  };
  const Case cases[] = {
      {"", "byte 0: ends without STOP"},
      {"N", "byte 1: ends without STOP"},
      {".", "byte 0: needs a value that is not there"},
      {"\x80", "byte 0: needs 1 bytes more, but only 0 are there"},
      {"\x80\x04\x95", "byte 0: protocol is 4; expected 2"},
      {std::string("NI01\n."), "byte 1: opcode 0x49 is not one"},
      {"N\x93.", "byte 1: opcode 0x93 is not one"},
      {"NJ123", "byte 1: needs 4 bytes more, but only 3 are there"},
      {"X\xff\xff\xff\xffz", "byte 0: needs 4294967295 bytes more, but only 1 are there"},
      {"\x8a\xff.", "byte 0: needs 255 bytes more, but only 1 are there"},
      {"cos\nsystem\n(" + PickledText("rm -rf /") + "tR.", "byte 0: names \"os.system\", which no state dict"},
      {"c__builtin__\neval\n.", "names \"__builtin__.eval\""},
      {"ctorch\nFloatStorage", "byte 0: GLOBAL names \"FloatStorage\"; expected a module and a name"},
      {"c" + std::string(1000, 'a') + "\nb\n.", "expected a module and a name of at most 256 bytes"},
      {"ctorch.FloatStorage\n\n.", "names \"torch.FloatStorage.\""},
      {"K\1K\2R.", "calls a whole number with a whole number; expected a global and a tuple"},
      {PickledGlobal("torch", "FloatStorage") + "]R.", "calls a global with a list"},
      {")R.", "byte 1: needs a value that is not there"},
      {"}}b.", "sets attributes of a dict; expected an OrderedDict"},
      {"}b.", "needs a value that is not there"},
      {"h\1.", "takes memo entry 1, which was never stored"},
      {"q\1.", "needs a value that is not there"},
      {"]K\1e.", "byte 3: needs a MARK that is not there"},
      {"t.", "needs a MARK that is not there"},
      {"K\1(\x85.", "byte 3: needs a value that is not there"},
      {"K\1(.", "byte 3: needs a value that is not there"},
      {"}(K\1u.", "SETITEMS has a key without a value"},
      {"](K\1K\2u.", "puts items into a list; expected a dict"},
      {"}K\1a.", "puts items into a dict; expected a list"},
      {")K\1a.", "puts items into a tuple; expected a list"},
      {kPickledOrderedDict + "K\1a.", "puts items into the result of a call; expected a list"},
      {"K\1K\2s.", "needs a value that is not there"},
      {"Q.", "needs a value that is not there"},
      {std::string(257, '('), "byte 256: is nested deeper than 256 marks"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(ErrorOf(c.pickle), testing::AllOf(testing::StartsWith("pickle: byte "), HasSubstr(c.error)));
  }
}

TEST(PickleTest, EveryTruncationIsAnError) {
  const std::string good = PickledStateDict({{"a", PickledText("b")}});
  EXPECT_EQ(ErrorOf(good), "no error");
  for (size_t size = 0; size < good.size(); ++size) EXPECT_NE(ErrorOf(good.substr(0, size)), "no error") << size;
}

TEST(PickleTest, BoundsEverythingThatGrows) {
  std::string many;
  for (size_t i = 0; i < kMaxPickleStack; ++i) many += 'N';
  EXPECT_EQ(ErrorOf(many + "."), "no error");
  EXPECT_THAT(ErrorOf(many + "N."), HasSubstr("byte 65536: more than 65536 values wait"));
  std::string values = "]";
  for (size_t i = 1; i < kMaxPickleValues; ++i) values += "Na";
  EXPECT_EQ(ErrorOf(values + "."), "no error");
  EXPECT_THAT(ErrorOf(values + "N."), HasSubstr("has more than 1000000 values"));
  std::string memo = "N";
  for (size_t i = 0; i < kMaxPickleMemo; ++i) memo += std::string("r") + LittleEndian(i, 4);
  EXPECT_EQ(ErrorOf(memo + "q\1."), "no error");
  EXPECT_THAT(ErrorOf(memo + std::string("r") + LittleEndian(kMaxPickleMemo, 4) + "."),
              HasSubstr("more than 1000000 memo entries"));
  std::string opcodes = "]q\1";
  for (int64_t i = 0; i < kMaxPickleOpcodes; i += 2) opcodes += "h\1a";
  EXPECT_THAT(ErrorOf(opcodes + "."), HasSubstr("has more than 4000000 opcodes"));
}

}  // namespace
}  // namespace elserve
