//===- FuseLatentAttention.cpp - Absorb kv_b into queries and outputs -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// With c a cached latent, a head's score is q · (W c) = (q W) · c and its output is the sum of
// (V c) = V (sum of c), W and V being the head's halves of kv_b (DeepSeek-V2, 2024, section 2.1.2).
// So kv_b never has to be applied to the context: it becomes two small products per query, and all
// heads attend to the cache's single row per position. The pass recognises the chains by structure,
// not by model.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Fusion/MergeLinears.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_FUSELATENTATTENTION
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// What makes a row of the cache.
struct Rows {
  moe::NormOp norm;
  moe::LinearOp latent;
  moe::RopeOp rope; ///< may be absent
  moe::LinearOp rotated;
};

struct FuseLatentAttentionPass : impl::FuseLatentAttentionBase<FuseLatentAttentionPass> {
  void runOnOperation() override {
    WeightSymbols weights(getOperation());
    SmallVector<moe::CacheAppendOp> appends;
    getOperation().walk([&](moe::CacheAppendOp op) {
      if (weights.lookupCache(op.getCacheAttr()).getLatent())
        appends.push_back(op);
    });
    for (moe::CacheAppendOp append : appends)
      if (failed(fuse(append, weights)))
        return signalPassFailure();
  }

private:
  static moe::LatentAttentionOp findAttention(moe::CacheAppendOp append) {
    for (Operation *op = append->getNextNode(); op; op = op->getNextNode())
      if (auto attention = dyn_cast<moe::LatentAttentionOp>(op))
        if (attention.getCacheAttr() == append.getCacheAttr())
          return attention;
    return {};
  }

  /// Takes the `Op` that makes `value`, on the way from `role` to its projection.
  template <typename Op>
  static FailureOr<Op> take(Value value, StringRef role, StringRef chain,
                            moe::CacheAppendOp append) {
    auto op = value.getDefiningOp<Op>();
    if (!op) {
      InFlightDiagnostic diag = append.emitError("cannot fuse the ")
                                << role << " of this latent cache: its chain is not " << chain;
      if (Operation *def = value.getDefiningOp())
        diag.attachNote(def->getLoc())
            << "'" << def->getName() << "' stands where '" << Op::getOperationName() << "' belongs";
      return failure();
    }
    if (!op->hasOneUse()) {
      append.emitError("cannot fuse the ") << role << " of this latent cache: '" << op->getName()
                                           << "' on its way has other readers";
      return failure();
    }
    return op;
  }

  static FailureOr<Rows> matchRows(moe::CacheAppendOp append) {
    constexpr StringLiteral latentChain = "projection and rms norm of the whole row";
    constexpr StringLiteral rotatedChain = "projection and rotation of one head";
    Rows rows;
    FailureOr<moe::NormOp> norm =
        take<moe::NormOp>(append.getKey(), "latents", latentChain, append);
    if (failed(norm))
      return failure();
    rows.norm = *norm;
    if (rows.norm.getKind() != moe::NormKind::Rms || rows.norm.getGroups() != 1)
      return append.emitError("cannot fuse the latents of this latent cache: its chain is not ")
             << latentChain;
    FailureOr<moe::LinearOp> latent =
        take<moe::LinearOp>(rows.norm.getX(), "latents", latentChain, append);
    if (failed(latent))
      return failure();
    rows.latent = *latent;
    Value value = append.getValue();
    if (value.getDefiningOp<moe::RopeOp>()) {
      FailureOr<moe::RopeOp> rope = take<moe::RopeOp>(value, "rope part", rotatedChain, append);
      if (failed(rope))
        return failure();
      rows.rope = *rope;
      if (rows.rope.getHeads() != 1)
        return append.emitError("cannot fuse the rope part of this latent cache: it has ")
               << rows.rope.getHeads() << " heads; all query heads share one";
      value = rows.rope.getX();
    }
    FailureOr<moe::LinearOp> rotated =
        take<moe::LinearOp>(value, "rope part", rotatedChain, append);
    if (failed(rotated))
      return failure();
    rows.rotated = *rotated;
    if (rows.latent.getX() != rows.rotated.getX())
      return append.emitError(
          "cannot fuse the rows of this latent cache: its two projections have different inputs");
    for (moe::LinearOp linear : {rows.latent, rows.rotated})
      if (linear.getScale().convertToDouble() != 1 || linear.getSoftcap().convertToDouble() != 0)
        return append.emitError(
            "cannot fuse the rows of this latent cache: a projection is scaled or capped");
    return rows;
  }

