//===- AtomicDirectoryTest.cpp - Directories that appear complete -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Writers are killed in child processes at the worst moments; afterwards the destination must hold
// the old content or nothing, and the next writer must clean up.
//
//===------------------------------------------------------------------------===//
#include "TempDir.h"
#include "runtime/base/File.h"

#include <csignal>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> entries(const std::string &directory) {
  std::vector<std::string> names;
  for (const fs::directory_entry &entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  return names;
}

/// Writes an artifact whose marker holds `content`.
Status writeArtifact(const std::string &destination, const std::string &content) {
  SLUICE_ASSIGN_OR_RETURN(AtomicDirectory directory, AtomicDirectory::create(destination));
  fs::create_directory(directory.file("kernels"));
  SLUICE_RETURN_IF_ERROR(writeFile(directory.file("kernels/k.bin"), "kernel"));
  SLUICE_RETURN_IF_ERROR(writeFile(directory.file("plan.pb"), content));
  return directory.commit();
}

/// Starts an artifact in a child process that is killed before it commits.
void killWriter(const std::string &destination) {
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Result<AtomicDirectory> directory = AtomicDirectory::create(destination);
    if (directory.isOk() && writeFile(directory->file("plan.pb"), "half").isOk())
      ::kill(::getpid(), SIGKILL);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
}

TEST(AtomicDirectory, AppearsOnCommit) {
  test::TempDir dir;
  std::string destination = dir.file("model.sluice");
  {
    Result<AtomicDirectory> directory = AtomicDirectory::create(destination);
    ASSERT_TRUE(directory.isOk()) << directory.status().toString();
    EXPECT_EQ(directory->destination(), destination);
    ASSERT_TRUE(writeFile(directory->file("plan.pb"), "x").isOk());
    EXPECT_FALSE(fs::exists(destination));
    Status status = directory->commit();
    ASSERT_TRUE(status.isOk()) << status.toString();
  }
  EXPECT_THAT(entries(dir.path()), ElementsAre("model.sluice"));
  EXPECT_EQ(*readFile(destination + "/plan.pb"), "x");
  // A directory like any other, not the owner-only one of mkdtemp().
  mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(static_cast<mode_t>(fs::status(destination).permissions()), 0777 & ~mask);
}

TEST(AtomicDirectory, VanishesWithoutCommit) {
  test::TempDir dir;
  {
    Result<AtomicDirectory> directory = AtomicDirectory::create(dir.file("a"));
    ASSERT_TRUE(directory.isOk());
    ASSERT_TRUE(writeFile(directory->file("plan.pb"), "x").isOk());
    AtomicDirectory moved = std::move(*directory);
    EXPECT_THAT(entries(moved.path()), ElementsAre("plan.pb"));
  }
  EXPECT_THAT(entries(dir.path()), IsEmpty());
}

TEST(AtomicDirectory, ReplacesAnArtifact) {
  test::TempDir dir;
  std::string destination = dir.file("a");
  ASSERT_TRUE(writeArtifact(destination, "old").isOk());
  ASSERT_TRUE(writeFile(destination + "/extra", "of the old one").isOk());
  ASSERT_TRUE(writeArtifact(destination + "/", "new").isOk());
  EXPECT_EQ(*readFile(destination + "/plan.pb"), "new");
  EXPECT_THAT(entries(destination), UnorderedElementsAre("plan.pb", "kernels"));
  EXPECT_THAT(entries(dir.path()), ElementsAre("a"));
}

TEST(AtomicDirectory, FillsAnEmptyDirectory) {
  test::TempDir dir;
  fs::create_directory(dir.file("a"));
  ASSERT_TRUE(writeArtifact(dir.file("a"), "x").isOk());
  EXPECT_EQ(*readFile(dir.file("a/plan.pb")), "x");
}

TEST(AtomicDirectory, ReplacesWhatALinkPointsTo) {
  test::TempDir dir;
  ASSERT_TRUE(writeArtifact(dir.file("v1"), "old").isOk());
  fs::create_directory_symlink(dir.file("v1"), dir.file("current"));
  ASSERT_TRUE(writeArtifact(dir.file("current"), "new").isOk());
  EXPECT_TRUE(fs::is_symlink(dir.file("current")));
  EXPECT_EQ(*readFile(dir.file("v1/plan.pb")), "new");
}

TEST(AtomicDirectory, RefusesWhatIsNoArtifact) {
  test::TempDir dir;
  fs::create_directory(dir.file("home"));
  ASSERT_TRUE(writeFile(dir.file("home/letter"), "dear").isOk());
  ASSERT_TRUE(writeFile(dir.file("file"), "x").isOk());
  Status status = AtomicDirectory::create(dir.file("home")).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a Sluice artifact (no plan.pb in it)"));
  status = AtomicDirectory::create(dir.file("file")).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is not a directory"));
  for (const char *name : {"", "/", ".", "..", "./"})
    EXPECT_EQ(AtomicDirectory::create(name).status().code(), StatusCode::kInvalidArgument) << name;
  EXPECT_EQ(AtomicDirectory::create(dir.file("missing/a")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(*readFile(dir.file("home/letter")), "dear");
  EXPECT_THAT(entries(dir.path()), UnorderedElementsAre("home", "file"));
}

TEST(AtomicDirectory, RefusesWhatAppearedMeanwhile) {
  test::TempDir dir;
  Result<AtomicDirectory> directory = AtomicDirectory::create(dir.file("a"));
  ASSERT_TRUE(directory.isOk());
  fs::create_directory(dir.file("a"));
  ASSERT_TRUE(writeFile(dir.file("a/letter"), "dear").isOk());
  EXPECT_EQ(directory->commit().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(*readFile(dir.file("a/letter")), "dear");
}

TEST(AtomicDirectory, AKilledWriterLeavesNoHalfArtifact) {
  test::TempDir dir;
  std::string destination = dir.file("a");
  killWriter(destination);
  EXPECT_FALSE(fs::exists(destination));
  EXPECT_EQ(entries(dir.path()).size(), 1u); // its temporary
  ASSERT_TRUE(writeArtifact(destination, "old").isOk());
  EXPECT_THAT(entries(dir.path()), ElementsAre("a")) << "the next commit cleans up";
  killWriter(destination);
  EXPECT_EQ(*readFile(destination + "/plan.pb"), "old");
}

TEST(AtomicDirectory, CleansUpOnlyAfterTheDead) {
  test::TempDir dir;
  // A writer of the same destination that still runs (this process), one of another destination
  // that was killed, and something that merely resembles a temporary.
  Result<AtomicDirectory> alive = AtomicDirectory::create(dir.file("a"));
  ASSERT_TRUE(alive.isOk());
  killWriter(dir.file("b"));
  fs::create_directory(dir.file(".a.tmp-x"));
  fs::create_directory(dir.file(".a.tmp-elsewhere-999999999-0"));
  ASSERT_TRUE(writeArtifact(dir.file("a"), "x").isOk());
  EXPECT_TRUE(fs::exists(alive->path()));
  EXPECT_EQ(entries(dir.path()).size(), 5u);
  ASSERT_TRUE(writeFile(alive->file("plan.pb"), "y").isOk());
  ASSERT_TRUE(alive->commit().isOk());
  EXPECT_EQ(*readFile(dir.file("a/plan.pb")), "y");
}

} // namespace
