//===- EmitArtifactTest.cpp - Planned modules as artifacts ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/EmitArtifact.h"
#include "compiler/artifact/PlanEmitter.h"
#include "compiler/importers/ModelImporter.h"
#include "compiler/pipelines/Pipelines.h"
#include "dialects/Plan/Plan.h"
#include "runtime/artifact/Artifact.h"
#include "runtime/quant/PackedLayout.h"
#include "test/compiler/artifact/NaiveWeights.h"
#include "test/runtime/base/TempDir.h"

#include "mlir/IR/MLIRContext.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace mlir;
using namespace sluice;
using namespace sluice::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

class EmitArtifactTest : public testing::Test {
protected:
  EmitArtifactTest() {
    context.loadDialect<func::FuncDialect, moe::MoeDialect, plan::PlanDialect>();
    context.disableMultithreading();
    tiny.generation = *json::parse(R"({"eos_token_id": [2, 3]})", "");
    tiny.write(dir.file("tiny"), /*sharded=*/true);
    EXPECT_TRUE(writeFile(dir.file("tiny/tokenizer.json"), "{\"model\": {}}").isOk());
  }

  Checkpoint open(bool synthetic = false) {
    FailureOr<Checkpoint> opened = openCheckpoint(dir.file("tiny"), synthetic, context);
    EXPECT_TRUE(succeeded(opened));
    return std::move(*opened);
  }
  OwningOpRef<ModuleOp> imported(const Checkpoint &checkpoint) {
    auto module = importCheckpoint(checkpoint, {}, context);
    EXPECT_TRUE(succeeded(module));
    return std::move(*module);
  }
  OwningOpRef<ModuleOp> planned(const Checkpoint &checkpoint) {
    OwningOpRef<ModuleOp> module = imported(checkpoint);
    PassManager pm(&context);
    for (int phase = 0; phase <= int(Phase::Planned); ++phase)
      buildPhasePipeline(pm, Phase(phase), {});
    EXPECT_TRUE(succeeded(pm.run(*module)));
    return module;
  }
  /// Every file under `folder`, by path.
  static std::map<std::string, std::string> contents(const std::string &folder) {
    std::map<std::string, std::string> files;
    for (const auto &entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file())
        continue;
      auto text = readFile(entry.path().string());
      EXPECT_TRUE(text.isOk());
      files[std::filesystem::relative(entry.path(), folder).string()] = *text;
    }
    return files;
  }

  TempDir dir;
  TinyCheckpoint tiny = TinyCheckpoint::mixtral();
  MLIRContext context;
};

TEST_F(EmitArtifactTest, ArtifactHoldsTheModel) {
  Checkpoint checkpoint = open();
  OwningOpRef<ModuleOp> module = planned(checkpoint);
  EmitOptions options;
  options.report = "{}\n";
  uint64_t last = 0, total = 0;
  options.progress = [&](uint64_t done, uint64_t all) {
    EXPECT_GT(done, last);
    last = done, total = all;
  };
  Status status = emitArtifact(*module, checkpoint, dir.file("out"), options);
  ASSERT_TRUE(status.isOk()) << status.toString();
  EXPECT_EQ(last, total);

  auto artifact = Artifact::open(dir.file("out"));
  ASSERT_TRUE(artifact.isOk()) << artifact.status().toString();
  EXPECT_EQ(*artifact->readFile("tokenizer.json"), "{\"model\": {}}");
  EXPECT_EQ(*artifact->readFile("report.json"), "{}\n");
  EXPECT_TRUE(artifact->has("generation_config.json"));
  EXPECT_FALSE(artifact->has("chat_template.jinja"));
  const proto::Plan &plan = artifact->plan();
  EXPECT_EQ(plan.model().name(), "tiny");
  EXPECT_EQ(plan.model().family(), "mixtral");
  EXPECT_EQ(plan.model().top_k(), 2u);
  EXPECT_EQ(plan.model().bos_token_id(), -1);
  ASSERT_EQ(plan.model().eos_token_ids_size(), 2);
  EXPECT_EQ(plan.model().eos_token_ids(1), 3);
  EXPECT_EQ(plan.limits().max_seq_len(), 64u);
  EXPECT_EQ(plan.target(), "host");
  ASSERT_EQ(plan.ranks_size(), 1);
  plan::RankOp rank = *module->getOps<plan::RankOp>().begin();
  EXPECT_EQ(size_t(plan.ranks(0).buckets_size()), size_t(llvm::range_size(rank.getPrograms())));

  // Each weight, by its expression evaluated naively and its layout unpacked.
  SymbolTable symbols(*module);
  std::span<const uint8_t> data = artifact->weightsData(0);
  int numPacked = 0;
  for (plan::WeightOp op : rank.getWeights()) {
    SCOPED_TRACE(op.getSymName().str());
    TypedAttr expr = symbols.lookup<moe::WeightOp>(op.getFromAttr().getAttr()).getValue();
    std::vector<float> expected = naiveValues(expr, tiny);
    const uint8_t *bytes = data.data() + *op.getOffset();
    auto format = quant::WeightFormat::parse(op.getFormat().str());
    ASSERT_TRUE(format.isOk());
    if (op.getLayout() == "row_major") {
      DataType type =
          format->element == quant::ElementType::kF32 ? DataType::kF32 : DataType::kBF16;
      EXPECT_EQ(toFloats(type, bytes, expected.size()), expected);
      continue;
    }
    ++numPacked;
    ArrayRef<int64_t> shape = moe::getWeightType(expr).getShape();
    bool paired = op.getLayout() == "gate_up_panel16";
    int64_t n = shape[shape.size() - 2], k = shape.back();
    int64_t blobs = int64_t(expected.size()) / (n * k * (paired ? 2 : 1));
    auto layout = quant::PackedLayout::create(op.getLayout().str(), *format, n, k, blobs);
    ASSERT_TRUE(layout.isOk()) << layout.status().toString();
    std::vector<float> values;
    for (int64_t blob = 0; blob < blobs; ++blob)
      for (int part = 0; part < (paired ? 2 : 1); ++part) {
        std::vector<float> one(size_t(n * k));
        quant::PanelRole role = !paired     ? quant::PanelRole::kOnly
                                : part == 0 ? quant::PanelRole::kGate
                                            : quant::PanelRole::kUp;
        ASSERT_TRUE(layout
                        ->unpack(role,
                                 {reinterpret_cast<const std::byte *>(bytes) +
                                      uint64_t(blob) * layout->blobBytes(),
                                  size_t(layout->blobBytes())},
                                 one)
                        .isOk());
        values.insert(values.end(), one.begin(), one.end());
      }
    EXPECT_EQ(values, expected);
  }
  EXPECT_GT(numPacked, 4);
}

