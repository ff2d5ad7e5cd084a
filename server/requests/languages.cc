#include "server/requests/languages.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

// A decoder that starts with </s>, as mBART-50's, has no place there for a language.
bool StartsWithLanguage(const Tokenizer& tokenizer, std::optional<int32_t> decoder_start) {
  return std::any_of(tokenizer.languages().begin(), tokenizer.languages().end(),
                     [&](const Language& language) { return language.id == decoder_start; });
}

}  // namespace

absl::StatusOr<v1::DecodingParameters> LanguageParameters(const Tokenizer& tokenizer,
                                                          std::optional<int32_t> decoder_start,
                                                          const TextLanguages& languages) {
  const absl::StatusOr<Frame> frame = tokenizer.FrameOf(languages.source, languages.target);
  if (!frame.ok()) return frame.status();
  v1::DecodingParameters parameters;
  if (!frame->target) return parameters;
  switch (tokenizer.target_language_use()) {
    case TargetLanguageUse::kForcedBos:
      parameters.set_forced_bos_token_id(*frame->target);
      break;
    case TargetLanguageUse::kDecoderStart:
      if (!StartsWithLanguage(tokenizer, decoder_start)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "target_language is \"", languages.target, "\"; the model takes none: its decoder_start_token_id is ",
            decoder_start ? absl::StrCat(*decoder_start, ", no language's token") : "not set"));
      }
      parameters.set_decoder_start_token_id(*frame->target);
      break;
    case TargetLanguageUse::kBeforeText:
    case TargetLanguageUse::kNone:
      break;
  }
  return parameters;
}

v1::Model::Languages DescribeLanguages(const Tokenizer& tokenizer, std::optional<int32_t> decoder_start,
                                       const TextLanguages& defaults) {
  const TargetLanguageUse use = tokenizer.target_language_use();
  const bool takes_target = use == TargetLanguageUse::kDecoderStart ? StartsWithLanguage(tokenizer, decoder_start)
                                                                    : use != TargetLanguageUse::kNone;
  v1::Model::Languages described;
  for (const Language& language : tokenizer.languages()) {
    if (tokenizer.has_source_language()) described.add_source(language.code);
    if (takes_target) described.add_target(language.code);
  }
  described.set_default_source(defaults.source);
  described.set_default_target(defaults.target);
  return described;
}

}  // namespace elserve
