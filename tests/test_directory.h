// A place for the files that a test writes.
#ifndef ELSERVE_TESTS_TEST_DIRECTORY_H_
#define ELSERVE_TESTS_TEST_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <ios>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace elserve {

// A fresh directory, gone with the object.
class TestDirectory {
 public:
  TestDirectory() {
    std::string path = testing::TempDir() + "/elserve_XXXXXX";
    if (mkdtemp(path.data()) == nullptr) ADD_FAILURE() << "no temporary directory: " << path;
    path_ = path;
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  void Write(std::string_view name, std::string_view bytes) const {
    std::ofstream file(path_ + "/" + std::string(name), std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::string path_;
};

}  // namespace elserve

#endif  // ELSERVE_TESTS_TEST_DIRECTORY_H_
