//===- LaunchRecipes.cpp - From moe operations to launches ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One function per operation says which kernel family runs it, with which constants, and which
// value, weight or cache stands for which named argument. Everything else follows from the family's
// argument list: step inputs are bound by their names, scratch is a buffer of its own, arguments
// that nothing is bound to are absent. A wrong binding does not get far, because programs verify
// presence and size of every argument.
//
//===----------------------------------------------------------------------===//
#include "passes/Lowering/LaunchRecipes.h"

#include "passes/Analysis/QuantizedWeights.h"
#include "passes/Analysis/RopeFrequencies.h"
#include "runtime/artifact/StepAbi.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace sluice {
namespace {

/// Arguments that the host program fills, bound by their own names.
constexpr const char *hostArgs[] = {abi::kIoHeader,    abi::kIoTokenIds,  abi::kIoPositions,
                                    abi::kIoTokenSeq,  abi::kIoSeqStarts, abi::kIoKvLengths,
                                    abi::kIoPageTable, abi::kIoLogitRows, abi::kIoSampling};

/// The fusion that replaces an operation without a kernel; empty for any other operation.
StringRef fusionFor(Operation *op) {
  return TypeSwitch<Operation *, StringRef>(op)
      .Case<moe::ClampOp, moe::RopeOp, moe::TemperatureOp, moe::CacheAppendOp>(
          [](auto) { return "--sluice-fuse-qkv"; })
      .Case<moe::RouteOp>([](auto) { return "--sluice-fuse-router"; })
      .Case<moe::ExpertsOp, moe::FfnOp>([](auto) { return "--sluice-fuse-experts"; })
      .Default([](Operation *) { return ""; });
}

int64_t widthOf(Value rows) { return cast<RankedTensorType>(rows.getType()).getDimSize(1); }

// Enumerators of moe and abi have the same order (MoeDialect.td says so); only types differ.
template <typename To, typename From> To convertEnum(From value) { return To(int(value)); }

double toDouble(const APFloat &value) { return value.convertToDouble(); }

abi::GatedActivation toAbi(moe::ActivationAttr activation) {
  return {convertEnum<abi::Activation>(activation.getKind()), activation.getAlpha(),
          activation.getLimit()};
}

class StepReader {
public:
  StepReader(func::FuncOp func, plan::RankOp rank, RecipeContext &context)
      : func(func), rank(rank), context(context), rankSymbols(rank) {}

  FailureOr<StepRecipe> read() {
    if (failed(readSignature()))
      return failure();
    for (Operation &op : func.getBody().front().without_terminator())
      if (failed(readOp(&op)))
        return failure();
    if (routers > 0)
      declareIo(abi::kIoExpertCounts, routers * context.numExperts * 4);
    return std::move(recipe);
  }

private:
  using Binding = std::pair<StringRef, RecipeArg>;

  //===--------------------------------------------------------------------===//
  // Values
  //===--------------------------------------------------------------------===//

  /// (ids, batch) -> (logits, sampled ids): arguments and results are IO buffers.
  LogicalResult readSignature() {
    auto complain = [&]() {
      return func.emitOpError("must be a single block of the form (token ids : tensor<?xi32>, "
                              "batch : !moe.batch) -> (logits, sampled ids)");
    };
    FunctionType type = func.getFunctionType();
    if (!func.getBody().hasOneBlock() || type.getNumInputs() != 2 || type.getNumResults() != 2 ||
        !isa<RankedTensorType>(type.getInput(0)) || !isa<moe::BatchType>(type.getInput(1)))
      return complain();
    args[func.getArgument(0)] = ioArg(abi::kIoTokenIds);
    Operation *terminator = func.getBody().front().getTerminator();
    Value logits = terminator->getOperand(0), sampled = terminator->getOperand(1);
    if (!logits.getDefiningOp<moe::LinearOp>())
      return func.emitOpError("must return the result of a moe.linear as its logits");
    if (!sampled.getDefiningOp<moe::SampleOp>())
      return func.emitOpError("must return the result of a moe.sample as its sampled ids");
    args[logits] = ioArg(abi::kIoLogits);
    args[sampled] = ioArg(abi::kIoSampledIds);
    return success();
  }

  RecipeArg ioArg(StringRef name, int64_t offset = 0) {
    return {RecipeArg::Io, 0, StringAttr::get(func.getContext(), name), offset};
  }

