//===- FuseRouter.cpp - linear + route -> router ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Unfused, routing is a small product, a softmax, a top-k and a sort, each with its own launch: 5-8
// % of a token's latency in published engines. One kernel does all four and leaves the expert-major
// order that the expert kernels walk.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_FUSEROUTER
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

struct FuseRouterPass : impl::FuseRouterBase<FuseRouterPass> {
  void runOnOperation() override {
    SmallVector<moe::RouteOp> routes;
    getOperation().walk([&](moe::RouteOp op) { routes.push_back(op); });
    for (moe::RouteOp route : routes) {
      auto linear = route.getLogits().getDefiningOp<moe::LinearOp>();
      if (!linear || !linear->hasOneUse() || linear.getSoftcap().convertToDouble() != 0 ||
          linear.getScale().convertToDouble() != 1) {
        InFlightDiagnostic diag =
            route.emitError("cannot fuse the router: its logits are not the plain result of one "
                            "moe.linear that nothing else reads");
        if (Operation *def = route.getLogits().getDefiningOp())
          diag.attachNote(def->getLoc()) << "the logits come from here";
        return signalPassFailure();
      }
      OpBuilder builder(route);
      auto dispatch = moe::DispatchType::get(&getContext());
      auto router = moe::RouterOp::create(
          builder, route.getLoc(),
          TypeRange{route.getIds().getType(), route.getWeights().getType(), dispatch},
          linear.getX(), linear.getWeightAttr(), linear.getBiasAttr(), route.getCorrectionAttr(),
          route.getRouting(), DictionaryAttr());
      route.getIds().replaceAllUsesWith(router.getIds());
      route.getWeights().replaceAllUsesWith(router.getWeights());
      route.erase();
      linear.erase();
    }
  }
};

} // namespace
} // namespace sluice
