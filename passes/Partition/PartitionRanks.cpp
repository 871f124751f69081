//===- PartitionRanks.cpp - One program per rank ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Follows every value of the model function through one rank. A value is either whole, or the rank
// has some of its columns (its heads, its part of an expert's width), or it has one summand of it;
// an operation says what it makes of that, and whatever needs whole rows of its own data parallel
// group resolves summands by collectives. Ranks are built one by one from the same operations in
// the same order, so that they meet in the same collectives.
//
// Sums over ranks stay open as long as possible: routed and shared experts are added rank by rank
// and summed up once.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/QuantizedWeights.h"
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Partition/RankLayout.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/TypeSwitch.h"

namespace sluice {
#define GEN_PASS_DEF_PARTITIONRANKS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

using Ranks = std::vector<int64_t>;

int64_t widthOf(Value rows) { return cast<RankedTensorType>(rows.getType()).getDimSize(1); }

RankedTensorType withWidth(Value rows, int64_t width) {
  auto type = cast<RankedTensorType>(rows.getType());
  return RankedTensorType::get({type.getDimSize(0), width}, type.getElementType());
}

//===----------------------------------------------------------------------===//
// Parts of weights
//===----------------------------------------------------------------------===//

TypedAttr slice(TypedAttr expr, int64_t axis, ShardRange range) {
  if (range.begin == 0 && range.end == moe::getWeightType(expr).getDimSize(axis))
    return expr;
  return cast<TypedAttr>(
      Attribute(moe::SliceAttr::get(expr.getContext(), expr, axis, range.begin, range.size(), 1)));
}

TypedAttr take(TypedAttr expr, ArrayRef<int64_t> rows) {
  if (llvm::equal(rows, llvm::seq<int64_t>(0, moe::getWeightType(expr).getDimSize(0))))
    return expr;
  auto indices = DenseI64ArrayAttr::get(expr.getContext(), rows);
  return cast<TypedAttr>(Attribute(moe::TakeAttr::get(expr.getContext(), expr, indices)));
}

/// Whether columns [begin, end) of a weight lose its codes because they cut a group of columns that
/// share a scale.
bool cutsScales(TypedAttr expr, ShardRange columns) {
  if (!isQuantized(expr) || !splitQuantized(expr))
    return false;
  int64_t axis = moe::getWeightType(expr).getRank() - 1;
  return !splitQuantized(slice(expr, axis, columns));
}

/// Makes the weights and caches of ranks out of those of the model; equal parts are one symbol.
class Parts {
public:
  explicit Parts(ModuleOp module) : weights(module), table(module) {}

  /// The part of `ref` that `change` makes of its expression, named `ref_suffix`; `ref` itself when
  /// that is all of it, nothing when `ref` is.
  FlatSymbolRefAttr part(FlatSymbolRefAttr ref, const Twine &suffix,
                         llvm::function_ref<TypedAttr(TypedAttr)> change) {
    if (!ref)
      return ref;
    TypedAttr whole = weights.expr(ref), changed = change(whole);
    if (changed == whole)
      return ref;
    FlatSymbolRefAttr &made = parts[{ref, changed}];
    if (!made) {
      StringRef leaf = ref.getValue().rsplit('.').second;
      made = weights.create(weights.lookup(ref),
                            ((leaf.empty() ? ref.getValue() : leaf) + "_" + suffix).str(), changed);
    }
    return made;
  }

  FlatSymbolRefAttr cache(FlatSymbolRefAttr ref, int64_t heads) {
    moe::KvCacheOp whole = weights.lookupCache(ref);
    if (int64_t(whole.getKvHeads()) == heads)
      return ref;
    FlatSymbolRefAttr &made = caches[{ref, heads}];
    if (!made) {
      OpBuilder builder(whole);
      auto op = cast<moe::KvCacheOp>(builder.clone(*whole));
      op.setKvHeads(heads);
      op.setSymName((whole.getSymName() + "_heads" + Twine(heads)).str());
      made = FlatSymbolRefAttr::get(table.insert(op));
    }
    return made;
  }

