// One source: what the encoder works on, and what the decoder reads of it.
#ifndef ELSERVE_ENGINE_DOCUMENT_H_
#define ELSERVE_ENGINE_DOCUMENT_H_

#include <cstdint>
#include <list>

namespace elserve {

// Sequences with equal sources may share one. Its tokens and its pages stand in the tables of its DocumentStore.
struct Document {
  // kWaiting: for the next encode batch. kEncoded: its states are in its pages.
  enum class Stage { kWaiting, kEncoding, kEncoded };

  Stage stage = Stage::kWaiting;
  int users = 0;       // sequences in flight
  int32_t length = 0;  // tokens

  // DocumentStore's.
  uint64_t hash = 0;                    // of its tokens
  int32_t first_page = 0;               // of its chain
  Document* next_in_bucket = nullptr;   // of the table of hashes
  std::list<Document>::iterator place;  // in the list that it is in
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DOCUMENT_H_
