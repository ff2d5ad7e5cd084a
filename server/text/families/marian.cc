// Marian: vocab.json over the pieces of two models, source.spm for texts and target.spm for answers (MarianTokenizer).
// Python's tokenizer, not the tokenizers library: SentencePiece runs with its own normalizing and arithmetic.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "server/text/families/sentencepiece_family.h"

namespace elserve {
namespace {

constexpr char kSourceFile[] = "source.spm";
constexpr char kTargetFile[] = "target.spm";
constexpr char kVocabFile[] = "vocab.json";

UnigramSpec::Piece::Use UseOf(SentencePieceModel::Type type) {
  using Type = SentencePieceModel::Type;
  using Use = UnigramSpec::Piece::Use;
  switch (type) {
    case Type::kNormal:
      return Use::kNormal;
    case Type::kUserDefined:
      return Use::kUserDefined;
    case Type::kUnused:
      return Use::kUnused;
    default:
      return Use::kNotText;
  }
}

UnigramSpec UnigramOf(const SentencePieceModel& model, const char* file) {
  UnigramSpec unigram;
  unigram.source = file;
  unigram.unk_id = model.unk_id;
  unigram.byte_fallback = model.byte_fallback;
  unigram.arithmetic = UnigramArithmetic::kSentencePiece;
  unigram.pieces.reserve(model.pieces.size());
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    unigram.pieces.push_back({.text = piece.text, .score = piece.score, .use = UseOf(piece.type)});
  }
  return unigram;
}

absl::StatusOr<BpeSpec> BpeOf(const SentencePieceModel& model, const char* file) {
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    if (piece.type != SentencePieceModel::Type::kUserDefined) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the user-defined piece \"%s\" is not supported in a BPE model", file, piece.text));
  }
  auto merges = DeriveMerges(model);
  if (!merges.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s", file, std::string(merges.status().message())));
  }
  BpeSpec bpe;
  bpe.vocab_source = file;
  bpe.merges_source = absl::StrFormat("%s: merges", file);
  bpe.alphabet = BpeAlphabet::kCharacters;
  bpe.byte_fallback = model.byte_fallback;
  bpe.unk_token = model.pieces[static_cast<size_t>(model.unk_id)].text;
  bpe.fuse_unk = true;
  bpe.merges = *std::move(merges);
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    bpe.vocab.emplace_back(piece.text, static_cast<int32_t>(bpe.vocab.size()));
  }
  return bpe;
}

using VocabList = std::vector<std::pair<std::string, int32_t>>;

absl::StatusOr<VocabList> ReadVocab(const FamilyFiles& files) {
  absl::StatusOr<JsonFile> file = JsonFile::Read(files.directory / kVocabFile);
  if (!file.ok()) return file.status();
  if (!file->exists()) {
    return absl::NotFoundError(
        absl::StrFormat("%s has no %s, which a Marian tokenizer needs", files.directory.string(), kVocabFile));
  }
  VocabList vocab;
  vocab.reserve(file->root().size());
  for (const auto& [token, id] : file->root().items()) {
    vocab.emplace_back(token, file->Id(id, absl::StrFormat("[\"%s\"]", token)));
  }
  if (!file->status().ok()) return file->status();
  return vocab;
}

// The model's pieces under the ids of `vocab`.
absl::StatusOr<RenumberedSpec> RenumberedOf(const SentencePieceModel& model, const char* file, VocabList vocab,
                                            const std::string& unk_token) {
  RenumberedSpec spec;
  if (model.kind == SentencePieceModel::Kind::kUnigram) {
    spec.pieces = UnigramOf(model, file);
  } else {
    absl::StatusOr<BpeSpec> bpe = BpeOf(model, file);
    if (!bpe.ok()) return bpe.status();
    spec.pieces = *std::move(bpe);
  }
  spec.vocab_source = kVocabFile;
  spec.vocab = std::move(vocab);
  spec.unk_token = unk_token;
  return spec;
}

