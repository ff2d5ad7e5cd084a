#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/encode_batch.h"
#include "engine/loading.h"
#include "engine/memory/slot_pool.h"
#include "engine/model/decoder.h"
#include "engine/model/encoder.h"
#include "engine/sequence.h"
#include "engine/step_layout_builder.h"

namespace elserve {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

class ModelEngine final : public Engine {
 public:
  ModelEngine(LoadedModel model, std::unique_ptr<Encoder> encoder, std::unique_ptr<Decoder> decoder);

  const ModelInfo& info() const override { return model_.info; }
  absl::StatusOr<Resources> Measure(const SequenceSpec& spec) const override;
  Resources free() const override { return free_; }
  absl::Status Step(const StepPlan& plan, StepResult* result) override;

 private:
  void Reset(StepResult* result);
  SequenceUpdate& Update(Sequence& sequence, StepResult* result);
  Sequence* TakeSpare(int64_t search_room);
  absl::Status Admit(const Admission& admission);
  void End(const EndSequence& end, StepResult* result);
  // Returns a sequence's memory and forgets it.
  void Release(Sequence* sequence);
  void CollectEncoded(StepResult* result);
  absl::Status Advance(std::span<const SelectedRow> selected, StepResult* result);
  void AdvanceSequence(Sequence& sequence, std::span<const SelectedRow> rows, StepResult* result);

  LoadedModel model_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<Decoder> decoder_;
  EncodeBatch encode_batch_;
  DecodeLayoutBuilder decode_layout_;
  SlotPool pages_, blocks_;
  Resources free_;
  std::vector<Sequence*> sequences_;  // in flight, in order of admission
  std::vector<Sequence*> decoding_;   // a step's: those that were in its decode layout
  std::vector<Sequence> all_;         // [most rows]: a sequence has at least one
  std::vector<Sequence*> spare_;      // of all_: not in flight
  // What results that came back have left; as many as a step can need are made at load.
  std::vector<SequenceUpdate> spare_updates_;
  std::vector<Hypothesis> spare_hypotheses_;
  std::vector<std::span<const Candidate>> candidates_;  // [rows of a sequence]
};

ModelEngine::ModelEngine(LoadedModel model, std::unique_ptr<Encoder> encoder, std::unique_ptr<Decoder> decoder)
    : model_(std::move(model)),
      encoder_(std::move(encoder)),
      decoder_(std::move(decoder)),
      encode_batch_(*encoder_, model_.info.encode_tokens_per_step, model_.info.max_source_tokens,
                    static_cast<int>(model_.info.capacity.rows)),
      decode_layout_(static_cast<int>(model_.info.capacity.rows), model_.info.capacity.edits,
                     model_.info.max_decoder_tokens),
      pages_(model_.info.capacity.encoder_pages),
      blocks_(model_.info.capacity.decoder_blocks),
      free_(model_.info.capacity) {
  const size_t most = model_.info.capacity.rows;
  sequences_.reserve(most);
  decoding_.reserve(most);
  all_.resize(most);
  spare_.reserve(most);
  DecodingSpec greedy;
  greedy.max_length = model_.info.max_decoder_tokens;
  for (Sequence& sequence : all_) {
    sequence.search.Start(greedy);  // takes the memory that any greedy search needs
    sequence.source.reserve(model_.info.max_source_tokens);
    sequence.pages.reserve((model_.info.max_source_tokens + kPageTokens - 1) / kPageTokens);
    spare_.push_back(&sequence);
  }
  candidates_.reserve(kMaxBeams);
  // Of a step: at most those that it ends, and those in flight after it. Their answers are no more than the rows.
  const auto longest = static_cast<size_t>(model_.info.max_decoder_tokens);
  spare_updates_.resize(2 * most);
  for (SequenceUpdate& update : spare_updates_) {
    update.tokens.reserve(longest);
    update.hypotheses.reserve(kMaxBeams);
  }
  spare_hypotheses_.resize(most);
  for (Hypothesis& hypothesis : spare_hypotheses_) {
    hypothesis.tokens.reserve(longest);
    hypothesis.logprobs.reserve(longest);
  }
}

absl::StatusOr<Resources> ModelEngine::Measure(const SequenceSpec& spec) const {
  const ModelInfo& info = model_.info;
  const DecodingSpec& d = *spec.decoding;
  const auto too_much = [](const char* what, int64_t value, const char* limit, int64_t allowed) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, "; ", limit, " is ", allowed));
  };
  if (spec.source_tokens < 1) return absl::InvalidArgumentError("the source has no tokens; at least 1 is needed");
  if (spec.source_tokens > info.max_source_tokens) {
    return too_much("the source's number of tokens", spec.source_tokens, "the model's maximum", info.max_source_tokens);
  }
  if (d.max_length > info.max_decoder_tokens) {
    return too_much("max_length", d.max_length, "the model's maximum", info.max_decoder_tokens);
  }
  Resources r;
  r.rows = d.num_beams;
  r.encoder_pages = (spec.source_tokens + kPageTokens - 1) / kPageTokens;
  // Every row takes a cell for each token that it is fed: all but the last.
  r.decoder_blocks = (static_cast<int64_t>(d.num_beams) * (d.max_length - 1) + kBlockCells - 1) / kBlockCells;
  r.edits = MaxEdits(d);
  const Resources& all = info.capacity;
  if (r.rows > all.rows) return too_much("num_beams", r.rows, "the model's max_rows", all.rows);
  if (r.encoder_pages > all.encoder_pages) {
    return too_much("the source's number of tokens", spec.source_tokens, "encoder memory in tokens",
                    all.encoder_pages * kPageTokens);
  }
  if (r.decoder_blocks > all.decoder_blocks) {
    return too_much("num_beams x (max_length - 1)", static_cast<int64_t>(d.num_beams) * (d.max_length - 1),
                    "decoder memory in positions", all.decoder_blocks * kBlockCells);
  }
  if (r.edits > all.edits)
    return too_much("the number of banned tokens of a step, at worst,", r.edits, "the model's maximum", all.edits);
  return r;
}