  WeightSymbols weights;

private:
  SymbolTable table;
  llvm::DenseMap<std::pair<Attribute, Attribute>, FlatSymbolRefAttr> parts;
  llvm::DenseMap<std::pair<Attribute, int64_t>, FlatSymbolRefAttr> caches;
};

//===----------------------------------------------------------------------===//
// What can be split
//===----------------------------------------------------------------------===//

/// The operation that multiplies the columns of `value`: the output projection of an attention, the
/// down projection of a feed-forward part.
moe::LinearOp productOf(Value value) {
  for (Operation *user : value.getUsers()) {
    if (auto linear = dyn_cast<moe::LinearOp>(user))
      return linear;
    if (auto gate = dyn_cast<moe::SigmoidGateOp>(user))
      return productOf(gate.getResult());
  }
  return {};
}

/// Whether all parts of `parts` of the columns that `shard` gives can be taken from a weight.
bool columnsSplit(const WeightSymbols &weights, FlatSymbolRefAttr ref, int64_t parts,
                  llvm::function_ref<ShardRange(int64_t)> shard) {
  for (int64_t i = 0; i < parts; ++i)
    if (ShardRange range = shard(i); range.size() == 0 || cutsScales(weights.expr(ref), range))
      return false;
  return true;
}

/// Whether the heads of an operation of attention can be dealt out to `parts` ranks.
bool headsSplit(Operation *op, const WeightSymbols &weights, int64_t parts) {
  auto projects = [&](Value result, int64_t heads, auto queryRange) {
    moe::LinearOp product = productOf(result);
    int64_t width = widthOf(result) / heads;
    return !product || columnsSplit(weights, product.getWeightAttr(), parts, [&](int64_t i) {
      ShardRange range = queryRange(i);
      return ShardRange{range.begin * width, range.end * width};
    });
  };
  if (auto qkv = dyn_cast<moe::QkvOp>(op))
    // Its norm sums over all heads.
    return qkv.getQkNorm() != moe::QkNorm::Whole || parts == 1;
  if (auto attention = dyn_cast<moe::AttentionOp>(op)) {
    int64_t heads = attention.getHeads();
    int64_t kvHeads = weights.lookupCache(attention.getCacheAttr()).getKvHeads();
    for (int64_t i = 0; i < parts; ++i)
      if (!headShardOf(heads, kvHeads, parts, i))
        return false;
    return projects(attention.getResult(), heads,
                    [&](int64_t i) { return headShardOf(heads, kvHeads, parts, i)->query; });
  }
  if (auto attention = dyn_cast<moe::AbsorbedAttentionOp>(op)) {
    int64_t heads = attention.getHeads();
    return heads >= parts && projects(attention.getResult(), heads, [&](int64_t i) {
             return ShardRange{i * heads / parts, (i + 1) * heads / parts};
           });
  }
  return true;
}

/// The largest divisor of `limit` that `fits`; 1 always does.
int64_t largestDivisor(int64_t limit, llvm::function_ref<bool(int64_t)> fits) {
  for (int64_t parts = limit; parts > 1; --parts)
    if (limit % parts == 0 && fits(parts))
      return parts;
  return 1;
}

//===----------------------------------------------------------------------===//
// One rank
//===----------------------------------------------------------------------===//

/// What a rank has of a value.
struct Share {
  enum Kind { Whole, Columns, Summand };
  Kind kind = Whole;
  bool gathered = false; ///< rows of all data parallel groups instead of the rank's own
  Ranks ranks;           ///< Columns: who shares them; Summand: whose summands make up the value
  ShardRange columns;    ///< Columns: which
};

class RankPartitioner {
public:
  RankPartitioner(func::FuncOp step, const RankLayout &layout, int64_t rank, Parts &parts)
      : step(step), layout(layout), rank(rank), parts(parts), builder(step.getContext()) {}

