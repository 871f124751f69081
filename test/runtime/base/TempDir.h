//===- TempDir.h - A scratch directory for one test -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Tests that touch files work in a directory of their own, which goes away with the test: test
// cases run in parallel processes.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_BASE_TEMPDIR_H
#define SLUICE_TEST_RUNTIME_BASE_TEMPDIR_H

#include <filesystem>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string>

namespace sluice::test {

class TempDir {
public:
  TempDir() {
    std::string pattern = testing::TempDir() + "sluice-XXXXXX";
    const char *made = ::mkdtemp(pattern.data());
    EXPECT_NE(made, nullptr) << pattern;
    root = pattern;
  }
  TempDir(const TempDir &) = delete;
  TempDir &operator=(const TempDir &) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(root, ignored);
  }
  const std::string &path() const { return root; }
  std::string file(const std::string &name) const { return root + "/" + name; }

private:
  std::string root;
};

} // namespace sluice::test

#endif // SLUICE_TEST_RUNTIME_BASE_TEMPDIR_H
