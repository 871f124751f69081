//===- MoeVerifiers.cpp - Constraints of the operations of `moe` ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Constraints are numbered as in MoeOps.td. verify() checks what an operation says about itself;
// verifySymbolUses() looks up its weights and its cache and compares their shapes with what the
// operation's types and counts ask for, so that a misread checkpoint stops here with names and
// numbers and not inside a kernel.
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SmallSet.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace sluice::moe {

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

static InFlightDiagnostic fail(Operation *op, int constraint) {
  return op->emitOpError() << "C" << constraint << ": ";
}

/// Products and sums of counts that came from text: saturated instead of undefined.
static int64_t times(int64_t a, int64_t b) {
  int64_t result;
  return llvm::MulOverflow(a, b, result) ? std::numeric_limits<int64_t>::max() : result;
}
static int64_t plus(int64_t a, int64_t b) {
  int64_t result;
  return llvm::AddOverflow(a, b, result) ? std::numeric_limits<int64_t>::max() : result;
}

static int64_t width(TypedValue<RankedTensorType> rows) { return rows.getType().getDimSize(1); }

/// Row counts are equal or at least one of each pair is dynamic.
static LogicalResult verifyEqualRows(Operation *op, int constraint, ValueRange values) {
  int64_t known = ShapedType::kDynamic;
  for (Value value : values) {
    int64_t rows = cast<RankedTensorType>(value.getType()).getDimSize(0);
    if (ShapedType::isDynamic(rows))
      continue;
    if (ShapedType::isStatic(known) && rows != known)
      return fail(op, constraint) << "row counts " << known << " and " << rows << " differ";
    known = rows;
  }
  return success();
}

template <typename SymbolOp>
static FailureOr<SymbolOp> lookup(Operation *op, SymbolTableCollection &symbols,
                                  FlatSymbolRefAttr name) {
  Operation *symbol = symbols.lookupNearestSymbolFrom(op, name);
  if (!symbol)
    return op->emitOpError() << "refers to " << name << ", which is not defined in the module";
  auto result = dyn_cast<SymbolOp>(symbol);
  if (!result)
    return op->emitOpError() << "refers to " << name << ", which is a '" << symbol->getName()
                             << "', expected a '" << SymbolOp::getOperationName() << "'";
  return result;
}

static FailureOr<ArrayRef<int64_t>> lookupShape(Operation *op, SymbolTableCollection &symbols,
                                                FlatSymbolRefAttr name) {
  FailureOr<WeightOp> weight = lookup<WeightOp>(op, symbols, name);
  if (failed(weight))
    return failure();
  return cast<RankedTensorType>(weight->getType()).getShape();
}

static InFlightDiagnostic failShape(Operation *op, int constraint, FlatSymbolRefAttr name,
                                    ArrayRef<int64_t> shape) {
  return fail(op, constraint) << "weight " << name << " is [" << shape << "], expected ";
}

/// The weight `name` (when given) has the shape `expected`, whose meaning is `formula`.
static LogicalResult verifyShape(Operation *op, SymbolTableCollection &symbols, int constraint,
                                 FlatSymbolRefAttr name, ArrayRef<int64_t> expected,
                                 StringRef formula) {
  if (!name)
    return success();
  FailureOr<ArrayRef<int64_t>> shape = lookupShape(op, symbols, name);
  if (failed(shape))
    return failure();
  if (*shape != expected)
    return failShape(op, constraint, name, *shape) << formula << " = [" << expected << "]";
  return success();
}

/// The weight `name` has `rank` dimensions; returns its shape.
static FailureOr<ArrayRef<int64_t>> verifyRank(Operation *op, SymbolTableCollection &symbols,
                                               int constraint, FlatSymbolRefAttr name, size_t rank,
                                               StringRef formula) {
  FailureOr<ArrayRef<int64_t>> shape = lookupShape(op, symbols, name);
  if (succeeded(shape) && shape->size() != rank)
    return failShape(op, constraint, name, *shape) << formula;
  return shape;
}

static LogicalResult verifyPositive(Operation *op, int constraint, StringRef name,
                                    const APFloat &value) {
  double number = value.convertToDouble();
  if (!(number > 0) || value.isInfinity())
    return fail(op, constraint) << name << " = " << number << " must be positive and finite";
  return success();
}

static LogicalResult verifyNotNegative(Operation *op, int constraint, StringRef name,
                                       const APFloat &value) {
  double number = value.convertToDouble();
  if (!(number >= 0) || value.isInfinity())
    return fail(op, constraint) << name << " = " << number << " must be at least 0 and finite";
  return success();
}

static LogicalResult verifyRanks(Operation *op, int constraint, ArrayRef<int64_t> ranks) {
  if (ranks.empty())
    return fail(op, constraint) << "the list of ranks is empty";
  llvm::SmallSet<int64_t, 16> seen;
  for (int64_t rank : ranks) {
    if (rank < 0)
      return fail(op, constraint) << "rank " << rank << " is negative";
    if (!seen.insert(rank).second)
      return fail(op, constraint) << "rank " << rank << " is listed twice";
  }
  return success();
}

static LogicalResult verifyEqualWidths(Operation *op, int constraint,
                                       TypedValue<RankedTensorType> a,
                                       TypedValue<RankedTensorType> b) {
  if (width(a) != width(b))
    return fail(op, constraint) << "widths " << width(a) << " and " << width(b) << " differ";
  return success();
}

static LogicalResult verifyBiasPair(Operation *op, int constraint, FlatSymbolRefAttr gateBias,
                                    FlatSymbolRefAttr upBias) {
  if (bool(gateBias) != bool(upBias))
    return fail(op, constraint) << (gateBias ? "gate" : "up") << " has a bias and "
                                << (gateBias ? "up" : "gate") << " has none";
  return success();
}

//===----------------------------------------------------------------------===//
// Module-level symbols
//===----------------------------------------------------------------------===//

LogicalResult WeightOp::verify() {
  if (!isWeightExpr(getValueAttr()))
    return emitOpError() << "value " << getValueAttr() << " is not a weight expression";
  if (getValue().getType() != getType())
    return fail(*this, 1) << "the expression has type " << getValue().getType()
                          << ", the weight says " << getType();
  return success();
}

LogicalResult KvCacheOp::verify() {
  int64_t heads = getKvHeads(), key = getHeadDim(), value = getValueDim();
  if (heads < 1 || key < 1 || value < 0)
    return fail(*this, 1) << "heads = " << heads << ", key = " << key << ", value = " << value
                          << " must be at least 1, 1, 0";
  if (getLatent() && (heads != 1 || value != 0))
    return fail(*this, 2) << "a latent cache has one head and no values, but heads = " << heads
                          << " and value = " << value;
  if (!isa<Float32Type, Float16Type, BFloat16Type, Float8E4M3FNType>(getType()))
    return fail(*this, 3) << "element type " << getType() << " is not f32, f16, bf16 or f8E4M3FN";
  return success();
}

//===----------------------------------------------------------------------===//
// Embedding, norms, linear
//===----------------------------------------------------------------------===//

LogicalResult EmbeddingOp::verify() { return verifyEqualRows(*this, 2, {getIds(), getResult()}); }

LogicalResult EmbeddingOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<ArrayRef<int64_t>> shape =
      verifyRank(*this, symbols, 1, getTableAttr(), 2, "[vocabulary, width of result]");
  if (failed(shape))
    return failure();
  if ((*shape)[1] != width(getResult()))
    return failShape(*this, 1, getTableAttr(), *shape)
           << "[vocabulary, width of result] = [?, " << width(getResult()) << "]";
  return success();
}