  LogicalResult fuse(moe::CacheAppendOp append, WeightSymbols &weights) {
    moe::LatentAttentionOp attention = findAttention(append);
    if (!attention)
      return append.emitError(
          "cannot fuse latent attention: no moe.latent_attention reads this cache afterwards");
    FailureOr<Rows> rows = matchRows(append);
    if (failed(rows))
      return failure();
    int64_t nope = attention.getNopeDim();
    if (nope < 1)
      return attention.emitError(
          "cannot fuse latent attention: its heads have no part that the latent is a key for");
    // Everything that follows is linear in the query, so its temperature may come first.
    auto temperature = attention.getQuery().getDefiningOp<moe::TemperatureOp>();
    Value query = temperature ? temperature.getX() : attention.getQuery();
    auto rope = query.getDefiningOp<moe::RopeOp>();
    if ((temperature && !temperature->hasOneUse()) || (rope && !rope->hasOneUse()))
      return attention.emitError("cannot fuse the queries of latent attention: their rotation or "
                                 "temperature has other readers");
    if (rope && (rope.getHeads() != attention.getHeads() || rope.getRope().getOffset() < nope))
      return attention.emitError("cannot fuse the queries of latent attention: they are rotated "
                                 "outside the rope part of their heads");
    if (rope && temperature)
      temperature.getXMutable().assign(rope.getX());
    query = temperature ? temperature.getResult() : rope ? rope.getX() : query;
    appendRows(append, *rows, weights);
    absorb(attention, query, rope ? rope.getRope() : moe::RopeAttr(), weights);
    append.erase();
    if (rows->rope)
      rows->rope.erase();
    for (Operation *op :
         {rows->norm.getOperation(), rows->latent.getOperation(), rows->rotated.getOperation()})
      op->erase();
    attention.erase();
    if (rope)
      rope.erase();
    return success();
  }

  static void appendRows(moe::CacheAppendOp append, Rows &rows, WeightSymbols &weights) {
    OpBuilder builder(append);
    MergedLinears merged = mergeLinears({rows.latent, rows.rotated}, "kv_a", weights);
    auto latentType = cast<RankedTensorType>(rows.latent.getType());
    auto rotatedType = cast<RankedTensorType>(rows.rotated.getType());
    auto type = latentType.clone(
        {latentType.getDimSize(0), latentType.getDimSize(1) + rotatedType.getDimSize(1)});
    auto kv = moe::LinearOp::create(builder, rows.latent.getLoc(), type, rows.latent.getX(),
                                    merged.weight, merged.bias, builder.getF64FloatAttr(1),
                                    builder.getF64FloatAttr(0));
    moe::LatentAppendOp::create(builder, append.getLoc(), kv, rows.norm.getWeightAttr(),
                                rows.norm.getEpsAttr(), append.getCacheAttr(), append.getBatch(),
                                rows.rope ? rows.rope.getRope() : moe::RopeAttr());
  }

  static void absorb(moe::LatentAttentionOp attention, Value query, moe::RopeAttr rope,
                     WeightSymbols &weights) {
    MLIRContext *context = attention.getContext();
    OpBuilder builder(attention);
    int64_t heads = attention.getHeads(), nope = attention.getNopeDim();
    int64_t value = attention.getValueDim(), latent = weights.shape(attention.getKvBAttr())[1];
    auto asTyped = [](Attribute attr) { return cast<TypedAttr>(attr); };
    TypedAttr perHead = weights.reshaped(attention.getKvBAttr(), {heads, nope + value, latent});
    TypedAttr keys = asTyped(moe::SliceAttr::get(context, perHead, 1, 0, nope, 1));
    keys =
        asTyped(moe::TransposeAttr::get(context, keys, DenseI64ArrayAttr::get(context, {0, 2, 1})));
    TypedAttr values = asTyped(moe::SliceAttr::get(context, perHead, 1, nope, value, 1));
    moe::WeightOp anchor = weights.lookup(attention.getKvBAttr());
    FlatSymbolRefAttr keyWeight = weights.create(anchor, "kv_b_keys", keys);
    FlatSymbolRefAttr valueWeight = weights.create(anchor, "kv_b_values", values);

    auto type = cast<RankedTensorType>(query.getType());
    int64_t width = heads * weights.lookupCache(attention.getCacheAttr()).getHeadDim();
    query = moe::LatentQueryOp::create(builder, attention.getLoc(),
                                       type.clone({type.getDimSize(0), width}), query, keyWeight,
                                       attention.getBatch(), attention.getHeadsAttr(), rope);
    auto absorbed = moe::AbsorbedAttentionOp::create(
        builder, attention.getLoc(), attention.getType(), query, attention.getCacheAttr(),
        valueWeight, attention.getBatch(), attention.getHeadsAttr(), attention.getScaleAttr());
    attention.replaceAllUsesWith(absorbed.getResult());
  }
};

} // namespace
} // namespace sluice
