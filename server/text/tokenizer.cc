#include "server/text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_format.h"
#include "server/text/added_tokens.h"
#include "server/text/bpe.h"
#include "server/text/byte_level.h"
#include "server/text/tokenizer_spec.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

// Positions in a text are 32 bits wide, and a space may be put before each of its pieces.
constexpr size_t kMaxTextBytes = 256 << 20;

// Words that come again in a text are looked up instead of merged again: at most so many of at most so many bytes.
constexpr size_t kMaxCachedWords = 1 << 15;
constexpr size_t kMaxCachedWordBytes = 64;

// absl::Hash is seeded, so that no text can be made to collide.
struct ViewHash {
  size_t operator()(std::string_view text) const {
    return absl::Hash<absl::string_view>()(absl::string_view(text.data(), text.size()));
  }
};

// Encodes the text pieces of one call.
class PieceEncoder {
 public:
  PieceEncoder(const TokenModel& model, bool use_regex, std::vector<int32_t>& ids)
      : model_(model), use_regex_(use_regex), ids_(ids), scratch_(model.MakeScratch()) {}

  // The piece must live as long as this. False if PCRE2 failed.
  bool Encode(std::string_view piece) {
    if (!use_regex_) {
      EncodeWord(piece);
      return true;
    }
    for (size_t at = 0; at < piece.size();) {
      const size_t length = splitter_.NextWord(piece, at);
      if (length == 0) return false;
      EncodeWord(piece.substr(at, length));
      at += length;
    }
    return true;
  }

 private:
  struct Range {  // of ids_
    size_t begin;
    size_t end;
  };

  void Append(std::string_view word) {
    tokens_.ids.clear();
    model_.Encode(word, std::numeric_limits<size_t>::max(), *scratch_, tokens_);
    ids_.insert(ids_.end(), tokens_.ids.begin(), tokens_.ids.end());
  }

  void EncodeWord(std::string_view word) {
    if (word.size() > kMaxCachedWordBytes) return Append(word);
    if (const auto seen = words_.find(word); seen != words_.end()) {
      for (size_t i = seen->second.begin; i < seen->second.end; ++i) ids_.push_back(ids_[i]);
      return;
    }
    const size_t begin = ids_.size();
    Append(word);
    if (words_.size() < kMaxCachedWords) words_.emplace(word, Range{begin, ids_.size()});
  }

  const TokenModel& model_;
  const bool use_regex_;
  std::vector<int32_t>& ids_;
  WordSplitter splitter_;
  std::unique_ptr<TokenModel::Scratch> scratch_;
  TokenList tokens_;
  absl::flat_hash_map<std::string_view, Range, ViewHash> words_;
};

}  // namespace

struct Tokenizer::State {
  // What an id stands for: parts of `arena`.
  struct Token {
    uint32_t text_begin = 0;
    uint32_t text_size = 0;  // 0: no token has this id
    uint32_t bytes_begin = 0;
    uint32_t bytes_size = 0;
    bool special = false;
  };

  std::unique_ptr<TokenModel> model;
  AddedTokens added;
  bool add_prefix_space = false;
  bool use_regex = true;
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  std::vector<Token> tokens;  // by id
  std::string arena;
  std::optional<int64_t> model_max_length;

  absl::Status Build(const TokenizerSpec& spec);
  absl::Status AddTokens(const std::vector<StatedToken>& stated);
  absl::Status SetFrame(const std::vector<FrameToken>& frame, std::vector<int32_t>& ids) const;
  absl::Status SetTokens();
  void SetToken(int32_t id, const std::string& text);
  const Token* Find(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < tokens.size() && tokens[id].text_size > 0 ? &tokens[id] : nullptr;
  }
  bool EncodePieces(std::string_view text, std::vector<int32_t>& ids) const;
};

absl::Status Tokenizer::State::Build(const TokenizerSpec& spec) {
  absl::StatusOr<std::unique_ptr<BpeModel>> made = BpeModel::Create(spec.model);
  if (!made.ok()) return made.status();
  model = std::move(*made);
  add_prefix_space = spec.add_prefix_space;
  use_regex = spec.use_regex;
  model_max_length = spec.model_max_length;
  if (absl::Status status = AddTokens(spec.added); !status.ok()) return status;
  added.Prepare();
  if (absl::Status status = SetTokens(); !status.ok()) return status;
  if (absl::Status status = SetFrame(spec.before, before); !status.ok()) return status;
  return SetFrame(spec.after, after);
}