LogicalResult NormOp::verify() {
  int64_t groups = getGroups();
  if (groups < 1 || width(getX()) % groups != 0)
    return fail(*this, 1) << "groups = " << groups << " does not divide the width "
                          << width(getX());
  if ((getKind() == NormKind::L2) == bool(getWeightAttr()))
    return fail(*this, 3) << "norm " << stringifyNormKind(getKind())
                          << (getWeightAttr() ? " takes no weight" : " needs a weight");
  if (getBiasAttr() && getKind() != NormKind::Layer)
    return fail(*this, 4) << "norm " << stringifyNormKind(getKind()) << " takes no bias";
  return verifyPositive(*this, 5, "eps", getEps());
}

LogicalResult NormOp::verifySymbolUses(SymbolTableCollection &symbols) {
  int64_t entries = width(getX()) / static_cast<int64_t>(getGroups());
  for (FlatSymbolRefAttr name : {getWeightAttr(), getBiasAttr()})
    if (failed(verifyShape(*this, symbols, 2, name, {entries}, "[width / groups]")))
      return failure();
  return success();
}

LogicalResult LinearOp::verify() {
  if (failed(verifyNotNegative(*this, 3, "softcap", getSoftcap())))
    return failure();
  return verifyEqualRows(*this, 4, {getX(), getResult()});
}

