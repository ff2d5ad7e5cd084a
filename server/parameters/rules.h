// The table of all decoding parameters: what each may be.
#ifndef ELSERVE_SERVER_PARAMETERS_RULES_H_
#define ELSERVE_SERVER_PARAMETERS_RULES_H_

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/descriptor.h"
#include "server/parameters/parameters.h"

namespace elserve {

// From low to high. An open end is itself not allowed: {.low = 0, .high = 1, .above_low = true} is above 0 and up to 1.
// An infinite high, below_high set, is no bound.
struct Range {
  double low = 0;
  double high = 0;
  bool above_low = false;
  bool below_high = false;
};

// The upper bound of a parameter, where it is not a number of its own.
enum class Bound {
  kFixed,      // Range::high
  kTokenId,    // vocab_size - 1
  kLength,     // max_decoder_tokens
  kNewTokens,  // max_decoder_tokens - 1: all but the start token
};

enum class Support {
  kHonoured,  // any value in its range
  kSampling,  // likewise, but it acts only where do_sample is true
  kText,      // likewise; the tokenizer has made another parameter of it before it is resolved
};

// The field's type says the rest: a row holds for a number, a list of them, or texts. A message, or a list of them, has
// rows of its own for its fields (FieldRules).
struct Rule {
  std::string_view name;
  Support support;
  // What the number may be, or each of a list; the bytes of a text. A bool, an enum or a message needs none.
  Range range;
  Bound bound = Bound::kFixed;
  // -1, or an empty text, alone in a list (of messages: in their first field) is allowed and means off.
  bool can_switch_off = false;
  int max_items = 0;  // of a list
  // kSampling: the values that may stand without do_sample, for they do nothing with it either, or are its default.
  std::array<double, 2> idle = {};
};

// One row for each field of DecodingParameters that is a parameter: all but `reset`.
std::span<const Rule> ParameterRules();
// One row for each field of a message among the parameters; a list in it has at least one entry.
std::span<const Rule> FieldRules(const google::protobuf::Descriptor& type);
// Null: no parameter has this name.
const Rule* FindRule(std::string_view name);

const google::protobuf::FieldDescriptor* FieldOf(const Rule& rule);

// Whether the layer gives the parameter a value. UNSPECIFIED is none: it says "not set" where a client's language
// always sends a value.
bool IsSet(const v1::DecodingParameters& layer, const google::protobuf::FieldDescriptor* field);
// Whether the layer drops what the layers below say about the parameter.
bool IsReset(const v1::DecodingParameters& layer, const Rule& rule);

// The values of an enum of parameters as YAML and JSON write them: "false, true, never".
std::string EnumNames(const google::protobuf::EnumDescriptor& type);
// "true" for EARLY_STOPPING_TRUE.
std::string EnumName(const google::protobuf::EnumValueDescriptor& value);

// Checks one parameter by its row; OK if it is not set. `limits` may be null.
absl::Status CheckParameter(const Rule& rule, const v1::DecodingParameters& parameters, const ModelLimits* limits);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_RULES_H_
