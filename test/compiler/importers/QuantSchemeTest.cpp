//===- QuantSchemeTest.cpp - What quantization_config says ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Reading and refusing settings one by one is tested on whole checkpoints
// (test/integration/quantized_test.py); here are the rules that those cannot show.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/QuantScheme.h"
#include "test/compiler/importers/TinyCheckpoint.h"
#include "test/runtime/base/TempDir.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace sluice;
using testing::HasSubstr;

namespace {

class QuantSchemeTest : public testing::Test {
protected:
  /// The scheme of a config.json with this quantization_config, and beside it the other file.
  QuantScheme read(const std::string &settings, const std::string &beside = "") {
    std::ofstream(dir.file("config.json"))
        << (settings.empty() ? "{}" : "{\"quantization_config\": " + settings + "}");
    if (!beside.empty())
      std::ofstream(dir.file("hf_quant_config.json")) << beside;
    auto opened = Checkpoint::openSynthetic(dir.path());
    EXPECT_TRUE(opened.isOk()) << opened.status().toString();
    checkpoint.emplace(std::move(*opened));
    ConfigReader config(checkpoint->config(), "config.json");
    QuantScheme scheme = QuantScheme::read(config, *checkpoint);
    config.finish("test");
    problems.clear();
    for (const ConfigProblem &problem : config.problems())
      problems += problem.message + "\n";
    return scheme;
  }

  test::TempDir dir;
  std::optional<Checkpoint> checkpoint;
  std::string problems;
};

TEST_F(QuantSchemeTest, NoSettings) {
  QuantScheme scheme = read("");
  EXPECT_FALSE(scheme.isQuantized());
  EXPECT_EQ(problems, "");
}

TEST_F(QuantSchemeTest, ExcludedModules) {
  QuantScheme scheme = read(R"({"quant_method": "mxfp4", "modules_to_not_convert":
      ["gate", "model.layers.0.mlp.experts", "model.layers.*.self_attn", "lm_head",
       "re:.*shared_expert.*", "re:model\\.(embed"]})");
  EXPECT_EQ(problems, "");
  EXPECT_TRUE(scheme.isMxfp4());
  for (const char *module :
       {"model.layers.7.mlp.gate", "model.layers.0.mlp.experts.3.up_proj", "lm_head",
        "model.layers.11.self_attn.q_proj", "model.layers.1.mlp.shared_expert.up_proj"})
    EXPECT_TRUE(scheme.excludes(module)) << module;
  // Parts of names are not names, and what is no expression means nothing.
  for (const char *module : {"model.layers.7.mlp.gate_proj", "model.layers.7.mlp.experts.3.up_proj",
                             "model.layers.1.mlp.up_proj", "model.embed_tokens"})
    EXPECT_FALSE(scheme.excludes(module)) << module;
}

TEST_F(QuantSchemeTest, RulesOfGptq) {
  const std::string head = R"({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": )";
  QuantScheme scheme = read(head + R"({"-:.*shared_expert.*": {}, "-:lm_head": {}}})");
  EXPECT_EQ(problems, "");
  EXPECT_TRUE(scheme.excludes("model.layers.3.mlp.shared_expert.up_proj"));
  EXPECT_FALSE(scheme.excludes("model.layers.3.mlp.experts.0.up_proj"));
  (void)read(head + R"({"+:.*down.*": {"bits": 8}}})");
  EXPECT_THAT(problems, HasSubstr("settings for single modules are not supported"));
  (void)read(head + "[]}");
  EXPECT_THAT(problems, HasSubstr("expected an object"));
}

