//===- LowerMoeToPlan.cpp - Functions of ranks -> programs of buckets -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Reads every rank's function once into recipes (LaunchRecipes.h) and writes them out for every
// bucket with that bucket's sizes. Views of weights, caches and IO buffers stand right before their
// first use, so that a program reads from top to bottom.
//
//===----------------------------------------------------------------------===//
#include "passes/Lowering/LaunchRecipes.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_LOWERMOETOPLAN
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// Writes the program of one bucket.
class ProgramWriter {
public:
  ProgramWriter(plan::RankOp rank, const SymbolTable &rankSymbols, const StepRecipe &recipe,
                int64_t tokens, const abi::StepDims &dims)
      : rankSymbols(rankSymbols), recipe(recipe), dims(dims),
        builder(OpBuilder::atBlockEnd(rank.getBlock())), transients(recipe.transients.size()) {
    auto program =
        plan::ProgramOp::create(builder, rank.getLoc(), ("tokens" + Twine(tokens)).str(), tokens);
    builder.setInsertionPointToEnd(program.getBlock());
  }

  LogicalResult write() {
    for (const auto &command : recipe.commands)
      if (failed(std::visit([&](const auto &one) { return write(one); }, command)))
        return failure();
    return success();
  }

private:
  LogicalResult write(const LaunchRecipe &launch) {
    auto [entry, isNew] = kernelBytes.try_emplace(launch.kernel);
    if (isNew) {
      auto bytes = abi::familyArgBytes(launch.params, dims);
      if (!bytes.isOk())
        return emitError(launch.loc) << bytes.status().message();
      entry->second = std::move(*bytes);
    }
    SmallVector<Value> args;
    for (auto [arg, bytes] : llvm::zip(launch.args, entry->second))
      args.push_back(bytes == 0 ? Value() : bufferOf(launch.loc, arg, bytes));
    plan::AsyncLaunchOp::create(builder, launch.loc, launch.kernel, args, /*stream=*/0,
                                launch.label);
    return success();
  }

  LogicalResult write(const CollectiveRecipe &collective) {
    int64_t rows = collective.rows == abi::RowSet::kTokens ? dims.tokens : dims.logitRows;
    int64_t bytes = rows * collective.width * int64_t(sizeof(float));
    Value source = bufferOf(collective.loc, collective.source, bytes);
    Value counts = bufferOf(collective.loc, collective.counts,
                            collective.ranks.size() * int64_t(sizeof(int32_t)));
    Value result = bufferOf(collective.loc, collective.result, bytes);
    plan::AsyncCollectiveOp::create(
        builder, collective.loc,
        plan::CollectiveKindAttr::get(builder.getContext(), collective.kind), source, result,
        TypeAttr::get(builder.getF32Type()), collective.ranks, IntegerAttr(), counts,
        counts ? builder.getI64IntegerAttr(collective.width) : IntegerAttr(),
        builder.getI64IntegerAttr(0), builder.getStringAttr(collective.label));
    return success();
  }

  plan::BufferType typeOf(int64_t bytes) {
    return plan::BufferType::get(builder.getContext(), bytes);
  }

  /// The buffer behind an argument that needs `bytes`; null when nothing is bound to it.
  Value bufferOf(Location loc, const RecipeArg &arg, int64_t bytes) {
    switch (arg.kind) {
    case RecipeArg::None:
      return {};
    case RecipeArg::Transient: {
      // The first launch that names it writes it, and so knows its size.
      Value &buffer = transients[arg.transient];
      if (!buffer)
        buffer = plan::AsyncTransientOp::create(builder, loc, typeOf(bytes),
                                                recipe.transients[arg.transient]);
      return buffer;
    }
    case RecipeArg::Weight: {
      Value &view = views[{arg.symbol, {0, 0}}];
      auto weight = rankSymbols.lookup<plan::WeightOp>(arg.symbol);
      if (!view)
        view = plan::AsyncWeightOp::create(builder, loc, typeOf(weight.getBytes()),
                                           arg.symbol.getValue());
      return view;
    }
    case RecipeArg::Cache: {
      Value &view = views[{arg.symbol, {0, 0}}];
      auto cache = rankSymbols.lookup<plan::CacheOp>(arg.symbol);
      if (!view)
        view = plan::AsyncCacheOp::create(builder, loc, typeOf(cache.getBytes()),
                                          arg.symbol.getValue());
      return view;
    }
    case RecipeArg::Io: {
      Value &view = views[{arg.symbol, {arg.offset, bytes}}];
      if (!view)
        view =
            plan::AsyncIoOp::create(builder, loc, typeOf(bytes), arg.symbol.getValue(), arg.offset);
      return view;
    }
    }
    llvm_unreachable("every kind of argument has a buffer");
  }

