//===- EmitArtifact.cpp - Write a planned module as an artifact -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// All weights are resolved before the first byte is written, so that a module that does not belong
// to the checkpoint fails at once and not after minutes.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/EmitArtifact.h"

#include "compiler/artifact/PlanEmitter.h"
#include "compiler/artifact/WeightPacker.h"
#include "dialects/Plan/Plan.h"
#include "runtime/artifact/ArtifactWriter.h"

#include <algorithm>
#include <filesystem>
#include <thread>

using namespace mlir;

namespace sluice {

/// Files of a checkpoint that a program which talks to the model needs.
static constexpr const char *kCopiedFiles[] = {"tokenizer.json", "tokenizer_config.json",
                                               "chat_template.jinja", "generation_config.json"};

/// How one weight is stored, by its layout and format in the plan.
static Result<WeightPacker> openWeight(plan::WeightOp op, TypedAttr value,
                                       const Checkpoint &checkpoint) {
  std::string name = op.getSymName().str();
  SLUICE_ASSIGN_OR_RETURN(quant::WeightFormat format,
                          quant::WeightFormat::parse(op.getFormat().str()));
  if (format.isQuantized()) {
    std::optional<QuantizedParts> parts = splitQuantized(value);
    if (!parts || parts->format != op.getFormat())
      return invalidArgument("its expression has no codes of format " + format.name());
    return WeightPacker::create(name, *parts, checkpoint, op.getLayout().str());
  }
  SLUICE_ASSIGN_OR_RETURN(WeightEvaluator numbers, WeightEvaluator::create(value, checkpoint));
  return WeightPacker::create(name, std::move(numbers), op.getLayout().str(), op.getFormat().str());
}

/// The weights of a rank in the order of their offsets, ready to be packed.
static Result<std::vector<WeightPacker>> openWeights(plan::RankOp rank, const SymbolTable &symbols,
                                                     const Checkpoint &checkpoint) {
  SmallVector<plan::WeightOp> ops(rank.getWeights());
  llvm::stable_sort(
      ops, [](plan::WeightOp a, plan::WeightOp b) { return *a.getOffset() < *b.getOffset(); });
  std::vector<WeightPacker> weights;
  for (plan::WeightOp op : ops) {
    std::string name = op.getSymName().str(), context = "weight \"" + name + "\"";
    auto source = symbols.lookup<moe::WeightOp>(op.getFromAttr().getAttr());
    auto packer = openWeight(op, source.getValue(), checkpoint);
    if (!packer.isOk())
      return packer.status().withContext(context);
    if (packer->totalBytes() != op.getBytes())
      return internalError(context + " takes " + std::to_string(packer->totalBytes()) +
                           " bytes, but the plan says " + std::to_string(op.getBytes()));
    weights.push_back(std::move(*packer));
  }
  return weights;
}

static Status writeWeights(ArtifactWriter &writer, plan::RankOp rank,
                           const std::vector<WeightPacker> &weights, unsigned threads,
                           const std::function<void(uint64_t)> &progress) {
  std::vector<WeightDeclaration> declarations;
  for (const WeightPacker &weight : weights) {
    if (weight.isRowMajor())
      declarations.push_back({weight.name(), weight.storedType(), weight.weight().shape()});
    else
      declarations.push_back({weight.name(), DataType::kU8, {int64_t(weight.totalBytes())}});
  }
  SLUICE_ASSIGN_OR_RETURN(WeightsWriter * file, writer.weightsFile(declarations));
  llvm::StringMap<uint64_t> places;
  for (size_t i = 0; i < weights.size(); ++i)
    places[weights[i].name()] = file->offsets()[i];
  for (plan::WeightOp op : rank.getWeights())
    if (places.lookup(op.getSymName()) != *op.getOffset())
      return internalError("weight \"" + op.getSymName().str() + "\" lies at " +
                           std::to_string(places.lookup(op.getSymName())) +
                           " of the weights file, but the plan says " +
                           std::to_string(*op.getOffset()));
  return packWeights(
      weights, threads,
      [&](const WeightPacker &weight, std::span<const std::byte> bytes) -> Status {
        SLUICE_RETURN_IF_ERROR(file->append(
            weight.name(), {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}));
        progress(bytes.size());
        return Status::ok();
      });
}

static Status copyFiles(ArtifactWriter &writer, const Checkpoint &checkpoint) {
  for (const char *name : kCopiedFiles) {
    std::string path = checkpoint.folder() + "/" + name;
    std::error_code error;
    if (checkpoint.folder().empty() || !std::filesystem::exists(path, error))
      continue;
    SLUICE_ASSIGN_OR_RETURN(std::string content, readFile(path));
    SLUICE_RETURN_IF_ERROR(writer.addFile(name, content));
  }
  return Status::ok();
}

Status emitArtifact(ModuleOp module, const Checkpoint &checkpoint, const std::string &destination,
                    const EmitOptions &options) {
  SLUICE_ASSIGN_OR_RETURN(proto::Plan plan, buildPlan(module));
  SymbolTable symbols(module);
  SmallVector<plan::RankOp> ranks(module.getOps<plan::RankOp>());
  llvm::sort(ranks, [](plan::RankOp a, plan::RankOp b) { return a.getNumber() < b.getNumber(); });
  std::vector<std::vector<WeightPacker>> weights;
  uint64_t total = 0, done = 0;
  for (plan::RankOp rank : ranks) {
    SLUICE_ASSIGN_OR_RETURN(std::vector<WeightPacker> opened,
                            openWeights(rank, symbols, checkpoint));
    for (const WeightPacker &weight : opened)
      total += weight.totalBytes();
    weights.push_back(std::move(opened));
  }

  SLUICE_ASSIGN_OR_RETURN(ArtifactWriter writer, ArtifactWriter::begin(destination));
  SLUICE_RETURN_IF_ERROR(copyFiles(writer, checkpoint));
  if (!options.report.empty())
    SLUICE_RETURN_IF_ERROR(writer.addFile(kReportFile, options.report));
  unsigned threads =
      options.threads ? options.threads : std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
  for (auto [rank, packers] : llvm::zip(ranks, weights))
    SLUICE_RETURN_IF_ERROR(writeWeights(writer, rank, packers, threads, [&](uint64_t bytes) {
      done += bytes;
      if (options.progress)
        options.progress(done, total);
    }));
  writer.setPlan(std::move(plan));
  return writer.commit();
}

} // namespace sluice