  LogicalResult run() {
    builder.setInsertionPoint(step);
    auto func = func::FuncOp::create(builder, step.getLoc(), ("rank" + Twine(rank)).str(),
                                     step.getFunctionType());
    func->setAttr(moe::MoeDialect::getRankAttrName(), builder.getI64IntegerAttr(rank));
    Block &body = step.getBody().front();
    builder.setInsertionPointToStart(func.addEntryBlock());
    for (auto [from, to] : llvm::zip(body.getArguments(), func.getArguments()))
      mapping.map(from, to);
    for (Operation &op : body)
      if (failed(visit(&op)))
        return failure();
    return success();
  }

private:
  //===--- Values -------------------------------------------------------------===//

  Share shareOf(Value value) const { return shares.lookup(value); }
  void setShare(Value value, Share share) { shares[value] = std::move(share); }

  /// The operation with mapped operands; its results are whole unless said otherwise.
  template <typename Op> Op copy(Op op) {
    return cast<Op>(builder.clone(*op.getOperation(), mapping));
  }
  /// The same with `rows` as its operand x.
  template <typename Op> Op copyOver(Op op, Value rows) {
    Op out = copy(op);
    out.getXMutable().assign(rows);
    return out;
  }
  static void setWidth(Value result, int64_t width) { result.setType(withWidth(result, width)); }

  /// Whole rows of the rank's own data parallel group for the operands of `op`.
  LogicalResult wantWhole(Operation *op) {
    for (Value operand : op->getOperands())
      if (failed(wantWhole(op, operand)))
        return failure();
    return success();
  }
  LogicalResult wantWhole(Operation *op, Value value) {
    Share share = shareOf(value);
    if (share.kind == Share::Columns)
      return op->emitOpError("needs all columns of an operand of which every rank has some; no "
                             "rule splits this operation over ranks: use tp = 1 and dp = ranks");
    if (share.kind == Share::Summand)
      sum(op->getLoc(), value, share);
    return success();
  }
  void sum(Location loc, Value value, const Share &share) {
    Value partial = mapping.lookup(value);
    Ranks among = share.ranks;
    if (share.gathered) {
      partial = moe::ReduceScatterOp::create(builder, loc, partial.getType(), partial,
                                             layout.columnRanks(rank));
      among = layout.groupRanks(rank);
    }
    if (among.size() > 1)
      partial = moe::AllReduceOp::create(builder, loc, partial.getType(), partial, among);
    mapping.map(value, partial);
    setShare(value, Share());
  }

  /// Rows of all data parallel groups; there must be whole ones of the rank's own.
  Value gather(Location loc, Value value) {
    Value own = mapping.lookup(value);
    if (layout.dp == 1 || shareOf(value).gathered)
      return own;
    Value &all = gatheredRows[value];
    if (!all)
      all = moe::AllGatherOp::create(builder, loc, own.getType(), own, layout.columnRanks(rank));
    return all;
  }

  Share summand(const Ranks &ranks, bool gathered) const {
    if (ranks.size() == 1 && !gathered)
      return Share();
    return {Share::Summand, gathered, ranks, {}};
  }
  /// Biases are added once, by the first rank of those whose products are summed up.
  bool isFirst(const Ranks &ranks) const { return ranks.front() == rank; }

  //===--- Operations ---------------------------------------------------------===//

  LogicalResult visit(Operation *op) {
    return TypeSwitch<Operation *, LogicalResult>(op)
        .Case<moe::QkvOp, moe::AttentionOp, moe::LatentQueryOp, moe::AbsorbedAttentionOp,
              moe::LinearOp, moe::NormOp, moe::TemperatureOp, moe::SigmoidGateOp, moe::ResidualOp,
              moe::RouterOp, moe::ExpertsGateUpOp, moe::ExpertsDownOp, moe::FfnGateUpOp,
              moe::SelectRowsOp, moe::SampleOp>([&](auto typed) { return split(typed); })
        .Default([&](Operation *other) -> LogicalResult {
          if (failed(wantWhole(other)))
            return failure();
          builder.clone(*other, mapping);
          return success();
        });
  }

