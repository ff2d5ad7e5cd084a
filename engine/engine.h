// The engine: token ids in, token ids out. This and decoding.h are all that server/ includes of engine/.
#ifndef ELSERVE_ENGINE_ENGINE_H_
#define ELSERVE_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/attention_approximation.h"
#include "engine/attention_form.h"
#include "engine/decoding.h"
#include "engine/precision.h"
#include "engine/thread_pool.h"

namespace elserve {

enum class DeviceKind { kAuto, kCpu, kCuda, kReference };

// Layers and heads of the decoder's cross-attention, counted from 1, as in Cao and Wang's paper.
struct SalientHeads {
  std::vector<int> layers, heads;
  bool operator==(const SalientHeads&) const = default;
};

struct EngineOptions {
  std::string checkpoint;  // a Hugging Face model directory: config.json and safetensors
  // kAuto: kCuda where this build has it and a device is there, else kCpu. kReference is the tests' oracle: slow,
  // float32 alone.
  DeviceKind device = DeviceKind::kAuto;
  int device_index = 0;  // which of several CUDA devices
  // kAuto: bfloat16 on a CUDA device and where the processor has AVX512-BF16 or AMX, else float32. kInt8 is for
  // processors with VNNI.
  Precision precision = Precision::kAuto;
  Int8Keep int8_keep;  // of kInt8
  // Hidden states are kept in int8, those of sources and of the decoder: MemoryShape::int8. For processors with VNNI,
  // precision kBFloat16, which kAuto is then on the cpu, or kInt8, exact attention, and a form that keeps states of
  // sources, or of a decoder-only model's positions. Lossy.
  bool int8_memory = false;
  // What the decoder's cross- and self-attention keep: hidden states (EL-attention) or keys and values; nullopt: the
  // cheaper form by the cost model of memory_plan.h. A decoder-only model takes what it says of self-attention.
  std::optional<AttentionForms> attention;
  // Of the encoder's attention and of cross-attention; on the cpu, and not of a decoder-only model. Lossy.
  AttentionApproximation approximation;
  // Of each token's feed-forward activations so many stay, the largest, and the others become 0; 0: all. Of models that
  // have ReLU there, ungated: what is no longer there was least then. On the cpu. Lossy. (Gupta et al. 2021.)
  int ffn_top_k = 0;
  // Bytes for encoder states, keys/values and decoder cells together; 0: memory_fraction of the memory that is free at
  // load.
  int64_t memory_bytes = 0;
  double memory_fraction = 0.5;
  // Instead of what `memory` gives, where not 0: tokens of all documents in flight, decoder positions of all sequences.
  int64_t encoder_memory_tokens = 0;
  int64_t decoder_memory_tokens = 0;
  // Tokens of a source (special ones included), and of a hypothesis with its start token, at most. 0: as many as the
  // model's positions allow, and where they end nowhere (T5) what the checkpoint states, or 1024. Never more. A
  // decoder-only model has no encoder memory and no source: these two stay 0 there.
  int max_source_tokens = 0;
  int max_decoder_tokens = 0;
  // 0: as the device prefers (Backend::PreferredSizes).
  int max_rows = 0;  // hypotheses decoded in one step, at most
  // Source tokens encoded in a step, at most; and a quarter as many of prefixes, or all of them where nothing is
  // encoded.
  int encode_tokens_per_step = 0;
  // Sequences with equal sources share one document, and one that nobody uses any more is kept until its pages are
  // needed. No answer changes by it. False: every sequence encodes its own, for comparisons.
  bool encoder_cache = true;
  // Where DecodingSpec::salience acts. None: in layer 1, in all heads.
  SalientHeads salience;
  ThreadPool* pool = nullptr;  // not owned; must outlive the engine
  std::string host_root;       // before every path of the system that is read (host_resources.h); tests write trees
};

// What a sequence takes from admission to its end, or what is free. With EngineOptions::encoder_cache the pages of a
// source are its document's: sequences in flight with equal sources take them once, and they are free when the last one
// has ended, though what they hold is kept.
struct Resources {
  int64_t rows = 0;            // hypotheses; those with top_logprobs count twice
  int64_t encoder_pages = 0;   // of ModelInfo::page_tokens source tokens
  int64_t decoder_blocks = 0;  // of ModelInfo::block_positions decoder positions
  int64_t edits = 0;           // logit edits of a step
  int64_t whole_rows = 0;      // hypotheses whose logits come to the host, all of them
  int64_t salient = 0;         // sequences with salience

