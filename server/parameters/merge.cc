#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/parameters/parameters.h"
#include "server/parameters/rules.h"

namespace elserve {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

// What the layers below say about the parameters that `upper` names in `reset`; what is left is the built-in value.
void Reset(const v1::DecodingParameters& upper, v1::DecodingParameters* merged) {
  const Reflection* reflection = merged->GetReflection();
  v1::DecodingParameters built_in = BuiltInParameters();
  for (const Rule& rule : ParameterRules()) {
    reflection->ClearField(IsReset(upper, rule) ? merged : &built_in, FieldOf(rule));
  }
  merged->MergeFrom(built_in);
}

}  // namespace

void MergeParameters(const v1::DecodingParameters& upper, v1::DecodingParameters* merged) {
  if (!upper.reset().empty()) Reset(upper, merged);
  // The two ways to say one length: what the upper layer says counts alone.
  if (upper.has_max_length() || upper.has_max_new_tokens()) {
    merged->clear_max_length();
    merged->clear_max_new_tokens();
  }
  if (upper.has_min_length() || upper.has_min_new_tokens()) {
    merged->clear_min_length();
    merged->clear_min_new_tokens();
  }
  // Likewise those to say which words do not come.
  if (!upper.bad_words().empty() || !upper.bad_words_ids().empty()) {
    merged->clear_bad_words();
    merged->clear_bad_words_ids();
  }
  v1::DecodingParameters set = upper;
  set.clear_reset();
  const Reflection* reflection = set.GetReflection();
  for (const Rule& rule : ParameterRules()) {
    const FieldDescriptor* field = FieldOf(rule);
    if (!IsSet(set, field)) {
      reflection->ClearField(&set, field);  // UNSPECIFIED
    } else if (field->is_repeated() || field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      reflection->ClearField(merged, field);  // else MergeFrom would append, or keep what is 0 in the upper one
    }
  }
  merged->MergeFrom(set);
}

v1::DecodingParameters MergeDefaults(const DefaultLayers& layers) {
  v1::DecodingParameters merged = BuiltInParameters();
  MergeParameters(layers.checkpoint, &merged);
  MergeParameters(layers.checkpoint_task, &merged);
  MergeParameters(layers.configuration_language, &merged);
  MergeParameters(layers.configuration, &merged);
  MergeParameters(layers.configuration_task, &merged);
  return merged;
}

}  // namespace elserve
