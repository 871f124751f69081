//===- FuseExperts.cpp - experts -> gate_up + down --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A gated feed-forward part is two products with an activation between them. The first is one
// kernel over stacked gate and up weights with the activation in its epilogue; the second ends in
// the weighted sum over a token's experts. Two launches are what the data dependence needs.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_FUSEEXPERTS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// `shape` with an axis of length 1 inserted before `axis`.
SmallVector<int64_t> withUnitAxis(ArrayRef<int64_t> shape, size_t axis) {
  SmallVector<int64_t> result(shape);
  result.insert(result.begin() + axis, 1);
  return result;
}

struct FuseExpertsPass : impl::FuseExpertsBase<FuseExpertsPass> {
  void runOnOperation() override {
    WeightSymbols weights(getOperation());
    SmallVector<Operation *> parts;
    getOperation().walk([&](Operation *op) {
      if (isa<moe::ExpertsOp, moe::FfnOp>(op))
        parts.push_back(op);
    });
    for (Operation *part : parts) {
      LogicalResult done = isa<moe::ExpertsOp>(part) ? fuse(cast<moe::ExpertsOp>(part), weights)
                                                     : fuse(cast<moe::FfnOp>(part), weights);
      if (failed(done))
        return signalPassFailure();
    }
  }

private:
  /// Stacks gate over up along a new axis `axis`; all weights or biases of one part share it.
  static FlatSymbolRefAttr stack(WeightSymbols &weights, FlatSymbolRefAttr gate,
                                 FlatSymbolRefAttr up, size_t axis, StringRef leaf) {
    SmallVector<int64_t> shape = withUnitAxis(weights.shape(gate), axis);
    TypedAttr value =
        WeightSymbols::concat(axis, {weights.reshaped(gate, shape), weights.reshaped(up, shape)});
    return weights.create(weights.lookup(gate), leaf, value);
  }

  /// The [tokens, width] type of the activation between the two products.
  static RankedTensorType hiddenType(RankedTensorType x, int64_t width) {
    return RankedTensorType::get({ShapedType::kDynamic, width}, x.getElementType());
  }

  LogicalResult fuse(moe::ExpertsOp op, WeightSymbols &weights) {
    auto router = op.getIds().getDefiningOp<moe::RouterOp>();
    if (!router || op.getWeights() != router.getWeights()) {
      op.emitError("cannot fuse the experts: ids and weights do not come from one moe.router")
              .attachNote()
          << "run --sluice-fuse-router first";
      return failure();
    }
    int64_t width = weights.shape(op.getGateAttr())[1];
    FlatSymbolRefAttr gateUp =
        stack(weights, op.getGateAttr(), op.getUpAttr(), /*axis=*/1, "gate_up");
    FlatSymbolRefAttr gateUpBias;
    if (op.getGateBiasAttr())
      gateUpBias = stack(weights, op.getGateBiasAttr(), op.getUpBiasAttr(), 1, "gate_up_bias");

    OpBuilder builder(op);
    auto h = moe::ExpertsGateUpOp::create(
        builder, op.getLoc(), hiddenType(cast<RankedTensorType>(op.getX().getType()), width),
        op.getX(), op.getWeights(), router.getDispatch(), gateUp, gateUpBias, op.getActivation(),
        op.getWeightOnInputAttr());
    auto out = moe::ExpertsDownOp::create(builder, op.getLoc(), op.getType(), h.getResult(),
                                          op.getWeights(), router.getDispatch(), op.getDownAttr(),
                                          op.getDownBiasAttr(), op.getWeightOnInputAttr());
    // The order of the pairs is the router's, so where experts lie is its business from here on.
    router.setPlacementAttr(op.getPlacementAttr());
    op.getResult().replaceAllUsesWith(out.getResult());
    op.erase();
    return success();
  }

  LogicalResult fuse(moe::FfnOp op, WeightSymbols &weights) {
    int64_t width = weights.shape(op.getGateAttr())[0];
    FlatSymbolRefAttr gateUp =
        stack(weights, op.getGateAttr(), op.getUpAttr(), /*axis=*/0, "gate_up");
    FlatSymbolRefAttr gateUpBias;
    if (op.getGateBiasAttr())
      gateUpBias = stack(weights, op.getGateBiasAttr(), op.getUpBiasAttr(), 0, "gate_up_bias");

    OpBuilder builder(op);
    auto h = moe::FfnGateUpOp::create(
        builder, op.getLoc(), hiddenType(cast<RankedTensorType>(op.getX().getType()), width),
        op.getX(), gateUp, gateUpBias, op.getActivation());
    auto out = moe::LinearOp::create(builder, op.getLoc(), op.getType(), h.getResult(),
                                     op.getDownAttr(), op.getDownBiasAttr(),
                                     builder.getF64FloatAttr(1), builder.getF64FloatAttr(0));
    op.getResult().replaceAllUsesWith(out.getResult());
    op.erase();
    return success();
  }
};

} // namespace
} // namespace sluice
