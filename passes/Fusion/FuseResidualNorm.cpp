//===- FuseResidualNorm.cpp - residual + norm -> residual_norm --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// At small batches a step is paid in kernel boundaries and in passes over the residual stream. The
// sum and its norm read the same row, so one kernel does both. The merged operation stands where
// the residual stood: its operands dominate that place, and every later reader of the sum still
// sees it.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_FUSERESIDUALNORM
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// The first norm in program order that normalises whole rows of `value` with a weight.
moe::NormOp firstRowNorm(Value value) {
  moe::NormOp first;
  for (Operation *user : value.getUsers()) {
    auto norm = dyn_cast<moe::NormOp>(user);
    if (!norm || norm.getGroups() != 1 || norm.getKind() == moe::NormKind::L2 ||
        norm->getBlock() != value.getParentBlock())
      continue;
    if (!first || norm->isBeforeInBlock(first))
      first = norm;
  }
  return first;
}

struct FuseResidualNormPass : impl::FuseResidualNormBase<FuseResidualNormPass> {
  void runOnOperation() override {
    SmallVector<moe::ResidualOp> residuals;
    getOperation().walk([&](moe::ResidualOp op) { residuals.push_back(op); });
    for (moe::ResidualOp residual : residuals) {
      moe::NormOp norm = firstRowNorm(residual.getResult());
      if (!norm)
        continue;
      OpBuilder builder(residual);
      auto fused = moe::ResidualNormOp::create(
          builder, norm.getLoc(), TypeRange{residual.getType(), norm.getType()}, norm.getKindAttr(),
          residual.getResidual(), residual.getDelta(), norm.getWeightAttr(), norm.getBiasAttr(),
          norm.getEpsAttr(), residual.getMultiplierAttr());
      residual.getResult().replaceAllUsesWith(fused.getSum());
      norm.getResult().replaceAllUsesWith(fused.getResult());
      norm.erase();
      residual.erase();
    }
  }
};

} // namespace
} // namespace sluice