LogicalResult LinearOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(verifyShape(*this, symbols, 1, getWeightAttr(), {width(getResult()), width(getX())},
                         "[width of result, width of x]")))
    return failure();
  return verifyShape(*this, symbols, 2, getBiasAttr(), {width(getResult())}, "[width of result]");
}

LogicalResult ClampOp::verify() { return verifyPositive(*this, 1, "limit", getLimit()); }

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

static LogicalResult verifyRotation(Operation *op, int constraint, RopeAttr rope, int64_t headDim) {
  int64_t end = plus(rope.getOffset(), rope.getDim());
  if (end > headDim)
    return fail(op, constraint) << "offset + dim = " << end << " exceeds the head size " << headDim;
  return success();
}

LogicalResult RopeOp::verify() {
  int64_t heads = getHeads();
  if (width(getX()) % heads != 0)
    return fail(*this, 1) << "heads = " << heads << " does not divide the width " << width(getX());
  return verifyRotation(*this, 2, getRope(), width(getX()) / heads);
}

LogicalResult TemperatureOp::verify() {
  if (int64_t(getOffset()) < 0)
    return fail(*this, 2) << "offset = " << int64_t(getOffset()) << " must be at least 0";
  return verifyPositive(*this, 1, "floor_scale", getFloorScale());
}

LogicalResult CacheAppendOp::verify() { return verifyEqualRows(*this, 2, {getKey(), getValue()}); }

LogicalResult CacheAppendOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<KvCacheOp> cache = lookup<KvCacheOp>(*this, symbols, getCacheAttr());
  if (failed(cache))
    return failure();
  int64_t key = width(getKey()), value = width(getValue());
  int64_t headDim = cache->getHeadDim();
  if (cache->getLatent()) {
    if (plus(key, value) != headDim)
      return fail(*this, 1) << "widths " << key << " + " << value << " of latent and rotated part "
                            << "differ from the latent cache's key " << headDim;
    return success();
  }
  int64_t keys = times(cache->getKvHeads(), headDim);
  int64_t values = times(cache->getKvHeads(), cache->getValueDim());
  if (key != keys || value != values)
    return fail(*this, 1) << "widths " << key << " and " << value
                          << " of key and value, expected kv_heads * head_dim = " << keys
                          << " and kv_heads * value_dim = " << values;
  return success();
}

LogicalResult AttentionOp::verify() {
  int64_t window = getWindow(), chunk = getChunk();
  if (window < 0 || chunk < 0 || (window > 0 && chunk > 0))
    return fail(*this, 5) << "window = " << window << " and chunk = " << chunk
                          << " must be at least 0 and not both positive";
  if (failed(verifyNotNegative(*this, 5, "softcap", getSoftcap())))
    return failure();
  return verifyEqualRows(*this, 6, {getQuery(), getResult()});
}

LogicalResult AttentionOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<KvCacheOp> cache = lookup<KvCacheOp>(*this, symbols, getCacheAttr());
  if (failed(cache))
    return failure();
  int64_t heads = getHeads(), kvHeads = cache->getKvHeads();
  if (cache->getLatent())
    return fail(*this, 3) << "cache " << getCacheAttr()
                          << " is latent, use moe.latent_attention for it";
  if (kvHeads < 1 || heads % kvHeads != 0)
    return fail(*this, 1) << "heads = " << heads << " is not a multiple of the cache's heads "
                          << kvHeads;
  int64_t queries = times(heads, cache->getHeadDim());
  int64_t values = times(heads, cache->getValueDim());
  if (width(getQuery()) != queries || width(getResult()) != values)
    return fail(*this, 2) << "widths " << width(getQuery()) << " and " << width(getResult())
                          << " of query and result, expected heads * head_dim = " << queries
                          << " and heads * value_dim = " << values;
  return verifyShape(*this, symbols, 4, getSinksAttr(), {heads}, "[heads]");
}