TEST_F(QuantSchemeTest, ModulesOfDifferentKinds) {
  QuantScheme scheme = read(R"({"quant_method": "compressed-tensors", "format": "mixed-precision",
    "ignore": [], "config_groups": {
      "attention": {"targets": ["re:.*self_attn.*"], "weights":
        {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true}},
      "four": {"targets": ["re:.*mlp.*"], "weights":
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": true}},
      "eight": {"targets": ["model.layers.*.dense"], "weights":
        {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": true}}}})");
  EXPECT_EQ(problems, "");
  auto bitsOf = [&](const char *module, QuantStorage storage) {
    const QuantGroup *group = scheme.groupOf(module, {&storage, 1});
    return group ? group->bits : 0;
  };
  // The only group of a storage is meant by every module that is stored so.
  EXPECT_EQ(bitsOf("model.layers.0.self_attn.q_proj", QuantStorage::kFloat8), 8);
  EXPECT_EQ(bitsOf("lm_head", QuantStorage::kFloat8), 8);
  EXPECT_EQ(bitsOf("model.layers.0.mlp.up_proj", QuantStorage::kPacked), 4);
  EXPECT_EQ(bitsOf("model.layers.0.dense", QuantStorage::kPacked), 8);
  EXPECT_EQ(bitsOf("lm_head", QuantStorage::kPacked), 0) << "neither of two";
  EXPECT_EQ(bitsOf("lm_head", QuantStorage::kAwq), 0);
}

TEST_F(QuantSchemeTest, OneGroupForTheRest) {
  QuantScheme scheme = read(R"({"quant_method": "compressed-tensors", "config_groups": {
      "a": {"targets": ["Linear"], "weights":
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}},
      "b": {"targets": ["re:.*down_proj"], "weights":
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}}})");
  EXPECT_EQ(problems, "");
  auto groupOf = [&](const char *module) {
    QuantStorage storage = QuantStorage::kPacked;
    const QuantGroup *group = scheme.groupOf(module, {&storage, 1});
    return group ? group->groupColumns : -1;
  };
  EXPECT_EQ(groupOf("model.layers.0.mlp.up_proj"), 32);
  EXPECT_EQ(groupOf("model.layers.0.mlp.down_proj"), 128);
}

TEST_F(QuantSchemeTest, FileOfModelOpt) {
  const char *beside = R"({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4",
    "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": ["lm_head"]}})";
  QuantScheme scheme = read("", beside);
  EXPECT_EQ(problems, "");
  ASSERT_EQ(scheme.groups.size(), 1u);
  EXPECT_TRUE(scheme.groups[0].modelOpt);
  EXPECT_EQ(scheme.groups[0].storage, QuantStorage::kNvfp4);
  EXPECT_TRUE(scheme.excludes("lm_head"));
  ASSERT_EQ(scheme.notes.size(), 1u);
  EXPECT_THAT(scheme.notes[0], HasSubstr("kv_cache_quant_algo"));
  // config.json comes first.
  EXPECT_EQ(read(R"({"quant_method": "fp8"})", beside).method, "fp8");

  (void)read("", R"({"quantization": {"quant_algo": "NVFP4", "surprise": 1}, "other": 2})");
  EXPECT_THAT(problems, HasSubstr("hf_quant_config.json: key \"quantization.surprise\""));
  EXPECT_THAT(problems, HasSubstr("hf_quant_config.json: key \"other\""));
  (void)read("", R"({"producer": {}})");
  EXPECT_THAT(problems, HasSubstr("key \"quantization\""));
}

TEST_F(QuantSchemeTest, QuantisedCacheIsNoted) {
  QuantScheme scheme = read(R"({"quant_method": "compressed-tensors", "kv_cache_scheme":
    {"num_bits": 8, "type": "float"}, "config_groups": {"g": {"targets": ["Linear"], "weights":
    {"num_bits": 8, "type": "float", "strategy": "tensor"}}}})");
  EXPECT_EQ(problems, "");
  ASSERT_EQ(scheme.notes.size(), 1u);
  EXPECT_THAT(scheme.notes[0], HasSubstr("--kv-dtype"));
}

TEST_F(QuantSchemeTest, EveryMethodOfTheTableIsKnown) {
  for (const QuantFormatInfo &info : allQuantFormats()) {
    (void)read("{\"quant_method\": \"" + std::string(info.method) + "\"}");
    EXPECT_THAT(problems, testing::Not(HasSubstr("is not supported; supported are")))
        << info.method;
  }
  (void)read(R"({"quant_method": "quark", "anything": {"at": "all"}})");
  EXPECT_THAT(problems, HasSubstr("\"quark\" is not supported; supported are fp8"));
}

} // namespace