  RecipeArg newTransient(std::string name) {
    recipe.transients.push_back(std::move(name));
    return {RecipeArg::Transient, unsigned(recipe.transients.size() - 1), {}, 0};
  }

  /// The buffer of a value that an earlier operation computed.
  RecipeArg use(Value value) { return args.at(value); }

  /// The buffer of a result: an IO buffer where the function returns it, else a new one.
  RecipeArg define(Value result, StringRef label, StringRef leaf) {
    auto [entry, isNew] = args.try_emplace(result);
    if (isNew)
      entry->second = newTransient((label + "." + leaf).str());
    return entry->second;
  }

  abi::RowSet rowsOf(Value value) const {
    return logitRows.contains(value) ? abi::RowSet::kLogitRows : abi::RowSet::kTokens;
  }

  //===--------------------------------------------------------------------===//
  // Declarations of the rank and the module
  //===--------------------------------------------------------------------===//

  /// Declarations stand in groups: weights, caches, IO buffers.
  template <typename... FollowingOps> OpBuilder before() {
    for (Operation &op : *rank.getBlock())
      if (isa<FollowingOps...>(op))
        return OpBuilder(&op);
    return OpBuilder::atBlockEnd(rank.getBlock());
  }

  void declareIo(StringRef name, int64_t bytes) {
    OpBuilder builder = OpBuilder::atBlockEnd(rank.getBlock());
    rankSymbols.insert(
        plan::IoOp::create(builder, func.getLoc(), name, uint64_t(bytes), IntegerAttr()));
  }

  /// The stored form of a model weight; `ref` may be null, for an absent argument.
  FailureOr<RecipeArg> weight(Operation *op, FlatSymbolRefAttr ref, StringRef layout,
                              StringRef format) {
    if (!ref)
      return RecipeArg();
    auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
    Builder attrs(op->getContext());
    Attribute key =
        attrs.getArrayAttr({ref, attrs.getStringAttr(layout), attrs.getStringAttr(format)});
    auto [entry, isNew] = weights.try_emplace(key);
    if (isNew) {
      auto shape = cast<RankedTensorType>(source.getType()).getShape();
      auto bytes = plan::weightBytes(layout, format, shape);
      if (!bytes.isOk())
        return op->emitOpError("cannot store weight ") << ref << ": " << bytes.status().message();
      // The first form of a weight keeps its name; further ones say how they differ.
      std::string name = ref.getValue().str();
      for (StringRef suffix : {layout, format})
        if (rankSymbols.lookup(name))
          name = (name + "." + suffix).str();
      if (format == "f32" && isQuantized(source.getValue()))
        source.emitRemark("quantised weight ")
            << ref << " is stored as " << *bytes << " bytes of f32 in layout " << layout
            << ": it cannot keep its codes there";
      OpBuilder builder = before<plan::CacheOp, plan::IoOp>();
      entry->second = rankSymbols.insert(plan::WeightOp::create(
          builder, source.getLoc(), name, ref.getValue(), layout, format, *bytes, IntegerAttr()));
    }
    return RecipeArg{RecipeArg::Weight, 0, entry->second, 0};
  }

  /// Norm weights, biases and other vectors are stored as float32.
  FailureOr<RecipeArg> vector(Operation *op, FlatSymbolRefAttr ref) {
    return weight(op, ref, "row_major", "f32");
  }

  /// The name of an element type in plans; reports types that no kernel reads.
  FailureOr<std::string> formatOf(Operation *op, Type element, StringRef what) {
    if (element.isF32())
      return std::string("f32");
    if (element.isBF16())
      return std::string("bf16");
    if (element.isF16())
      return std::string("f16");
    return op->emitOpError("has ")
           << what << " of element type " << element << "; kernels take f32, bf16 and f16";
  }
  /// The format of a packed weight: that of its codes when it is quantised and still can be.
  FailureOr<std::string> formatOf(Operation *op, FlatSymbolRefAttr ref) {
    auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
    if (std::optional<QuantizedParts> parts = splitQuantized(source.getValue()))
      return parts->format;
    return numbersFormatOf(op, ref);
  }
  FailureOr<std::string> numbersFormatOf(Operation *op, FlatSymbolRefAttr ref) {
    auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
    return formatOf(op, cast<RankedTensorType>(source.getType()).getElementType(),
                    ("weight " + ref.getValue()).str());
  }
  ArrayRef<int64_t> shapeOf(FlatSymbolRefAttr ref) const {
    auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
    return cast<RankedTensorType>(source.getType()).getShape();
  }

