//===- ImportTest.cpp - Mixtral checkpoints, good and bad -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/ModelImporter.h"
#include "dialects/Moe/Moe.h"
#include "test/compiler/importers/TinyCheckpoint.h"
#include "test/runtime/base/TempDir.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace mlir;
using namespace sluice;
using namespace sluice::test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace {

/// A context whose diagnostics are collected as "location: message" with one line per note.
class ImportTest : public testing::Test {
protected:
  ImportTest() {
    context.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) {
      std::string text;
      llvm::raw_string_ostream stream(text);
      if (auto file = dyn_cast<FileLineColLoc>(diagnostic.getLocation()))
        stream << std::filesystem::path(file.getFilename().str()).filename().string() << ":"
               << file.getLine() << ": ";
      stream << diagnostic.str();
      for (Diagnostic &note : diagnostic.getNotes())
        stream << "\nnote: " << note.str();
      errors.push_back(text);
      return success();
    });
  }

  OwningOpRef<ModuleOp> import(const std::string &folder, bool synthetic = false) {
    errors.clear();
    FailureOr<Checkpoint> checkpoint = openCheckpoint(folder, synthetic, context);
    if (failed(checkpoint))
      return {};
    FailureOr<OwningOpRef<ModuleOp>> module = importCheckpoint(*checkpoint, options, context);
    return failed(module) ? OwningOpRef<ModuleOp>() : std::move(*module);
  }
  OwningOpRef<ModuleOp> import(const TinyCheckpoint &tiny, bool sharded = false) {
    TempDir dir;
    tiny.write(dir.file("tiny"), sharded);
    return import(dir.file("tiny"));
  }
  /// Imports what must fail; the diagnostics.
  const std::vector<std::string> &errorsOf(const TinyCheckpoint &tiny, bool sharded = false) {
    EXPECT_FALSE(import(tiny, sharded));
    return errors;
  }
  static TinyCheckpoint with(const char *key, json::Value value) {
    TinyCheckpoint tiny = TinyCheckpoint::mixtral();
    tiny.config.set(key, std::move(value));
    return tiny;
  }
  static TinyCheckpoint without(std::string_view key) {
    TinyCheckpoint tiny = TinyCheckpoint::mixtral();
    json::Value rest = json::Value::object();
    for (const json::Member &member : *tiny.config.objectIf())
      if (member.key != key)
        rest.set(member.key, member.value);
    tiny.config = std::move(rest);
    return tiny;
  }
  static int64_t number(ModuleOp module, StringRef dict, StringRef name) {
    return module->getAttrOfType<DictionaryAttr>(dict).getAs<IntegerAttr>(name).getInt();
  }
  static moe::RopeAttr ropeOf(ModuleOp module) {
    moe::RopeAttr rope;
    module.walk([&](moe::RopeOp op) { rope = op.getRope(); });
    return rope;
  }

  MLIRContext context;
  ImportOptions options;
  std::vector<std::string> errors;
};

TEST_F(ImportTest, TinyMixtral) {
  OwningOpRef<ModuleOp> module = import(TinyCheckpoint::mixtral(), /*sharded=*/true);
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  SymbolTable symbols(*module);
  auto stack = symbols.lookup<moe::WeightOp>("layers.1.experts.down");
  ASSERT_TRUE(stack);
  auto value = cast<moe::StackAttr>(stack.getValue());
  EXPECT_EQ(value.getPattern().getValue(), "model.layers.1.block_sparse_moe.experts.{}.w2.weight");
  EXPECT_EQ(value.getFiles().size(), 2u);
  EXPECT_EQ(cast<RankedTensorType>(stack.getType()).getShape(), ArrayRef<int64_t>({4, 8, 6}));
  auto head = cast<moe::SourceAttr>(symbols.lookup<moe::WeightOp>("head").getValue());
  EXPECT_EQ(head.getFile().getValue(), StringRef(shardName(1)));

  // 24*8*2 + 8 + 2 * (8*2 + 64*2 + 32*2 + 4*8 + 4*3*48); half of the experts are active.
  EXPECT_EQ(number(*module, "moe.model", "total_parameters"), 392 + 2 * 816);
  EXPECT_EQ(number(*module, "moe.model", "active_parameters"), 392 + 2 * (816 - 288));
  auto eos = (*module)
                 ->getAttrOfType<DictionaryAttr>("moe.model")
                 .getAs<DenseI64ArrayAttr>("eos_token_ids");
  EXPECT_THAT(eos.asArrayRef().vec(), ElementsAre(1));
  EXPECT_EQ(number(*module, "moe.model", "bos_token_id"), -1);
  EXPECT_EQ(number(*module, "moe.limits", "max_seq_len"), 64);
  EXPECT_EQ(number(*module, "moe.limits", "num_pages"), 64);
}

