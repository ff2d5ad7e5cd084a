// The table of all decoding parameters: what each may be, and whether this version honours it.
#ifndef ELSERVE_SERVER_PARAMETERS_RULES_H_
#define ELSERVE_SERVER_PARAMETERS_RULES_H_

#include <span>
#include <string_view>

namespace elserve {

// The upper bound of a parameter, where it is not a number of its own.
enum class Bound {
  kFixed,      // Rule::high
  kTokenId,    // vocab_size - 1
  kLength,     // max_decoder_tokens
  kNewTokens,  // max_decoder_tokens - 1: all but the start token
};

enum class Support {
  kHonoured,       // any value in its range
  kNeutral,        // its neutral values alone: no rule in engine/search/ carries it out
  kNeutralSample,  // likewise, and without do_sample it has no effect at all
};

struct Rule {
  std::string_view name;
  Support support;
  // Honoured: low to high, of a number or of each element of a list. Else: the two neutral values (perhaps the same).
  double low;
  double high;
  Bound bound = Bound::kFixed;
  bool can_switch_off = false;  // -1, alone in a list, is allowed and means off
  int max_items = 0;            // of a list
};

// One row for each field of DecodingParameters.
std::span<const Rule> ParameterRules();

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_RULES_H_
