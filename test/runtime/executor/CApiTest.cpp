//===- CApiTest.cpp - The C interface used from C ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Writes the artifact; CApiCalls.c does the rest in C.
//
//===------------------------------------------------------------------------===//
#include "sluice.h"

#include "runtime/base/Json.h"
#include "test/runtime/artifact/ArtifactBuilder.h"
#include "test/runtime/base/TempDir.h"

#include <gtest/gtest.h>

extern "C" const char *checkErrors(const char *path);
extern "C" const char *checkUse(const char *path);

namespace sluice {
namespace {

/// A byte-level tokenizer of 64 printable characters without merges.
std::string tokenizerJson() {
  json::Value vocab = json::Value::object();
  for (int i = 0; i < 64; ++i)
    vocab.set(std::string(1, char('A' + i)), i);
  json::Value model = json::Value::object(), byteLevel = json::Value::object(),
              root = json::Value::object();
  model.set("type", "BPE");
  model.set("vocab", vocab);
  model.set("merges", json::Value::array());
  byteLevel.set("type", "ByteLevel");
  byteLevel.set("add_prefix_space", false);
  byteLevel.set("trim_offsets", true);
  byteLevel.set("use_regex", true);
  root.set("added_tokens", json::Value::array());
  root.set("pre_tokenizer", byteLevel);
  root.set("decoder", byteLevel);
  root.set("model", model);
  return root.dump();
}

TEST(CApi, WorksFromC) {
  for (int ranks : {1, 2}) {
    test::TempDir dir;
    std::string path = dir.file("tiny.sluice");
    Status written = test::writeArtifact(
        path, test::makeTinyModel({.expertWidth = 16 * ranks, .ranks = ranks}), tokenizerJson());
    ASSERT_TRUE(written.isOk()) << written.toString();
    const char *failure = checkErrors(path.c_str());
    EXPECT_EQ(failure, nullptr) << failure;
    failure = checkUse(path.c_str());
    EXPECT_EQ(failure, nullptr) << failure;
  }
}

TEST(CApi, ArtifactsWithoutTokenizerSaySo) {
  test::TempDir dir;
  ASSERT_TRUE(test::writeArtifact(dir.file("x"), test::makeTinyModel()).isOk());
  sluice_engine *engine = nullptr;
  ASSERT_EQ(sluice_engine_load(dir.file("x").c_str(), nullptr, &engine), nullptr);
  sluice_tokenizer *tokenizer = nullptr;
  sluice_status *status = sluice_tokenizer_load(engine, &tokenizer);
  EXPECT_NE(status, nullptr) << "\"{}\" is no tokenizer";
  EXPECT_EQ(tokenizer, nullptr);
  sluice_status_free(status);
  sluice_engine_free(engine);
}

} // namespace
} // namespace sluice