TEST_F(ImportTest, OldAndNewRopeKeysMeanTheSame) {
  TinyCheckpoint renamed = without("rope_theta");
  renamed.config.set("rope_parameters",
                     *json::parse(R"({"rope_type": "default", "rope_theta": 10000.0})", ""));
  OwningOpRef<ModuleOp> old = import(TinyCheckpoint::mixtral()), current = import(renamed);
  ASSERT_TRUE(old && current) << testing::PrintToString(errors);
  EXPECT_EQ(ropeOf(*old), ropeOf(*current));
}

TEST_F(ImportTest, RopeScaling) {
  TinyCheckpoint tiny = with("rope_scaling", *json::parse(R"({"type": "yarn", "factor": 4,
      "original_max_position_embeddings": 16, "truncate": false})",
                                                          ""));
  OwningOpRef<ModuleOp> module = import(tiny);
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  DictionaryAttr scaling = ropeOf(*module).getScaling();
  ASSERT_TRUE(scaling);
  EXPECT_EQ(scaling.getAs<StringAttr>("rope_type").getValue(), "yarn");
  EXPECT_EQ(scaling.getAs<FloatAttr>("factor").getValueAsDouble(), 4.0);
  EXPECT_EQ(scaling.getAs<IntegerAttr>("original_max_position_embeddings").getInt(), 16);
  EXPECT_EQ(scaling.getAs<IntegerAttr>("max_position_embeddings").getInt(), 64);
  EXPECT_FALSE(scaling.getAs<BoolAttr>("truncate").getValue());
}

TEST_F(ImportTest, BadRopeSettings) {
  auto scaling = [](const char *text) {
    return with("rope_scaling", *json::parse(text, "scaling"));
  };
  EXPECT_THAT(errorsOf(scaling(R"({"rope_type": "spiral", "factor": 2.0})")),
              ElementsAre(HasSubstr("RoPE type \"spiral\" is not supported; supported are default, "
                                    "linear, dynamic, yarn, llama3, longrope")));
  EXPECT_THAT(errorsOf(scaling(R"({"rope_type": "linear"})")),
              ElementsAre(HasSubstr("key \"rope_scaling.factor\" is missing")));
  EXPECT_THAT(errorsOf(scaling(R"({"rope_type": "linear", "factor": 2.0, "beta_fast": 1.0})")),
              ElementsAre(HasSubstr("key \"rope_scaling.beta_fast\" is not understood")));
  EXPECT_THAT(errorsOf(scaling(R"({"rope_type": "longrope", "short_factor": [1.0],
                                   "long_factor": [1.0, 2.0],
                                   "original_max_position_embeddings": 8})")),
              ElementsAre(HasSubstr("1 factors, expected 2")));
  EXPECT_THAT(errorsOf(scaling(R"({"rope_type": "default", "rope_theta": 5.0})")),
              ElementsAre(HasSubstr("contradicts the value among the rope settings")));
  // The family's own base holds where no key gives one.
  OwningOpRef<ModuleOp> absent = import(without("rope_theta"));
  ASSERT_TRUE(absent) << testing::PrintToString(errors);
  EXPECT_EQ(ropeOf(*absent).getBase().getValueAsDouble(), 1e6);
  EXPECT_THAT(errorsOf(with("rope_theta", -1.0)), ElementsAre(HasSubstr("a positive number")));
}

TEST_F(ImportTest, WindowAndTiedEmbeddings) {
  TinyCheckpoint tiny = with("sliding_window", 16);
  tiny.config.set("tie_word_embeddings", true);
  OwningOpRef<ModuleOp> module = import(tiny);
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  module->walk([](moe::AttentionOp op) { EXPECT_EQ(op.getWindow(), 16u); });
  EXPECT_FALSE(SymbolTable(*module).lookup("head"));
  tiny.tensors.erase("lm_head.weight");
  EXPECT_TRUE(import(tiny)) << testing::PrintToString(errors);
}

TEST_F(ImportTest, GenerationConfigurationOverridesTokens) {
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  tiny.generation = *json::parse(R"({"eos_token_id": [2, 3], "bos_token_id": 0})", "");
  OwningOpRef<ModuleOp> module = import(tiny);
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  auto model = (*module)->getAttrOfType<DictionaryAttr>("moe.model");
  EXPECT_THAT(model.getAs<DenseI64ArrayAttr>("eos_token_ids").asArrayRef().vec(),
              ElementsAre(2, 3));
  EXPECT_EQ(number(*module, "moe.model", "bos_token_id"), 0);
  tiny.generation = *json::parse(R"({"eos_token_id": 24})", "");
  EXPECT_THAT(errorsOf(tiny), ElementsAre(AllOf(HasSubstr("generation_config.json"),
                                                HasSubstr("24 is outside the vocabulary"))));
}