  ShardRange headRange(int64_t heads) const {
    int64_t shard = layout.attentionShard(rank), parts = layout.attentionTp;
    return {shard * heads / parts, (shard + 1) * heads / parts};
  }
  std::string attentionSuffix() const {
    return ("shard" + Twine(layout.attentionShard(rank)) + "of" + Twine(layout.attentionTp)).str();
  }
  Share headColumns(ShardRange heads, int64_t width) const {
    return {Share::Columns,
            false,
            layout.shardRanks(rank, layout.attentionTp),
            {heads.begin * width, heads.end * width}};
  }

  LogicalResult split(moe::QkvOp op) {
    if (failed(wantWhole(op)))
      return failure();
    auto out = copy(op);
    if (layout.attentionTp == 1)
      return success();
    moe::KvCacheOp cache = parts.weights.lookupCache(op.getCacheAttr());
    int64_t heads = op.getHeads(), kvHeads = cache.getKvHeads(), keyDim = cache.getHeadDim(),
            valueDim = cache.getValueDim();
    HeadShard shard = *headShardOf(heads, kvHeads, layout.attentionTp, layout.attentionShard(rank));
    // Rows are [query heads | key heads | value heads].
    auto rows = [&](TypedAttr whole) {
      int64_t keys = heads * keyDim, values = keys + kvHeads * keyDim;
      TypedAttr blocks[] = {
          slice(whole, 0, {shard.query.begin * keyDim, shard.query.end * keyDim}),
          slice(whole, 0, {keys + shard.kv.begin * keyDim, keys + shard.kv.end * keyDim}),
          slice(whole, 0, {values + shard.kv.begin * valueDim, values + shard.kv.end * valueDim})};
      return WeightSymbols::concat(0, blocks);
    };
    out.setWeightAttr(parts.part(op.getWeightAttr(), attentionSuffix(), rows));
    if (op.getBiasAttr())
      out.setBiasAttr(parts.part(op.getBiasAttr(), attentionSuffix(), rows));
    out.setHeads(shard.query.size());
    out.setCacheAttr(parts.cache(op.getCacheAttr(), shard.kv.size()));
    setWidth(out.getQuery(), shard.query.size() * keyDim);
    setShare(op.getQuery(), headColumns(shard.query, keyDim));
    return success();
  }

  LogicalResult split(moe::AttentionOp op) {
    auto out = copy(op);
    if (layout.attentionTp == 1)
      return success();
    moe::KvCacheOp cache = parts.weights.lookupCache(op.getCacheAttr());
    int64_t valueDim = cache.getValueDim();
    HeadShard shard = *headShardOf(op.getHeads(), cache.getKvHeads(), layout.attentionTp,
                                   layout.attentionShard(rank));
    out.setHeads(shard.query.size());
    out.setCacheAttr(parts.cache(op.getCacheAttr(), shard.kv.size()));
    if (op.getSinksAttr())
      out.setSinksAttr(parts.part(op.getSinksAttr(), attentionSuffix(),
                                  [&](TypedAttr whole) { return slice(whole, 0, shard.query); }));
    setWidth(out.getResult(), shard.query.size() * valueDim);
    setShare(op.getResult(), headColumns(shard.query, valueDim));
    return success();
  }

