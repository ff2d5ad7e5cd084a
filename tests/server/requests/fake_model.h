// A served model without weights: the tokenizer and parameters of models/debian-synopsis around scheduling's fake
// engine, which answers 0, 1, 2, ... up to max_length - 1 tokens.
#ifndef ELSERVE_TESTS_SERVER_REQUESTS_FAKE_MODEL_H_
#define ELSERVE_TESTS_SERVER_REQUESTS_FAKE_MODEL_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/requests/call.h"
#include "server/requests/call_observer.h"
#include "server/requests/model_registry.h"
#include "server/requests/running_model.h"
#include "tests/server/scheduling/fake_engine.h"

namespace elserve {

// Holds the engine's thread before a step while it is closed.
class Gate {
 public:
  void Open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    opened_.notify_all();
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = true;
};

// The fake engine with the numbers of a model.
class FakeModelEngine : public FakeEngine {
 public:
  static constexpr Resources kCapacity{
      .rows = 1 << 20, .encoder_pages = 1 << 20, .decoder_blocks = 1 << 20, .edits = 1 << 20};

  FakeModelEngine(const Resources& capacity, int max_source_tokens, int max_decoder_tokens) : FakeEngine(capacity) {
    info_.family = "bart";
    info_.capacity = capacity;
    info_.page_tokens = 64;
    info_.block_positions = 16;
    info_.vocab_size = 8192;
    info_.max_source_tokens = max_source_tokens;
    info_.max_decoder_tokens = max_decoder_tokens;
    info_.limits_reason = "as the test says";
    info_.bytes_per_encoder_token = 100;
    info_.bytes_per_decoder_token = 10;
    info_.attention_reason = "it is a fake";
  }
  const ModelInfo& info() const override { return info_; }
  // Of so many tokens in its vocabulary.
  void BeDecoderOnly(int vocab_size) {
    info_.decoder_only = true;
    info_.max_source_tokens = 0;
    info_.vocab_size = vocab_size;
  }

 private:
  ModelInfo info_;
};

struct FakeModelOptions {
  std::string name = "fake";
  std::string path = std::string(ELSERVE_SOURCE_DIR) + "/models/debian-synopsis";
  int max_queued_requests = 1024;
  std::shared_ptr<Gate> gate = std::make_shared<Gate>();
  Resources capacity = FakeModelEngine::kCapacity;
  int max_source_tokens = 1024;
  int max_decoder_tokens = 1000;  // kEndless: an answer of so many lasts until somebody ends it
  int decoder_only_vocab = 0;     // 0: the model has an encoder
  bool fail_steps = false;
  std::function<void(std::vector<int32_t>*)> on_finished = nullptr;
  bool questions = true;
  QuestionFormat question_format = {};
  v1::DecodingParameters summarize_defaults = {}, questions_defaults = {};
  std::optional<std::string> summarize_prefix = std::nullopt, summarize_suffix = std::nullopt;
  LoopObserver* observer = nullptr;
};

// What MakeFakeModels puts around its engine.
inline ServedModelConfig FakeModelConfig(const FakeModelOptions& options = {}) {
  ServedModelConfig config;
  config.name = options.name;
  config.path = options.path;
  config.max_queued_requests = options.max_queued_requests;
  config.summarize->defaults = options.summarize_defaults;
  config.summarize->prefix = options.summarize_prefix;
  config.summarize->suffix = options.summarize_suffix;
  if (options.questions) {
    config.questions = QuestionsTask{.format = options.question_format, .defaults = options.questions_defaults};
  }
  // The checkpoint's lengths and beams would be in the way: an answer is max_length - 1 tokens.
  config.defaults.set_num_beams(1);
  config.defaults.set_min_length(0);
  config.defaults.set_no_repeat_ngram_size(0);
  return config;
}

inline std::unique_ptr<FakeModelEngine> MakeFakeEngine(const FakeModelOptions& options) {
  auto engine =
      std::make_unique<FakeModelEngine>(options.capacity, options.max_source_tokens, options.max_decoder_tokens);
  if (options.decoder_only_vocab > 0) engine->BeDecoderOnly(options.decoder_only_vocab);
  engine->on_step = [gate = options.gate] { gate->Pass(); };
  engine->fail_steps = options.fail_steps;
  engine->on_finished = options.on_finished;
  return engine;
}

inline std::vector<RunningModel> MakeFakeModels(const std::vector<FakeModelOptions>& all = {{}}) {
  std::vector<RunningModel> models;
  for (const FakeModelOptions& options : all) {
    auto model = RunningModel::Create(FakeModelConfig(options), MakeFakeEngine(options), options.observer);
    EXPECT_TRUE(model.ok()) << model.status();
    if (model.ok()) models.push_back(*std::move(model));
  }
  return models;
}

// Joins the deltas as they come, unless it is told to leave them.
class RecordingListener : public CallListener {
 public:
  void OnEvents() override {
    ++notices;
    if (take) Take();
  }
  void OnAnswer(absl::StatusOr<CallAnswer> final_answer) override {
    ASSERT_FALSE(done.happened()) << "a second answer";
    answer = std::move(final_answer);
    done.Happen();
  }

  // What the call still holds.
  void Take() {
    while (std::optional<CallEvent> event = call->TakeEvent()) {
      if (const auto* const part = std::get_if<v1::Part>(&*event)) {
        parts.push_back(*part);
        continue;
      }
      const auto& delta = std::get<CallDelta>(*event);
      ASSERT_GE(delta.output, 0);
      const auto output = static_cast<size_t>(delta.output);
      ++deltas;
      if (texts.size() <= output) {
        texts.resize(output + 1);
        tokens.resize(texts.size());
      }
      texts[output] += delta.text;
      tokens[output].insert(tokens[output].end(), delta.tokens.begin(), delta.tokens.end());
    }
  }
  const absl::StatusOr<CallAnswer>& Wait() {
    done.Wait();
    return answer;
  }

  Call* call = nullptr;  // set before it is started
  bool take = true;
  int notices = 0, deltas = 0;
  std::vector<std::string> texts;            // by output
  std::vector<std::vector<int32_t>> tokens;  // by output
  std::vector<v1::Part> parts;
  absl::StatusOr<CallAnswer> answer = absl::UnknownError("nothing yet");
  Event done;
};

class RecordingObserver : public CallObserver {
 public:
  void OnCallStarted(Rpc) override { ++started; }
  void OnCallEnded(const CallRecord& record) override {
    const std::lock_guard lock(mutex);
    records.push_back(record);
  }

  std::atomic<int> started{0};
  std::mutex mutex;
  std::vector<CallRecord> records;  // guarded by mutex
};

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_REQUESTS_FAKE_MODEL_H_
