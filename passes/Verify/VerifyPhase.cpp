//===- VerifyPhase.cpp - Invariants between phases --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every phase promises something to the next one. This pass turns the promises into checks, so that
// a defect is found where it was made and so that a module written by hand can enter at any phase.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"
#include "passes/Verify/Phases.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringExtras.h"

namespace sluice {
#define GEN_PASS_DEF_VERIFYPHASE
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {

static constexpr StringLiteral phaseNames[] = {"input", "normalized",  "quantized", "placed",
                                               "fused", "partitioned", "planned"};

ArrayRef<StringLiteral> allPhaseNames() { return phaseNames; }
StringRef phaseName(Phase phase) { return phaseNames[size_t(phase)]; }
std::optional<Phase> parsePhase(StringRef name) {
  for (size_t i = 0; i < std::size(phaseNames); ++i)
    if (phaseNames[i] == name)
      return Phase(i);
  return std::nullopt;
}

namespace {

/// Operations that fusion makes.
bool isFused(Operation *op) {
  return isa<moe::ResidualNormOp, moe::QkvOp, moe::LatentQueryOp, moe::LatentAppendOp,
             moe::AbsorbedAttentionOp, moe::RouterOp, moe::ExpertsGateUpOp, moe::ExpertsDownOp,
             moe::FfnGateUpOp>(op);
}

/// Operations that have no kernel and must be fused away.
bool needsFusion(Operation *op) {
  return isa<moe::RopeOp, moe::ClampOp, moe::CacheAppendOp, moe::LatentAttentionOp, moe::RouteOp,
             moe::ExpertsOp, moe::FfnOp>(op);
}

bool isCollective(Operation *op) {
  return isa<moe::AllReduceOp, moe::AllGatherOp, moe::ReduceScatterOp, moe::AssignSlotsOp>(op);
}

struct VerifyPhasePass : impl::VerifyPhaseBase<VerifyPhasePass> {
  using VerifyPhaseBase::VerifyPhaseBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    std::optional<Phase> reached = parsePhase(phase);
    if (!reached) {
      module.emitError("unknown phase '")
          << phase.getValue() << "'; known are " << llvm::join(allPhaseNames(), ", ");
      return signalPassFailure();
    }
    if (failed(check(module, *reached)))
      return signalPassFailure();
    module->setAttr(moe::MoeDialect::getPhaseAttrName(),
                    StringAttr::get(&getContext(), phaseName(*reached)));
  }

private:
  LogicalResult check(ModuleOp module, Phase phase) {
    for (StringRef name :
         {moe::MoeDialect::getModelAttrName(), moe::MoeDialect::getLimitsAttrName(),
          moe::MoeDialect::getTargetAttrName()})
      if (!module->hasAttr(name))
        return module.emitError("after phase ")
               << phaseName(phase) << ": module attribute '" << name << "' is missing";
    LogicalResult result = checkFunctions(module, phase);
    module.walk([&](Operation *op) {
      auto complain = [&](const Twine &why) {
        op->emitOpError("is not allowed after phase ") << phaseName(phase) << ": " << why;
        result = failure();
      };
      if (phase < Phase::Fused && isFused(op))
        complain("it is made by fusion");
      else if (phase >= Phase::Fused && needsFusion(op))
        complain("no kernel runs it; fusion should have replaced it");
      if (phase < Phase::Partitioned && isCollective(op))
        complain("it is made by partitioning");
      if (auto experts = dyn_cast<moe::ExpertsOp>(op))
        if (phase == Phase::Placed && !experts.getPlacementAttr())
          complain("it has no placement");
      if (phase < Phase::Planned && isa<plan::RankOp>(op))
        complain("programs are made by planning");
      if (phase == Phase::Planned && isa<func::FuncOp>(op))
        complain("planning should have turned it into programs");
      return result.succeeded() ? WalkResult::advance() : WalkResult::interrupt();
    });
    return result;
  }

  LogicalResult checkFunctions(ModuleOp module, Phase phase) {
    if (phase == Phase::Planned) {
      if (module.getOps<plan::RankOp>().empty())
        return module.emitError("after phase planned: the module holds no plan.rank");
      for (auto rank : module.getOps<plan::RankOp>())
        if (!rank.isPacked())
          return rank.emitOpError("is not packed after phase planned; run --sluice-pack-memory");
      return success();
    }
    for (auto func : module.getOps<func::FuncOp>()) {
      bool perRank = func->hasAttr(moe::MoeDialect::getRankAttrName());
      if (perRank != (phase >= Phase::Partitioned))
        return func.emitOpError("after phase ")
               << phaseName(phase) << (perRank ? ": must not have" : ": must have")
               << " the attribute '" << moe::MoeDialect::getRankAttrName() << "'";
    }
    if (phase < Phase::Partitioned && !module.lookupSymbol<func::FuncOp>("step"))
      return module.emitError("after phase ")
             << phaseName(phase) << ": the module holds no model function @step";
    return success();
  }
};

} // namespace
} // namespace sluice