LogicalResult LatentAttentionOp::verify() {
  int64_t nope = getNopeDim(), value = getValueDim();
  if (nope < 0 || value < 1)
    return fail(*this, 5) << "nope = " << nope << " and value = " << value
                          << " must be at least 0 and 1";
  return verifyEqualRows(*this, 6, {getQuery(), getResult()});
}

LogicalResult LatentAttentionOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<KvCacheOp> cache = lookup<KvCacheOp>(*this, symbols, getCacheAttr());
  if (failed(cache))
    return failure();
  if (!cache->getLatent())
    return fail(*this, 1) << "cache " << getCacheAttr()
                          << " is not latent, use moe.attention for it";
  int64_t heads = getHeads(), nope = getNopeDim(), value = getValueDim();
  int64_t headDim = cache->getHeadDim(), rows = times(heads, plus(nope, value));
  constexpr StringLiteral formula = "[heads * (nope + value), latent]";
  FailureOr<ArrayRef<int64_t>> kvB = verifyRank(*this, symbols, 3, getKvBAttr(), 2, formula);
  if (failed(kvB))
    return failure();
  int64_t latent = (*kvB)[1];
  if ((*kvB)[0] != rows || latent > headDim)
    return failShape(*this, 3, getKvBAttr(), *kvB)
           << formula << " = [" << rows << ", at most the cache's key " << headDim << "]";
  int64_t queries = times(heads, plus(nope, headDim - latent));
  if (width(getQuery()) != queries)
    return fail(*this, 2) << "query width " << width(getQuery())
                          << ", expected heads * (nope + rope) = " << queries;
  if (width(getResult()) != times(heads, value))
    return fail(*this, 4) << "result width " << width(getResult())
                          << ", expected heads * value = " << times(heads, value);
  return success();
}

LogicalResult QkvOp::verify() {
  bool normed = getQkNorm() == QkNorm::PerHead || getQkNorm() == QkNorm::Whole;
  if (bool(getQNormAttr()) != normed || bool(getKNormAttr()) != normed)
    return fail(*this, 4) << "qk_norm " << stringifyQkNorm(getQkNorm())
                          << (normed ? " needs q_norm and k_norm" : " takes no q_norm or k_norm");
  if (failed(verifyNotNegative(*this, 5, "clip", getClip())) ||
      failed(verifyPositive(*this, 5, "eps", getEps())))
    return failure();
  if (!getTemperatureScale().isZero() &&
      failed(verifyPositive(*this, 8, "temperature_floor", getTemperatureFloor())))
    return failure();
  return verifyEqualRows(*this, 9, {getX(), getQuery()});
}

LogicalResult QkvOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<KvCacheOp> cache = lookup<KvCacheOp>(*this, symbols, getCacheAttr());
  if (failed(cache))
    return failure();
  if (cache->getLatent())
    return fail(*this, 7) << "cache " << getCacheAttr() << " is latent";
  int64_t kvHeads = cache->getKvHeads(), headDim = cache->getHeadDim();
  int64_t queries = times(getHeads(), headDim), keys = times(kvHeads, headDim);
  int64_t rows = plus(queries, plus(keys, times(kvHeads, cache->getValueDim())));
  if (failed(verifyShape(*this, symbols, 1, getWeightAttr(), {rows, width(getX())},
                         "[heads * head_dim + kv_heads * (head_dim + value_dim), width of x]")) ||
      failed(verifyShape(*this, symbols, 2, getBiasAttr(), {rows}, "[rows of the weight]")))
    return failure();
  if (width(getQuery()) != queries)
    return fail(*this, 3) << "result width " << width(getQuery())
                          << ", expected heads * head_dim = " << queries;
  bool whole = getQkNorm() == QkNorm::Whole;
  if (failed(verifyShape(*this, symbols, 4, getQNormAttr(), {whole ? queries : headDim},
                         whole ? "[heads * head_dim]" : "[head_dim]")) ||
      failed(verifyShape(*this, symbols, 4, getKNormAttr(), {whole ? keys : headDim},
                         whole ? "[kv_heads * head_dim]" : "[head_dim]")))
    return failure();
  return getRopeAttr() ? verifyRotation(*this, 6, getRopeAttr(), headDim) : success();
}