  /// Operations of latent attention over all heads, with a weight [heads, ...].
  template <typename Op> LogicalResult splitHeads(Op op) {
    auto out = copy(op);
    if (layout.attentionTp == 1)
      return success();
    ShardRange heads = headRange(op.getHeads());
    int64_t width = widthOf(op.getResult()) / op.getHeads();
    out.setWeightAttr(parts.part(op.getWeightAttr(), attentionSuffix(),
                                 [&](TypedAttr whole) { return slice(whole, 0, heads); }));
    out.setHeads(heads.size());
    setWidth(out.getResult(), heads.size() * width);
    setShare(op.getResult(), headColumns(heads, width));
    return success();
  }
  LogicalResult split(moe::LatentQueryOp op) { return splitHeads(op); }
  LogicalResult split(moe::AbsorbedAttentionOp op) { return splitHeads(op); }

  /// The latent attention's query that a projection makes, possibly by way of a temperature.
  static moe::LatentQueryOp latentQueryOf(Value value) {
    if (!value.hasOneUse())
      return {};
    Operation *user = *value.user_begin();
    if (auto temperature = dyn_cast<moe::TemperatureOp>(user))
      return latentQueryOf(temperature.getResult());
    return dyn_cast<moe::LatentQueryOp>(user);
  }

  LogicalResult split(moe::LinearOp op) {
    Share share = shareOf(op.getX());
    if (share.kind == Share::Columns)
      return splitColumns(op, share);
    if (failed(wantWhole(op)))
      return failure();
    auto out = copy(op);
    moe::LatentQueryOp query = latentQueryOf(op.getResult());
    if (query && layout.attentionTp > 1) {
      ShardRange heads = headRange(query.getHeads());
      int64_t width = widthOf(op.getResult()) / query.getHeads();
      ShardRange rows{heads.begin * width, heads.end * width};
      auto change = [&](TypedAttr whole) { return slice(whole, 0, rows); };
      out.setWeightAttr(parts.part(op.getWeightAttr(), attentionSuffix(), change));
      if (op.getBiasAttr())
        out.setBiasAttr(parts.part(op.getBiasAttr(), attentionSuffix(), change));
      setWidth(out.getResult(), rows.size());
      setShare(op.getResult(), headColumns(heads, width));
      return success();
    }
    Share whole;
    whole.gathered = share.gathered;
    setShare(op.getResult(), whole);
    return success();
  }

  LogicalResult splitColumns(moe::LinearOp op, const Share &share) {
    if (op.getSoftcap().convertToDouble() != 0)
      return op.emitOpError("bounds its result, which cannot be summed up over ranks");
    auto out = copy(op);
    auto index = llvm::find(share.ranks, rank) - share.ranks.begin();
    out.setWeightAttr(parts.part(op.getWeightAttr(),
                                 "shard" + Twine(index) + "of" + Twine(share.ranks.size()),
                                 [&](TypedAttr whole) { return slice(whole, 1, share.columns); }));
    if (!isFirst(share.ranks))
      out.removeBiasAttr();
    setShare(op.getResult(), summand(share.ranks, share.gathered));
    return success();
  }

  LogicalResult split(moe::NormOp op) {
    Share share = shareOf(op.getX());
    if (share.kind != Share::Columns || op.getGroups() == 1) {
      if (failed(wantWhole(op)))
        return failure();
      copy(op);
      setShare(op.getResult(),
               Share{Share::Whole, share.gathered && share.kind == Share::Whole, {}, {}});
      return success();
    }
    auto out = copy(op);
    out.setGroups(op.getGroups() * share.columns.size() / widthOf(op.getX()));
    setWidth(out.getResult(), share.columns.size());
    setShare(op.getResult(), share);
    return success();
  }

  LogicalResult split(moe::TemperatureOp op) {
    auto out = copy(op);
    out.getResult().setType(cast<RankedTensorType>(out.getX().getType()));
    setShare(op.getResult(), shareOf(op.getX()));
    return success();
  }

  LogicalResult split(moe::SigmoidGateOp op) {
    // A factor of the whole row: it may multiply columns and summands alike.
    if (failed(wantWhole(op, op.getX())))
      return failure();
    Share share = shareOf(op.getY());
    auto out =
        copyOver(op, share.gathered ? gather(op.getLoc(), op.getX()) : mapping.lookup(op.getX()));
    out.getResult().setType(cast<RankedTensorType>(out.getY().getType()));
    setShare(op.getResult(), share);
    return success();
  }

