// The questions that a model of the end_to_end format writes, one behind the other.
#ifndef ELSERVE_SERVER_TEXT_QUESTION_SPLITTER_H_
#define ELSERVE_SERVER_TEXT_QUESTION_SPLITTER_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/prompts.h"
#include "server/text/question_format.h"

namespace elserve {

// Cuts an output into its questions while it is still coming: each is given out as soon as what separates it from the
// next has come, without the white space around it; empty ones are left out.
class QuestionSplitter {
 public:
  // The separator is not empty.
  explicit QuestionSplitter(std::string separator) : separator_(std::move(separator)) {}

  // The questions that this piece of the output ends.
  std::vector<std::string> Push(std::string_view piece);
  // The last one, which nothing follows. Where the output ended at a limit, it may be a part of one.
  std::optional<std::string> Finish();

 private:
  std::string separator_;
  std::string open_;     // what came behind the last separator
  size_t searched_ = 0;  // no separator begins before
};

// A question of an output, and its answer where the format's item says so.
struct WrittenQuestion {
  std::string text;
  std::string answer = {};        // empty: none
  std::optional<Span> span = {};  // of the answer's first occurrence in the context, if it has any
};

// What is not written like the item is the question as a whole.
WrittenQuestion ReadQuestion(const QuestionFormat& format, std::string_view written, std::string_view context);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_QUESTION_SPLITTER_H_
