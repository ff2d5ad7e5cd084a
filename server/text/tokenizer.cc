#include "server/text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/text/byte_level.h"
#include "server/text/span_trim.h"
#include "server/text/text_encoder.h"
#include "server/text/tokenizer_files.h"
#include "server/text/tokenizer_spec.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

// Positions in a text are 32 bits wide, and normalizing may make it several times as long.
constexpr size_t kMaxTextBytes = 256 << 20;

// What a step's error is about: "tokenizer.json: decoder has ...".
absl::Status About(std::string_view source, std::string_view key, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s %s", source, key, std::string(status.message())));
}

using ModelSpec = decltype(TokenizerSpec::model);

absl::StatusOr<std::unique_ptr<TokenModel>> MakeModel(ModelSpec spec) {
  if (auto* renumbered = std::get_if<RenumberedSpec>(&spec)) {
    absl::StatusOr<std::unique_ptr<RenumberedModel>> model = RenumberedModel::Create(std::move(*renumbered));
    if (!model.ok()) return model.status();
    return std::move(*model);
  }
  if (auto* bpe = std::get_if<BpeSpec>(&spec)) return MakeTokenModel(std::move(*bpe));
  return MakeTokenModel(std::move(std::get<UnigramSpec>(spec)));
}

absl::Status AddTokens(const std::vector<StatedToken>& stated, const TokenModel& model, AddedTokens& added) {
  for (const StatedToken& token : stated) {
    const absl::StatusOr<int32_t> id = added.Add(token.token, model.vocabulary());
    if (!id.ok()) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: %s", token.source, std::string(id.status().message())));
    }
    if (token.id && *token.id != *id) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: \"%s\" is said to have the id %d, but its place in the vocabulary is %d", token.source,
                          token.token.content, *token.id, *id));
    }
  }
  return absl::OkStatus();
}

// The steps of `spec` with this model and normalizer, which were read from the file `source`.
absl::StatusOr<TextPipeline> MakePipeline(const TokenizerSpec& spec, std::string_view source, ModelSpec model_spec,
                                          const std::vector<normalizer::Step>& normalizer_steps) {
  TextPipeline pipeline;
  absl::StatusOr<std::unique_ptr<TokenModel>> model = MakeModel(std::move(model_spec));
  if (!model.ok()) return model.status();
  pipeline.model = std::move(*model);
  pipeline.leading_code = spec.leading_code;
  absl::StatusOr<Normalizer> normalizer = Normalizer::Create(normalizer_steps);
  if (!normalizer.ok()) return About(source, "normalizer", normalizer.status());
  pipeline.normalizer = *std::move(normalizer);
  absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::Create(spec.pre_tokenizer);
  if (!pre_tokenizer.ok()) return About(source, "pre_tokenizer", pre_tokenizer.status());
  pipeline.pre_tokenizer = *std::move(pre_tokenizer);
  const absl::Status added = AddTokens(spec.added, *pipeline.model, pipeline.added);
  if (!added.ok()) return added;
  pipeline.added.Prepare(*pipeline.normalizer);
  pipeline.ends_words = pipeline.pre_tokenizer->ends_words() && !pipeline.added.takes_spaces_behind();
  return pipeline;
}

}  // namespace

struct Tokenizer::State {
  TextPipeline pipeline;
  std::optional<TextPipeline> answers;  // of answers, where they have one of their own
  std::optional<Decoder> decoder;
  Frame frame;
  std::vector<SpanTrim> span_trims;
  std::vector<Language> languages;
  bool source_in_frame = false;
  TargetLanguageUse target_use = TargetLanguageUse::kNone;
  std::optional<int64_t> model_max_length;
  TruncationSide truncation_side = TruncationSide::kRight;

  absl::Status Build(TokenizerSpec spec);
  absl::Status SetFrame(const std::vector<FrameToken>& tokens, std::vector<int32_t>& ids) const;
  absl::Status SetLanguages(const LanguageSpec& spec);

  std::optional<int32_t> TokenId(std::string_view token) const;
  std::optional<std::string_view> TokenText(int32_t id) const;
  const Language* FindLanguage(std::string_view code) const;
  bool IsLanguage(int32_t id) const;
  void SetSource(int32_t id, Frame& frame) const;
  // About a code that is none of the languages, or (not `taken`) the model has no use for.
  absl::Status RefusedLanguage(std::string_view field, std::string_view code, bool taken = true) const;
};

absl::Status Tokenizer::State::Build(TokenizerSpec spec) {
  absl::StatusOr<TextPipeline> sources = MakePipeline(spec, spec.source, std::move(spec.model), spec.normalizer);
  if (!sources.ok()) return sources.status();
  pipeline = *std::move(sources);
  if (spec.answers) {
    absl::StatusOr<TextPipeline> made =
        MakePipeline(spec, spec.answers->source, std::move(spec.answers->model), spec.answers->normalizer);
    if (!made.ok()) return made.status();
    answers = *std::move(made);
  }
  absl::StatusOr<Decoder> made_decoder = Decoder::Create(std::move(spec.decoder));
  if (!made_decoder.ok()) return About(spec.source, "decoder", made_decoder.status());
  decoder = *std::move(made_decoder);
  if (absl::Status status = SetFrame(spec.before, frame.before); !status.ok()) return status;
  if (absl::Status status = SetFrame(spec.after, frame.after); !status.ok()) return status;
  span_trims = spec.span_trims;
  model_max_length = spec.model_max_length;
  truncation_side = spec.truncation_side;
  return SetLanguages(spec.languages);
}

