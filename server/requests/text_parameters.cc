#include "server/requests/text_parameters.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

using TokenLists = google::protobuf::RepeatedPtrField<v1::TokenList>;

// Unless it is there.
void AddWord(std::span<const int32_t> ids, TokenLists* words) {
  const bool known = std::any_of(words->begin(), words->end(),
                                 [ids](const v1::TokenList& word) { return std::ranges::equal(word.ids(), ids); });
  if (!known) words->Add()->mutable_ids()->Add(ids.begin(), ids.end());
}

absl::Status AddSpelling(const Tokenizer& tokenizer, const std::string& text, const std::string& field,
                         TokenLists* words) {
  const absl::StatusOr<Encoding> encoding =
      tokenizer.Encode(text, {.add_special_tokens = false, .is_answer = true, .max_tokens = kMaxBadWordIds});
  if (!encoding.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", std::string(encoding.status().message())));
  }
  if (encoding->too_long || encoding->ids.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(field, " has ", encoding->ids.empty() ? "no" : "too many",
                                                   " tokens; allowed are 1 to ", kMaxBadWordIds));
  }
  AddWord(encoding->ids, words);
  return absl::OkStatus();
}

// Whether a token's beginning can be the end of the string, or the string stands in a token.
bool SomeTokenEnds(std::string_view string, const TokenBytes& texts, int32_t vocab_size) {
  for (int32_t token = 0; token < vocab_size; ++token) {
    const std::string_view text = texts[token];
    if (text.find(string) != std::string_view::npos) return true;
    for (size_t length = 1; length <= std::min(text.size(), string.size()); ++length) {
      if (string.ends_with(text.substr(0, length))) return true;
    }
  }
  return false;
}

}  // namespace

absl::Status TakeBadWords(const Tokenizer& tokenizer, v1::DecodingParameters* merged) {
  if (merged->bad_words().empty()) return absl::OkStatus();
  TokenLists* words = merged->mutable_bad_words_ids();
  const bool off = words->size() == 1 && words->at(0).ids_size() == 1 && words->at(0).ids(0) == -1;
  if (off) words->Clear();
  for (int i = 0; i < merged->bad_words_size(); ++i) {
    const std::string field = absl::StrCat("bad_words[", i, "]");
    for (const std::string& text : {merged->bad_words(i), absl::StrCat(" ", merged->bad_words(i))}) {
      if (absl::Status status = AddSpelling(tokenizer, text, field, words); !status.ok()) return status;
    }
  }
  if (words->size() > kMaxBadWords) {
    return absl::InvalidArgumentError(absl::StrCat("bad_words is a list of ", merged->bad_words_size(),
                                                   ", which with bad_words_ids is ", words->size(),
                                                   " words of ids; allowed are at most ", kMaxBadWords));
  }
  merged->clear_bad_words();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const StopStrings>> StopStringsOf(const ServedModel& model,
                                                                 const v1::DecodingParameters& merged) {
  if (merged.stop_strings().empty() || merged.stop_strings(0).empty()) return nullptr;
  auto stop = std::make_shared<StopStrings>();
  stop->texts = model.token_bytes();
  stop->strings.assign(merged.stop_strings().begin(), merged.stop_strings().end());
  stop->most_tokens = 0;
  for (const std::string& string : stop->strings) {
    stop->most_tokens = std::max(stop->most_tokens, model.tokenizer().LengthInTokensAtMost(string));
  }
  const bool some_end = std::any_of(stop->strings.begin(), stop->strings.end(), [&](const std::string& string) {
    return SomeTokenEnds(string, *stop->texts, model.tokenizer().vocab_size());
  });
  if (some_end) return stop;
  return absl::InvalidArgumentError(
      absl::StrCat("stop_strings is \"", stop->strings.front(), stop->strings.size() > 1 ? "\", ..." : "\"",
                   "; allowed are texts of which the tokenizer's tokens can make the end"));
}

}  // namespace elserve