  /// Keys or values of a cache, sized by the first kernel that takes them.
  RecipeArg cache(moe::KvCacheOp source, bool keys, uint64_t bytes) {
    std::string name = (source.getSymName() + (keys ? ".keys" : ".values")).str();
    if (!rankSymbols.lookup(name)) {
      OpBuilder builder = before<plan::IoOp>();
      rankSymbols.insert(
          plan::CacheOp::create(builder, source.getLoc(), name, bytes, IntegerAttr()));
    }
    return {RecipeArg::Cache, 0, StringAttr::get(func.getContext(), name), 0};
  }

  FlatSymbolRefAttr kernel(const abi::FamilyParams &params) {
    StringRef family = abi::familyName(params);
    Builder attrs(func.getContext());
    Attribute key = attrs.getArrayAttr(
        {attrs.getStringAttr(family), plan::paramsToAttr(func.getContext(), params)});
    auto [entry, isNew] = context.kernels.try_emplace(key);
    if (isNew) {
      std::string name = (family + "_" + Twine(context.kernelsOfFamily[family]++)).str();
      OpBuilder builder(context.anchor);
      auto op = plan::KernelOp::create(builder, func.getLoc(), name, params);
      entry->second = FlatSymbolRefAttr::get(context.symbols.insert(op));
    }
    return entry->second;
  }

  /// The table of a rotation as a constant weight, and the parameters that go with it.
  FailureOr<std::pair<FlatSymbolRefAttr, abi::RopeParams>> rope(Operation *op, moe::RopeAttr attr) {
    if (!attr)
      return std::pair(FlatSymbolRefAttr(), abi::RopeParams());
    RopeQuestion question{attr.getDim(),
                          attr.getBase().getValueAsDouble(),
                          context.maxPosition,
                          context.maxSeqLen,
                          {}};
    if (DictionaryAttr scaling = attr.getScaling())
      for (NamedAttribute entry : scaling)
        readScaling(entry, question.scaling);
    auto tables = ropeFrequencies(question);
    if (!tables.isOk())
      return op->emitOpError() << tables.status().message();

    int64_t half = attr.getDim() / 2, count = tables->tables.size();
    SmallVector<float> values;
    for (const std::vector<float> &table : tables->tables)
      llvm::append_range(values, table);
    auto type = RankedTensorType::get({count, half}, Float32Type::get(op->getContext()));
    auto value = DenseElementsAttr::get(type, ArrayRef<float>(values));
    auto [entry, isNew] = context.ropeTables.try_emplace(value);
    if (isNew) {
      OpBuilder builder(context.anchor);
      auto table = moe::WeightOp::create(builder, op->getLoc(), "rope", type, value);
      entry->second = FlatSymbolRefAttr::get(context.symbols.insert(table));
    }
    abi::RopeParams params{attr.getDim(), attr.getOffset(),     attr.getInterleaved(),
                           count,         tables->switchLength, tables->magnitude};
    return std::pair(entry->second, params);
  }

  static void readScaling(NamedAttribute entry, RopeScaling &scaling) {
    std::string name = entry.getName().str();
    auto number = [](Attribute attr) -> std::optional<double> {
      if (auto value = dyn_cast<FloatAttr>(attr))
        return value.getValueAsDouble();
      if (auto value = dyn_cast<BoolAttr>(attr))
        return value.getValue();
      if (auto value = dyn_cast<IntegerAttr>(attr))
        return double(value.getInt());
      return std::nullopt;
    };
    if (auto text = dyn_cast<StringAttr>(entry.getValue())) {
      if (name == "rope_type")
        scaling.type = text.str();
    } else if (auto list = dyn_cast<DenseF64ArrayAttr>(entry.getValue())) {
      scaling.lists[name].assign(list.asArrayRef().begin(), list.asArrayRef().end());
    } else if (auto list = dyn_cast<ArrayAttr>(entry.getValue())) {
      for (Attribute element : list)
        scaling.lists[name].push_back(number(element).value_or(0));
    } else if (std::optional<double> value = number(entry.getValue())) {
      scaling.numbers[name] = *value;
    }
  }

  //===--------------------------------------------------------------------===//
  // Launches
  //===--------------------------------------------------------------------===//