TEST_F(ImportTest, UnknownArchitecture) {
  TinyCheckpoint tiny = with("architectures", *json::parse(R"(["FooForCausalLM"])", ""));
  EXPECT_THAT(errorsOf(tiny),
              ElementsAre(AllOf(HasSubstr("\"FooForCausalLM\" is not a known architecture"),
                                HasSubstr("note: known architectures are "),
                                HasSubstr("MixtralForCausalLM"))));
  EXPECT_THAT(errorsOf(without("architectures")),
              ElementsAre(HasSubstr("key \"architectures\" is missing")));
}

TEST_F(ImportTest, UnknownKeyIsLocated) {
  EXPECT_THAT(errorsOf(with("foo", 3)),
              ElementsAre("config.json:21: config.json: key \"foo\" is not understood by the "
                          "mixtral importer (value 3); Sluice refuses settings it might compute "
                          "wrongly; remove it, or report the model family"));
}

TEST_F(ImportTest, MissingAndWrongKeys) {
  for (const char *key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "num_local_experts", "num_experts_per_tok",
        "hidden_act", "max_position_embeddings", "rms_norm_eps"})
    EXPECT_THAT(errorsOf(without(key)),
                testing::Contains(HasSubstr("key \"" + std::string(key) + "\" is missing")));
  EXPECT_THAT(errorsOf(with("hidden_act", "mish")),
              ElementsAre(HasSubstr("activation \"mish\" is not supported; supported are silu")));
  EXPECT_THAT(errorsOf(with("hidden_size", "8")),
              ElementsAre(HasSubstr("expected integer, found string")));
  EXPECT_THAT(errorsOf(with("num_hidden_layers", 0)), ElementsAre(HasSubstr("0 is not a size")));
  EXPECT_THAT(errorsOf(with("num_key_value_heads", 3)),
              ElementsAre(HasSubstr("3 does not divide num_attention_heads 2")));
  EXPECT_THAT(errorsOf(with("num_experts_per_tok", 5)),
              ElementsAre(HasSubstr("5 exceeds the number of experts 4")));
  EXPECT_THAT(errorsOf(with("rms_norm_eps", 0)), ElementsAre(HasSubstr("a positive number")));
  EXPECT_THAT(errorsOf(with("head_dim", 3)), ElementsAre(HasSubstr("expected an even number")));
}

TEST_F(ImportTest, TensorsThatAreMissingMisshapenOrOfAnotherType) {
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  tiny.tensors.erase("model.layers.1.block_sparse_moe.experts.2.w3.weight");
  tiny.tensors["model.layers.0.self_attn.q_proj.weight"].shape = {8, 9};
  tiny.tensors["model.norm.weight"].dtype = DataType::kF8E4M3;
  tiny.tensors["model.layers.0.block_sparse_moe.experts.3.w1.weight"].dtype = DataType::kF32;
  EXPECT_THAT(
      errorsOf(tiny),
      ElementsAre(AllOf(HasSubstr("model.safetensors:0"),
                        HasSubstr("tensor \"model.layers.0.self_attn.q_proj.weight\" in "
                                  "model.safetensors has shape [8, 9], expected [8, 8]"),
                        HasSubstr("\nnote: ")),
                  HasSubstr("experts.3.w1.weight\" in model.safetensors has type F32, but "
                            "\"model.layers.0.block_sparse_moe.experts.0.w1.weight\" has type "
                            "BF16"),
                  HasSubstr("tensor \"model.layers.1.block_sparse_moe.experts.2.w3.weight\" is "
                            "missing from model.safetensors; expected shape [6, 8]"),
                  HasSubstr("has type F8_E4M3, which the mixtral importer does not read")));
}

TEST_F(ImportTest, ManyWrongTensorsAreCounted) {
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  for (auto &[name, tensor] : tiny.tensors)
    tensor.shape.push_back(1);
  const std::vector<std::string> &found = errorsOf(tiny);
  ASSERT_EQ(found.size(), 9u);
  EXPECT_THAT(found.back(), HasSubstr("more tensors are wrong"));
}

TEST_F(ImportTest, TensorsThatNobodyUses) {
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  tiny.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {DataType::kF32, {2}, 0};
  EXPECT_TRUE(import(tiny)) << testing::PrintToString(errors);
  tiny.tensors["model.layers.0.self_attn.q_proj.bias"] = {DataType::kBF16, {8}, 0};
  EXPECT_THAT(errorsOf(tiny),
              ElementsAre(AllOf(HasSubstr("holds 1 tensor that the mixtral importer does not use: "
                                          "\"model.layers.0.self_attn.q_proj.bias\""),
                                HasSubstr("note: leaving a weight out"))));
  EXPECT_THAT(errorsOf(with("num_hidden_layers", 1)),
              ElementsAre(AllOf(HasSubstr("holds 19 tensors"), HasSubstr("and 14 more"))));
}