  LogicalResult split(moe::ResidualOp op) {
    Share a = shareOf(op.getResidual()), b = shareOf(op.getDelta());
    bool bothOpen = a.kind == Share::Summand && b.kind == Share::Summand && a.ranks == b.ranks &&
                    a.gathered == b.gathered;
    if (!bothOpen && failed(wantWhole(op)))
      return failure();
    copy(op);
    setShare(op.getResult(), bothOpen ? a : Share());
    return success();
  }

  LogicalResult split(moe::SelectRowsOp op) {
    if (failed(wantWhole(op)))
      return failure();
    auto out = copy(op);
    if (layout.dp > 1) {
      // Every rank computes the logits of all groups, so that every rank knows what was sampled.
      mapping.map(op.getResult(),
                  moe::AllGatherOp::create(builder, op.getLoc(), out.getType(), out.getResult(),
                                           layout.columnRanks(rank)));
      setShare(op.getResult(), Share{Share::Whole, true, {}, {}});
    }
    return success();
  }

  LogicalResult split(moe::SampleOp op) {
    copy(op);
    return success();
  }

  //===--- Feed-forward parts -------------------------------------------------===//

  /// The expert groups of a router's placement, without empty slots.
  FailureOr<SmallVector<SmallVector<int64_t>>> groupsOf(moe::RouterOp op) {
    int64_t experts = parts.weights.shape(op.getWeightAttr())[0];
    SmallVector<SmallVector<int64_t>> groups;
    if (DictionaryAttr placement = op.getPlacementAttr()) {
      for (auto slots : placement.getAs<ArrayAttr>("slots").getAsRange<DenseI64ArrayAttr>()) {
        SmallVector<int64_t> &held = groups.emplace_back();
        llvm::copy_if(slots.asArrayRef(), std::back_inserter(held),
                      [](int64_t expert) { return expert >= 0; });
      }
    } else if (layout.ep == 1) {
      groups.push_back(llvm::to_vector<6>(llvm::seq<int64_t>(0, experts)));
    }
    if (int64_t(groups.size()) != layout.ep)
      return op.emitOpError("has a placement over ")
             << groups.size() << " groups, but moe.parallel has ep = " << layout.ep
             << "; run --sluice-place-experts with as many groups";
    for (auto [index, group] : llvm::enumerate(groups))
      if (group.empty())
        return op.emitOpError("places no expert on group ")
               << index << "; every group must hold at least one";
    return groups;
  }

  LogicalResult split(moe::RouterOp op) {
    if (failed(wantWhole(op)))
      return failure();
    auto groups = groupsOf(op);
    if (failed(groups))
      return failure();
    auto out = copyOver(op, gather(op.getLoc(), op.getX()));
    out.removePlacementAttr();
    ArrayRef<int64_t> own = (*groups)[layout.expertGroup(rank)];
    slots[op.getDispatch()].assign(own.begin(), own.end());
    int64_t experts = parts.weights.shape(op.getWeightAttr())[0];
    if (groups->size() == 1 && llvm::equal(own, llvm::seq<int64_t>(0, experts)))
      return success();
    SmallVector<Attribute> lists;
    for (ArrayRef<int64_t> group : *groups)
      lists.push_back(builder.getDenseI64ArrayAttr(group));
    mapping.map(op.getDispatch(),
                moe::AssignSlotsOp::create(builder, op.getLoc(), op.getDispatch().getType(),
                                           out.getIds(), layout.expertGroup(rank),
                                           builder.getArrayAttr(lists)));
    return success();
  }