void ModelEngine::Reset(StepResult* result) {
  for (SequenceUpdate& update : result->updates) {
    for (Hypothesis& hypothesis : update.hypotheses) {
      if (spare_hypotheses_.size() < spare_hypotheses_.capacity()) spare_hypotheses_.push_back(std::move(hypothesis));
    }
    update.hypotheses.clear();
    if (spare_updates_.size() < spare_updates_.capacity()) spare_updates_.push_back(std::move(update));
  }
  result->updates.clear();
  result->rows = result->encoded_tokens = 0;
  result->times = {};
}

// The sequence's entry of this step, made on first use.
SequenceUpdate& ModelEngine::Update(Sequence& sequence, StepResult* result) {
  for (SequenceUpdate& update : result->updates) {
    if (update.id == sequence.id) return update;
  }
  if (spare_updates_.empty()) {
    result->updates.emplace_back();
  } else {
    result->updates.push_back(std::move(spare_updates_.back()));
    spare_updates_.pop_back();
  }
  SequenceUpdate& update = result->updates.back();
  update.id = sequence.id;
  update.status = absl::OkStatus();
  update.encoded = update.finished = false;
  update.decoded_rows = 0;
  update.tokens.clear();
  return update;
}

// The one with the least memory for its search that is enough, or else the one with the most: wide searches find the
// memory of wide ones again, and narrow ones leave it to them.
Sequence* ModelEngine::TakeSpare(int64_t search_room) {
  const auto better = [search_room](const Sequence* a, const Sequence* b) {
    const bool a_fits = a->search_room >= search_room, b_fits = b->search_room >= search_room;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a->search_room < b->search_room : a->search_room > b->search_room;
  };
  const auto best = std::min_element(spare_.begin(), spare_.end(), better);
  Sequence* sequence = *best;
  *best = spare_.back();
  spare_.pop_back();
  sequence->search_room = std::max(sequence->search_room, search_room);
  return sequence;
}

absl::Status ModelEngine::Admit(const Admission& admission) {
  const absl::StatusOr<Resources> needed = Measure({static_cast<int>(admission.source.size()), &admission.decoding});
  if (!needed.ok()) return needed.status();
  if (!needed->Fits(free_)) return absl::InternalError("a plan admitted what does not fit");
  const DecodingSpec& d = admission.decoding;
  Sequence* s = TakeSpare(d.num_beams == 1 ? 0 : static_cast<int64_t>(d.num_beams) * d.max_length);
  s->id = admission.id;
  s->stage = Sequence::Stage::kWaiting;
  s->source.assign(admission.source.begin(), admission.source.end());
  s->stream = admission.stream;
  s->reported = 0;
  s->search.Start(admission.decoding);
  s->resources = *needed;
  s->cells = 0;
  s->first_position = 0;
  pages_.Take(needed->encoder_pages, &s->pages);
  blocks_.Take(needed->decoder_blocks, &s->blocks);
  free_ -= *needed;
  sequences_.push_back(s);
  return absl::OkStatus();
}

void ModelEngine::Release(Sequence* sequence) {
  if (sequence->stage == Sequence::Stage::kEncoding) encode_batch_.Drop(sequence);
  pages_.Return(&sequence->pages);
  blocks_.Return(&sequence->blocks);
  free_ += sequence->resources;
  sequences_.erase(std::find(sequences_.begin(), sequences_.end(), sequence));
  spare_.push_back(sequence);
}