TEST_F(EmitArtifactTest, BytesDependOnInputsOnly) {
  for (auto [folder, threads] :
       std::initializer_list<std::pair<const char *, unsigned>>{{"one", 1}, {"three", 3}}) {
    Checkpoint checkpoint = open();
    OwningOpRef<ModuleOp> module = planned(checkpoint);
    EmitOptions options;
    options.threads = threads;
    Status status = emitArtifact(*module, checkpoint, dir.file(folder), options);
    ASSERT_TRUE(status.isOk()) << status.toString();
  }
  auto one = contents(dir.file("one")), three = contents(dir.file("three"));
  EXPECT_EQ(one.size(), 5u); // plan, sums, weights, tokenizer, generation configuration
  EXPECT_EQ(one, three);
}

TEST_F(EmitArtifactTest, SyntheticWeights) {
  Checkpoint checkpoint = open(/*synthetic=*/true);
  OwningOpRef<ModuleOp> module = planned(checkpoint);
  Status status = emitArtifact(*module, checkpoint, dir.file("made-up"));
  ASSERT_TRUE(status.isOk()) << status.toString();
  EXPECT_TRUE(Artifact::open(dir.file("made-up")).isOk());
}

TEST_F(EmitArtifactTest, AModuleThatIsNotPlanned) {
  Checkpoint checkpoint = open();
  OwningOpRef<ModuleOp> module = imported(checkpoint);
  Status status = emitArtifact(*module, checkpoint, dir.file("out"));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no plan.rank"));
  module.get()->removeAttr("moe.limits");
  EXPECT_THAT(std::string(buildPlan(*module).status().message()), HasSubstr("moe.limits"));
}

TEST_F(EmitArtifactTest, AnotherCheckpointIsNoticedBeforeWriting) {
  Checkpoint checkpoint = open();
  OwningOpRef<ModuleOp> module = planned(checkpoint);
  TinyCheckpoint other = TinyCheckpoint::mixtral();
  other.tensors["lm_head.weight"].shape = {8, 24};
  other.write(dir.file("other"));
  auto opened = Checkpoint::open(dir.file("other"));
  ASSERT_TRUE(opened.isOk());
  Status status = emitArtifact(*module, *opened, dir.file("out"));
  EXPECT_EQ(status.code(), StatusCode::kDataCorrupt);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("weight \"head\""), HasSubstr("lm_head.weight")));
  EXPECT_FALSE(std::filesystem::exists(dir.file("out")));
}

TEST_F(EmitArtifactTest, AShardThatShrinksLeavesNothingBehind) {
  Checkpoint checkpoint = open();
  OwningOpRef<ModuleOp> module = planned(checkpoint);
  std::filesystem::resize_file(dir.file("tiny/" + shardName(1)), 5000);
  Status status = emitArtifact(*module, checkpoint, dir.file("out"));
  EXPECT_EQ(status.code(), StatusCode::kDataCorrupt);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("weight \""), HasSubstr(shardName(1)), HasSubstr("offset")));
  for (const auto &entry : std::filesystem::directory_iterator(dir.path()))
    EXPECT_EQ(entry.path().filename(), "tiny");
}

} // namespace
