#include <vector>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/parameters/parameters.h"

namespace elserve {

void MergeParameters(const v1::DecodingParameters& upper, v1::DecodingParameters* merged) {
  // The two ways to say one length: what the upper layer says counts alone.
  if (upper.has_max_length() || upper.has_max_new_tokens()) {
    merged->clear_max_length();
    merged->clear_max_new_tokens();
  }
  if (upper.has_min_length() || upper.has_min_new_tokens()) {
    merged->clear_min_length();
    merged->clear_min_new_tokens();
  }
  std::vector<const google::protobuf::FieldDescriptor*> fields;  // those that are set
  upper.GetReflection()->ListFields(upper, &fields);
  for (const auto* field : fields) {
    if (field->is_repeated()) merged->GetReflection()->ClearField(merged, field);
  }
  const v1::EarlyStopping below = merged->early_stopping();
  merged->MergeFrom(upper);
  // UNSPECIFIED is no value of its own.
  if (upper.has_early_stopping() && upper.early_stopping() == v1::EARLY_STOPPING_UNSPECIFIED) {
    merged->set_early_stopping(below);
  }
}

}  // namespace elserve
