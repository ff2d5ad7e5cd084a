#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/decode_layout_builder.h"
#include "engine/document_store.h"
#include "engine/encode_batch.h"
#include "engine/loading.h"
#include "engine/memory/slot_pool.h"
#include "engine/model/decoder.h"
#include "engine/model/encoder.h"
#include "engine/prefill_batch.h"
#include "engine/salience.h"
#include "engine/search_batch.h"
#include "engine/sequence.h"
#include "engine/sequence_pool.h"
#include "engine/update_pool.h"

namespace elserve {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

class ModelEngine final : public Engine {
 public:
  ModelEngine(LoadedModel model, std::unique_ptr<Encoder> encoder, std::unique_ptr<Decoder> prefill,
              std::unique_ptr<Decoder> decoder);

  const ModelInfo& info() const override { return model_.info; }
  absl::StatusOr<Resources> Measure(const SequenceSpec& spec) const override;
  Resources free() const override { return free_; }
  absl::Status Step(const StepPlan& plan, StepResult* result) override;

 private:
  absl::Status Admit(const Admission& admission);
  void End(const EndSequence& end);
  void Insert(Sequence* sequence);
  // Returns a sequence's memory and forgets it.
  void Release(Sequence* sequence);
  // Its document is encoded, or it has none.
  void Start(Sequence& sequence);
  void CollectEncoded(StepResult* result);
  absl::Status Advance(std::span<const SelectedRow> selected);
  // What a search made of its step.
  void Report(const SearchBatch::Entry& entry, int decoded_rows);

