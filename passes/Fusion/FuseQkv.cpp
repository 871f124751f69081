//===- FuseQkv.cpp - projections, norm, rotation, cache write -> qkv --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Everything between a layer's first norm and its attention depends on one row of activations, so
// one kernel does it: one product against the concatenated weights, and an epilogue that
// normalises, rotates and stores keys and values where attention will read them. The pass
// recognises the chains by structure, not by model.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Fusion/MergeLinears.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_FUSEQKV
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// One projection and what follows it, outermost operation first in `ops`.
struct Chain {
  moe::TemperatureOp temperature;
  moe::NormOp l2;
  moe::RopeOp rope;
  moe::ClampOp clamp;
  moe::NormOp norm;
  moe::LinearOp linear;
  SmallVector<Operation *> ops;
};

/// Walks from `value` back to its projection. Fails on an operation that no chain may hold, or that
/// something else reads too (fusing would compute it twice).
FailureOr<Chain> matchChain(Value value, StringRef role, Operation *anchor) {
  Chain chain;
  auto take = [&](auto &slot) {
    using Op = std::decay_t<decltype(slot)>;
    if (auto op = value.getDefiningOp<Op>()) {
      slot = op;
      chain.ops.push_back(op);
      value = op.getX();
      return true;
    }
    return false;
  };
  // Only this offset is that of the kernel.
  if (auto scaled = value.getDefiningOp<moe::TemperatureOp>(); scaled && scaled.getOffset() == 1)
    take(chain.temperature);
  if (auto norm = value.getDefiningOp<moe::NormOp>(); norm && norm.getKind() == moe::NormKind::L2)
    take(chain.l2);
  take(chain.rope);
  take(chain.clamp);
  if (auto norm = value.getDefiningOp<moe::NormOp>(); norm && norm.getKind() == moe::NormKind::Rms)
    take(chain.norm);
  if (!take(chain.linear)) {
    InFlightDiagnostic diag = anchor->emitError("cannot fuse the ")
                              << role << " of this cache: its chain does not lead to a moe.linear";
    if (Operation *def = value.getDefiningOp())
      diag.attachNote(def->getLoc()) << "'" << def->getName() << "' stands in the way; a chain may "
                                     << "hold projection, rms norm, clamp, rotation, l2 norm and "
                                     << "temperature, in this order";
    return failure();
  }
  for (Operation *op : chain.ops)
    if (!op->hasOneUse()) {
      anchor->emitError("cannot fuse the ")
          << role << " of this cache: '" << op->getName() << "' on its way has other readers";
      return failure();
    }
  return chain;
}

struct FuseQkvPass : impl::FuseQkvBase<FuseQkvPass> {
  void runOnOperation() override {
    WeightSymbols weights(getOperation());
    SmallVector<moe::CacheAppendOp> appends;
    getOperation().walk([&](moe::CacheAppendOp op) {
      if (!weights.lookupCache(op.getCacheAttr()).getLatent())
        appends.push_back(op);
    });
    for (moe::CacheAppendOp append : appends)
      if (failed(fuse(append, weights)))
        return signalPassFailure();
  }

private:
  static moe::AttentionOp findAttention(moe::CacheAppendOp append) {
    moe::AttentionOp found;
    for (Operation *op = append->getNextNode(); op && !found; op = op->getNextNode())
      if (auto attention = dyn_cast<moe::AttentionOp>(op))
        if (attention.getCacheAttr() == append.getCacheAttr())
          found = attention;
    return found;
  }

