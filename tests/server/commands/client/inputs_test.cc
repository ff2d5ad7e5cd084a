#include "server/commands/client/inputs.h"

#include <sstream>

#include "gtest/gtest.h"
#include "server/commands/client/in_order.h"
#include "server/commands/client/request_options.h"

namespace elserve {
namespace {

TEST(InputReaderTest, ReadsStandardInputWhole) {
  std::istringstream in("one\ntwo\n");
  InputReader reader({}, false, in);
  const auto input = reader.Next();
  ASSERT_TRUE(input.has_value());
  EXPECT_EQ(input->name, "-");
  EXPECT_EQ(input->text, "one\ntwo");
  EXPECT_FALSE(reader.Next().has_value());
}

TEST(InputReaderTest, ReadsLinesAndGoesOnAfterAFileThatIsMissing) {
  std::istringstream in("one\r\n\nthree");
  InputReader reader({"/nonexistent", "-", "/"}, true, in);
  EXPECT_FALSE(reader.Next()->error.empty());
  EXPECT_EQ(reader.Next()->text, "one");
  EXPECT_EQ(reader.Next()->text, "");
  const auto third = reader.Next();
  EXPECT_EQ(third->text, "three");
  EXPECT_EQ(third->name, "-:3");
  EXPECT_FALSE(reader.Next()->error.empty());  // a directory
  EXPECT_FALSE(reader.Next().has_value());
}

TEST(InOrderTest, PrintsInTheOrderOfTheInputsWhateverEndsFirst) {
  constexpr int kInputs = 300;
  int given = 0;
  std::string printed;
  int errors = 0;
  const int failed = RunInOrder(
      [&given]() -> std::optional<Input> {
        if (given == kInputs) return std::nullopt;
        ++given;
        return Input{.name = "n", .text = std::to_string(given), .error = given % 100 == 0 ? "no" : ""};
      },
      7,
      [](const Input& input) {
        // Some take longer than others.
        volatile int spin = std::stoi(input.text) % 5 * 20'000;
        while (spin > 0) spin = spin - 1;
        return Output{.out = input.text + " ", .error = {}};
      },
      [&](const Output& output) {
        printed += output.out;
        errors += !output.error.empty();
      });
  std::string expected;
  for (int i = 1; i <= kInputs; ++i) {
    if (i % 100 != 0) expected += std::to_string(i) + " ";
  }
  EXPECT_EQ(printed, expected);
  EXPECT_EQ(failed, 3);
  EXPECT_EQ(errors, 3);
}

TEST(ParseParametersTest, TakesValuesAsYamlWritesThem) {
  v1::DecodingParameters parameters;
  EXPECT_EQ(ParseParameters({"num_beams=4", "length_penalty=0.5", "early_stopping=never", "eos_token_id=2",
                             "forced_eos_token_id=[3, 4]", "bad_words_ids=[[1,2]]", "max_length=null"},
                            &parameters),
            std::nullopt);
  EXPECT_EQ(parameters.num_beams(), 4);
  EXPECT_EQ(parameters.length_penalty(), 0.5);
  EXPECT_EQ(parameters.early_stopping(), v1::EARLY_STOPPING_NEVER);
  EXPECT_EQ(parameters.eos_token_id(0), 2);
  EXPECT_EQ(parameters.forced_eos_token_id_size(), 2);
  EXPECT_EQ(parameters.bad_words_ids(0).ids_size(), 2);
  EXPECT_EQ(parameters.reset(0), "max_length");
}

TEST(ParseParametersTest, NamesWhatIsWrong) {
  for (const char* bad :
       {"num_beams", "=4", "beams=4", "num_beams=four", "num_beams=1.5", "early_stopping=maybe", "eos_token_id=[x]"}) {
    v1::DecodingParameters parameters;
    const auto error = ParseParameters({bad}, &parameters);
    ASSERT_TRUE(error.has_value()) << bad;
    EXPECT_NE(error->find(bad), std::string::npos) << *error;
  }
}

TEST(FillCommonTest, FillsWhatAllRequestsHave) {
  RequestOptions options;
  options.model = "m";
  options.source_language = "fr_XX";
  options.target_language = "ro_RO";
  v1::SummarizeRequest request;
  EXPECT_EQ(FillCommon(options, &request), std::nullopt);
  EXPECT_EQ(request.model(), "m");
  EXPECT_EQ(request.source_language(), "fr_XX");
  EXPECT_EQ(request.target_language(), "ro_RO");
}

}  // namespace
}  // namespace elserve
