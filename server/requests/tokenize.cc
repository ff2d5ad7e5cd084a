#include "server/requests/tokenize.h"

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/text/tokenizer.h"

namespace elserve {

absl::StatusOr<v1::TokenizeResponse> Tokenize(const ModelRegistry& models, const v1::TokenizeRequest& request) {
  const absl::StatusOr<std::shared_ptr<const ServedModel>> model = models.Find(request.model());
  if (!model.ok()) return model.status();
  if (request.text().size() > kMaxTokenizeBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("text has %d bytes; allowed are at most %d", request.text().size(), kMaxTokenizeBytes));
  }
  const bool framed = !request.has_add_special_tokens() || request.add_special_tokens();
  const TextLanguages languages = (*model)->LanguagesOf(request.source_language(), request.target_language());
  // What a generation request refuses is an error here too, whether or not its token is asked for.
  if (const auto taken = (*model)->LanguageParameters(languages); !taken.ok()) return taken.status();
  const absl::StatusOr<Encoding> encoding =
      (*model)->tokenizer().Encode(request.text(), {.add_special_tokens = framed,
                                                    .source_language = languages.source,
                                                    .target_language = languages.target,
                                                    .spans = true});
  if (!encoding.ok())
    return absl::Status(encoding.status().code(), absl::StrCat("text: ", encoding.status().message()));
  v1::TokenizeResponse response;
  response.mutable_token_ids()->Add(encoding->ids.begin(), encoding->ids.end());
  for (const TextSpan& span : encoding->spans) {
    response.add_begin(span.begin);
    response.add_end(span.end);
  }
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Detokenize(const ModelRegistry& models, const v1::DetokenizeRequest& request) {
  const absl::StatusOr<std::shared_ptr<const ServedModel>> model = models.Find(request.model());
  if (!model.ok()) return model.status();
  const Tokenizer& tokenizer = (*model)->tokenizer();
  for (int i = 0; i < request.token_ids_size(); ++i) {
    const int32_t id = request.token_ids(i);
    if (id >= 0 && id < tokenizer.vocab_size()) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("token_ids[%d] is %d; allowed are 0 to %d", i, id, tokenizer.vocab_size() - 1));
  }
  const std::vector<int32_t> ids(request.token_ids().begin(), request.token_ids().end());
  v1::DetokenizeResponse response;
  response.set_text(tokenizer.Decode(ids, !request.has_skip_special_tokens() || request.skip_special_tokens()));
  return response;
}

}  // namespace elserve