  /// Why q and k cannot share one epilogue; empty when they can.
  static StringRef mismatch(Chain &q, Chain &k, Chain &v) {
    if (q.linear.getX() != k.linear.getX() || q.linear.getX() != v.linear.getX())
      return "the projections have different inputs";
    if (v.rope || v.norm || v.l2 || v.temperature)
      return "values are rotated, normalised or scaled";
    if (k.temperature)
      return "keys are scaled by a temperature";
    if (bool(q.rope) != bool(k.rope) || (q.rope && q.rope.getRope() != k.rope.getRope()))
      return "queries and keys rotate differently";
    if (bool(q.norm) != bool(k.norm) || bool(q.l2) != bool(k.l2) || (q.norm && q.l2))
      return "queries and keys are normalised differently";
    if (q.norm && q.norm.getEpsAttr() != k.norm.getEpsAttr())
      return "the norms of queries and keys have different eps";
    if (bool(q.clamp) != bool(k.clamp) || bool(q.clamp) != bool(v.clamp) ||
        (q.clamp && (q.clamp.getLimitAttr() != k.clamp.getLimitAttr() ||
                     q.clamp.getLimitAttr() != v.clamp.getLimitAttr())))
      return "queries, keys and values are clamped differently";
    for (moe::LinearOp linear : {q.linear, k.linear, v.linear})
      if (linear.getScale().convertToDouble() != 1 || linear.getSoftcap().convertToDouble() != 0)
        return "a projection is scaled or capped";
    return "";
  }

  LogicalResult fuse(moe::CacheAppendOp append, WeightSymbols &weights) {
    moe::AttentionOp attention = findAttention(append);
    if (!attention)
      return append.emitError("cannot fuse q/k/v: no moe.attention reads this cache afterwards");
    FailureOr<Chain> q = matchChain(attention.getQuery(), "queries", append);
    FailureOr<Chain> k = matchChain(append.getKey(), "keys", append);
    FailureOr<Chain> v = matchChain(append.getValue(), "values", append);
    if (failed(q) || failed(k) || failed(v))
      return failure();
    moe::KvCacheOp cache = weights.lookupCache(append.getCacheAttr());
    StringRef reason = mismatch(*q, *k, *v);
    int64_t heads = attention.getHeads(), kvHeads = cache.getKvHeads();
    moe::QkNorm qkNorm = moe::QkNorm::None;
    if (reason.empty() && q->norm) {
      if (q->norm.getGroups() == uint64_t(heads) && k->norm.getGroups() == uint64_t(kvHeads))
        qkNorm = moe::QkNorm::PerHead;
      else if (q->norm.getGroups() == 1 && k->norm.getGroups() == 1)
        qkNorm = moe::QkNorm::Whole;
      else
        reason = "the norms' groups are neither the heads nor one";
    }
    if (reason.empty() && q->l2)
      qkNorm = moe::QkNorm::L2AfterRope;
    if (!reason.empty())
      return append.emitError("cannot fuse q/k/v: ") << reason;

    MergedLinears merged = mergeLinears({q->linear, k->linear, v->linear}, "qkv", weights);

    OpBuilder builder(append);
    auto f64 = [&](double value) { return builder.getF64FloatAttr(value); };
    double eps = 1e-6;
    if (q->norm)
      eps = q->norm.getEps().convertToDouble();
    else if (q->l2)
      eps = q->l2.getEps().convertToDouble();
    auto qkv = moe::QkvOp::create(
        builder, append.getLoc(), attention.getQuery().getType(), q->linear.getX(), merged.weight,
        merged.bias, append.getCacheAttr(), append.getBatch(), builder.getI64IntegerAttr(heads),
        q->rope ? q->rope.getRope() : moe::RopeAttr(),
        f64(q->clamp ? q->clamp.getLimit().convertToDouble() : 0.0),
        moe::QkNormAttr::get(&getContext(), qkNorm),
        q->norm ? q->norm.getWeightAttr() : FlatSymbolRefAttr(),
        k->norm ? k->norm.getWeightAttr() : FlatSymbolRefAttr(), f64(eps),
        f64(q->temperature ? q->temperature.getScale().convertToDouble() : 0.0),
        f64(q->temperature ? q->temperature.getFloorScale().convertToDouble() : 0.0));
    attention.getQueryMutable().assign(qkv.getQuery());
    append.erase();
    for (const Chain *chain : {&*q, &*k, &*v})
      for (Operation *op : chain->ops)
        op->erase();
    return success();
  }
};

} // namespace
} // namespace sluice
