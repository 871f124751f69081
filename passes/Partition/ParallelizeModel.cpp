//===- ParallelizeModel.cpp - How many ranks share what ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Records the numbers that everything after it follows, so that they can be read and changed in the
// IR: placement deals experts to ep groups, partitioning splits experts over tp ranks and attention
// over the rest.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/MathExtras.h"

namespace sluice {
#define GEN_PASS_DEF_PARALLELIZEMODEL
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

constexpr int64_t maxRanks = 4096; // what plans can number

struct ParallelizeModelPass : impl::ParallelizeModelBase<ParallelizeModelPass> {
  using ParallelizeModelBase::ParallelizeModelBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (failed(choose(module)))
      return signalPassFailure();
    Builder builder(&getContext());
    auto entry = [&](StringRef name, int64_t value) {
      return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
    };
    module->setAttr(moe::MoeDialect::getParallelAttrName(),
                    builder.getDictionaryAttr({entry("ranks", ranks), entry("tp", chosenTp),
                                               entry("ep", chosenEp), entry("dp", dp)}));
    dividePages(module, builder);
  }

private:
  LogicalResult choose(ModuleOp module) {
    if (ranks < 1 || ranks > maxRanks)
      return module.emitError("ranks = ")
             << ranks.getValue() << " is outside [1, " << maxRanks << "]";
    if (tp < 0 || ep < 0 || dp < 1)
      return module.emitError("tp = ")
             << tp.getValue() << ", ep = " << ep.getValue() << ", dp = " << dp.getValue()
             << ": numbers of ranks are positive";
    int64_t experts = 0;
    WeightSymbols weights(module);
    module.walk([&](Operation *op) {
      int64_t count = 0;
      if (auto whole = dyn_cast<moe::ExpertsOp>(op))
        count = weights.shape(whole.getGateAttr())[0];
      else if (auto fused = dyn_cast<moe::ExpertsGateUpOp>(op))
        count = weights.shape(fused.getWeightAttr())[0];
      if (count > 0)
        experts = experts == 0 ? count : std::min(experts, count);
    });
    chosenTp = tp, chosenEp = ep;
    if (tp == 0 && ep == 0) {
      // As many groups as experts allow: whole experts need no sum over their width.
      chosenEp = std::max<int64_t>(1, std::min<int64_t>(ranks, experts));
      while (ranks % chosenEp != 0)
        --chosenEp;
    }
    if (chosenEp == 0)
      chosenEp = std::max<int64_t>(1, ranks / chosenTp);
    if (chosenTp == 0)
      chosenTp = std::max<int64_t>(1, ranks / chosenEp);
    if (chosenTp * chosenEp != ranks)
      return module.emitError("tp * ep = ")
             << chosenTp << " * " << chosenEp << " is not ranks = " << ranks.getValue()
             << "; give a tp or an ep that divides the ranks";
    if (chosenEp > 1 && experts > 0 && chosenEp > experts)
      return module.emitError("ep = ")
             << chosenEp << " exceeds the number of experts " << experts
             << "; every group must hold at least one: lower ep and raise tp";
    if (chosenEp > 1 && experts == 0)
      return module.emitError("ep = ") << chosenEp << ", but the model has no experts; use tp";
    if (ranks % dp != 0)
      return module.emitError("dp = ")
             << dp.getValue() << " does not divide ranks = " << ranks.getValue();
    return success();
  }

  /// Every data parallel group has caches of its own: together they hold the pages asked for, and
  /// each at least one longest sequence.
  void dividePages(ModuleOp module, Builder &builder) {
    auto limits = module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getLimitsAttrName());
    if (dp == 1 || !limits)
      return;
    auto number = [&](StringRef name) { return limits.getAs<IntegerAttr>(name).getInt(); };
    int64_t longest = llvm::divideCeil(number("max_seq_len"), number("page_size"));
    int64_t pages = std::max<int64_t>(longest, llvm::divideCeil(number("num_pages"), dp));
    NamedAttrList entries(limits);
    entries.set("num_pages", builder.getI64IntegerAttr(pages));
    module->setAttr(moe::MoeDialect::getLimitsAttrName(), entries.getDictionary(&getContext()));
  }

  int64_t chosenTp = 1, chosenEp = 1;
};

} // namespace
} // namespace sluice
