// The documents that are being encoded: one ragged batch at a time, some layers a step.
#ifndef ELSERVE_ENGINE_ENCODE_BATCH_H_
#define ELSERVE_ENGINE_ENCODE_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/document_store.h"
#include "engine/model/encoder.h"

namespace elserve {

// A step advances the batch by as many layers as its budget (tokens_per_step x layers, in token-layers) pays, at least
// one, so that running sequences keep flowing.
class EncodeBatch {
 public:
  // `max_documents`: in use at most; `max_source`: tokens of the longest.
  EncodeBatch(Encoder& encoder, int tokens_per_step, int max_source, int max_documents);

  // If nothing is being encoded, begins with the waiting documents in use: in order, up to tokens_per_step tokens, or
  // one longer document.
  void Form(DocumentStore& store);
  // Between steps: a document that nobody uses any more. It stays in the activations and is not stored; a batch of
  // which no document is left is given up.
  void Drop(const Document* document);

  bool active() const { return !tokens_.empty(); }
  // For BeginStep; no positions if nothing is being encoded. Valid until the next call of any other function.
  EncodeLayout layout() const { return {tokens_, position_ids_, parts_}; }

  // Between BeginStep and Selected: launches this step's layers.
  void Run();
  // After Selected: if the batch is done, its documents (null where dropped), and the batch is empty again. Valid until
  // the next Form.
  std::span<Document* const> TakeDone();

 private:
  void Clear();

  Encoder& encoder_;
  const int64_t tokens_per_step_;
  int next_layer_ = 0;
  bool done_ = false;
  std::vector<int32_t> tokens_, position_ids_;
  std::vector<int32_t> pages_;         // of all documents
  std::vector<EncodeDocument> parts_;  // of the layout
  std::vector<Document*> documents_;   // of the parts; null: dropped
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_ENCODE_BATCH_H_