  /// Appends the launch of a kernel with `bound` arguments.
  LogicalResult launch(Operation *op, const abi::FamilyParams &params, StringRef label,
                       ArrayRef<Binding> bound) {
    auto checked = abi::fromParams(abi::familyName(params), abi::toParams(params));
    if (!checked.isOk())
      return op->emitOpError("cannot be launched: ") << checked.status().message();
    LaunchRecipe out{op->getLoc(), kernel(params), params, {}, label.str()};
    for (const abi::ArgSpec &spec : abi::familyArgs(params)) {
      auto found = llvm::find_if(bound, [&](const Binding &b) { return b.first == spec.name; });
      if (found != bound.end())
        out.args.push_back(found->second);
      else if (llvm::is_contained(hostArgs, StringRef(spec.name)))
        out.args.push_back(ioArg(spec.name));
      else if (spec.access == abi::ArgAccess::kScratch)
        out.args.push_back(newTransient((label + "." + spec.name).str()));
      else
        out.args.emplace_back();
    }
    recipe.launches.push_back(std::move(out));
    return success();
  }

  LogicalResult readOp(Operation *op) {
    if (StringRef fusion = fusionFor(op); !fusion.empty())
      return op->emitOpError("has no kernel of its own; run ") << fusion << " before lowering";
    for (Value result : op->getResults())
      if (op->getNumOperands() > 0 && logitRows.contains(op->getOperand(0)))
        logitRows.insert(result);
    if (!isa<moe::NormOp, moe::LinearOp, moe::SampleOp>(op))
      for (Value operand : op->getOperands())
        if (logitRows.contains(operand))
          return op->emitOpError("has no kernel over the rows that moe.select_rows chose; only "
                                 "norm, linear and sample have");
    return TypeSwitch<Operation *, LogicalResult>(op)
        .Case<moe::EmbeddingOp, moe::NormOp, moe::LinearOp, moe::ResidualOp, moe::SelectRowsOp,
              moe::SampleOp, moe::AttentionOp, moe::ResidualNormOp, moe::QkvOp, moe::RouterOp,
              moe::ExpertsGateUpOp, moe::ExpertsDownOp, moe::FfnGateUpOp>(
            [&](auto typed) { return lower(typed); })
        .Default([](Operation *other) {
          return other->emitOpError("has no kernel family; no kernel of this build runs it");
        });
  }