normalizer::SentencePiece NormalizerOf(const SentencePieceModel& model) {
  normalizer::SentencePiece normalizer = {.charsmap = model.charsmap,
                                          .add_dummy_prefix = model.add_dummy_prefix,
                                          .remove_extra_whitespaces = model.remove_extra_whitespaces,
                                          .escape_whitespaces = model.escape_whitespaces,
                                          .treat_whitespace_as_suffix = model.treat_whitespace_as_suffix,
                                          .user_defined = {}};
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    if (piece.type == SentencePieceModel::Type::kUserDefined) normalizer.user_defined.push_back(piece.text);
  }
  return normalizer;
}

// What decoding has to know of each token: how the source's model, which transformers decodes with, takes its text.
decoder::SentencePiece DecodePieces(const SentencePieceModel& model, const VocabList& vocab) {
  using Kind = decoder::SentencePiece::Kind;
  using Type = SentencePieceModel::Type;
  absl::flat_hash_map<std::string, Type> types;
  for (const SentencePieceModel::Piece& piece : model.pieces) types.emplace(piece.text, piece.type);
  decoder::SentencePiece pieces;
  pieces.drops_first = model.add_dummy_prefix || model.remove_extra_whitespaces;
  pieces.drops_all_that_begin = model.remove_extra_whitespaces;
  for (const auto& [token, id] : vocab) {
    if (static_cast<size_t>(id) >= pieces.kinds.size()) pieces.kinds.resize(static_cast<size_t>(id) + 1);
    const auto type = types.find(token);
    Kind& kind = pieces.kinds[static_cast<size_t>(id)];
    if (type == types.end() || type->second == Type::kUnknown) {
      kind = Kind::kUnknown;
    } else if (type->second == Type::kControl) {
      kind = Kind::kControl;
    } else {
      kind = type->second == Type::kByte ? Kind::kByte : Kind::kPiece;
    }
  }
  return pieces;
}

absl::Status ReadMarian(const FamilyFiles& files, TokenizerSpec& spec) {
  if (files.config.Bool(files.config.root(), "", "separate_vocabs", false)) {
    files.config.Fail("separate_vocabs", "must be false: one vocab.json for both sides is supported");
    return files.config.status();
  }
  absl::StatusOr<VocabList> vocab = ReadVocab(files);
  if (!vocab.ok()) return vocab.status();
  absl::StatusOr<SentencePieceModel> source = ReadFamilyModel(files, kSourceFile);
  if (!source.ok()) return source.status();
  absl::StatusOr<SentencePieceModel> target = ReadFamilyModel(files, kTargetFile);
  if (!target.ok()) return target.status();
  spec.source = kSourceFile;
  spec.normalizer.emplace_back(NormalizerOf(*source));
  spec.decoder.emplace_back(DecodePieces(*source, *vocab));
  spec.decoder.emplace_back(decoder::TrimWhiteSpace{});
  spec.leading_code = true;
  spec.after = {NamedFrameToken(files.special.Content("eos_token").value_or("</s>"), kVocabFile)};
  for (const auto& [token, id] : *vocab) {
    if (token.size() > 4 && absl::StartsWith(token, ">>") && absl::EndsWith(token, "<<")) {
      spec.languages.tokens.emplace_back(token.substr(2, token.size() - 4), token);
    }
  }
  std::sort(spec.languages.tokens.begin(), spec.languages.tokens.end());
  spec.languages.target_use = TargetLanguageUse::kBeforeText;
  const std::string unk_token = files.special.Content("unk_token").value_or("<unk>");
  absl::StatusOr<RenumberedSpec> answers = RenumberedOf(*target, kTargetFile, *vocab, unk_token);
  if (!answers.ok()) return answers.status();
  spec.answers = AnswerSpec{kTargetFile, *std::move(answers), {NormalizerOf(*target)}};
  absl::StatusOr<RenumberedSpec> model = RenumberedOf(*source, kSourceFile, *std::move(vocab), unk_token);
  if (!model.ok()) return model.status();
  spec.model = *std::move(model);
  return absl::OkStatus();
}

}  // namespace

const TokenizerFamily kMarianTokenizer = {.class_name = "MarianTokenizer",
                                          .tokens = {nullptr, "</s>", "<unk>", nullptr, "<pad>", nullptr, nullptr},
                                          .read = ReadMarian,
                                          .read_languages = nullptr};

}  // namespace elserve