  bool Fits(const Resources& free) const {
    return rows <= free.rows && encoder_pages <= free.encoder_pages && decoder_blocks <= free.decoder_blocks &&
           edits <= free.edits && whole_rows <= free.whole_rows && salient <= free.salient;
  }
  Resources& operator+=(const Resources& o) {
    rows += o.rows, encoder_pages += o.encoder_pages, decoder_blocks += o.decoder_blocks, edits += o.edits;
    whole_rows += o.whole_rows, salient += o.salient;
    return *this;
  }
  Resources& operator-=(const Resources& o) {
    rows -= o.rows, encoder_pages -= o.encoder_pages, decoder_blocks -= o.decoder_blocks, edits -= o.edits;
    whole_rows -= o.whole_rows, salient -= o.salient;
    return *this;
  }
  bool operator==(const Resources&) const = default;
};

// What was loaded and how; constant after Load.
struct ModelInfo {
  std::string family;      // model_type of config.json
  int64_t parameters = 0;  // numbers in the checkpoint's tensors, shared ones once
  int d_model = 0, encoder_layers = 0, decoder_layers = 0, encoder_heads = 0, decoder_heads = 0, vocab_size = 0;
  // Nothing is encoded: a sequence is its decoder's own tokens, the prompt first. encoder_layers, encoder_heads and
  // max_source_tokens are 0, and no sequence takes encoder pages.
  bool decoder_only = false;
  int max_source_tokens = 0;   // special tokens included
  int max_decoder_tokens = 0;  // max_length's bound, the start token (decoder-only: the prompt) included
  std::string limits_reason;   // where these two are from: "as configured", or what the model says
  std::string device;          // "cpu", "cuda", "reference"
  std::string device_name;     // the processor's or card's name and what it has: "AMD EPYC ... (AVX512-BF16, VNNI)"
  std::string device_reason;   // why that one: "as configured", or what kAuto found
  Precision precision = Precision::kFloat32;  // kAuto never
  Int8Keep int8_keep;                         // EngineOptions::int8_keep
  bool int8_memory = false;                   // EngineOptions::int8_memory
  AttentionForms attention;                   // decoder-only: of self-attention alone
  std::string attention_reason;               // why, in words and numbers
  AttentionApproximation approximation;       // EngineOptions::approximation
  int ffn_top_k = 0;                          // EngineOptions::ffn_top_k
  int favor_features = 0;                     // of the encoder's self-attention, which is FAVOR+; 0: softmax
  Resources capacity;                         // all of the memory; nothing in flight
  int page_tokens = 0, block_positions = 0;   // what one of its encoder_pages and decoder_blocks holds
  int64_t bytes_per_encoder_token = 0, bytes_per_decoder_token = 0;
  int64_t memory_bytes = 0;  // taken at load for states, keys/values and cells
  int64_t weight_bytes = 0;  // packed weights
  int encode_tokens_per_step = 0;
  bool encoder_cache = true;
  SalientHeads salience;  // ascending; decoder-only: none
};

using SequenceId = uint64_t;  // given by the caller, never used twice

// One sequence for Measure: its source's length and its parameters.
struct SequenceSpec {
  int source_tokens = 0;                   // of a decoder-only model 0
  const DecodingSpec* decoding = nullptr;  // not null
};

struct Admission {
  SequenceId id = 0;
  std::vector<int32_t> source;  // token ids, special tokens included; of a decoder-only model none
  DecodingSpec decoding;
  bool stream = false;  // report tokens as they become certain (SequenceUpdate::tokens)
};

// kDiscard: forget the sequence (cancelled). kFinish: end it now and report what it has (a deadline). kReport: report
// what it has, and let it go on (a deadline of one of those who wait for it).
enum class EndKind { kDiscard, kFinish, kReport };
struct EndSequence {
  SequenceId id = 0;
  EndKind kind = EndKind::kDiscard;
};

struct StepPlan {
  std::vector<EndSequence> ends;      // carried out first
  std::vector<Admission> admissions;  // they fit free() after `ends`, one after the other
  bool empty() const { return ends.empty() && admissions.empty(); }
};

// What a step changed about one sequence.
struct SequenceUpdate {
  SequenceId id = 0;
  absl::Status status;  // not ok: the sequence failed and is gone; the others are not touched
  // Once: its document is encoded. It was in this step, and the sequence decodes from the next one on; or it was there
  // when the sequence came, or the model is decoder-only and there is none, and the sequence decodes in this one.
  bool encoded = false;
  int decoded_rows = 0;  // rows that it had in this step's decoding
  std::vector<int32_t>
      tokens;             // Admission::stream: tokens that no later step takes back, following those reported before
  bool finished = false;  // ended and its memory returned, `hypotheses` holds its answers
  // num_return_sequences of them, best first; after kFinish perhaps fewer, or none. After kReport those from before
  // this step, perhaps fewer or none; but the answers where the sequence finished in this step.
  std::vector<Hypothesis> hypotheses;
};

// Seconds on the engine's thread; `encode`: of encoding and of prefixes. A device with streams of its own is only
// handed work in the first two: there `select` is the wait for all of it.
struct StepTimes {
  double encode = 0, decode = 0, select = 0, search = 0;
};

// Since load, but for kept_tokens. All 0 without EngineOptions::encoder_cache.
struct EncoderCacheCounts {
  int64_t hits = 0;         // sequences whose document was there: another one's, or kept
  int64_t misses = 0;       // sequences whose document was not
  int64_t evictions = 0;    // kept documents that were given up for their pages
  int64_t kept_tokens = 0;  // source tokens of the documents that are kept and that nobody uses
};

struct StepResult {
  std::vector<SequenceUpdate> updates;  // sequences that something happened to, those that `ends` ended first
  int rows = 0;                         // decoded in this step
  int documents = 0;                    // that these rows belong to, each once for every salience that they have
  int encoded_tokens = 0;               // source tokens whose encoding ended in this step
  int sequences = 0;                    // in flight after the step
  bool idle = false;                    // nothing is left to encode or decode
  EncoderCacheCounts encoder_cache;     // after the step
  StepTimes times;
};

class Engine {
 public:
  // Errors name the file, the tensor or the key and what was expected.
  static absl::StatusOr<std::unique_ptr<Engine>> Load(const EngineOptions& options);
  virtual ~Engine() = default;

  // After Load, these two may be called from any thread; the rest has one caller.
  virtual const ModelInfo& info() const = 0;
  // The worst case of one sequence that shares its document with none. INVALID_ARGUMENT names the limit if it can never
  // fit.
  virtual absl::StatusOr<Resources> Measure(const SequenceSpec& spec) const = 0;

  // What a plan may admit: admissions that together take no more always succeed.
  virtual Resources free() const = 0;
  // Carries out the plan, then does a slice of encoding and one decode step. `result` is overwritten; its buffers are
  // used again. An error is the device's: nothing in flight can be trusted after it.
  virtual absl::Status Step(const StepPlan& plan, StepResult* result) = 0;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_ENGINE_H_