LogicalResult LatentQueryOp::verify() { return verifyEqualRows(*this, 5, {getX(), getResult()}); }

LogicalResult LatentQueryOp::verifySymbolUses(SymbolTableCollection &symbols) {
  constexpr StringLiteral formula = "[heads, latent, nope]";
  FailureOr<ArrayRef<int64_t>> weight = verifyRank(*this, symbols, 1, getWeightAttr(), 3, formula);
  if (failed(weight))
    return failure();
  int64_t heads = getHeads(), latent = (*weight)[1], nope = (*weight)[2];
  if ((*weight)[0] != heads)
    return failShape(*this, 1, getWeightAttr(), *weight) << formula << " = [" << heads << ", ?, ?]";
  int64_t head = width(getX()) / heads;
  if (width(getX()) % heads != 0 || head < nope)
    return fail(*this, 2) << "width " << width(getX())
                          << " of x, expected heads * (nope + rope) with heads = " << heads
                          << " and nope = " << nope;
  int64_t expected = times(heads, plus(latent, head - nope));
  if (width(getResult()) != expected)
    return fail(*this, 3) << "result width " << width(getResult())
                          << ", expected heads * (latent + rope) = " << expected;
  if (!getRopeAttr())
    return success();
  if (getRopeAttr().getOffset() < nope)
    return fail(*this, 4) << "the rotation begins at " << getRopeAttr().getOffset()
                          << ", before the rope part at " << nope;
  return verifyRotation(*this, 4, getRopeAttr(), head);
}

LogicalResult LatentAppendOp::verify() { return verifyPositive(*this, 4, "eps", getEps()); }

LogicalResult LatentAppendOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<KvCacheOp> cache = lookup<KvCacheOp>(*this, symbols, getCacheAttr());
  if (failed(cache))
    return failure();
  if (!cache->getLatent())
    return fail(*this, 1) << "cache " << getCacheAttr() << " is not latent";
  int64_t key = cache->getHeadDim();
  if (width(getX()) != key)
    return fail(*this, 2) << "width " << width(getX()) << " of x, expected the cache's key " << key;
  FailureOr<ArrayRef<int64_t>> norm = verifyRank(*this, symbols, 3, getNormAttr(), 1, "[latent]");
  if (failed(norm))
    return failure();
  if ((*norm)[0] > key)
    return failShape(*this, 3, getNormAttr(), *norm)
           << "[latent] of at most the cache's key " << key;
  return getRopeAttr() ? verifyRotation(*this, 5, getRopeAttr(), key - (*norm)[0]) : success();
}

LogicalResult AbsorbedAttentionOp::verify() {
  return verifyEqualRows(*this, 5, {getQuery(), getResult()});
}

LogicalResult AbsorbedAttentionOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<KvCacheOp> cache = lookup<KvCacheOp>(*this, symbols, getCacheAttr());
  if (failed(cache))
    return failure();
  if (!cache->getLatent())
    return fail(*this, 1) << "cache " << getCacheAttr() << " is not latent";
  int64_t heads = getHeads(), key = cache->getHeadDim();
  constexpr StringLiteral formula = "[heads, value, latent]";
  FailureOr<ArrayRef<int64_t>> weight = verifyRank(*this, symbols, 2, getWeightAttr(), 3, formula);
  if (failed(weight))
    return failure();
  if ((*weight)[0] != heads || (*weight)[2] > key)
    return failShape(*this, 2, getWeightAttr(), *weight)
           << formula << " = [" << heads << ", ?, at most the cache's key " << key << "]";
  if (width(getQuery()) != times(heads, key))
    return fail(*this, 3) << "query width " << width(getQuery())
                          << ", expected heads * head_dim = " << times(heads, key);
  if (width(getResult()) != times(heads, (*weight)[1]))
    return fail(*this, 4) << "result width " << width(getResult())
                          << ", expected heads * value = " << times(heads, (*weight)[1]);
  return success();
}

//===----------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------===//

namespace {
/// The numbers under which an operation lists the constraints that a routing rule puts on it.
struct RoutingConstraints {
  int topK, resultWidth, groups, keptGroups, sparseMixer;
};
} // namespace

