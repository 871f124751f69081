//===- FileTest.cpp - Mapping, reading and writing files --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// /dev/full stands for a full disk. Permissions cannot be tested, since the tests may run as root;
// directories, pipes and missing files stand for what cannot be read.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/File.h"

#include "TempDir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace sluice;
using testing::HasSubstr;

namespace {

TEST(File, WritesAndReadsBack) {
  test::TempDir dir;
  std::string path = dir.file("data");
  std::string expected;
  Result<OutputFile> out = OutputFile::create(path);
  ASSERT_TRUE(out.isOk()) << out.status().toString();
  // Pieces below, at and above the buffer's size, so that every way through it is taken.
  for (size_t size : {size_t(0), size_t(10), (size_t(1) << 20) - 10, size_t(1), size_t(1) << 20,
                      size_t(3) << 20, size_t(7)}) {
    std::string piece(size, static_cast<char>('a' + expected.size() % 26));
    expected += piece;
    ASSERT_TRUE(out->write(piece).isOk());
    EXPECT_EQ(out->offset(), expected.size());
  }
  ASSERT_TRUE(out->sync().isOk());
  ASSERT_TRUE(out->close().isOk());

  Result<std::string> content = readFile(path);
  ASSERT_TRUE(content.isOk());
  EXPECT_TRUE(*content == expected);

  Result<MappedFile> mapped = MappedFile::open(path);
  ASSERT_TRUE(mapped.isOk());
  ASSERT_EQ(mapped->size(), expected.size());
  EXPECT_EQ(std::string_view(reinterpret_cast<const char *>(mapped->data()), mapped->size()),
            expected);
  mapped->willNeed(4097, UINT64_MAX);
  mapped->willNeed(UINT64_MAX, 1);
  MappedFile moved = std::move(*mapped);
  EXPECT_EQ(moved.bytes()[0], expected[0]);

  Result<RandomAccessFile> file = RandomAccessFile::open(path);
  ASSERT_TRUE(file.isOk());
  EXPECT_EQ(file->size(), expected.size());
  char tail[7];
  ASSERT_TRUE(file->read(expected.size() - 7, tail, 7).isOk());
  EXPECT_EQ(std::string_view(tail, 7), expected.substr(expected.size() - 7));
}

TEST(File, CreateEmptiesWhatExists) {
  test::TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("f"), "long content").isOk());
  ASSERT_TRUE(writeFile(dir.file("f"), "x").isOk());
  EXPECT_EQ(*readFile(dir.file("f")), "x");
}

TEST(File, MapsAnEmptyFile) {
  test::TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("empty"), "").isOk());
  Result<MappedFile> mapped = MappedFile::open(dir.file("empty"));
  ASSERT_TRUE(mapped.isOk());
  EXPECT_EQ(mapped->size(), 0u);
  EXPECT_TRUE(mapped->bytes().empty());
}

TEST(File, ReadingPastTheEndIsTruncation) {
  test::TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("f"), "0123456789").isOk());
  Result<RandomAccessFile> file = RandomAccessFile::open(dir.file("f"));
  ASSERT_TRUE(file.isOk());
  char buffer[16];
  for (uint64_t offset : {uint64_t(9), uint64_t(10), uint64_t(11), UINT64_MAX}) {
    Status status = file->read(offset, buffer, 2);
    EXPECT_EQ(status.code(), StatusCode::kDataCorrupt) << offset;
    EXPECT_THAT(std::string(status.message()), HasSubstr("passes the file's 10 bytes"));
  }
  // It shrinks after it was opened.
  ASSERT_EQ(::truncate(dir.file("f").c_str(), 4), 0);
  EXPECT_EQ(file->read(2, buffer, 6).code(), StatusCode::kDataCorrupt);
}

TEST(File, OnlyRegularFilesAreRead) {
  test::TempDir dir;
  std::string pipe = dir.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string &path : {dir.path(), pipe}) {
    EXPECT_EQ(readFile(path).status().code(), StatusCode::kIo) << path;
    EXPECT_EQ(MappedFile::open(path).status().code(), StatusCode::kIo);
    EXPECT_EQ(RandomAccessFile::open(path).status().code(), StatusCode::kIo);
  }
  Status missing = readFile(dir.file("missing")).status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_EQ(missing.message(),
            "cannot open \"" + dir.file("missing") + "\": No such file or directory");
}

TEST(File, ReadFileHasALimit) {
  test::TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("f"), "0123456789").isOk());
  EXPECT_EQ(*readFile(dir.file("f"), 10), "0123456789");
  EXPECT_EQ(readFile(dir.file("f"), 9).status().code(), StatusCode::kResourceExhausted);
}

TEST(File, AFullDiskIsReported) {
  if (::access("/dev/full", W_OK) != 0)
    GTEST_SKIP() << "no /dev/full here";
  auto expectFull = [](const Status &status) {
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.toString();
    EXPECT_THAT(std::string(status.message()), HasSubstr("No space left on device"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("/dev/full"));
  };
  expectFull(writeFile("/dev/full", "x")); // buffered, so close() must say it
  Result<OutputFile> large = OutputFile::create("/dev/full");
  ASSERT_TRUE(large.isOk());
  expectFull(large->write(std::string(size_t(2) << 20, 'x')));
  Result<OutputFile> synced = OutputFile::create("/dev/full");
  ASSERT_TRUE(synced.isOk());
  ASSERT_TRUE(synced->write("x").isOk());
  expectFull(synced->sync());
}

TEST(File, CreateNamesTheFile) {
  test::TempDir dir;
  Status status = OutputFile::create(dir.file("no/such/dir")).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no/such/dir"));
  EXPECT_EQ(OutputFile::create(dir.path()).status().code(), StatusCode::kIo);
}

} // namespace