  std::string expertSuffix() const {
    std::string out;
    if (layout.ep > 1)
      out = ("group" + Twine(layout.expertGroup(rank)) + "of" + Twine(layout.ep)).str();
    if (layout.tp > 1)
      out += ((out.empty() ? "" : "_") + Twine("shard") + Twine(layout.expertShard(rank)) + "of" +
              Twine(layout.tp))
                 .str();
    return out.empty() ? "slots" : out;
  }

  /// The rank's part of an expert's width; refuses one that cuts scale blocks of `down`.
  FailureOr<ShardRange> expertWidth(Operation *op, FlatSymbolRefAttr down, int64_t width) {
    auto shard = [&](int64_t index) { return shardOf(width, layout.tp, index); };
    for (int64_t i = 0; i < layout.tp; ++i) {
      if (shard(i).size() == 0)
        return op->emitOpError("cannot split an expert's width ")
               << width << " over tp = " << layout.tp << " ranks; lower tp and raise ep";
      if (cutsScales(parts.weights.expr(down), shard(i))) {
        int64_t group = splitQuantized(parts.weights.expr(down))->group;
        return op->emitOpError("cannot split an expert's width ")
               << width << " over tp = " << layout.tp << " ranks: " << down
               << " has a scale for every " << group << " columns, and the part [" << shard(i).begin
               << ", " << shard(i).end << ") cuts such a block; use a tp that divides the "
               << width / group << " blocks, or raise ep";
      }
    }
    return shard(layout.expertShard(rank));
  }

  /// The down product of the experts whose hidden rows an operation makes.
  static moe::ExpertsDownOp downOf(moe::ExpertsGateUpOp op) {
    for (Operation *user : op.getResult().getUsers())
      if (auto down = dyn_cast<moe::ExpertsDownOp>(user))
        return down;
    return {};
  }

  LogicalResult split(moe::ExpertsGateUpOp op) {
    if (failed(wantWhole(op, op.getX())))
      return failure();
    auto down = downOf(op);
    if (!down)
      return op.emitOpError("feeds no moe.experts_down, so that its rows cannot be split");
    FailureOr<ShardRange> width = expertWidth(op, down.getWeightAttr(), widthOf(op.getResult()));
    if (failed(width))
      return failure();
    auto out = copyOver(op, gather(op.getLoc(), op.getX()));
    auto part = [&](TypedAttr whole) {
      return slice(take(whole, slots[op.getDispatch()]), 2, *width);
    };
    out.setWeightAttr(parts.part(op.getWeightAttr(), expertSuffix(), part));
    if (op.getBiasAttr())
      out.setBiasAttr(parts.part(op.getBiasAttr(), expertSuffix(), part));
    setWidth(out.getResult(), width->size());
    setShare(op.getResult(), {Share::Columns, layout.dp > 1, layout.allRanks(), *width});
    return success();
  }

  LogicalResult split(moe::ExpertsDownOp op) {
    Share share = shareOf(op.getH());
    auto out = copy(op);
    const SmallVector<int64_t> &own = slots[op.getDispatch()];
    out.setWeightAttr(parts.part(op.getWeightAttr(), expertSuffix(), [&](TypedAttr whole) {
      return slice(take(whole, own), 2, share.columns);
    }));
    if (layout.expertShard(rank) != 0)
      out.removeBiasAttr();
    else if (op.getBiasAttr())
      out.setBiasAttr(parts.part(op.getBiasAttr(), expertSuffix(),
                                 [&](TypedAttr whole) { return take(whole, own); }));
    setShare(op.getResult(), summand(share.ranks, share.gathered));
    return success();
  }

