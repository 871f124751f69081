//===- ExpertRecipes.cpp - Launches of routers and feed-forward parts -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A router's launch makes the expert-major order of its pairs, which the expert operations behind
// it walk; moe.dispatch values carry it from one to the others.
//
//===----------------------------------------------------------------------===//
#include "passes/Lowering/StepReader.h"

#include "runtime/artifact/StepAbi.h"

using namespace mlir;

namespace sluice {

static abi::GatedActivation toAbi(moe::ActivationAttr activation) {
  return {convertEnum<abi::Activation>(activation.getKind()), activation.getAlpha(),
          activation.getLimit()};
}

LogicalResult StepReader::lower(moe::RouterOp op) {
  FailureOr<Product> product = productOf(op, op.getWeightAttr(), op.getBiasAttr());
  FailureOr<RecipeArg> correction = vector(op, op.getCorrectionAttr());
  if (failed(product) || failed(correction))
    return failure();
  int64_t experts = shapeOf(op.getWeightAttr())[0];
  if (experts != context.numExperts)
    return op.emitOpError("routes to ")
           << experts << " experts, but moe.model has num_experts = " << context.numExperts;
  moe::RoutingAttr routing = op.getRouting();
  abi::RouterParams params;
  params.hidden = widthOf(op.getX());
  params.experts = experts;
  params.topK = routing.getTopK();
  params.format = product->format;
  params.bias = product->hasBias;
  params.correction = op.getCorrectionAttr() != nullptr;
  params.score = convertEnum<abi::ScoreFunction>(routing.getScore());
  params.scoreFirst = routing.getScoreFirst();
  params.renormalize = routing.getRenormalize();
  params.epsilon = routing.getEpsilon();
  params.scale = routing.getScale();
  params.groups = routing.getGroups();
  params.topkGroup = routing.getTopkGroup();
  params.groupScore = convertEnum<abi::GroupScore>(routing.getGroupScore());
  params.sparseMixer = routing.getSparseMixer();
  params.jitter = routing.getJitter();

  StringRef label = op.getWeight();
  Dispatch &dispatch = dispatches[op.getDispatch()];
  dispatch = {newTransient((label + ".offsets").str()), newTransient((label + ".order").str()),
              newTransient((label + ".inverse").str()), experts, routing.getTopK()};
  RecipeArg counts = ioArg(abi::kIoExpertCounts, routers++ * experts * 4);
  return launch(op, params, label,
                {{"x", use(op.getX())},
                 {"weight", product->weight},
                 {"bias", product->bias},
                 {"correction", *correction},
                 {"ids", define(op.getIds(), label, "ids")},
                 {"weights", define(op.getWeights(), label, "weights")},
                 {"offsets", dispatch.offsets},
                 {"order", dispatch.order},
                 {"inverse", dispatch.inverse},
                 {"counts", counts}});
}

LogicalResult StepReader::lower(moe::AssignSlotsOp op) {
  abi::AssignSlotsParams params;
  params.topK = widthOf(op.getIds());
  params.group = op.getGroup();
  llvm::raw_string_ostream text(params.slots);
  llvm::interleave(
      op.getSlots().getAsRange<DenseI64ArrayAttr>(), text,
      [&](DenseI64ArrayAttr group) {
        SmallVector<int64_t> held;
        for (int64_t expert : group.asArrayRef())
          if (expert >= 0) {
            held.push_back(expert);
            params.experts = std::max(params.experts, expert + 1);
          }
        llvm::interleave(held, text, ",");
      },
      ";");
  auto groups = abi::expertsOfGroups(params);
  if (!groups.isOk())
    return op.emitOpError("cannot be launched: ") << groups.status().message();
  std::string label = labelAfter(op.getIds(), "assign_slots");
  Dispatch &dispatch = dispatches[op.getDispatch()];
  dispatch = {newTransient(label + ".offsets"), newTransient(label + ".order"),
              newTransient(label + ".inverse"), int64_t((*groups)[params.group].size()),
              params.topK};
  return launch(op, params, label,
                {{"ids", use(op.getIds())},
                 {"offsets", dispatch.offsets},
                 {"order", dispatch.order},
                 {"inverse", dispatch.inverse}});
}

LogicalResult StepReader::lower(moe::ExpertsGateUpOp op) {
  FailureOr<Product> product =
      productOf(op, op.getWeightAttr(), op.getBiasAttr(), "gate_up_panel16");
  if (failed(product))
    return failure();
  const Dispatch &dispatch = dispatches.at(op.getDispatch());
  abi::ExpertsGateUpParams params;
  params.experts = dispatch.experts;
  params.topK = dispatch.topK;
  params.n = widthOf(op.getResult());
  params.k = widthOf(op.getX());
  params.format = product->format;
  params.bias = product->hasBias;
  params.weightOnInput = op.getWeightOnInput();
  params.act = toAbi(op.getActivation());
  StringRef label = op.getWeight();
  return launch(op, params, label,
                {{"x", use(op.getX())},
                 {"offsets", dispatch.offsets},
                 {"order", dispatch.order},
                 {"weights", use(op.getWeights())},
                 {"weight", product->weight},
                 {"bias", product->bias},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::ExpertsDownOp op) {
  FailureOr<Product> product = productOf(op, op.getWeightAttr(), op.getBiasAttr());
  if (failed(product))
    return failure();
  const Dispatch &dispatch = dispatches.at(op.getDispatch());
  abi::ExpertsDownParams params;
  params.experts = dispatch.experts;
  params.topK = dispatch.topK;
  params.n = widthOf(op.getResult());
  params.k = widthOf(op.getH());
  params.format = product->format;
  params.bias = product->hasBias;
  params.weightOnInput = op.getWeightOnInput();
  StringRef label = op.getWeight();
  return launch(op, params, label,
                {{"h", use(op.getH())},
                 {"offsets", dispatch.offsets},
                 {"order", dispatch.order},
                 {"inverse", dispatch.inverse},
                 {"weights", use(op.getWeights())},
                 {"weight", product->weight},
                 {"bias", product->bias},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::FfnGateUpOp op) {
  FailureOr<Product> product =
      productOf(op, op.getWeightAttr(), op.getBiasAttr(), "gate_up_panel16");
  if (failed(product))
    return failure();
  StringRef label = op.getWeight();
  abi::FfnGateUpParams params{widthOf(op.getResult()), widthOf(op.getX()), product->format,
                              product->hasBias, toAbi(op.getActivation())};
  return launch(op, params, label,
                {{"x", use(op.getX())},
                 {"weight", product->weight},
                 {"bias", product->bias},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::SigmoidGateOp op) {
  FailureOr<RecipeArg> weight = vector(op, op.getWeightAttr());
  if (failed(weight))
    return failure();
  StringRef label = op.getWeight();
  abi::SigmoidGateParams params{widthOf(op.getY()), widthOf(op.getX())};
  return launch(op, params, label,
                {{"y", use(op.getY())},
                 {"x", use(op.getX())},
                 {"weight", *weight},
                 {"out", define(op.getResult(), label, "out")}});
}

} // namespace sluice
