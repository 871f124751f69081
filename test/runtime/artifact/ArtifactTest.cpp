//===- ArtifactTest.cpp - Writing, reading and damaging artifacts -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every test writes a whole artifact and then opens it, or what is left of it after one change.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Artifact.h"
#include "runtime/artifact/ArtifactWriter.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/base/File.h"
#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sluice {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string messageOf(const Status &status) { return std::string(status.message()); }

std::string contentOf(const std::string &path) {
  auto content = readFile(path);
  EXPECT_TRUE(content.isOk()) << content.status().toString();
  return content.isOk() ? *content : "";
}

class ArtifactTest : public testing::Test {
protected:
  test::TempDir dir;
  const std::string path = dir.file("tiny.sluice");

  void write(const test::TinyModel &model = test::makeTinyModel()) {
    Status status = test::writeArtifact(path, model);
    ASSERT_TRUE(status.isOk()) << status.toString();
  }
  Status open(const ArtifactOptions &options = {}) {
    return Artifact::open(path, options).status();
  }
  /// Replaces plan.pb and its line in SHA256SUMS, as an attacker would.
  void forgePlan(const std::string &bytes) {
    ASSERT_TRUE(writeFile(path + "/plan.pb", bytes).isOk());
    auto manifest = Manifest::parse(contentOf(path + "/SHA256SUMS"));
    ASSERT_TRUE(manifest.isOk());
    Manifest forged;
    for (const ManifestEntry &entry : manifest->entries())
      ASSERT_TRUE(
          forged.add(entry.path, entry.path == kPlanFile ? sha256(bytes) : entry.sha256).isOk());
    ASSERT_TRUE(writeFile(path + "/SHA256SUMS", forged.text()).isOk());
  }
};

TEST_F(ArtifactTest, RoundTrip) {
  test::TinyModel model = test::makeTinyModel();
  write(model);
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.isOk()) << artifact.status().toString();
  EXPECT_EQ(artifact->plan().model().name(), "tiny");
  EXPECT_EQ(artifact->plan().major(), kPlanMajor);
  EXPECT_EQ(artifact->kernels().size(), size_t(model.plan.kernels_size()));
  EXPECT_EQ(*artifact->readFile("tokenizer.json"), "{}\n");
  EXPECT_EQ(artifact->readFile("missing").status().code(), StatusCode::kNotFound);

  std::span<const uint8_t> data = artifact->weightsData(0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data.data()) % 4096, 0u);
  for (size_t i = 0; i < model.weights[0].values.size(); ++i) {
    const proto::Weight &record = artifact->plan().ranks(0).weights(int(i));
    ASSERT_EQ(record.bytes(), model.weights[0].values[i].size() * sizeof(float));
    EXPECT_EQ(0, std::memcmp(data.data() + record.offset(), model.weights[0].values[i].data(),
                             record.bytes()))
        << record.name();
  }
}

TEST_F(ArtifactTest, EqualInputsGiveEqualBytes) {
  write();
  std::string other = dir.file("other.sluice");
  ASSERT_TRUE(test::writeArtifact(other, test::makeTinyModel()).isOk());
  for (const char *file : {"plan.pb", "SHA256SUMS", "report.json", "weights/rank-0.safetensors"})
    EXPECT_EQ(contentOf(path + "/" + file), contentOf(other + "/" + file)) << file;
}