  /// Dense and shared parts are split over all ranks, or over the ranks of a group when their scale
  /// blocks do not allow that.
  LogicalResult split(moe::FfnGateUpOp op) {
    if (failed(wantWhole(op)))
      return failure();
    moe::LinearOp down = productOf(op.getResult());
    if (!down)
      return op.emitOpError("feeds no moe.linear, so that its rows cannot be split");
    int64_t width = widthOf(op.getResult());
    auto fits = [&](int64_t count) {
      return columnsSplit(parts.weights, down.getWeightAttr(), count,
                          [&](int64_t i) { return shardOf(width, count, i); });
    };
    bool overAll = fits(layout.ranks);
    int64_t count = overAll ? layout.ranks : largestDivisor(layout.groupSize(), fits);
    Ranks ranks = overAll ? layout.allRanks() : layout.shardRanks(rank, count);
    ShardRange range = shardOf(width, count, rank % count);
    bool gathered = overAll && layout.dp > 1;
    auto out = copyOver(op, gathered ? gather(op.getLoc(), op.getX()) : mapping.lookup(op.getX()));
    std::string suffix = ("shard" + Twine(rank % count) + "of" + Twine(count)).str();
    auto part = [&](TypedAttr whole) { return slice(whole, 1, range); };
    out.setWeightAttr(parts.part(op.getWeightAttr(), suffix, part));
    if (op.getBiasAttr())
      out.setBiasAttr(parts.part(op.getBiasAttr(), suffix, part));
    setWidth(out.getResult(), range.size());
    if (count > 1)
      setShare(op.getResult(), {Share::Columns, gathered, ranks, range});
    return success();
  }

  func::FuncOp step;
  const RankLayout &layout;
  const int64_t rank;
  Parts &parts;
  OpBuilder builder;
  IRMapping mapping;
  llvm::DenseMap<Value, Share> shares;               ///< by value of the model function
  llvm::DenseMap<Value, Value> gatheredRows;         ///< of all groups, by value of the model
  llvm::DenseMap<Value, SmallVector<int64_t>> slots; ///< experts held, by the router's order
};

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

struct PartitionRanksPass : impl::PartitionRanksBase<PartitionRanksPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto step = module.lookupSymbol<func::FuncOp>("step");
    if (!step) {
      module.emitError("no model function @step to partition");
      return signalPassFailure();
    }
    StringRef attrName = moe::MoeDialect::getParallelAttrName();
    RankLayout layout;
    auto parallel = module->getAttrOfType<DictionaryAttr>(attrName);
    if (parallel) {
      auto number = [&](StringRef key) { return parallel.getAs<IntegerAttr>(key).getInt(); };
      layout = {number("ranks"), number("tp"), number("ep"), number("dp"), 1};
    }
    Parts parts(module);
    layout.attentionTp = largestDivisor(layout.groupSize(), [&](int64_t count) {
      WalkResult result = step.walk([&](Operation *op) {
        return headsSplit(op, parts.weights, count) ? WalkResult::advance()
                                                    : WalkResult::interrupt();
      });
      return !result.wasInterrupted();
    });
    if (parallel) {
      NamedAttrList entries(parallel);
      entries.set("attention_tp", Builder(&getContext()).getI64IntegerAttr(layout.attentionTp));
      module->setAttr(attrName, entries.getDictionary(&getContext()));
    }
    for (int64_t rank = 0; rank < layout.ranks; ++rank)
      if (failed(RankPartitioner(step, layout, rank, parts).run()))
        return signalPassFailure();
    step.erase();
    eraseUnused(module);
  }

private:
  /// What was split leaves its whole behind.
  static void eraseUnused(ModuleOp module) {
    llvm::DenseSet<Attribute> used;
    for (auto func : module.getOps<func::FuncOp>())
      func.walk([&](Operation *op) {
        for (NamedAttribute attr : op->getAttrs())
          if (isa<FlatSymbolRefAttr>(attr.getValue()))
            used.insert(attr.getValue());
      });
    for (Operation &op : llvm::make_early_inc_range(*module.getBody()))
      if (isa<moe::WeightOp, moe::KvCacheOp>(op) &&
          !used.contains(FlatSymbolRefAttr::get(SymbolTable::getSymbolName(&op))))
        op.erase();
  }
};

} // namespace
} // namespace sluice