absl::Status Tokenizer::State::SetFrame(const std::vector<FrameToken>& tokens, std::vector<int32_t>& ids) const {
  for (const FrameToken& token : tokens) {
    const std::optional<int32_t> id = token.id ? token.id : TokenId(token.content);
    if (!id || !TokenText(*id)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: \"%s\" is not a token of the vocabulary", token.source, token.content));
    }
    ids.push_back(*id);
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::State::SetLanguages(const LanguageSpec& spec) {
  for (const auto& [code, token] : spec.tokens) {
    if (const std::optional<int32_t> id = TokenId(token)) languages.push_back({code, *id});
  }
  if (languages.empty()) return absl::OkStatus();
  target_use = spec.target_use;
  const auto in_frame = [&](const std::vector<int32_t>& ids) {
    return std::any_of(ids.begin(), ids.end(), [&](int32_t id) { return IsLanguage(id); });
  };
  source_in_frame = spec.source_in_frame && (in_frame(frame.before) || in_frame(frame.after));
  if (!source_in_frame || !spec.source) return absl::OkStatus();
  const Language* const source = FindLanguage(*spec.source);
  if (source == nullptr) return RefusedLanguage(spec.source_key, *spec.source);
  SetSource(source->id, frame);
  return absl::OkStatus();
}

std::optional<int32_t> Tokenizer::State::TokenId(std::string_view token) const {
  const std::optional<int32_t> id = pipeline.added.TokenId(token);
  return id ? id : pipeline.model->TokenId(token);
}

std::optional<std::string_view> Tokenizer::State::TokenText(int32_t id) const {
  const auto added = pipeline.added.by_id().find(id);
  if (added != pipeline.added.by_id().end()) return added->second.content;
  return pipeline.model->vocabulary().Spelling(id);
}

const Language* Tokenizer::State::FindLanguage(std::string_view code) const {
  const auto found =
      std::find_if(languages.begin(), languages.end(), [&](const Language& l) { return l.code == code; });
  return found == languages.end() ? nullptr : &*found;
}

bool Tokenizer::State::IsLanguage(int32_t id) const {
  return std::any_of(languages.begin(), languages.end(), [&](const Language& l) { return l.id == id; });
}

void Tokenizer::State::SetSource(int32_t id, Frame& changed) const {
  for (std::vector<int32_t>* ids : {&changed.before, &changed.after}) {
    std::replace_if(
        ids->begin(), ids->end(), [&](int32_t token) { return IsLanguage(token); }, id);
  }
}

absl::Status Tokenizer::State::RefusedLanguage(std::string_view field, std::string_view code, bool taken) const {
  constexpr size_t kShownBytes = 64;  // codes come from requests, and are shorter
  const std::string known =
      absl::StrJoin(languages, ", ", [](std::string* out, const Language& l) { absl::StrAppend(out, l.code); });
  return absl::InvalidArgumentError(absl::StrFormat("%s is \"%s\"; the model %s", field,
                                                    absl::CEscape({code.data(), std::min(code.size(), kShownBytes)}),
                                                    taken ? absl::StrCat("knows ", known) : "takes none"));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::filesystem::path& directory) {
  if (absl::Status status = CheckUnicodePatterns(); !status.ok()) return status;
  absl::StatusOr<TokenizerSpec> spec = ReadTokenizerFiles(directory);
  if (!spec.ok()) return spec.status();
  auto state = std::make_unique<State>();
  if (absl::Status status = state->Build(*std::move(spec)); !status.ok()) return status;
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(state)));
}

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<Frame> Tokenizer::FrameOf(std::string_view source_language, std::string_view target_language) const {
  Frame frame = state_->frame;
  if (!source_language.empty()) {
    const Language* const source = state_->FindLanguage(source_language);
    if (source == nullptr || !state_->source_in_frame) {
      return state_->RefusedLanguage("source_language", source_language, state_->source_in_frame);
    }
    state_->SetSource(source->id, frame);
  }
  if (!target_language.empty()) {
    const bool taken = state_->target_use != TargetLanguageUse::kNone;
    const Language* const target = state_->FindLanguage(target_language);
    if (target == nullptr || !taken) return state_->RefusedLanguage("target_language", target_language, taken);
    frame.target = target->id;
    if (state_->target_use == TargetLanguageUse::kBeforeText) frame.before.push_back(target->id);
  }
  return frame;
}

