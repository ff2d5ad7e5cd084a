// Parts of a text whose outputs come in any order, told in the text's.
#ifndef ELSERVE_SERVER_REQUESTS_ORDERED_PARTS_H_
#define ELSERVE_SERVER_REQUESTS_ORDERED_PARTS_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_plan.h"
#include "server/text/prompts.h"

namespace elserve {

class OrderedParts {
 public:
  OrderedParts() = default;
  // `sources`: the place of each.
  OrderedParts(int round, std::span<const Span> sources);

  // More of a part's text.
  void AddText(size_t part, std::string_view text);
  // All of it: of one hypothesis, whose text begins with what came.
  void End(size_t part, CallOutput output);

  // It has no token, and none will come.
  void Expire(size_t part);

  struct News {
    size_t part = 0;
    std::string text;    // new; empty only where the part ended
    bool ended = false;  // nothing more comes of it
  };
  // Of the first part that has not ended in an earlier one; nullopt: nothing new.
  std::optional<News> Next();

  size_t size() const { return parts_.size(); }
  // The end of every part has been told.
  bool all_told() const { return told_ == parts_.size(); }
  const v1::Part& operator[](size_t part) const { return parts_[part].message; }
  // Moves the parts behind those that are there.
  void MoveTo(std::vector<v1::Part>* parts);

 private:
  struct Entry {
    v1::Part message;
    std::string waiting;  // text that was not told
    size_t received = 0;  // bytes of text
    bool ended = false;
  };

  std::vector<Entry> parts_;
  size_t told_ = 0;
};

// What all parts took.
v1::Usage SumOfUsage(std::span<const v1::Part> parts);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_ORDERED_PARTS_H_
