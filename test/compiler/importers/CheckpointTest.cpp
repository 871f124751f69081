//===- CheckpointTest.cpp - Folders that are complete, and that are not -----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/checkpoint/Checkpoint.h"
#include "test/compiler/importers/TinyCheckpoint.h"
#include "test/runtime/base/TempDir.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace sluice;
using namespace sluice::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string openError(const std::string &folder, StatusCode code) {
  auto opened = Checkpoint::open(folder);
  EXPECT_FALSE(opened.isOk());
  EXPECT_EQ(opened.status().code(), code) << opened.status().toString();
  return std::string(opened.status().message());
}

TEST(CheckpointTest, ReadsTensorsOfAllShards) {
  TempDir dir;
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  tiny.write(dir.path(), /*sharded=*/true);
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().toString();
  Checkpoint moved = std::move(*checkpoint);
  EXPECT_EQ(moved.tensors().size(), tiny.tensors.size());
  EXPECT_EQ(moved.files(), (std::vector<std::string>{shardName(0), shardName(1)}));
  for (const auto &[name, tensor] : tiny.tensors) {
    auto found = moved.find(name);
    ASSERT_TRUE(found) << name;
    EXPECT_EQ(found->info->shape, tensor.shape);
    EXPECT_EQ(moved.files()[found->file], shardName(tensor.shard));
    std::vector<uint8_t> expected = TinyCheckpoint::bytesOf(name, tensor), read(expected.size());
    ASSERT_TRUE(moved.read(*found, 0, read.data(), read.size()).isOk());
    EXPECT_EQ(read, expected);
  }
  EXPECT_FALSE(moved.find("model.absent"));
}

TEST(CheckpointTest, NameIsTheFolders) {
  TempDir dir;
  TinyCheckpoint::mixtral().write(dir.file("tiny-8x1"));
  for (std::string path : {dir.file("tiny-8x1"), dir.file("tiny-8x1/"), dir.file("tiny-8x1/.")}) {
    auto checkpoint = Checkpoint::open(path);
    ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().toString();
    EXPECT_EQ(checkpoint->name(), "tiny-8x1") << path;
  }
}

TEST(CheckpointTest, MissingParts) {
  TempDir dir;
  EXPECT_THAT(openError(dir.file("none"), StatusCode::kNotFound), HasSubstr("does not exist"));
  EXPECT_THAT(openError(dir.path(), StatusCode::kNotFound), HasSubstr("has no config.json"));
  ASSERT_TRUE(writeFile(dir.file("config.json"), "{}").isOk());
  EXPECT_THAT(openError(dir.file("config.json"), StatusCode::kNotFound),
              HasSubstr("is not a folder"));
  EXPECT_THAT(openError(dir.path(), StatusCode::kNotFound),
              HasSubstr("has neither model.safetensors nor"));
  ASSERT_TRUE(writeFile(dir.file("pytorch_model.bin"), "").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kNotFound), HasSubstr("convert them"));
}

TEST(CheckpointTest, InvalidJson) {
  TempDir dir;
  TinyCheckpoint::mixtral().write(dir.path());
  ASSERT_TRUE(writeFile(dir.file("config.json"), "{\n  \"hidden_size\": 8,\n}").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt),
              AllOf(HasSubstr("config.json"), HasSubstr("line 3")));
  ASSERT_TRUE(writeFile(dir.file("config.json"), "[]").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt),
              HasSubstr("expected an object, found array"));
  ASSERT_TRUE(writeFile(dir.file("config.json"), "{}").isOk());
  ASSERT_TRUE(writeFile(dir.file("generation_config.json"), "{").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt), HasSubstr("generation_config.json"));
}

TEST(CheckpointTest, IndexAndShardsMustAgree) {
  TempDir dir;
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  tiny.write(dir.path(), /*sharded=*/true);
  std::string index = dir.file("model.safetensors.index.json");

  TinyCheckpoint more = tiny;
  more.tensors["model.extra"] = {DataType::kBF16, {8}, 1};
  ASSERT_TRUE(writeFile(index, makeIndex(more).dump()).isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt),
              AllOf(HasSubstr(shardName(1)), HasSubstr("says that it holds \"model.extra\"")));

  TinyCheckpoint less = tiny;
  less.tensors.erase("model.norm.weight");
  ASSERT_TRUE(writeFile(index, makeIndex(less).dump()).isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt),
              HasSubstr("the shards hold \"model.norm.weight\", which the index does not list"));

  TinyCheckpoint elsewhere = tiny;
  elsewhere.tensors["model.norm.weight"].shard = 0;
  ASSERT_TRUE(writeFile(index, makeIndex(elsewhere).dump()).isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt), HasSubstr("\"model.norm.weight\""));

  ASSERT_TRUE(writeFile(index, makeIndex(tiny).dump()).isOk());
  std::filesystem::remove(dir.file(shardName(1)));
  EXPECT_THAT(openError(dir.path(), StatusCode::kNotFound),
              AllOf(HasSubstr("lists 2 files"), HasSubstr("lacks \"" + shardName(1))));
}

TEST(CheckpointTest, HostileIndex) {
  TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("config.json"), "{}").isOk());
  std::string index = dir.file("model.safetensors.index.json");
  for (const char *text : {R"({"weight_map": {"a": "../other.safetensors"}})",
                           R"({"weight_map": {"a": "/etc/passwd"}})",
                           R"({"weight_map": {"a": ".."}})", R"({"weight_map": {"a": ""}})"}) {
    ASSERT_TRUE(writeFile(index, text).isOk());
    EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt),
                HasSubstr("is not the name of a file"));
  }
  ASSERT_TRUE(writeFile(index, R"({"weight_map": {"a": 3}})").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt), HasSubstr("found integer"));
  ASSERT_TRUE(writeFile(index, R"({"weight_map": {}})").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt), HasSubstr("lists no tensor"));
  ASSERT_TRUE(writeFile(index, "{}").isOk());
  EXPECT_THAT(openError(dir.path(), StatusCode::kNotFound), HasSubstr("\"weight_map\""));
}

TEST(CheckpointTest, TruncatedShard) {
  TempDir dir;
  TinyCheckpoint::mixtral().write(dir.path(), /*sharded=*/true);
  std::string shard = dir.file(shardName(1));
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
  EXPECT_THAT(openError(dir.path(), StatusCode::kDataCorrupt), HasSubstr(shardName(1)));
}

TEST(CheckpointTest, FileThatShrinksWhileItIsRead) {
  TempDir dir;
  TinyCheckpoint::mixtral().write(dir.path());
  auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.isOk());
  const CheckpointTensor &last = checkpoint->tensors().back();
  std::filesystem::resize_file(dir.file("model.safetensors"), last.info->offset + 1);
  std::vector<uint8_t> bytes(last.info->bytes);
  Status status = checkpoint->read(last, 0, bytes.data(), bytes.size());
  EXPECT_EQ(status.code(), StatusCode::kDataCorrupt);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("model.safetensors"),
                    HasSubstr("offset " + std::to_string(last.info->offset))));
}

TEST(CheckpointTest, SyntheticNeedsTheConfigurationOnly) {
  TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("config.json"), R"({"hidden_size": 8})").isOk());
  auto checkpoint = Checkpoint::openSynthetic(dir.path());
  ASSERT_TRUE(checkpoint.isOk()) << checkpoint.status().toString();
  EXPECT_TRUE(checkpoint->isSynthetic());
  EXPECT_TRUE(checkpoint->tensors().empty());
}

} // namespace