absl::StatusOr<Encoding> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the text has %d bytes: at most %d can be tokenized", text.size(), kMaxTextBytes));
  }
  if (absl::Status status = CheckUtf8(text, "the text"); !status.ok()) return status;
  Frame frame;
  if (options.add_special_tokens) {
    absl::StatusOr<Frame> made = FrameOf(options.source_language, options.target_language);
    if (!made.ok()) return made.status();
    frame = *std::move(made);
  }
  size_t room = std::numeric_limits<size_t>::max();
  if (options.max_tokens) {
    if (*options.max_tokens < frame.size()) {
      return absl::InvalidArgumentError(absl::StrFormat("max_tokens is %d: %d tokens stand around a text already",
                                                        *options.max_tokens, frame.size()));
    }
    room = *options.max_tokens - frame.size();
  }
  const bool keeps_end = options.truncate && truncates_left();
  const TextPipeline& pipeline = options.is_answer && state_->answers ? *state_->answers : state_->pipeline;
  TextEncoder encoder(pipeline,
                      {.tokens = keeps_end ? std::numeric_limits<size_t>::max() : room, .keep = options.truncate});
  const absl::Status encoded = options.spans ? encoder.EncodeWithSpans(text) : encoder.Encode(text);
  if (!encoded.ok()) return encoded;
  TokenList& tokens = encoder.tokens();
  if (options.spans) TrimSpans(text, state_->span_trims, pipeline, tokens);
  Encoding encoding;
  encoding.too_long = encoder.exceeded() || tokens.ids.size() > room;
  const size_t count = std::min(tokens.ids.size(), room);
  const auto first = static_cast<ptrdiff_t>(keeps_end ? tokens.ids.size() - count : 0);
  const auto last = first + static_cast<ptrdiff_t>(count);
  encoding.ids = std::move(frame.before);
  encoding.ids.insert(encoding.ids.end(), tokens.ids.begin() + first, tokens.ids.begin() + last);
  if (options.spans) {
    encoding.spans.resize(encoding.ids.size() - count);
    encoding.spans.insert(encoding.spans.end(), tokens.spans.begin() + first, tokens.spans.begin() + last);
    encoding.spans.resize(encoding.spans.size() + frame.after.size());
  }
  encoding.ids.insert(encoding.ids.end(), frame.after.begin(), frame.after.end());
  return encoding;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  Detokenizer detokenizer = NewDetokenizer(skip_special_tokens);
  std::string text = detokenizer.Push(ids);
  return text += detokenizer.Finish();
}

Detokenizer Tokenizer::NewDetokenizer(bool skip_special_tokens) const {
  return Detokenizer({.added = state_->pipeline.added,
                      .vocabulary = state_->pipeline.model->vocabulary(),
                      .decoder = *state_->decoder},
                     skip_special_tokens);
}

std::vector<std::string> Tokenizer::TokenBytes() const {
  const Decoder& decoder = *state_->decoder;
  const bool bytes = decoder.Has<decoder::ByteFallback>();
  // What stands before: the beginning of a text is decoded in its own way.
  const absl::StatusOr<Encoding> before = Encode("abcdef", {.add_special_tokens = false});
  std::vector<int32_t> ids = before.ok() ? before->ids : std::vector<int32_t>();
  const std::string beginning = Decode(ids, /*skip_special_tokens=*/false);
  ids.push_back(0);
  std::vector<std::string> all(static_cast<size_t>(vocab_size()));
  for (int32_t id = 0; id < vocab_size(); ++id) {
    std::string& own = all[static_cast<size_t>(id)];
    std::optional<std::string_view> token = state_->pipeline.added.DecodedText(id);
    if (!token) token = TokenText(id);
    if (!token) continue;
    if (decoder.Has<decoder::ByteLevel>()) {
      AppendTokenBytes(*token, own);
    } else if (const std::optional<char> byte = ByteOfToken(*token); bytes && byte) {
      own = *byte;
    } else {
      ids.back() = id;
      const std::string text = Decode(ids, /*skip_special_tokens=*/false);
      if (text.starts_with(beginning)) own = text.substr(beginning.size());
    }
  }
  return all;
}

size_t Tokenizer::LengthInTokensAtMost(std::string_view text) const {
  const Decoder& decoder = *state_->decoder;
  if (decoder.Has<decoder::ByteLevel>() || decoder.Has<decoder::ByteFallback>()) return text.size();
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

int32_t Tokenizer::vocab_size() const {
  return std::max(state_->pipeline.model->vocabulary().end_id(), state_->pipeline.added.end_id());
}

bool Tokenizer::is_special(int32_t id) const {
  std::optional<std::string_view> token = state_->pipeline.added.DecodedText(id);
  if (!token) token = TokenText(id);
  return token && state_->pipeline.added.is_special(*token);
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view token) const { return state_->TokenId(token); }
std::optional<std::string_view> Tokenizer::TokenText(int32_t id) const { return state_->TokenText(id); }
std::optional<int64_t> Tokenizer::model_max_length() const { return state_->model_max_length; }
bool Tokenizer::truncates_left() const { return state_->truncation_side == TruncationSide::kLeft; }
const std::vector<Language>& Tokenizer::languages() const { return state_->languages; }
bool Tokenizer::has_source_language() const { return state_->source_in_frame; }
TargetLanguageUse Tokenizer::target_language_use() const { return state_->target_use; }

}  // namespace elserve
