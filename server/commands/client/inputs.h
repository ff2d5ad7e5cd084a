// The texts that a command was given.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_INPUTS_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_INPUTS_H_

#include <cstdint>
#include <fstream>
#include <istream>
#include <optional>
#include <string>
#include <vector>

namespace elserve {

struct Input {
  std::string name;   // of the file, with the line's number in --lines mode: "news.txt:17"
  std::string text;   // without the line break that ends it
  std::string error;  // not empty: the file could not be read, and why
};

// Reads one text after the other, whole files or single lines, so that long inputs need not fit into memory. Not
// thread-safe.
class InputReader {
 public:
  // No files, or "-": `standard_input`.
  InputReader(std::vector<std::string> files, bool lines, std::istream& standard_input);

  std::optional<Input> Next();
  // Whether more than one text may come: each answer then says whose it is.
  bool several() const { return lines_ || files_.size() > 1; }

 private:
  std::optional<Input> NextLine();
  Input WholeFile(const std::string& name);
  // The stream of files_[next_file_], opened; null if that failed.
  std::istream* Open(const std::string& name);

  std::vector<std::string> files_;
  const bool lines_;
  std::istream& standard_input_;
  size_t next_file_ = 0;
  std::ifstream file_;
  std::istream* current_ = nullptr;  // --lines: what is being read
  int64_t line_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_INPUTS_H_
