//===- PartitionRanks.cpp - One program per rank ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// After this pass nothing is implicit about ranks: every function is what one rank runs, and
// `moe.rank` says which.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_PARTITIONRANKS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

struct PartitionRanksPass : impl::PartitionRanksBase<PartitionRanksPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto step = module.lookupSymbol<func::FuncOp>("step");
    if (!step) {
      module.emitError("no model function @step to partition");
      return signalPassFailure();
    }
    if (auto ranks = module->getAttrOfType<IntegerAttr>("moe.ranks");
        ranks && ranks.getInt() != 1) {
      module.emitError("moe.ranks = ")
          << ranks.getInt() << " is not supported; programs are made for exactly 1 rank";
      return signalPassFailure();
    }
    Builder builder(&getContext());
    step.setName("rank0");
    step->setAttr(moe::MoeDialect::getRankAttrName(), builder.getI64IntegerAttr(0));
  }
};

} // namespace
} // namespace sluice