static LogicalResult verifyRouting(Operation *op, RoutingConstraints number, RoutingAttr routing,
                                   int64_t experts, TypedValue<RankedTensorType> ids,
                                   TypedValue<RankedTensorType> weights) {
  int64_t topK = routing.getTopK(), groups = routing.getGroups();
  if (topK > experts)
    return fail(op, number.topK) << "top_k = " << topK << " exceeds the number of experts "
                                 << experts;
  if (width(ids) != topK || width(weights) != topK)
    return fail(op, number.resultWidth) << "ids and weights are " << width(ids) << " and "
                                        << width(weights) << " wide, expected top_k = " << topK;
  if (experts % groups != 0)
    return fail(op, number.groups)
           << "groups = " << groups << " does not divide the number of experts " << experts;
  int64_t kept = routing.getTopkGroup() * (experts / groups);
  if (kept < topK)
    return fail(op, number.keptGroups)
           << "topk_group = " << routing.getTopkGroup() << " groups hold " << kept
           << " experts, fewer than top_k = " << topK;
  if (routing.getSparseMixer() && topK != 2)
    return fail(op, number.sparseMixer) << "the sparse mixer asks for top_k = 2, not " << topK;
  return success();
}

LogicalResult RouteOp::verify() {
  if (failed(verifyRouting(*this, {1, 2, 3, 4, 6}, getRouting(), width(getLogits()), getIds(),
                           getWeights())))
    return failure();
  return verifyEqualRows(*this, 7, {getLogits(), getIds(), getWeights()});
}

LogicalResult RouteOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyShape(*this, symbols, 5, getCorrectionAttr(), {width(getLogits())}, "[experts]");
}

/// Every expert has a slot, and no group holds one twice.
static LogicalResult verifySlots(Operation *op, int constraint, ArrayAttr slots, int64_t experts) {
  llvm::BitVector placed(experts);
  for (auto [group, list] : llvm::enumerate(slots)) {
    llvm::SmallDenseSet<int64_t> own;
    for (int64_t expert : cast<DenseI64ArrayAttr>(list).asArrayRef()) {
      if (expert == -1)
        continue;
      if (expert < 0 || expert >= experts)
        return fail(op, constraint) << "group " << group << " holds expert " << expert
                                    << ", outside [0, " << experts - 1 << "]";
      if (!own.insert(expert).second)
        return fail(op, constraint) << "group " << group << " holds expert " << expert << " twice";
      placed.set(expert);
    }
  }
  if (int missing = placed.find_first_unset(); missing >= 0)
    return fail(op, constraint) << "expert " << missing << " has no slot";
  return success();
}

static LogicalResult verifyPlacement(Operation *op, int constraint, DictionaryAttr placement,
                                     int64_t experts) {
  if (!placement)
    return success();
  auto slots = placement.getAs<ArrayAttr>("slots");
  if (!slots || slots.empty() || !llvm::all_of(slots, llvm::IsaPred<DenseI64ArrayAttr>))
    return fail(op, constraint) << "placement " << placement
                                << " has no slots = [array<i64: ...>, ...], one list per group";
  return verifySlots(op, constraint, slots, experts);
}

LogicalResult RouterOp::verify() {
  return verifyEqualRows(*this, 8, {getX(), getIds(), getWeights()});
}

LogicalResult RouterOp::verifySymbolUses(SymbolTableCollection &symbols) {
  constexpr StringLiteral formula = "[experts, width of x]";
  FailureOr<ArrayRef<int64_t>> shape = verifyRank(*this, symbols, 1, getWeightAttr(), 2, formula);
  if (failed(shape))
    return failure();
  if ((*shape)[1] != width(getX()))
    return failShape(*this, 1, getWeightAttr(), *shape)
           << formula << " = [?, " << width(getX()) << "]";
  int64_t experts = (*shape)[0];
  for (FlatSymbolRefAttr name : {getBiasAttr(), getCorrectionAttr()})
    if (failed(verifyShape(*this, symbols, 2, name, {experts}, "[experts]")))
      return failure();
  if (failed(verifyPlacement(*this, 9, getPlacementAttr(), experts)))
    return failure();
  return verifyRouting(*this, {3, 4, 5, 6, 7}, getRouting(), experts, getIds(), getWeights());
}

