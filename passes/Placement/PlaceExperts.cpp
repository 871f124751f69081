//===- PlaceExperts.cpp - Which group of ranks holds which experts ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Placement is an attribute so that it can be read, checked and overridden in the IR. The pass
// finds the layers and writes the answer down; profiles are read and placements solved by libraries
// without MLIR, which sluice-place and an online balancer share.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Passes.h"
#include "runtime/profile/ModelPlacement.h"
#include "runtime/profile/PlacementFile.h"
#include "runtime/profile/ProfileFile.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_PLACEEXPERTS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// The decoder layer in "layers.N.experts.gate"; `fallback` when the name has none.
int64_t layerOf(moe::ExpertsOp experts, int64_t fallback) {
  StringRef name = experts.getGate();
  int64_t layer;
  if (name.consume_front("layers.") && !name.consumeInteger(10, layer))
    return layer;
  return fallback;
}

/// Experts in contiguous, equal parts; more slots than experts in turn.
Placement dealOut(int64_t experts, int64_t groups, int64_t slots) {
  if (slots > experts)
    return roundRobinPlacement(experts, groups, slots);
  Placement placement{int(experts), {}, {0}};
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t e = group * experts / groups; e < (group + 1) * experts / groups; ++e)
      placement.slotExpert.push_back(int(e));
    placement.deviceBegin.push_back(placement.slots());
  }
  return placement;
}

struct PlaceExpertsPass : impl::PlaceExpertsBase<PlaceExpertsPass> {
  using PlaceExpertsBase::PlaceExpertsBase;

  void runOnOperation() override {
    if (phase.getValue() != "prefill" && phase.getValue() != "decode") {
      getOperation().emitError("phase = \"")
          << phase.getValue() << "\": known are prefill and decode";
      return signalPassFailure();
    }
    int64_t count = groups;
    if (count == 0) {
      auto parallel =
          getOperation()->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getParallelAttrName());
      count = parallel ? parallel.getAs<IntegerAttr>("ep").getInt() : 1;
    }
    WeightSymbols weights(getOperation());
    SmallVector<moe::ExpertsOp> layers;
    getOperation().walk([&](moe::ExpertsOp experts) { layers.push_back(experts); });
    for (moe::ExpertsOp experts : layers)
      if (failed(check(experts, weights.shape(experts.getGateAttr())[0], count)))
        return signalPassFailure();
    if (layers.empty())
      return;
    if (failed(profiles.empty() ? deal(layers, weights, count) : solve(layers, weights, count)))
      signalPassFailure();
  }

private:
  int64_t slotsOf(int64_t experts) const { return slots == 0 ? experts : int64_t(slots); }

  LogicalResult check(moe::ExpertsOp op, int64_t experts, int64_t groupCount) {
    int64_t all = slotsOf(experts);
    if (groupCount < 1 || all < 1)
      return op.emitError("groups = ")
             << groupCount << " and slots = " << all << " must be positive";
    if (groupCount > experts)
      return op.emitError("groups = ") << groupCount << " exceeds the number of experts " << experts
                                       << "; every group must hold at least one";
    if (all < experts)
      return op.emitError("slots = ") << all << " is below the number of experts " << experts
                                      << "; every expert needs a slot";
    if (all > experts * groupCount || all > kMaxPlacementSlots)
      return op.emitError("slots = ")
             << all << " exceeds experts x groups = " << experts * groupCount
             << "; a second copy of an expert in one group balances nothing";
    return success();
  }

  LogicalResult deal(ArrayRef<moe::ExpertsOp> layers, WeightSymbols &weights, int64_t groupCount) {
    for (moe::ExpertsOp op : layers) {
      int64_t experts = weights.shape(op.getGateAttr())[0];
      write(op, dealOut(experts, groupCount, slotsOf(experts)));
    }
    return success();
  }

  LogicalResult solve(ArrayRef<moe::ExpertsOp> layers, WeightSymbols &weights, int64_t groupCount) {
    auto fail = [&](const Status &status) -> LogicalResult {
      return getOperation().emitError("cannot place experts by profile: ")
             << std::string(status.message());
    };
    SmallVector<std::string> names(profiles.begin(), profiles.end());
    std::vector<Profile> read;
    for (const std::string &name : names) {
      Result<Profile> profile = readProfile(name);
      if (!profile.isOk())
        return fail(profile.status());
      read.push_back(std::move(*profile));
    }
    for (auto [index, each] : llvm::enumerate(layers)) {
      moe::ExpertsOp op = each;
      int64_t experts = weights.shape(op.getGateAttr())[0], layer = layerOf(op, index);
      if (experts != read[0].experts || layer >= read[0].layers)
        return op.emitError("profile ")
               << names[0] << " has " << read[0].layers << " layers of " << read[0].experts
               << " experts, and this is layer " << layer << " with " << experts
               << " experts; the profile belongs to another model";
    }
    ModelPlacementRequest request;
    request.devices = int(groupCount);
    request.slots = int(slotsOf(read[0].experts));
    if (phase.getValue() == "decode")
      request.objective = PlacementObjective::kActivatedExperts;
    Result<ModelPlacement> placed = placeModel(read, names, request);
    if (!placed.isOk())
      return fail(placed.status());
    for (auto [index, op] : llvm::enumerate(layers))
      write(op, placed->layers[layerOf(op, index)].placement);
    return success();
  }

  void write(moe::ExpertsOp op, const Placement &placement) {
    Builder builder(&getContext());
    SmallVector<Attribute> lists;
    for (int group = 0; group < placement.devices(); ++group) {
      std::span<const int> ids = placement.onDevice(group);
      lists.push_back(builder.getDenseI64ArrayAttr(SmallVector<int64_t>(ids.begin(), ids.end())));
    }
    op.setPlacementAttr(
        builder.getDictionaryAttr({builder.getNamedAttr("slots", builder.getArrayAttr(lists))}));
  }
};

} // namespace
} // namespace sluice