  LoadedModel model_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<Decoder> prefill_;
  std::unique_ptr<Decoder> decoder_;
  DocumentStore documents_;
  EncodeBatch encode_batch_;
  PrefillBatch prefill_batch_;
  DecodeLayoutBuilder decode_layout_;
  SlotPool blocks_;
  SalienceBiases biases_;
  Resources free_;  // encoder_pages: documents_.free_pages()
  // In flight: those of one document stand together, and among them those of equal salience.
  std::vector<Sequence*> sequences_;
  std::vector<Sequence*> decoding_;  // a step's: those that were in its decode layout
  SequencePool spare_;               // not in flight
  uint64_t admissions_ = 0;          // so far
  UpdatePool updates_;
  SearchBatch searches_;
  std::vector<int> decoded_rows_;  // of each of them in this step
};

ModelEngine::ModelEngine(LoadedModel model, std::unique_ptr<Encoder> encoder, std::unique_ptr<Decoder> prefill,
                         std::unique_ptr<Decoder> decoder)
    : model_(std::move(model)),
      encoder_(std::move(encoder)),
      prefill_(std::move(prefill)),
      decoder_(std::move(decoder)),
      documents_(model_.info.capacity.encoder_pages, model_.info.encoder_cache),
      encode_batch_(*encoder_, model_.info.encode_tokens_per_step, model_.info.max_source_tokens,
                    static_cast<int>(model_.info.capacity.rows)),
      prefill_batch_(model_.limits, model_.info.capacity.encoder_pages, model_.info.capacity.rows, documents_),
      decode_layout_(model_.info.capacity, model_.info.max_decoder_tokens, documents_),
      blocks_(model_.info.capacity.decoder_blocks),
      biases_(model_.info.salience, model_.info.decoder_heads, model_.info.max_source_tokens,
              model_.info.capacity.salient),
      free_(model_.info.capacity),
      spare_(model_.info),
      updates_(model_.info),
      searches_(int64_t{2} * model_.limits.select_rows, model_.info.vocab_size, model_.pool) {
  sequences_.reserve(model_.info.capacity.rows);
  decoding_.reserve(model_.info.capacity.rows);
  decoded_rows_.reserve(int64_t{2} * model_.limits.select_rows);
}

absl::StatusOr<Resources> ModelEngine::Measure(const SequenceSpec& spec) const {
  const ModelInfo& info = model_.info;
  const DecodingSpec& d = *spec.decoding;
  const auto too_much = [](const std::string& what, int64_t value, const char* limit, int64_t allowed) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, "; ", limit, " is ", allowed));
  };
  if (info.decoder_only && spec.source_tokens != 0) {
    return absl::InvalidArgumentError("the model is decoder-only: it takes no source");
  }
  if (!info.decoder_only && spec.source_tokens < 1) {
    return absl::InvalidArgumentError("the source has no tokens; at least 1 is needed");
  }
  if (spec.source_tokens > info.max_source_tokens) {
    return too_much("the source's number of tokens", spec.source_tokens, "the model's maximum", info.max_source_tokens);
  }
  if (d.max_length > info.max_decoder_tokens) {
    return too_much("max_length", d.max_length, "the model's maximum", info.max_decoder_tokens);
  }
  const auto prefix = static_cast<int64_t>(d.prefix.size());
  if (prefix < 1) return absl::InvalidArgumentError("the prefix has no tokens; at least 1 is needed");
  if (d.score_from > 0) {
    if (d.score_from >= prefix || d.max_length != prefix || d.num_beams != 1) {
      return absl::InvalidArgumentError(absl::StrCat("score_from is ", d.score_from, " in a prefix of ", prefix,
                                                     " tokens; allowed is 1 to ", prefix - 1));
    }
  } else if (prefix >= d.max_length) {
    return too_much("the prefix's number of tokens", prefix, "what leaves room for one more before max_length",
                    d.max_length - 1);
  }
  if (const absl::Status status = CheckSalience(d.salience, spec.source_tokens); !status.ok()) return status;
  Resources r;
  const char* const rows = d.do_sample ? "num_return_sequences" : "num_beams";
  r.rows = d.top_logprobs > 0 ? 2 * d.most_rows() : d.most_rows();
  r.whole_rows = NeedsWholeRows(d) ? d.most_rows() : 0;
  r.salient = d.salience.tokens.empty() ? 0 : 1;
  r.encoder_pages = (spec.source_tokens + kPageTokens - 1) / kPageTokens;
  // Every row takes a cell for each token that it is fed, all but the last; those of the prefix are shared.
  const int64_t cells = prefix - 1 + int64_t{d.most_rows()} * (d.max_length - prefix);
  r.decoder_blocks = (cells + kBlockCells - 1) / kBlockCells;
  // A decoder-only model's source is its prompt.
  r.edits = MaxEdits(d, info.decoder_only ? static_cast<int>(prefix) : spec.source_tokens);
  const Resources& all = info.capacity;
  if (r.rows > all.rows) {
    return too_much(absl::StrCat(rows, d.top_logprobs > 0 ? " x 2 (for top_logprobs)" : ""), r.rows,
                    "the model's max_rows", all.rows);
  }
  if (r.whole_rows > all.whole_rows) {
    return too_much(absl::StrCat(rows, ", each with its logits on the host,"), r.whole_rows,
                    "what the model has memory for", all.whole_rows);
  }
  if (r.encoder_pages > all.encoder_pages) {
    return too_much("the source's number of tokens", spec.source_tokens, "encoder memory in tokens",
                    all.encoder_pages * kPageTokens);
  }
  if (r.decoder_blocks > all.decoder_blocks) {
    const std::string shared = prefix > 1 ? absl::StrCat(" + ", prefix - 1) : "";
    return too_much(absl::StrCat(rows, " x (max_length - ", prefix, ")", shared), cells, "decoder memory in positions",
                    all.decoder_blocks * kBlockCells);
  }
  if (r.edits > all.edits)
    return too_much("the number of tokens that rules change in a step, at worst,", r.edits, "the model's maximum",
                    all.edits);
  return r;
}

absl::Status ModelEngine::Admit(const Admission& admission) {
  absl::StatusOr<Resources> needed = Measure({static_cast<int>(admission.source.size()), &admission.decoding});
  if (!needed.ok()) return needed.status();
  needed->encoder_pages = 0;  // the document's
  const bool encodes = !model_.info.decoder_only, fits = needed->Fits(free_);
  Document* const document = encodes && fits ? documents_.Acquire(admission.source) : nullptr;
  if (!fits || (encodes && document == nullptr)) return absl::InternalError("a plan admitted what does not fit");
  const DecodingSpec& d = admission.decoding;
  Sequence* s = spare_.Take(d);
  s->id = admission.id;
  s->stage = Sequence::Stage::kWaiting;
  s->document = document;
  s->stream = admission.stream;
  s->reported = 0;
  s->searches.Start(admission.decoding, encodes ? admission.source : admission.decoding.prefix);
  s->resources = *needed;
  s->cells = 0;
  s->prefilled = 0;
  s->admitted = ++admissions_;
  s->ancestry.Reserve(d.most_rows(), d.max_length);
  s->update_step = 0;
  blocks_.Take(needed->decoder_blocks, &s->blocks);
  s->bias = {};
  if (needed->salient > 0) s->bias = biases_.Take(d.salience, document->length);
  free_ -= *needed;
  free_.encoder_pages = documents_.free_pages();
  Insert(s);
  if (!encodes || document->stage == Document::Stage::kEncoded) Start(*s);
  return absl::OkStatus();
}

