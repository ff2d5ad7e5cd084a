// What a token is drawn from: transformers' logits warpers (generation/logits_process.py) over one row's values.
#ifndef ELSERVE_ENGINE_SEARCH_DISTRIBUTION_H_
#define ELSERVE_ENGINE_SEARCH_DISTRIBUTION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"

namespace elserve {

// The tokens that may be drawn, of one row after the other, in memory taken once. Each warper keeps some of those that
// the one before it kept, and looks at the softmax over these alone: where transformers sets a value to -infinity, a
// token leaves here. Of tokens that a warper cannot tell apart and of which it keeps some, it keeps the lower ones.
//
// Sums are float64.
class Distribution {
 public:
  // Room for a vocabulary.
  void Reserve(int vocab);

  // From a whole row's values, or from its best candidates. Values of -infinity are out; where all are, the first token
  // stays.
  void Load(std::span<const float> values);
  void Load(std::span<const Candidate> candidates);

  // All warpers that the parameters ask for, in transformers' order.
  void Warp(const Sampling& sampling);

  // Ascending, and how likely each of them is, as shares of total().
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const float> weights() const { return weights_; }
  double total() const { return total_; }

  // The token in whose share `place` lies, when the shares of all tokens, ascending, fill the numbers from 0 to 1.
  int32_t Draw(double place) const;

 private:
  // A token in an order that a warper keeps the beginning of.
  struct Ranked {
    float key;
    int32_t token;
    float weight;
    bool operator<(const Ranked& o) const { return key != o.key ? key < o.key : token < o.token; }
  };

  void Add(int32_t token, float value) {
    tokens_.push_back(token);
    values_.push_back(value);
  }
  // exp(value - greatest) of each token, and their sum.
  void Weigh(float temperature);
  void SumUp();
  double Entropy() const;
  // Keeps tokens for which `stays(i)`.
  template <typename Stays>
  void Keep(const Stays& stays);

  // keys_: the greatest value first.
  void RankByValue();
  void TopH(double top_h);
  void TopK(int top_k);
  void TopP(double top_p);
  void MinP(double min_p);
  void TypicalP(double typical_p);
  void Cutoff(double least);
  // In the order of keys_, the lower token first among equals: the last of the fewest tokens that have `mass` together,
  // each having its weight, or 1 where weights are empty.
  Ranked LastOf(double mass, std::span<const float> weights);
  // Keeps what does not come after `last` in that order.
  void KeepUpTo(const Ranked& last);

  std::vector<int32_t> tokens_;
  std::vector<float> values_;
  std::vector<float> weights_;
  double total_ = 0;
  float greatest_ = 0;  // what weights_ are relative to
  // A warper's scratch.
  std::vector<float> keys_;  // of each token
  std::vector<int32_t> bins_of_;
  std::vector<double> bins_;
  std::vector<Ranked> ranked_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_DISTRIBUTION_H_
