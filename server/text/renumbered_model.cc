#include "server/text/renumbered_model.h"

#include "absl/strings/str_format.h"

namespace elserve {

struct RenumberedModel::Buffers : TokenModel::Scratch {
  std::unique_ptr<Scratch> pieces;
  TokenList tokens;
};

absl::StatusOr<std::unique_ptr<TokenModel>> MakeTokenModel(const std::variant<BpeSpec, UnigramSpec>& spec) {
  if (const auto* bpe = std::get_if<BpeSpec>(&spec)) {
    absl::StatusOr<std::unique_ptr<BpeModel>> model = BpeModel::Create(*bpe);
    if (!model.ok()) return model.status();
    return std::move(*model);
  }
  absl::StatusOr<std::unique_ptr<UnigramModel>> model = UnigramModel::Create(std::get<UnigramSpec>(spec));
  if (!model.ok()) return model.status();
  return std::move(*model);
}

absl::StatusOr<std::unique_ptr<RenumberedModel>> RenumberedModel::Create(RenumberedSpec spec) {
  absl::StatusOr<std::unique_ptr<TokenModel>> pieces = MakeTokenModel(spec.pieces);
  if (!pieces.ok()) return pieces.status();
  absl::StatusOr<Vocabulary> vocabulary = Vocabulary::Create(std::move(spec.vocab), spec.vocab_source);
  if (!vocabulary.ok()) return vocabulary.status();
  const std::optional<int32_t> unk = vocabulary->TokenId(spec.unk_token);
  if (!unk) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has no unknown token \"%s\"", spec.vocab_source, spec.unk_token));
  }
  return std::unique_ptr<RenumberedModel>(new RenumberedModel(*std::move(vocabulary), *std::move(pieces), *unk));
}

RenumberedModel::RenumberedModel(Vocabulary vocabulary, std::unique_ptr<TokenModel> pieces, int32_t unk_id)
    : TokenModel(std::move(vocabulary)), pieces_(std::move(pieces)), unk_id_(unk_id) {
  const Vocabulary& own = pieces_->vocabulary();
  ids_.reserve(static_cast<size_t>(own.end_id()));
  for (int32_t id = 0; id < own.end_id(); ++id) {
    const std::optional<std::string_view> spelling = own.Spelling(id);
    ids_.push_back(spelling ? TokenId(*spelling).value_or(unk_id_) : unk_id_);
  }
}

std::unique_ptr<TokenModel::Scratch> RenumberedModel::MakeScratch() const {
  auto buffers = std::make_unique<Buffers>();
  buffers->pieces = pieces_->MakeScratch();
  buffers->tokens.with_spans = true;
  return buffers;
}

bool RenumberedModel::Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const {
  auto& buffers = static_cast<Buffers&>(scratch);
  buffers.tokens.ids.clear();
  buffers.tokens.spans.clear();
  const bool all = pieces_->Encode(piece, max_tokens, *buffers.pieces, buffers.tokens);
  const std::optional<int32_t> unknown = pieces_->unk_id();
  for (size_t i = 0; i < buffers.tokens.ids.size(); ++i) {
    const int32_t own = buffers.tokens.ids[i];
    const TextSpan span = buffers.tokens.spans[i];
    // What the model does not know is called by its text, which the vocabulary may have: from the other model.
    const int32_t id = own == unknown ? TokenId(piece.substr(span.begin, span.end - span.begin)).value_or(unk_id_)
                                      : ids_[static_cast<size_t>(own)];
    tokens.Add(id, span.begin, span.end);
  }
  return all;
}

}  // namespace elserve