TEST_F(ImportTest, MissingShardIsADiagnostic) {
  TempDir dir;
  TinyCheckpoint::mixtral().write(dir.path(), /*sharded=*/true);
  std::filesystem::remove(dir.file(shardName(0)));
  EXPECT_FALSE(import(dir.path()));
  EXPECT_THAT(errors, ElementsAre(HasSubstr("lacks \"" + shardName(0) + "\"")));
}

TEST_F(ImportTest, SyntheticWeightsNeedNoFiles) {
  TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("config.json"), TinyCheckpoint::mixtral().config.dump()).isOk());
  OwningOpRef<ModuleOp> module = import(dir.path(), /*synthetic=*/true);
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  auto embed = SymbolTable(*module).lookup<moe::WeightOp>("embed");
  auto source = cast<moe::SourceAttr>(embed.getValue());
  EXPECT_TRUE(source.getFile().empty());
  EXPECT_EQ(source.getKey().getValue(), "model.embed_tokens.weight");
  EXPECT_EQ(number(*module, "moe.model", "total_parameters"), 392 + 2 * 816);
}

TEST_F(ImportTest, Limits) {
  options.maxBatchTokens = 8;
  options.kvType = "bf16";
  OwningOpRef<ModuleOp> module = import(TinyCheckpoint::mixtral());
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  EXPECT_EQ(number(*module, "moe.limits", "max_seqs"), 8);
  EXPECT_EQ(number(*module, "moe.limits", "max_logit_rows"), 8);
  for (auto cache : module->getOps<moe::KvCacheOp>())
    EXPECT_TRUE(cache.getType().isBF16());

  options = {};
  options.maxSeqLen = 65;
  EXPECT_THAT(errorsOf(TinyCheckpoint::mixtral()),
              ElementsAre(HasSubstr("max-seq-len = 65 is outside 1 to 64, the positions")));
  options = {};
  options.maxBatchTokens = 4;
  options.maxSeqs = 5;
  EXPECT_THAT(errorsOf(TinyCheckpoint::mixtral()),
              ElementsAre(HasSubstr("max-seqs = 5 is outside 1 to 4")));
  options = {};
  options.numPages = 3;
  EXPECT_THAT(errorsOf(TinyCheckpoint::mixtral()),
              ElementsAre(HasSubstr("num-pages = 3 of 16 tokens hold no sequence")));
  options = {};
  options.kvType = "i8";
  EXPECT_THAT(errorsOf(TinyCheckpoint::mixtral()),
              ElementsAre(HasSubstr("kv-dtype = i8 is not known")));
}

TEST_F(ImportTest, DefaultPagesAreAffordable) {
  // Mixtral 8x7B: 256 KiB per position in f32, so 16 sequences of 4096 would take 16 GiB.
  TempDir dir;
  TinyCheckpoint big = TinyCheckpoint::mixtral();
  for (auto [key, value] :
       std::initializer_list<std::pair<const char *, int64_t>>{{"vocab_size", 32000},
                                                               {"hidden_size", 4096},
                                                               {"intermediate_size", 14336},
                                                               {"num_hidden_layers", 32},
                                                               {"num_attention_heads", 32},
                                                               {"num_key_value_heads", 8},
                                                               {"head_dim", 128},
                                                               {"num_local_experts", 8},
                                                               {"max_position_embeddings", 32768}})
    big.config.set(key, value);
  ASSERT_TRUE(writeFile(dir.file("config.json"), big.config.dump()).isOk());
  OwningOpRef<ModuleOp> module = import(dir.path(), /*synthetic=*/true);
  ASSERT_TRUE(module) << testing::PrintToString(errors);
  EXPECT_EQ(number(*module, "moe.limits", "max_seq_len"), 4096);
  EXPECT_EQ(number(*module, "moe.limits", "num_pages") * 16 * (256 << 10), kDefaultKvBytes);
  // As published: 46.7 billion parameters, 12.9 of them per token.
  EXPECT_EQ(number(*module, "moe.model", "total_parameters") / 100'000'000, 467);
  EXPECT_EQ(number(*module, "moe.model", "active_parameters") / 100'000'000, 128);
}

TEST_F(ImportTest, RealCheckpoints) {
  for (const char *folder : {"/test/data/golden/mixtral", "/examples/moe-4m"}) {
    OwningOpRef<ModuleOp> module = import(std::string(SLUICE_SOURCE_DIR) + folder);
    ASSERT_TRUE(module) << folder << testing::PrintToString(errors);
    EXPECT_TRUE(errors.empty());
  }
}

} // namespace