// Behind those of the same document that have equal salience, or else behind all of the document's.
void ModelEngine::Insert(Sequence* sequence) {
  const auto behind = [this](auto together) {
    const auto last = std::find_if(sequences_.rbegin(), sequences_.rend(), together);
    return last == sequences_.rend() ? sequences_.end() : last.base();
  };
  auto place = behind([&](const Sequence* other) { return other->ReadsAs(*sequence); });
  if (place == sequences_.end()) {
    place = behind([&](const Sequence* other) { return other->document == sequence->document; });
  }
  sequences_.insert(place, sequence);
}

void ModelEngine::Release(Sequence* sequence) {
  Document* const document = sequence->document;
  if (document != nullptr) {
    if (document->stage == Document::Stage::kEncoding && document->users == 1) encode_batch_.Drop(document);
    documents_.Release(document);
  }
  blocks_.Return(&sequence->blocks);
  if (!sequence->bias.empty()) biases_.Return(sequence->bias);
  free_ += sequence->resources;
  free_.encoder_pages = documents_.free_pages();
  sequences_.erase(std::find(sequences_.begin(), sequences_.end(), sequence));
  spare_.Return(sequence);
}

void ModelEngine::End(const EndSequence& end) {
  const auto it =
      std::find_if(sequences_.begin(), sequences_.end(), [&end](const Sequence* s) { return s->id == end.id; });
  if (it == sequences_.end()) return;  // it finished in the step before
  Sequence* s = *it;
  if (end.kind != EndKind::kDiscard) {
    SequenceUpdate& update = updates_.Of(*s);
    update.finished = end.kind == EndKind::kFinish;
    if (s->stage == Sequence::Stage::kDecoding) s->search().Finalize(&update.hypotheses, updates_.hypotheses());
  }
  if (end.kind != EndKind::kReport) Release(s);
}

void ModelEngine::Start(Sequence& sequence) {
  sequence.stage = sequence.search().prefix_length() > 1 ? Sequence::Stage::kPrefill : Sequence::Stage::kDecoding;
  updates_.Of(sequence).encoded = true;
}

void ModelEngine::CollectEncoded(StepResult* result) {
  const std::span<Document* const> done = encode_batch_.TakeDone();
  if (done.empty()) return;
  for (Document* document : done) {
    if (!document) continue;
    document->stage = Document::Stage::kEncoded;
    result->encoded_tokens += document->length;
  }
  for (Sequence* s : sequences_) {
    const bool waits = s->stage == Sequence::Stage::kWaiting;
    if (waits && s->document->stage == Document::Stage::kEncoded) Start(*s);
  }
}

void ModelEngine::Report(const SearchBatch::Entry& entry, int decoded_rows) {
  Sequence& sequence = *entry.sequence;
  SequenceUpdate& update = updates_.Of(sequence);
  update.decoded_rows = decoded_rows;
  if (!entry.finite) {
    update.status = absl::InternalError("the model's logits are not finite for this input");
    Release(&sequence);
    return;
  }
  const SearchState& search = sequence.search();
  if (sequence.stream) {
    const std::span<const int32_t> tokens = search.StablePrefix(sequence.reported);
    update.tokens.assign(tokens.begin(), tokens.end());
    sequence.reported += static_cast<int>(tokens.size());
  }
  if (!search.done()) return;
  update.finished = true;
  search.Finalize(&update.hypotheses, updates_.hypotheses());
  Release(&sequence);
}

absl::Status ModelEngine::Advance(std::span<const SelectedRow> selected) {
  searches_.Clear();
  std::span<const RowRules> rules = decode_layout_.rules();
  bool enough = true;
  const auto take = [&enough](auto& all, size_t rows) {
    enough = enough && rows <= all.size();
    const auto taken = all.first(enough ? rows : 0);
    all = all.subspan(taken.size());
    return taken;
  };
  for (const PrefillBatch::Scored& scored : prefill_batch_.scored()) {
    searches_.Add(*scored.sequence, take(selected, scored.rows), {});
  }
  for (Sequence* sequence : decoding_) {
    const auto rows = static_cast<size_t>(sequence->search().select_rows());
    searches_.Add(*sequence, take(selected, rows), take(rules, rows));
  }
  if (!enough) return absl::InternalError("the device answered for too few rows");
  decoded_rows_.clear();
  for (const SearchBatch::Entry& entry : searches_.entries()) {
    const bool decoding = entry.sequence->stage == Sequence::Stage::kDecoding;
    decoded_rows_.push_back(decoding ? entry.sequence->search().rows() : 0);
  }
  searches_.Run();
  for (size_t i = 0; i < decoded_rows_.size(); ++i) Report(searches_.entries()[i], decoded_rows_[i]);
  return absl::OkStatus();
}

