#include "server/text/families/sentencepiece_family.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

constexpr int32_t kMaxCount = 100000;  // of tokens that a configuration makes up

absl::Status FillModel(const SentencePieceModel& model, std::string_view name, ScoredPieces pieces, int32_t unk_id,
                       TokenizerSpec& spec) {
  if (model.kind == SentencePieceModel::Kind::kUnigram) {
    UnigramSpec unigram;
    unigram.source = name;
    unigram.unk_id = unk_id;
    unigram.pieces.reserve(pieces.size());
    for (auto& [text, score] : pieces) unigram.pieces.push_back({.text = std::move(text), .score = score});
    spec.model = std::move(unigram);
    return absl::OkStatus();
  }
  BpeSpec bpe;
  bpe.vocab_source = name;
  bpe.merges_source = absl::StrFormat("%s: merges", name);
  bpe.alphabet = BpeAlphabet::kCharacters;
  bpe.unk_token = model.pieces[static_cast<size_t>(model.unk_id)].text;
  bpe.fuse_unk = true;
  auto merges = DeriveMerges(model);
  if (!merges.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", name, std::string(merges.status().message())));
  }
  bpe.merges = *std::move(merges);
  for (auto& [text, score] : pieces) bpe.vocab.emplace_back(std::move(text), static_cast<int32_t>(bpe.vocab.size()));
  spec.model = std::move(bpe);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> ReadFamilyModel(const FamilyFiles& files, std::string_view name) {
  absl::StatusOr<SentencePieceModel> model = ReadSentencePieceModel(files.directory / name);
  if (!absl::IsNotFound(model.status())) return model;
  return absl::NotFoundError(absl::StrFormat("%s has neither tokenizer.json nor %s: a tokenizer needs one of them",
                                             files.directory.string(), name));
}

void AppendPieces(const SentencePieceModel& model, size_t first, ScoredPieces& pieces) {
  for (size_t i = first; i < model.pieces.size(); ++i) {
    pieces.emplace_back(model.pieces[i].text, model.pieces[i].score);
  }
}

absl::Status FillFromModel(const SentencePieceModel& model, std::string_view name, ScoredPieces pieces, int32_t unk_id,
                           TokenizerSpec& spec) {
  if (pieces.size() > static_cast<size_t>(kMaxTokenId) + 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s makes a vocabulary of %d tokens: at most %d", name, pieces.size(), kMaxTokenId + 1));
  }
  absl::Status filled = FillModel(model, name, std::move(pieces), unk_id, spec);
  if (!filled.ok()) return filled;
  spec.source = name;
  if (!model.charsmap.empty()) spec.normalizer.emplace_back(normalizer::Precompiled{model.charsmap});
  spec.normalizer.emplace_back(normalizer::Strip{.left = false, .right = true});
  spec.normalizer.emplace_back(normalizer::Replace{.pattern = " {2,}", .is_regex = true, .content = "\u2581"});
  spec.pre_tokenizer.emplace_back(pre_tokenizer::Metaspace{});
  spec.decoder.emplace_back(decoder::Metaspace{});
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    const bool control = piece.type == SentencePieceModel::Type::kControl;
    if (!control && piece.type != SentencePieceModel::Type::kUserDefined) continue;
    AddedToken token;
    token.content = piece.text;
    token.normalized = false;
    token.special = control;
    spec.added.push_back({std::move(token), std::nullopt, std::string(name)});
  }
  return absl::OkStatus();
}

FrameToken NamedFrameToken(std::string content, std::string_view file) {
  return {std::nullopt, std::move(content), absl::StrFormat("%s: the frame of a text", file)};
}

int32_t ReadCount(JsonFile& config, const char* key, int32_t fallback) {
  const Json* const value = JsonFile::Find(config.root(), key);
  if (value == nullptr) return fallback;
  if (value->is_number_unsigned() && value->get<uint64_t>() <= static_cast<uint64_t>(kMaxCount)) {
    return static_cast<int32_t>(value->get<uint64_t>());
  }
  config.Fail(key, absl::StrFormat("must be a whole number from 0 to %d", kMaxCount));
  return fallback;
}

}  // namespace elserve