//===----------------------------------------------------------------------===//
// Feed-forward parts
//===----------------------------------------------------------------------===//

LogicalResult ExpertsOp::verify() {
  if (failed(verifyBiasPair(*this, 5, getGateBiasAttr(), getUpBiasAttr())))
    return failure();
  if (width(getIds()) != width(getWeights()))
    return fail(*this, 6) << "ids are " << width(getIds()) << " and weights " << width(getWeights())
                          << " wide";
  return verifyEqualRows(*this, 7, {getX(), getIds(), getWeights(), getResult()});
}

LogicalResult ExpertsOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<ArrayRef<int64_t>> gate =
      verifyRank(*this, symbols, 1, getGateAttr(), 3, "[experts, I, H]");
  if (failed(gate))
    return failure();
  int64_t experts = (*gate)[0], inner = (*gate)[1], hidden = (*gate)[2];
  if (failed(verifyShape(*this, symbols, 1, getUpAttr(), *gate, "the shape of gate")) ||
      failed(verifyShape(*this, symbols, 2, getDownAttr(), {experts, hidden, inner},
                         "[experts, H, I]")))
    return failure();
  if (width(getX()) != hidden || width(getResult()) != hidden)
    return fail(*this, 3) << "x and result are " << width(getX()) << " and " << width(getResult())
                          << " wide, expected H = " << hidden;
  if (failed(verifyShape(*this, symbols, 4, getGateBiasAttr(), {experts, inner}, "[experts, I]")) ||
      failed(verifyShape(*this, symbols, 4, getUpBiasAttr(), {experts, inner}, "[experts, I]")))
    return failure();
  if (failed(verifyPlacement(*this, 8, getPlacementAttr(), experts)))
    return failure();
  return verifyShape(*this, symbols, 4, getDownBiasAttr(), {experts, hidden}, "[experts, H]");
}

LogicalResult FfnOp::verify() {
  if (failed(verifyBiasPair(*this, 5, getGateBiasAttr(), getUpBiasAttr())))
    return failure();
  return verifyEqualRows(*this, 6, {getX(), getResult()});
}

LogicalResult FfnOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<ArrayRef<int64_t>> gate = verifyRank(*this, symbols, 1, getGateAttr(), 2, "[I, H]");
  if (failed(gate))
    return failure();
  int64_t inner = (*gate)[0], hidden = (*gate)[1];
  if (failed(verifyShape(*this, symbols, 1, getUpAttr(), *gate, "the shape of gate")) ||
      failed(verifyShape(*this, symbols, 2, getDownAttr(), {hidden, inner}, "[H, I]")))
    return failure();
  if (width(getX()) != hidden || width(getResult()) != hidden)
    return fail(*this, 3) << "x and result are " << width(getX()) << " and " << width(getResult())
                          << " wide, expected H = " << hidden;
  if (failed(verifyShape(*this, symbols, 4, getGateBiasAttr(), {inner}, "[I]")) ||
      failed(verifyShape(*this, symbols, 4, getUpBiasAttr(), {inner}, "[I]")))
    return failure();
  return verifyShape(*this, symbols, 4, getDownBiasAttr(), {hidden}, "[H]");
}

LogicalResult SigmoidGateOp::verify() { return verifyEqualRows(*this, 2, {getX(), getY()}); }

LogicalResult SigmoidGateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyShape(*this, symbols, 1, getWeightAttr(), {1, width(getX())}, "[1, width of x]");
}

LogicalResult ExpertsGateUpOp::verify() {
  return verifyEqualRows(*this, 3, {getX(), getWeights()});
}

LogicalResult ExpertsGateUpOp::verifySymbolUses(SymbolTableCollection &symbols) {
  constexpr StringLiteral formula = "[experts, 2, width of result, width of x]";
  FailureOr<ArrayRef<int64_t>> shape = verifyRank(*this, symbols, 1, getWeightAttr(), 4, formula);
  if (failed(shape))
    return failure();
  int64_t experts = (*shape)[0], inner = width(getResult());
  if (shape->drop_front() != ArrayRef<int64_t>{2, inner, width(getX())})
    return failShape(*this, 1, getWeightAttr(), *shape)
           << formula << " = [?, 2, " << inner << ", " << width(getX()) << "]";
  return verifyShape(*this, symbols, 2, getBiasAttr(), {experts, 2, inner}, "[experts, 2, I]");
}