void ModelEngine::End(const EndSequence& end, StepResult* result) {
  const auto it =
      std::find_if(sequences_.begin(), sequences_.end(), [&end](const Sequence* s) { return s->id == end.id; });
  if (it == sequences_.end()) return;  // it finished in the step before
  Sequence* s = *it;
  if (end.kind == EndKind::kFinish) {
    SequenceUpdate& update = Update(*s, result);
    update.finished = true;
    if (s->stage == Sequence::Stage::kDecoding) Finalize(s->search, &update.hypotheses, &spare_hypotheses_);
  }
  Release(s);
}

void ModelEngine::CollectEncoded(StepResult* result) {
  for (Sequence* sequence : encode_batch_.TakeDone()) {
    if (!sequence) continue;
    sequence->stage = Sequence::Stage::kDecoding;
    Update(*sequence, result).encoded = true;
    result->encoded_tokens += static_cast<int>(sequence->source.size());
  }
}

void ModelEngine::AdvanceSequence(Sequence& sequence, std::span<const SelectedRow> rows, StepResult* result) {
  SequenceUpdate& update = Update(sequence, result);
  update.decoded_rows = static_cast<int>(rows.size());
  candidates_.clear();
  for (const SelectedRow& row : rows) {
    if (!row.finite) {
      update.status = absl::InternalError("the model's logits are not finite for this input");
      Release(&sequence);
      return;
    }
    candidates_.push_back(row.candidates);
  }
  AdvanceBeams(sequence.search, candidates_);
  if (sequence.stream) {
    const std::span<const int32_t> tokens = StablePrefix(sequence.search, sequence.reported);
    update.tokens.assign(tokens.begin(), tokens.end());
    sequence.reported += static_cast<int>(tokens.size());
  }
  if (!sequence.search.done()) return;
  update.finished = true;
  Finalize(sequence.search, &update.hypotheses, &spare_hypotheses_);
  Release(&sequence);
}

absl::Status ModelEngine::Advance(std::span<const SelectedRow> selected, StepResult* result) {
  size_t row = 0;
  for (Sequence* sequence : decoding_) {
    const size_t rows = sequence->search.rows();
    if (row + rows > selected.size()) return absl::InternalError("the device answered for too few rows");
    AdvanceSequence(*sequence, selected.subspan(row, rows), result);
    row += rows;
  }
  return absl::OkStatus();
}

absl::Status ModelEngine::Step(const StepPlan& plan, StepResult* result) {
  Reset(result);
  for (const EndSequence& end : plan.ends) End(end, result);
  for (const Admission& admission : plan.admissions) {
    if (absl::Status status = Admit(admission); !status.ok()) return status;
  }
  const double begin = Seconds();
  encode_batch_.Form(sequences_);
  decoding_.clear();
  for (Sequence* s : sequences_) {
    if (s->stage == Sequence::Stage::kDecoding) decoding_.push_back(s);
  }
  Backend& backend = *model_.backend;
  const StepLayout layout{encode_batch_.layout(), decode_layout_.Build(decoding_)};
  backend.BeginStep(layout);
  encode_batch_.Run();
  const double encoded = Seconds();
  result->rows = layout.decode.positions();
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
  if (result->rows > 0) {
    if (absl::Status status = Advance(*selected, result); !status.ok()) return status;
  }
  CollectEncoded(result);
  result->sequences = static_cast<int>(sequences_.size());
  result->idle = sequences_.empty();
  result->times = {encoded - begin, decoded - encoded, chosen - decoded, Seconds() - chosen};
  return absl::OkStatus();
}

// What Step launches, in the order in which it launches it.
absl::Status Prepare(Encoder& encoder, Decoder& decoder, Backend& backend) {
  absl::Status status = backend.Prepare(Phase::kEncode, [&encoder] {
    encoder.Embed();
    for (int layer = 0; layer < encoder.layers(); ++layer) encoder.RunLayer(layer);
    encoder.Store();
  });
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
  absl::StatusOr<std::unique_ptr<Encoder>> encoder =
      Encoder::Create(*model->config, *model->weights, forms.cross, model->limits.encode_positions, *model->backend);
  if (!encoder.ok()) return encoder.status();
  absl::StatusOr<std::unique_ptr<Decoder>> decoder =
      Decoder::Create(*model->config, *model->weights, forms, model->limits.decode_positions, *model->backend);
  if (!decoder.ok()) return decoder.status();
  if (absl::Status status = Prepare(**encoder, **decoder, *model->backend); !status.ok()) return status;
  return std::make_unique<ModelEngine>(*std::move(model), *std::move(encoder), *std::move(decoder));
}

}  // namespace elserve