absl::Status ModelEngine::Step(const StepPlan& plan, StepResult* result) {
  updates_.Begin(result);
  for (const EndSequence& end : plan.ends) End(end);
  for (const Admission& admission : plan.admissions) {
    if (absl::Status status = Admit(admission); !status.ok()) return status;
  }
  const double begin = Seconds();
  encode_batch_.Form(documents_);
  const DecodeLayout prefill = prefill_batch_.Build(sequences_);
  decoding_.clear();
  for (Sequence* s : sequences_) {
    if (s->stage == Sequence::Stage::kDecoding) decoding_.push_back(s);
  }
  Backend& backend = *model_.backend;
  const StepLayout layout{encode_batch_.layout(), prefill, decode_layout_.Build(decoding_)};
  backend.BeginStep(layout);
  encode_batch_.Run();
  if (prefill.positions() > 0) prefill_->Run();
  if (!prefill.select.empty()) prefill_->Select();
  const double encoded = Seconds();
  result->rows = layout.decode.positions();
  result->documents = static_cast<int>(layout.decode.documents.size());
  double decoded = encoded;
  if (result->rows > 0) {
    decoded = 0;
    backend.Replay([this, &decoded] {
      decoder_->Run();
      decoded = Seconds();
      decoder_->Select();
    });
    // Replayed from what a device captured: it was all handed over at once.
    if (decoded == 0) decoded = Seconds();
  }
  const absl::StatusOr<std::span<const SelectedRow>> selected = backend.Selected();
  if (!selected.ok()) return selected.status();
  const double chosen = Seconds();
  if (absl::Status status = Advance(*selected); !status.ok()) return status;
  CollectEncoded(result);
  result->sequences = static_cast<int>(sequences_.size());
  result->idle = sequences_.empty();
  result->encoder_cache = documents_.counts();
  result->times = {encoded - begin, decoded - encoded, chosen - decoded, Seconds() - chosen};
  return absl::OkStatus();
}

// What Step launches, in the order in which it launches it.
absl::Status Prepare(Encoder& encoder, Decoder& prefill, Decoder& decoder, Backend& backend) {
  absl::Status status;
  if (encoder.layers() > 0) {
    status = backend.Prepare(Phase::kEncode, [&encoder] {
      encoder.Embed();
      for (int layer = 0; layer < encoder.layers(); ++layer) encoder.RunLayer(layer);
      encoder.Store();
    });
  }
  status.Update(backend.Prepare(Phase::kPrefill, [&prefill] {
    prefill.Run();
    prefill.Select();
  }));
  if (!status.ok()) return status;
  return backend.Prepare(Phase::kDecode, [&decoder] {
    decoder.Run();
    decoder.Select();
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Load(const EngineOptions& options) {
  absl::StatusOr<LoadedModel> model = LoadModel(options);
  if (!model.ok()) return model.status();
  const AttentionForms forms = model->info.attention;
  const std::span<const int> salient_layers = model->info.salience.layers;
  absl::StatusOr<std::unique_ptr<Encoder>> encoder =
      Encoder::Create(*model->config, *model->weights, forms.cross, model->limits.encode_positions, *model->backend);
  if (!encoder.ok()) return encoder.status();
  const auto decoder_of = [&](Phase phase, int positions) {
    return Decoder::Create(*model->config, *model->weights,
                           {.phase = phase, .positions = positions, .forms = forms, .salient_layers = salient_layers},
                           *model->backend);
  };
  absl::StatusOr<std::unique_ptr<Decoder>> prefill = decoder_of(Phase::kPrefill, model->limits.prefill_positions);
  if (!prefill.ok()) return prefill.status();
  absl::StatusOr<std::unique_ptr<Decoder>> decoder = decoder_of(Phase::kDecode, model->limits.decode_positions);
  if (!decoder.ok()) return decoder.status();
  if (absl::Status status = Prepare(**encoder, **prefill, **decoder, *model->backend); !status.ok()) return status;
  return std::make_unique<ModelEngine>(*std::move(model), *std::move(encoder), *std::move(prefill),
                                       *std::move(decoder));
}

}  // namespace elserve
