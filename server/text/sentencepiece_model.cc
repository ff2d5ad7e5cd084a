#include "server/text/sentencepiece_model.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "server/text/json_file.h"
#include "server/text/sentencepiece_model.pb.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Fields of the whole file's message.
constexpr int kPieces = 1;
constexpr int kTrainerSpec = 2;
constexpr int kNormalizerSpec = 3;

// Models have two or three times as many as pieces.
constexpr size_t kMaxMerges = 4 << 20;
constexpr size_t kMaxMergeBytes = 64 << 20;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::optional<SentencePieceModel::Type> TypeOf(sentencepiece::Piece::Type type) {
  using Type = SentencePieceModel::Type;
  switch (type) {
    case sentencepiece::Piece::NORMAL:
      return Type::kNormal;
    case sentencepiece::Piece::UNKNOWN:
      return Type::kUnknown;
    case sentencepiece::Piece::CONTROL:
      return Type::kControl;
    case sentencepiece::Piece::USER_DEFINED:
      return Type::kUserDefined;
    case sentencepiece::Piece::UNUSED:
      return Type::kUnused;
    case sentencepiece::Piece::BYTE:
      return Type::kByte;
  }
  return std::nullopt;
}

// Reads one file's fields; the first thing that is wrong is kept.
class Parser {
 public:
  Parser(std::string_view bytes, std::string_view name)
      : stream_(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size())), name_(name) {}

  absl::StatusOr<SentencePieceModel> Parse() {
    if (!ReadFields()) Fail("is not a SentencePiece model: its messages are broken");
    CheckPieces();
    SetTrainerSpec();
    SetNormalizerSpec();
    if (!status_.ok()) return status_;
    return std::move(model_);
  }

 private:
  template <typename... Args>
  void Fail(const absl::FormatSpec<Args...>& format, const Args&... args) {
    if (status_.ok())
      status_ = absl::InvalidArgumentError(absl::StrFormat("%s ", name_) + absl::StrFormat(format, args...));
  }

  // False if the bytes are no message, or after Fail.
  bool ReadFields() {
    while (const uint32_t tag = stream_.ReadTag()) {
      const bool message = WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
      switch (message ? WireFormatLite::GetTagFieldNumber(tag) : 0) {
        case kPieces:
          if (!ReadPiece()) return false;
          break;
        case kTrainerSpec:
          if (!Merge(trainer_)) return false;
          break;
        case kNormalizerSpec:
          if (!Merge(normalizer_)) return false;
          break;
        default:
          if (!WireFormatLite::SkipField(&stream_, tag)) return false;
      }
    }
    return stream_.ConsumedEntireMessage();
  }

  template <typename Message>
  bool Merge(Message& message) {
    std::string bytes;
    uint32_t size = 0;
    return stream_.ReadVarint32(&size) && size <= static_cast<uint32_t>(kMaxTokenizerFileBytes) &&
           stream_.ReadString(&bytes, static_cast<int>(size)) && message.MergeFromString(bytes);
  }

  bool ReadPiece() {
    const size_t id = model_.pieces.size();
    if (id == SentencePieceModel::kMaxPieces) {
      Fail("has more than %d pieces", id);
      return false;
    }
    sentencepiece::Piece message;
    if (!Merge(message)) return false;
    SentencePieceModel::Piece& piece = model_.pieces.emplace_back();
    piece.text = message.piece();
    piece.score = message.score();
    piece.type = TypeOf(message.type()).value_or(SentencePieceModel::Type::kNormal);
    return true;
  }

  void SetTrainerSpec() {
    using Trainer = sentencepiece::TrainerSpec;
    if (trainer_.model_type() != Trainer::UNIGRAM && trainer_.model_type() != Trainer::BPE) {
      Fail("has the model type %s: unigram and bpe are supported",
           trainer_.model_type() == Trainer::WORD ? "word" : "char");
    }
    model_.kind =
        trainer_.model_type() == Trainer::BPE ? SentencePieceModel::Kind::kBpe : SentencePieceModel::Kind::kUnigram;
    model_.trainer_unk_id = Id("unk_id", trainer_.unk_id());
    model_.bos_id = Id("bos_id", trainer_.bos_id());
    model_.eos_id = Id("eos_id", trainer_.eos_id());
    model_.pad_id = Id("pad_id", trainer_.pad_id());
    model_.byte_fallback = trainer_.byte_fallback();
    model_.treat_whitespace_as_suffix = trainer_.treat_whitespace_as_suffix();
  }

  int32_t Id(std::string_view field, int32_t id) {
    if (id >= 0 && static_cast<size_t>(id) >= model_.pieces.size()) {
      Fail("has the %s %d in its trainer_spec, and %d pieces", field, id, model_.pieces.size());
    }
    return std::max(id, -1);
  }

  void SetNormalizerSpec() {
    model_.add_dummy_prefix = normalizer_.add_dummy_prefix();
    model_.remove_extra_whitespaces = normalizer_.remove_extra_whitespaces();
    model_.escape_whitespaces = normalizer_.escape_whitespaces();
    model_.charsmap = std::move(*normalizer_.mutable_precompiled_charsmap());
  }

  // What ModelInterface::InitializePieces refuses, and text that is no UTF-8.
  void CheckPieces() {
    if (model_.pieces.empty()) Fail("has no pieces");
    absl::flat_hash_set<absl::string_view> seen;
    int32_t unknown = -1;
    size_t bytes = 0;
    for (size_t i = 0; i < model_.pieces.size() && status_.ok(); ++i) {
      const SentencePieceModel::Piece& piece = model_.pieces[i];
      bytes += piece.text.size();
      if (piece.text.empty() || piece.text.size() > SentencePieceModel::kMaxPieceBytes) {
        Fail("has a piece of %d bytes (id %d): pieces must have 1 to %d", piece.text.size(), i,
             SentencePieceModel::kMaxPieceBytes);
      } else if (bytes > SentencePieceModel::kMaxTextBytes) {
        Fail("has pieces of more than %d bytes together", SentencePieceModel::kMaxTextBytes);
      } else if (FirstInvalidUtf8(piece.text)) {
        Fail("has a piece that is not valid UTF-8 (id %d)", i);
      } else if (!std::isfinite(piece.score)) {
        Fail("has the piece \"%s\" (id %d) with the score %g: scores must be finite", piece.text, i, piece.score);
      } else if (!seen.insert(View(piece.text)).second) {
        Fail("has the piece \"%s\" twice (id %d)", piece.text, i);
      }
      if (piece.type != SentencePieceModel::Type::kUnknown) continue;
      if (unknown >= 0) Fail("has two unknown pieces (ids %d and %d)", unknown, i);
      unknown = static_cast<int32_t>(i);
    }
    if (unknown < 0) Fail("has no unknown piece");
    model_.unk_id = unknown;
  }

  CodedInputStream stream_;
  std::string name_;
  sentencepiece::TrainerSpec trainer_;
  sentencepiece::NormalizerSpec normalizer_;
  SentencePieceModel model_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes, std::string_view name) {
  if (bytes.size() > static_cast<size_t>(kMaxTokenizerFileBytes)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d bytes: a tokenizer's file may have at most %d", name,
                                                      bytes.size(), kMaxTokenizerFileBytes));
  }
  return Parser(bytes, name).Parse();
}

absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(const std::filesystem::path& path) {
  const absl::StatusOr<std::string> bytes = ReadTokenizerFile(path);
  if (!bytes.ok()) return bytes.status();
  return ParseSentencePieceModel(*bytes, path.filename().string());
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> DeriveMerges(const SentencePieceModel& model) {
  absl::flat_hash_set<absl::string_view> pieces;
  for (const SentencePieceModel::Piece& piece : model.pieces) pieces.insert(View(piece.text));
  std::vector<std::pair<std::string, std::string>> merges;
  size_t bytes = 0;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const std::string_view left = text.substr(0, cut);
      const std::string_view right = text.substr(cut);
      if (!pieces.contains(View(left)) || !pieces.contains(View(right))) continue;
      merges.emplace_back(left, right);
      bytes += text.size();
      if (merges.size() > kMaxMerges || bytes > kMaxMergeBytes) {
        return absl::InvalidArgumentError(
            absl::StrFormat("its pieces can be cut into two pieces in more than %d ways, or ways of %d bytes",
                            kMaxMerges, kMaxMergeBytes));
      }
    }
  }
  return merges;
}

}  // namespace elserve