  LogicalResult lower(moe::EmbeddingOp op) {
    FailureOr<std::string> format = numbersFormatOf(op, op.getTableAttr());
    if (failed(format))
      return failure();
    FailureOr<RecipeArg> table = weight(op, op.getTableAttr(), "row_major", *format);
    if (failed(table))
      return failure();
    StringRef label = op.getTable();
    abi::EmbeddingParams params{shapeOf(op.getTableAttr())[0], widthOf(op.getResult()), *format,
                                toDouble(op.getMultiplier())};
    return launch(op, params, label,
                  {{"token_ids", use(op.getIds())},
                   {"table", *table},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::NormOp op) {
    FailureOr<RecipeArg> scale = vector(op, op.getWeightAttr()),
                         bias = vector(op, op.getBiasAttr());
    if (failed(scale) || failed(bias))
      return failure();
    std::string label = op.getWeight() ? op.getWeight()->str() : labelAfter(op.getX(), "norm");
    abi::NormParams params{convertEnum<abi::NormKind>(op.getKind()),
                           rowsOf(op.getX()),
                           widthOf(op.getX()),
                           int64_t(op.getGroups()),
                           toDouble(op.getEps()),
                           op.getBiasAttr() != nullptr};
    return launch(op, params, label,
                  {{"x", use(op.getX())},
                   {"weight", *scale},
                   {"bias", *bias},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::ResidualNormOp op) {
    FailureOr<RecipeArg> scale = vector(op, op.getWeightAttr()),
                         bias = vector(op, op.getBiasAttr());
    if (failed(scale) || failed(bias))
      return failure();
    StringRef label = op.getWeight();
    abi::ResidualNormParams params{convertEnum<abi::NormKind>(op.getKind()),
                                   widthOf(op.getResidual()), toDouble(op.getEps()),
                                   toDouble(op.getMultiplier()), op.getBiasAttr() != nullptr};
    return launch(op, params, label,
                  {{"residual", use(op.getResidual())},
                   {"delta", use(op.getDelta())},
                   {"weight", *scale},
                   {"bias", *bias},
                   {"residual_out", define(op.getSum(), label, "residual")},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::ResidualOp op) {
    std::string label = labelAfter(op.getDelta(), "residual");
    abi::ResidualParams params{widthOf(op.getResidual()), toDouble(op.getMultiplier())};
    return launch(op, params, label,
                  {{"a", use(op.getResidual())},
                   {"b", use(op.getDelta())},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::LinearOp op) {
    FailureOr<std::string> format = formatOf(op, op.getWeightAttr());
    FailureOr<RecipeArg> bias = vector(op, op.getBiasAttr());
    if (failed(format) || failed(bias))
      return failure();
    FailureOr<RecipeArg> packed = weight(op, op.getWeightAttr(), "panel16", *format);
    if (failed(packed))
      return failure();
    StringRef label = op.getWeight();
    abi::LinearParams params{
        widthOf(op.getResult()),  widthOf(op.getX()),          *format,
        rowsOf(op.getX()),        op.getBiasAttr() != nullptr, toDouble(op.getScale()),
        toDouble(op.getSoftcap())};
    return launch(op, params, label,
                  {{"x", use(op.getX())},
                   {"weight", *packed},
                   {"bias", *bias},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::SelectRowsOp op) {
    logitRows.insert(op.getResult());
    abi::GatherRowsParams params{widthOf(op.getX())};
    return launch(op, params, "select_rows",
                  {{"x", use(op.getX())}, {"out", define(op.getResult(), "select_rows", "out")}});
  }

  LogicalResult lower(moe::SampleOp op) {
    if (!logitRows.contains(op.getLogits()))
      return op.emitOpError("samples from rows of all tokens; moe.select_rows must choose the rows "
                            "with wanted logits before the head");
    abi::SampleParams params{widthOf(op.getLogits())};
    return launch(op, params, "sample",
                  {{"logits", use(op.getLogits())},
                   {"sampled_ids", define(op.getResult(), "sample", "ids")}});
  }

  LogicalResult lower(moe::QkvOp op) {
    auto source = context.symbols.lookup<moe::KvCacheOp>(op.getCacheAttr().getAttr());
    FailureOr<std::string> format = formatOf(op, op.getWeightAttr());
    FailureOr<std::string> cacheType = formatOf(op, source.getType(), "a cache");
    auto table = rope(op, op.getRopeAttr());
    if (failed(format) || failed(cacheType) || failed(table))
      return failure();
    FailureOr<RecipeArg> packed = weight(op, op.getWeightAttr(), "panel16", *format);
    FailureOr<RecipeArg> bias = vector(op, op.getBiasAttr());
    FailureOr<RecipeArg> qNorm = vector(op, op.getQNormAttr()),
                         kNorm = vector(op, op.getKNormAttr());
    FailureOr<RecipeArg> frequencies = vector(op, table->first);
    for (const FailureOr<RecipeArg> &arg : {packed, bias, qNorm, kNorm, frequencies})
      if (failed(arg))
        return failure();

    abi::QkvParams params;
    params.k = widthOf(op.getX());
    params.qHeads = op.getHeads();
    params.kvHeads = source.getKvHeads();
    params.headDim = source.getHeadDim();
    params.valueDim = source.getValueDim();
    params.format = *format;
    params.cacheType = *cacheType;
    params.bias = op.getBiasAttr() != nullptr;
    params.clip = toDouble(op.getClip());
    params.qkNorm = convertEnum<abi::QkNorm>(op.getQkNorm());
    params.eps = toDouble(op.getEps());
    params.rope = table->second;
    params.tempScale = toDouble(op.getTemperatureScale());
    params.tempFloor = toDouble(op.getTemperatureFloor());
    FailureOr<std::pair<RecipeArg, RecipeArg>> caches = cachesOf(op, source, params);
    if (failed(caches))
      return failure();
    StringRef label = op.getWeight();
    return launch(op, params, label,
                  {{"x", use(op.getX())},
                   {"weight", *packed},
                   {"bias", *bias},
                   {"q_norm", *qNorm},
                   {"k_norm", *kNorm},
                   {"rope", *frequencies},
                   {"q", define(op.getQuery(), label, "q")},
                   {"k_cache", caches->first},
                   {"v_cache", caches->second}});
  }

  LogicalResult lower(moe::AttentionOp op) {
    auto source = context.symbols.lookup<moe::KvCacheOp>(op.getCacheAttr().getAttr());
    FailureOr<std::string> cacheType = formatOf(op, source.getType(), "a cache");
    FailureOr<RecipeArg> sinks = vector(op, op.getSinksAttr());
    if (failed(cacheType) || failed(sinks))
      return failure();
    abi::AttentionParams params;
    params.qHeads = op.getHeads();
    params.kvHeads = source.getKvHeads();
    params.headDim = source.getHeadDim();
    params.valueDim = source.getValueDim();
    params.cacheType = *cacheType;
    params.scale = toDouble(op.getScale());
    params.softcap = toDouble(op.getSoftcap());
    params.window = op.getWindow();
    params.chunk = op.getChunk();
    params.sinks = op.getSinksAttr() != nullptr;
    FailureOr<std::pair<RecipeArg, RecipeArg>> caches = cachesOf(op, source, params);
    if (failed(caches))
      return failure();
    std::string label = parentOf(op.getCache()) + "attention";
    return launch(op, params, label,
                  {{"q", use(op.getQuery())},
                   {"k_cache", caches->first},
                   {"v_cache", caches->second},
                   {"sinks", *sinks},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::RouterOp op) {
    FailureOr<std::string> format = formatOf(op, op.getWeightAttr());
    FailureOr<RecipeArg> bias = vector(op, op.getBiasAttr());
    FailureOr<RecipeArg> correction = vector(op, op.getCorrectionAttr());
    if (failed(format) || failed(bias) || failed(correction))
      return failure();
    FailureOr<RecipeArg> packed = weight(op, op.getWeightAttr(), "panel16", *format);
    if (failed(packed))
      return failure();
    int64_t experts = shapeOf(op.getWeightAttr())[0];
    if (experts != context.numExperts)
      return op.emitOpError("routes to ")
             << experts << " experts, but moe.model has num_experts = " << context.numExperts;
    moe::RoutingAttr routing = op.getRouting();
    abi::RouterParams params;
    params.hidden = widthOf(op.getX());
    params.experts = experts;
    params.topK = routing.getTopK();
    params.format = *format;
    params.bias = op.getBiasAttr() != nullptr;
    params.correction = op.getCorrectionAttr() != nullptr;
    params.score = convertEnum<abi::ScoreFunction>(routing.getScore());
    params.scoreFirst = routing.getScoreFirst();
    params.renormalize = routing.getRenormalize();
    params.epsilon = routing.getEpsilon();
    params.scale = routing.getScale();
    params.groups = routing.getGroups();
    params.topkGroup = routing.getTopkGroup();
    params.groupScore = convertEnum<abi::GroupScore>(routing.getGroupScore());
    params.sparseMixer = routing.getSparseMixer();
    params.jitter = routing.getJitter();

    StringRef label = op.getWeight();
    Dispatch &dispatch = dispatches[op.getDispatch()];
    dispatch = {newTransient((label + ".offsets").str()), newTransient((label + ".order").str()),
                newTransient((label + ".inverse").str()), experts, routing.getTopK()};
    RecipeArg counts = ioArg(abi::kIoExpertCounts, routers++ * experts * 4);
    return launch(op, params, label,
                  {{"x", use(op.getX())},
                   {"weight", *packed},
                   {"bias", *bias},
                   {"correction", *correction},
                   {"ids", define(op.getIds(), label, "ids")},
                   {"weights", define(op.getWeights(), label, "weights")},
                   {"offsets", dispatch.offsets},
                   {"order", dispatch.order},
                   {"inverse", dispatch.inverse},
                   {"counts", counts}});
  }

  LogicalResult lower(moe::ExpertsGateUpOp op) {
    FailureOr<std::string> format = formatOf(op, op.getWeightAttr());
    FailureOr<RecipeArg> bias = vector(op, op.getBiasAttr());
    if (failed(format) || failed(bias))
      return failure();
    FailureOr<RecipeArg> packed = weight(op, op.getWeightAttr(), "gate_up_panel16", *format);
    if (failed(packed))
      return failure();
    const Dispatch &dispatch = dispatches.at(op.getDispatch());
    abi::ExpertsGateUpParams params;
    params.experts = dispatch.experts;
    params.topK = dispatch.topK;
    params.n = widthOf(op.getResult());
    params.k = widthOf(op.getX());
    params.format = *format;
    params.bias = op.getBiasAttr() != nullptr;
    params.weightOnInput = op.getWeightOnInput();
    params.act = toAbi(op.getActivation());
    StringRef label = op.getWeight();
    return launch(op, params, label,
                  {{"x", use(op.getX())},
                   {"offsets", dispatch.offsets},
                   {"order", dispatch.order},
                   {"weights", use(op.getWeights())},
                   {"weight", *packed},
                   {"bias", *bias},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::ExpertsDownOp op) {
    FailureOr<std::string> format = formatOf(op, op.getWeightAttr());
    FailureOr<RecipeArg> bias = vector(op, op.getBiasAttr());
    if (failed(format) || failed(bias))
      return failure();
    FailureOr<RecipeArg> packed = weight(op, op.getWeightAttr(), "panel16", *format);
    if (failed(packed))
      return failure();
    const Dispatch &dispatch = dispatches.at(op.getDispatch());
    abi::ExpertsDownParams params;
    params.experts = dispatch.experts;
    params.topK = dispatch.topK;
    params.n = widthOf(op.getResult());
    params.k = widthOf(op.getH());
    params.format = *format;
    params.bias = op.getBiasAttr() != nullptr;
    params.weightOnInput = op.getWeightOnInput();
    StringRef label = op.getWeight();
    return launch(op, params, label,
                  {{"h", use(op.getH())},
                   {"offsets", dispatch.offsets},
                   {"order", dispatch.order},
                   {"inverse", dispatch.inverse},
                   {"weights", use(op.getWeights())},
                   {"weight", *packed},
                   {"bias", *bias},
                   {"out", define(op.getResult(), label, "out")}});
  }

  LogicalResult lower(moe::FfnGateUpOp op) {
    FailureOr<std::string> format = formatOf(op, op.getWeightAttr());
    FailureOr<RecipeArg> bias = vector(op, op.getBiasAttr());
    if (failed(format) || failed(bias))
      return failure();
    FailureOr<RecipeArg> packed = weight(op, op.getWeightAttr(), "gate_up_panel16", *format);
    if (failed(packed))
      return failure();
    StringRef label = op.getWeight();
    abi::FfnGateUpParams params{widthOf(op.getResult()), widthOf(op.getX()), *format,
                                op.getBiasAttr() != nullptr, toAbi(op.getActivation())};
    return launch(op, params, label,
                  {{"x", use(op.getX())},
                   {"weight", *packed},
                   {"bias", *bias},
                   {"out", define(op.getResult(), label, "out")}});
  }

  /// Key and value buffers of a cache, with the sizes that the kernel states.
  FailureOr<std::pair<RecipeArg, RecipeArg>> cachesOf(Operation *op, moe::KvCacheOp source,
                                                      const abi::FamilyParams &params) {
    auto bytes = abi::familyArgBytes(params, context.largest);
    if (!bytes.isOk())
      return op->emitOpError("cannot be launched: ") << bytes.status().message();
    RecipeArg keys, values;
    for (auto [spec, size] : llvm::zip(abi::familyArgs(params), *bytes)) {
      if (StringRef(spec.name) == "k_cache")
        keys = cache(source, true, size);
      else if (StringRef(spec.name) == "v_cache")
        values = cache(source, false, size);
    }
    return std::pair(keys, values);
  }

  /// "layers.0.attn." of "layers.0.attn.kv"; empty for a name without dots.
  static std::string parentOf(StringRef name) {
    size_t dot = name.rfind('.');
    return dot == StringRef::npos ? "" : name.take_front(dot + 1).str();
  }

  /// A label for an operation without a weight: next to the launch that made its operand.
  std::string labelAfter(Value operand, StringRef leaf) {
    RecipeArg arg = use(operand);
    if (arg.kind != RecipeArg::Transient)
      return leaf.str();
    std::string producer = parentOf(recipe.transients[arg.transient]);
    return parentOf(StringRef(producer).drop_back()) + leaf.str();
  }

  struct Dispatch {
    RecipeArg offsets, order, inverse;
    int64_t experts = 0, topK = 0;
  };

  func::FuncOp func;
  plan::RankOp rank;
  RecipeContext &context;
  SymbolTable rankSymbols;
  StepRecipe recipe;
  llvm::DenseMap<Value, RecipeArg> args;
  llvm::DenseMap<Value, Dispatch> dispatches;
  llvm::DenseMap<Attribute, StringAttr> weights;
  llvm::DenseSet<Value> logitRows;
  int64_t routers = 0;
};

} // namespace

FailureOr<StepRecipe> readStep(func::FuncOp func, plan::RankOp rank, RecipeContext &context) {
  return StepReader(func, rank, context).read();
}

} // namespace sluice
