//===- PlaceExperts.cpp - Which rank holds which experts --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Placement is an attribute so that it can be read, checked and overridden in the IR. The rule here
// is the contiguous deal, the right answer for one rank.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_PLACEEXPERTS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

struct PlaceExpertsPass : impl::PlaceExpertsBase<PlaceExpertsPass> {
  using PlaceExpertsBase::PlaceExpertsBase;

  void runOnOperation() override {
    int64_t ranks = 1;
    if (auto parallel = getOperation()->getAttrOfType<DictionaryAttr>(
            moe::MoeDialect::getParallelAttrName()))
      ranks = parallel.getAs<IntegerAttr>("ep").getInt();
    WeightSymbols weights(getOperation());
    Builder builder(&getContext());
    bool failed = false;
    getOperation().walk([&](moe::ExpertsOp experts) {
      int64_t count = weights.shape(experts.getGateAttr())[0];
      if (ranks > count) {
        experts.emitError("ranks = ") << ranks << " exceeds the number of experts "
                                      << count << "; every rank must hold at least one";
        failed = true;
        return;
      }
      SmallVector<Attribute> slots;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        int64_t begin = rank * count / ranks, end = (rank + 1) * count / ranks;
        slots.push_back(builder.getDenseI64ArrayAttr(llvm::to_vector(llvm::seq(begin, end))));
      }
      experts.setPlacementAttr(builder.getDictionaryAttr(
          {builder.getNamedAttr("slots", builder.getArrayAttr(slots))}));
    });
    if (failed)
      signalPassFailure();
  }
};

} // namespace
} // namespace sluice
