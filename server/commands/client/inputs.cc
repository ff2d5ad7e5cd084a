#include "server/commands/client/inputs.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <utility>

namespace elserve {

InputReader::InputReader(std::vector<std::string> files, bool lines, std::istream& standard_input)
    : files_(std::move(files)), lines_(lines), standard_input_(standard_input) {
  if (files_.empty()) files_.push_back("-");
}

std::optional<Input> InputReader::Next() {
  if (lines_) return NextLine();
  if (next_file_ == files_.size()) return std::nullopt;
  return WholeFile(files_[next_file_++]);
}

std::istream* InputReader::Open(const std::string& name) {
  if (name == "-") return &standard_input_;
  file_ = std::ifstream();
  errno = 0;
  if (std::error_code error; std::filesystem::is_directory(name, error)) {
    errno = EISDIR;
    return nullptr;
  }
  file_.open(name, std::ios::binary);
  return file_ ? &file_ : nullptr;
}

Input InputReader::WholeFile(const std::string& name) {
  Input input{.name = name, .text = {}, .error = {}};
  std::istream* stream = Open(name);
  if (stream == nullptr) {
    input.error = std::strerror(errno);
    return input;
  }
  input.text.assign(std::istreambuf_iterator<char>(*stream), {});
  if (stream->bad()) input.error = "cannot be read";
  while (!input.text.empty() && (input.text.back() == '\n' || input.text.back() == '\r')) input.text.pop_back();
  return input;
}

std::optional<Input> InputReader::NextLine() {
  while (true) {
    if (current_ == nullptr) {
      if (next_file_ == files_.size()) return std::nullopt;
      const std::string& name = files_[next_file_++];
      current_ = Open(name);
      line_ = 0;
      if (current_ == nullptr) return Input{.name = name, .text = {}, .error = std::strerror(errno)};
    }
    std::string line;
    if (std::getline(*current_, line)) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return Input{
          .name = files_[next_file_ - 1] + ":" + std::to_string(++line_), .text = std::move(line), .error = {}};
    }
    current_ = nullptr;
  }
}

}  // namespace elserve