TEST_F(ArtifactTest, ListIsReadableBySha256sum) {
  write();
  std::string command = "cd '" + path + "' && sha256sum --strict --status -c SHA256SUMS";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST_F(ArtifactTest, EveryFlippedByteOfTheSmallFilesIsNoticed) {
  write();
  for (const char *file : {"SHA256SUMS", "plan.pb", "report.json", "tokenizer.json"}) {
    std::string name = path + "/" + file, good = contentOf(name);
    size_t step = std::max<size_t>(1, good.size() / (file == std::string("plan.pb") ? 60 : 400));
    for (size_t i = 0; i < good.size(); i += step) {
      std::string bad = good;
      bad[i] = char(bad[i] ^ (1 << (i % 8)));
      ASSERT_TRUE(writeFile(name, bad).isOk());
      Status status = open();
      EXPECT_FALSE(status.isOk()) << file << " byte " << i;
      EXPECT_THAT(status.code(), testing::AnyOf(StatusCode::kDataCorrupt, StatusCode::kNotFound));
    }
    ASSERT_TRUE(writeFile(name, good).isOk());
  }
  EXPECT_TRUE(open().isOk());
}

TEST_F(ArtifactTest, FlippedBytesOfWeightsAreNoticed) {
  write();
  std::string name = path + "/weights/rank-0.safetensors", good = contentOf(name);
  for (size_t i = 0; i < good.size(); i += good.size() / 50 + 1) {
    std::string bad = good;
    bad[i] = char(bad[i] ^ 0x10);
    ASSERT_TRUE(writeFile(name, bad).isOk());
    EXPECT_EQ(open().code(), StatusCode::kDataCorrupt) << "byte " << i;
  }
  std::string bad = good;
  bad.back() = char(bad.back() ^ 1);
  ASSERT_TRUE(writeFile(name, bad).isOk());
  EXPECT_THAT(messageOf(open()), HasSubstr("the sha256 of chunk 0 (bytes from 0) differs"));
  EXPECT_TRUE(open({.verify = false}).isOk()) << "content of weights is not hashed then";
}

TEST_F(ArtifactTest, TruncatedFilesAreNoticedWithoutHashing) {
  write();
  std::string weights = path + "/weights/rank-0.safetensors";
  fs::resize_file(weights, fs::file_size(weights) - 1);
  EXPECT_THAT(messageOf(open({.verify = false})), HasSubstr("but the plan says"));
  write();
  fs::resize_file(path + "/plan.pb", 100);
  EXPECT_EQ(open({.verify = false}).code(), StatusCode::kDataCorrupt);
  write();
  fs::resize_file(path + "/SHA256SUMS", fs::file_size(path + "/SHA256SUMS") - 1);
  EXPECT_THAT(messageOf(open()), HasSubstr("has no newline at its end"));
  fs::resize_file(path + "/SHA256SUMS", 0);
  EXPECT_THAT(messageOf(open()), HasSubstr("lists no file"));
}

TEST_F(ArtifactTest, MissingFilesAreNamed) {
  EXPECT_EQ(open().code(), StatusCode::kNotFound);
  for (const char *file : {"SHA256SUMS", "plan.pb", "report.json", "weights/rank-0.safetensors"}) {
    fs::remove_all(path);
    write();
    fs::remove(path + "/" + file);
    Status status = open();
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status.toString();
    EXPECT_THAT(messageOf(status), HasSubstr(file));
  }
  fs::remove_all(path);
  ASSERT_TRUE(writeFile(path, "x").isOk());
  EXPECT_THAT(messageOf(open()), HasSubstr("is a file; an artifact is a directory"));
}

TEST_F(ArtifactTest, UnlistedFilesAreIgnored) {
  write();
  ASSERT_TRUE(writeFile(path + "/notes.txt", "mine").isOk());
  EXPECT_TRUE(open().isOk());
}

TEST_F(ArtifactTest, NewerMajorVersionIsRefusedWhateverItHolds) {
  write();
  auto plan = parsePlan(MappedFile::open(path + "/plan.pb")->bytes());
  ASSERT_TRUE(plan.isOk());
  plan->set_major(2);
  forgePlan(*serializePlan(*plan));
  Status status = open();
  EXPECT_EQ(status.code(), StatusCode::kVersionMismatch);
  EXPECT_THAT(messageOf(status), HasSubstr("plan version 2." + std::to_string(kPlanMinor) +
                                           " is newer than this runtime's 1.x; update Sluice or "
                                           "recompile the checkpoint"));
  // Version 3.7 whose fourth field is no message any more.
  forgePlan(std::string("\x08\x03\x10\x07\x22\xff\xff\xff\xff\x7f", 10));
  EXPECT_THAT(messageOf(open()), HasSubstr("plan version 3.7 is newer"));
  plan->set_major(1);
  plan->set_minor(9);
  forgePlan(*serializePlan(*plan));
  EXPECT_TRUE(open().isOk()) << "a newer minor version only adds fields";
}

TEST_F(ArtifactTest, ForgedPlansAreValidated) {
  write();
  forgePlan("no protobuf");
  EXPECT_THAT(messageOf(open()), HasSubstr("does not begin with a version"));
  forgePlan(std::string("\x08\x01\x22\xff\xff\xff\xff\x7f", 8));
  EXPECT_THAT(messageOf(open()), HasSubstr("is not a well-formed protobuf message"));
  write();
  auto plan = parsePlan(MappedFile::open(path + "/plan.pb")->bytes());
  ASSERT_TRUE(plan.isOk());
  plan->mutable_weights_files(0)->set_file("../../../etc/passwd");
  forgePlan(*serializePlan(*plan));
  EXPECT_THAT(messageOf(open()), HasSubstr("\"../../../etc/passwd\" is not listed"));
}

//===------------------------------------------------------------------------===//
// SHA256SUMS
//===------------------------------------------------------------------------===//

TEST(Manifest, AcceptsOneFormOnly) {
  const std::string hash(64, 'a');
  struct Case {
    std::string text, message;
  };
  for (const Case &c : std::vector<Case>{
           {"", "lists no file"},
           {hash + "  a", "line 1 has no newline at its end"},
           {hash + "  a\n\n", "line 2 does not begin with 64 lower-case hexadecimal digits"},
           {hash + " *a\n", "line 1 does not have two spaces"},
           {std::string(64, 'A') + "  a\n", "line 1 does not begin with 64 lower-case"},
           {hash + "  b\n" + hash + "  a\n", "line 2 names \"a\" after \"b\"; paths must ascend"},
           {hash + "  a\n" + hash + "  a\n", "line 2 names \"a\" after \"a\""},
           {hash + "  /a\n", "has an empty, \".\" or \"..\" component"},
           {hash + "  a/../b\n", "has an empty, \".\" or \"..\" component"},
           {hash + "  a\\b\n", "path \"a\\x5cb\" has a character that is not allowed"},
           {hash + "  \n", "has 0 bytes"},
           {hash + "  SHA256SUMS\n", "lists SHA256SUMS itself"},
           {hash + "  a\r\n", "path \"a\\x0d\" has a character"},
       }) {
    auto manifest = Manifest::parse(c.text);
    EXPECT_EQ(manifest.status().code(), StatusCode::kDataCorrupt) << c.text;
    EXPECT_THAT(messageOf(manifest.status()), HasSubstr(c.message));
  }
  const std::string good = hash + "  a-b/c.d\n" + hash + "  b\n";
  auto manifest = Manifest::parse(good);
  ASSERT_TRUE(manifest.isOk());
  EXPECT_EQ(manifest->text(), good);
  EXPECT_NE(manifest->find("b"), nullptr);
  EXPECT_EQ(manifest->find("c"), nullptr);
}

//===------------------------------------------------------------------------===//
// Writing
//===------------------------------------------------------------------------===//

TEST_F(ArtifactTest, WriterRefusesAnInvalidPlan) {
  test::TinyModel model = test::makeTinyModel();
  model.plan.mutable_ranks(0)
      ->mutable_buckets(0)
      ->mutable_commands(0)
      ->mutable_launch()
      ->set_kernel(99);
  Status status = test::writeArtifact(path, model);
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_THAT(messageOf(status), HasSubstr("kernel index 99 exceeds"));
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST_F(ArtifactTest, WriterRefusesBadUse) {
  auto writer = ArtifactWriter::begin(path);
  ASSERT_TRUE(writer.isOk());
  EXPECT_THAT(messageOf(writer->addFile("../x", "")), HasSubstr("component"));
  ASSERT_TRUE(writer->addFile("a/b/c", "1").isOk());
  ASSERT_TRUE(writer->addFile("a/b/d", "2").isOk());
  EXPECT_THAT(messageOf(writer->addFile("a/b/d", "2")), HasSubstr("was added twice"));
  EXPECT_FALSE(writer->addFile("a/b", "file where a folder is").isOk());
  EXPECT_THAT(messageOf(writer->commit()), HasSubstr("call setPlan first"));
}

TEST_F(ArtifactTest, IncompleteWeightsFailTheCommit) {
  test::TinyModel model = test::makeTinyModel();
  {
    auto writer = ArtifactWriter::begin(path);
    ASSERT_TRUE(writer.isOk());
    ASSERT_TRUE(writer->weightsFile(model.weights[0].declarations).isOk());
    writer->setPlan(model.plan);
    EXPECT_FALSE(writer->commit().isOk());
  }
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST_F(ArtifactTest, FailedWriteKeepsTheOldArtifact) {
  write();
  std::string before = contentOf(path + "/SHA256SUMS");
  test::TinyModel model = test::makeTinyModel({.layers = 0});
  model.plan.mutable_limits()->set_page_size(0);
  EXPECT_FALSE(test::writeArtifact(path, model).isOk());
  EXPECT_EQ(contentOf(path + "/SHA256SUMS"), before);
  EXPECT_TRUE(open().isOk());
}

/// Stands in for a full disk where tests may not mount one: every file that passes the limit fails
/// to grow, with EFBIG instead of ENOSPC.
TEST_F(ArtifactTest, WritesThatFailLeaveNothing) {
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{16384, 16384};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    Status status = test::writeArtifact(path, test::makeTinyModel());
    ::_exit(status.isOk() ? 1 : fs::is_empty(dir.path()) ? 0 : 2);
  }
  int result = 0;
  ASSERT_EQ(::waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0) << "1: it was written; 2: something remains";
}

TEST_F(ArtifactTest, FullDiskLeavesNothing) {
  std::string disk = dir.file("disk");
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "needs the right to mount";
  Status status = test::writeArtifact(disk + "/x.sluice", test::makeTinyModel());
  bool empty = fs::is_empty(disk);
  ::umount(disk.c_str());
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.toString();
  EXPECT_TRUE(empty);
}

TEST_F(ArtifactTest, KilledWriterLeavesNoArtifact) {
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    test::TinyModel model = test::makeTinyModel();
    auto writer = ArtifactWriter::begin(path);
    if (writer.isOk() && writer->addFile(kReportFile, "{}").isOk() &&
        writer->weightsFile(model.weights[0].declarations).isOk())
      ::kill(::getpid(), SIGKILL);
    ::_exit(1);
  }
  int result = 0;
  ASSERT_EQ(::waitpid(child, &result, 0), child);
  ASSERT_TRUE(WIFSIGNALED(result));
  EXPECT_FALSE(fs::exists(path));
  write(); // and the next writer removes what the killed one left
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
}

} // namespace
} // namespace sluice