LogicalResult ExpertsDownOp::verify() {
  return verifyEqualRows(*this, 3, {getWeights(), getResult()});
}

LogicalResult ExpertsDownOp::verifySymbolUses(SymbolTableCollection &symbols) {
  constexpr StringLiteral formula = "[experts, width of result, width of h]";
  FailureOr<ArrayRef<int64_t>> shape = verifyRank(*this, symbols, 1, getWeightAttr(), 3, formula);
  if (failed(shape))
    return failure();
  int64_t experts = (*shape)[0], hidden = width(getResult());
  if (shape->drop_front() != ArrayRef<int64_t>{hidden, width(getH())})
    return failShape(*this, 1, getWeightAttr(), *shape)
           << formula << " = [?, " << hidden << ", " << width(getH()) << "]";
  return verifyShape(*this, symbols, 2, getBiasAttr(), {experts, hidden}, "[experts, H]");
}

LogicalResult FfnGateUpOp::verify() { return verifyEqualRows(*this, 3, {getX(), getResult()}); }

LogicalResult FfnGateUpOp::verifySymbolUses(SymbolTableCollection &symbols) {
  int64_t inner = width(getResult());
  if (failed(verifyShape(*this, symbols, 1, getWeightAttr(), {2, inner, width(getX())},
                         "[2, width of result, width of x]")))
    return failure();
  return verifyShape(*this, symbols, 2, getBiasAttr(), {2, inner}, "[2, I]");
}

//===----------------------------------------------------------------------===//
// Rows, residual and sampling
//===----------------------------------------------------------------------===//

LogicalResult ResidualNormOp::verify() {
  if (getKind() == NormKind::L2)
    return fail(*this, 1) << "norm l2 cannot be fused, kind is rms or layer";
  if (getBiasAttr() && getKind() != NormKind::Layer)
    return fail(*this, 3) << "norm " << stringifyNormKind(getKind()) << " takes no bias";
  return verifyPositive(*this, 4, "eps", getEps());
}

LogicalResult ResidualNormOp::verifySymbolUses(SymbolTableCollection &symbols) {
  for (FlatSymbolRefAttr name : {getWeightAttr(), getBiasAttr()})
    if (failed(verifyShape(*this, symbols, 2, name, {width(getResult())}, "[width]")))
      return failure();
  return success();
}

LogicalResult SelectRowsOp::verify() { return verifyEqualWidths(*this, 1, getX(), getResult()); }

LogicalResult SampleOp::verify() { return verifyEqualRows(*this, 1, {getLogits(), getResult()}); }

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

LogicalResult AllReduceOp::verify() { return verifyRanks(*this, 1, getRanks()); }

LogicalResult AllGatherOp::verify() {
  if (failed(verifyRanks(*this, 1, getRanks())))
    return failure();
  return verifyEqualWidths(*this, 2, getX(), getResult());
}

LogicalResult ReduceScatterOp::verify() {
  if (failed(verifyRanks(*this, 1, getRanks())))
    return failure();
  return verifyEqualWidths(*this, 2, getX(), getResult());
}

//===----------------------------------------------------------------------===//
// Operations of one rank among several
//===----------------------------------------------------------------------===//

LogicalResult AssignSlotsOp::verify() {
  if (getSlots().empty() || !llvm::all_of(getSlots(), llvm::IsaPred<DenseI64ArrayAttr>))
    return fail(*this, 1) << "slots " << getSlots() << " is not one array<i64: ...> for each group";
  if (getGroup() >= getSlots().size())
    return fail(*this, 2) << "group " << getGroup() << " is not one of " << getSlots().size()
                          << " groups";
  int64_t experts = 0;
  for (Attribute list : getSlots())
    for (int64_t expert : cast<DenseI64ArrayAttr>(list).asArrayRef())
      experts = std::max(experts, expert + 1);
  if (failed(verifySlots(*this, 3, getSlots(), experts)))
    return failure();
  if (experts < width(getIds()))
    return fail(*this, 4) << "ids are " << width(getIds()) << " wide, but there are " << experts
                          << " experts";
  return success();
}

} // namespace sluice::moe
