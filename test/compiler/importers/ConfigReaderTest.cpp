//===- ConfigReaderTest.cpp - Keys that are read, wrong or left over --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/checkpoint/ConfigReader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

json::Value parse(const char *text) {
  auto value = json::parse(text, "test");
  EXPECT_TRUE(value.isOk()) << value.status().toString();
  return *value;
}

std::vector<std::string> messages(const ConfigReader &reader) {
  std::vector<std::string> result;
  for (const ConfigProblem &problem : reader.problems())
    result.push_back(problem.message);
  return result;
}

TEST(ConfigReaderTest, ReadsTypedKeys) {
  json::Value root = parse(R"({"a": true, "b": 3, "c": 2.5, "d": "x", "e": [1, 2], "f": null})");
  ConfigReader reader(root, "config.json");
  EXPECT_TRUE(reader.getBool("a"));
  EXPECT_EQ(reader.getSize("b"), 3);
  EXPECT_EQ(reader.getDouble("b"), 3.0);
  EXPECT_EQ(reader.getDouble("c"), 2.5);
  EXPECT_EQ(reader.getString("d"), "x");
  EXPECT_THAT(reader.getInts("e"), ElementsAre(1, 2));
  EXPECT_FALSE(reader.has("f"));
  EXPECT_EQ(reader.getIntOr("f", 7), 7);
  EXPECT_EQ(reader.getSizeOr("g", 8), 8);
  reader.finish("tiny");
  EXPECT_FALSE(reader.failed());
}

TEST(ConfigReaderTest, CollectsEveryProblem) {
  json::Value root = parse(R"({"a": "x", "b": 0, "c": 1e300})");
  ConfigReader reader(root, "config.json");
  EXPECT_EQ(reader.getSize("a"), 1);
  EXPECT_EQ(reader.getSize("b"), 1);
  EXPECT_EQ(reader.getInt("c"), 0);
  EXPECT_EQ(reader.getSize("d"), 1);
  EXPECT_THAT(messages(reader),
              ElementsAre("config.json: key \"a\": expected integer, found string",
                          HasSubstr("key \"b\": 0 is not a size"), HasSubstr("key \"c\""),
                          "config.json: key \"d\" is missing"));
}

TEST(ConfigReaderTest, RefusesKeysThatNobodyRead) {
  json::Value root = parse(R"({
    "architectures": ["X"], "use_cache": true, "unset": null, "foo": 3,
    "text_config": {"hidden_size": 4, "torch_dtype": "float32", "bar": [1, 2]},
    "vision": {"depth": 1}
  })");
  ConfigReader reader(root, "config.json");
  auto text = reader.getObject("text_config");
  ASSERT_TRUE(text);
  EXPECT_EQ(text->getSize("hidden_size"), 4);
  reader.finish("tiny");
  EXPECT_THAT(messages(reader),
              ElementsAre("config.json: key \"foo\" is not understood by the tiny importer (value "
                          "3); Sluice refuses settings it might compute wrongly; remove it, or "
                          "report the model family",
                          HasSubstr("key \"vision\""),
                          HasSubstr("key \"text_config.bar\" is not understood by the tiny "
                                    "importer (value [1, 2])")));
  EXPECT_EQ(reader.problems().back().key, "bar");
}

TEST(ConfigReaderTest, IgnoredKeysAndOwnErrors) {
  json::Value root = parse(R"({"noise": 0.1, "act": "mish", "nested": {"type": "x"}})");
  ConfigReader reader(root, "config.json");
  reader.ignore("noise");
  EXPECT_EQ(reader.getString("act"), "mish");
  reader.error("act", "is odd");
  auto nested = reader.getObject("nested");
  ASSERT_TRUE(nested);
  nested->error("type", "is unknown");
  reader.finish("tiny");
  EXPECT_THAT(messages(reader), ElementsAre("config.json: key \"act\": is odd",
                                            "config.json: key \"nested.type\": is unknown"));
}

} // namespace