  const SymbolTable &rankSymbols;
  const StepRecipe &recipe;
  const abi::StepDims dims;
  OpBuilder builder;
  SmallVector<Value> transients;
  llvm::DenseMap<std::pair<StringAttr, std::pair<int64_t, int64_t>>, Value> views;
  llvm::DenseMap<Attribute, std::vector<uint64_t>> kernelBytes;
};

struct LowerMoeToPlanPass : impl::LowerMoeToPlanBase<LowerMoeToPlanPass> {
  void runOnOperation() override {
    if (failed(lower(getOperation())))
      signalPassFailure();
  }

private:
  LogicalResult lower(ModuleOp module) {
    auto buckets =
        module->getAttrOfType<DenseI64ArrayAttr>(plan::PlanDialect::getBucketsAttrName());
    if (!buckets)
      return module.emitError("cannot plan: module attribute '")
             << plan::PlanDialect::getBucketsAttrName()
             << "' is missing; run --sluice-choose-buckets first";
    auto model = module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getModelAttrName());
    auto limits = module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getLimitsAttrName());
    if (!model || !limits)
      return module.emitError("cannot plan: module attribute '")
             << (model ? moe::MoeDialect::getLimitsAttrName() : moe::MoeDialect::getModelAttrName())
             << "' is missing";
    auto number = [](DictionaryAttr dict, StringRef name) {
      return dict.getAs<IntegerAttr>(name).getInt();
    };
    int64_t maxTokens = number(limits, "max_batch_tokens");
    if (buckets.asArrayRef().back() != maxTokens)
      return module.emitError("cannot plan: the largest bucket has ")
             << buckets.asArrayRef().back() << " tokens, but max_batch_tokens = " << maxTokens;
    FailureOr<abi::StepDims> largest = plan::stepDims(module, maxTokens);
    auto stepBuffers = plan::stepBuffers(module, number(model, "vocab_size"));
    if (failed(largest) || failed(stepBuffers))
      return module.emitError("cannot plan: a limit in '")
             << moe::MoeDialect::getLimitsAttrName() << "' exceeds 2147483647, or the buffers of a "
             << "step exceed 2^62 bytes";

    SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
    if (functions.empty())
      return module.emitError("cannot plan: the module has no function of a rank");
    RecipeContext context(module, functions.front());
    context.largest = *largest;
    context.maxPosition = number(model, "max_position");
    context.maxSeqLen = number(limits, "max_seq_len");
    context.numExperts = number(model, "num_experts");
    for (func::FuncOp func : functions)
      if (failed(lower(func, buckets, *stepBuffers, context)))
        return failure();
    for (func::FuncOp func : functions)
      func.erase();
    for (auto cache : llvm::make_early_inc_range(module.getOps<moe::KvCacheOp>()))
      cache.erase();
    return success();
  }

  LogicalResult lower(func::FuncOp func, DenseI64ArrayAttr buckets,
                      ArrayRef<std::pair<StringRef, int64_t>> stepBuffers, RecipeContext &context) {
    StringRef rankName = moe::MoeDialect::getRankAttrName();
    auto number = func->getAttrOfType<IntegerAttr>(rankName);
    if (!number)
      return func.emitOpError("belongs to no rank: attribute '") << rankName << "' is missing";
    // Ranks follow the functions; the function gives up its name, which the rank takes over.
    std::string name = func.getSymName().str();
    context.symbols.remove(func);
    OpBuilder builder = OpBuilder::atBlockEnd(context.module.getBody());
    auto rank = plan::RankOp::create(builder, func.getLoc(), name, number.getInt());
    context.symbols.insert(rank, context.module.getBody()->end());

    builder.setInsertionPointToEnd(rank.getBlock());
    for (auto [buffer, bytes] : stepBuffers)
      plan::IoOp::create(builder, func.getLoc(), buffer, bytes, IntegerAttr());
    FailureOr<StepRecipe> recipe = readStep(func, rank, context);
    if (failed(recipe))
      return failure();
    SymbolTable rankSymbols(rank);
    for (int64_t tokens : buckets.asArrayRef()) {
      FailureOr<abi::StepDims> dims = plan::stepDims(context.module, tokens);
      assert(succeeded(dims) && "buckets ascend to max_batch_tokens");
      if (failed(ProgramWriter(rank, rankSymbols, *recipe, tokens, *dims).write()))
        return failure();
    }
    return success();
  }
};

} // namespace
} // namespace sluice