absl::Status Tokenizer::State::AddTokens(const std::vector<StatedToken>& stated) {
  for (const StatedToken& token : stated) {
    const absl::StatusOr<int32_t> id = added.Add(token.token, model->vocabulary());
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

absl::Status Tokenizer::State::SetFrame(const std::vector<FrameToken>& frame, std::vector<int32_t>& ids) const {
  for (const FrameToken& token : frame) {
    std::optional<int32_t> id = token.id;
    if (!id) id = added.TokenId(token.content);
    if (!id || Find(*id) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: \"%s\" is not a token of the vocabulary", token.source, token.content));
    }
    ids.push_back(*id);
  }
  return absl::OkStatus();
}

void Tokenizer::State::SetToken(int32_t id, const std::string& text) {
  const std::string bytes = TokenSpellingToBytes(text);
  Token& token = tokens[id];
  token.text_begin = static_cast<uint32_t>(arena.size());
  token.text_size = static_cast<uint32_t>(text.size());
  arena += text;
  token.bytes_begin = static_cast<uint32_t>(arena.size());
  token.bytes_size = static_cast<uint32_t>(bytes.size());
  arena += bytes;
  token.special = added.is_special(text);
}

absl::Status Tokenizer::State::SetTokens() {
  int32_t highest = model->vocabulary().end_id() - 1;
  for (const auto& [id, token] : added.by_id()) highest = std::max(highest, id);
  tokens.resize(static_cast<size_t>(highest) + 1);
  for (int32_t id = 0; id < model->vocabulary().end_id(); ++id) {
    const std::optional<std::string_view> spelling = model->vocabulary().Spelling(id);
    if (spelling && !added.by_id().contains(id)) SetToken(id, std::string(*spelling));
  }
  for (const auto& [id, token] : added.by_id()) SetToken(id, token.content);
  // Files are bounded, and so is their text; this is far from what 32 bits hold.
  if (arena.size() > std::numeric_limits<uint32_t>::max())
    return absl::InvalidArgumentError("the vocabulary is too large");
  return absl::OkStatus();
}

bool Tokenizer::State::EncodePieces(std::string_view text, std::vector<int32_t>& ids) const {
  const std::vector<TextPiece> pieces = added.Split(text);
  // Pieces that get a space are copied here; never more than reserved, so that views into it stay valid.
  std::string spaced;
  if (add_prefix_space) spaced.reserve(text.size() + pieces.size());
  PieceEncoder encoder(*model, use_regex, ids);
  for (const TextPiece& piece : pieces) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    std::string_view part = text.substr(piece.begin, piece.end - piece.begin);
    if (add_prefix_space && part[0] != ' ') {
      const size_t begin = spaced.size();
      spaced.append(" ").append(part);
      part = std::string_view(spaced).substr(begin);
    }
    if (!encoder.Encode(part)) return false;
  }
  return true;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::filesystem::path& directory) {
  if (absl::Status status = CheckUnicodePatterns(); !status.ok()) return status;
  absl::StatusOr<TokenizerSpec> spec = ReadTokenizerFiles(directory);
  if (!spec.ok()) return spec.status();
  auto state = std::make_unique<State>();
  if (absl::Status status = state->Build(*spec); !status.ok()) return status;
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(state)));
}

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the text has %d bytes: at most %d can be tokenized", text.size(), kMaxTextBytes));
  }
  if (absl::Status status = CheckUtf8(text, "the text"); !status.ok()) return status;
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + state_->before.size() + state_->after.size());
  if (options.add_special_tokens) ids = state_->before;
  if (!state_->EncodePieces(text, ids)) return absl::InternalError("PCRE2 could not cut the text into words");
  if (options.add_special_tokens) ids.insert(ids.end(), state_->after.begin(), state_->after.end());
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (skip_special_tokens && is_special(id)) continue;
    bytes += TokenBytes(id);
  }
  if (!FirstInvalidUtf8(bytes)) return bytes;
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Character character = ReadUtf8(bytes, at);
    AppendUtf8(character.code_point, text);
    at += character.length;
  }
  return text;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  const State::Token* const token = state_->Find(id);
  if (token == nullptr) return {};
  return std::string_view(state_->arena).substr(token->bytes_begin, token->bytes_size);
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(state_->tokens.size()); }

bool Tokenizer::is_special(int32_t id) const {
  const State::Token* const token = state_->Find(id);
  return token != nullptr && token->special;
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view token) const {
  const std::optional<int32_t> id = state_->added.TokenId(token);
  return id ? id : state_->model->TokenId(token);
}

std::optional<std::string_view> Tokenizer::TokenText(int32_t id) const {
  const State::Token* const token = state_->Find(id);
  if (token == nullptr) return std::nullopt;
  return std::string_view(state_->arena).substr(token->text_begin, token->text_size);
}

std::optional<int64_t> Tokenizer::model_max_length() const { return state_->model_max_length; }

}  // namespace elserve
