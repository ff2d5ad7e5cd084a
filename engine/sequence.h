// What the engine knows of a sequence in flight.
#ifndef ELSERVE_ENGINE_SEQUENCE_H_
#define ELSERVE_ENGINE_SEQUENCE_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/document.h"
#include "engine/engine.h"
#include "engine/memory/ancestry.h"
#include "engine/search/search.h"

namespace elserve {

// Used again for one sequence after another, so that its buffers keep their room.
struct Sequence {
  // kWaiting: until the document is encoded. kPrefill: it is, or there is none, and not all of the prefix but its last
  // token has cells.
  enum class Stage { kWaiting, kPrefill, kDecoding };

  SequenceId id = 0;
  Stage stage = Stage::kWaiting;
  Document* document = nullptr;  // null: the model is decoder-only
  bool stream = false;
  int reported = 0;  // tokens that updates have carried
  Search searches;
  // Of each kind of search the most tokens (rows x max_length) that one has had here.
  std::array<int64_t, Search::kKinds> search_rooms = {};
  Resources resources;          // taken at admission, but for its document's pages
  std::vector<int32_t> blocks;  // decoder memory; cell n of the sequence is in block n / 16
  int64_t cells = 0;            // taken so far
  int prefilled = 0;            // tokens of the prefix that have their cells
  int slice = 0;                // tokens that it is fed in this step's prefill
  uint64_t admitted = 0;        // a later one has a higher number
  std::span<const float> bias;  // [heads * source]: what salience adds to scores; empty without it
  Ancestry ancestry;            // of its rows
  // UpdatePool's: the step whose result has an update of it, and which.
  uint64_t update_step = 0;
  size_t update_index = 0;

  SearchState& search() { return searches.state(); }
  const SearchState& search() const { return searches.state(); }

  // Whether one reading of the document's states does for both.
  bool ReadsAs(const Sequence& other) const {
    return document == other.document && search().spec().salience == other.search().spec().salience;
  }

  int32_t TakeCell() {
    const int64_t n = cells++;
    return blocks[n / kBlockCells] * kBlockCells + static_cast<int32_t>(n % kBlockCells);
  }
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEQUENCE_H_
