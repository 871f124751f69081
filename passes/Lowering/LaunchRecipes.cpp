//===- LaunchRecipes.cpp - From moe operations to launches ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One function per operation (see StepReader.h) says which kernel family runs it, with which
// constants, and which value, weight or cache stands for which named argument. Everything else
// follows from the family's argument list: step inputs are bound by their names, scratch is a
// buffer of its own, arguments that nothing is bound to are absent. A wrong binding does not get
// far, because programs verify presence and size of every argument.
//
//===----------------------------------------------------------------------===//
#include "passes/Lowering/StepReader.h"

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
      .Case<moe::ClampOp>([](auto) { return "--sluice-fuse-qkv"; })
      .Case<moe::RopeOp, moe::CacheAppendOp>(
          [](auto) { return "--sluice-fuse-qkv or --sluice-fuse-latent-attention"; })
      .Case<moe::LatentAttentionOp>([](auto) { return "--sluice-fuse-latent-attention"; })
      .Case<moe::RouteOp>([](auto) { return "--sluice-fuse-router"; })
      .Case<moe::ExpertsOp, moe::FfnOp>([](auto) { return "--sluice-fuse-experts"; })
      .Default([](Operation *) { return ""; });
}

void readScaling(NamedAttribute entry, RopeScaling &scaling) {
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

} // namespace

FailureOr<StepRecipe> StepReader::read() {
  if (failed(readSignature()))
    return failure();
  for (Operation &op : func.getBody().front().without_terminator())
    if (failed(readOp(&op)))
      return failure();
  if (routers > 0)
    declareIo(abi::kIoExpertCounts, routers * context.numExperts * 4);
  return std::move(recipe);
}

LogicalResult StepReader::readSignature() {
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

RecipeArg StepReader::newTransient(std::string name) {
  recipe.transients.push_back(std::move(name));
  return {RecipeArg::Transient, unsigned(recipe.transients.size() - 1), {}, 0};
}

RecipeArg StepReader::define(Value result, StringRef label, StringRef leaf) {
  auto [entry, isNew] = args.try_emplace(result);
  if (isNew)
    entry->second = newTransient((label + "." + leaf).str());
  return entry->second;
}

void StepReader::declareIo(StringRef name, int64_t bytes) {
  OpBuilder builder = OpBuilder::atBlockEnd(rank.getBlock());
  rankSymbols.insert(
      plan::IoOp::create(builder, func.getLoc(), name, uint64_t(bytes), IntegerAttr()));
}

FailureOr<RecipeArg> StepReader::weight(Operation *op, FlatSymbolRefAttr ref, StringRef layout,
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

FailureOr<StepReader::Product> StepReader::productOf(Operation *op, FlatSymbolRefAttr weightRef,
                                                     FlatSymbolRefAttr biasRef, StringRef layout) {
  FailureOr<std::string> format = formatOf(op, weightRef);
  FailureOr<RecipeArg> bias = vector(op, biasRef);
  if (failed(format) || failed(bias))
    return failure();
  FailureOr<RecipeArg> packed = weight(op, weightRef, layout, *format);
  if (failed(packed))
    return failure();
  return Product{*format, *packed, *bias, biasRef != nullptr};
}

FailureOr<std::string> StepReader::formatOf(Operation *op, Type element, StringRef what) {
  if (element.isF32())
    return std::string("f32");
  if (element.isBF16())
    return std::string("bf16");
  if (element.isF16())
    return std::string("f16");
  return op->emitOpError("has ") << what << " of element type " << element
                                 << "; kernels take f32, bf16 and f16";
}

FailureOr<std::string> StepReader::formatOf(Operation *op, FlatSymbolRefAttr ref) {
  auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
  if (std::optional<QuantizedParts> parts = splitQuantized(source.getValue()))
    return parts->format;
  return numbersFormatOf(op, ref);
}

FailureOr<std::string> StepReader::numbersFormatOf(Operation *op, FlatSymbolRefAttr ref) {
  auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
  return formatOf(op, cast<RankedTensorType>(source.getType()).getElementType(),
                  ("weight " + ref.getValue()).str());
}

ArrayRef<int64_t> StepReader::shapeOf(FlatSymbolRefAttr ref) const {
  auto source = context.symbols.lookup<moe::WeightOp>(ref.getAttr());
  return cast<RankedTensorType>(source.getType()).getShape();
}

FlatSymbolRefAttr StepReader::kernel(const abi::FamilyParams &params) {
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

FailureOr<StepReader::Rope> StepReader::rope(Operation *op, moe::RopeAttr attr) {
  if (!attr)
    return Rope();
  RopeQuestion question{
      attr.getDim(), attr.getBase().getValueAsDouble(), context.maxPosition, context.maxSeqLen, {}};
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
  FailureOr<RecipeArg> frequencies = vector(op, entry->second);
  if (failed(frequencies))
    return failure();
  return Rope{*frequencies, params};
}

LogicalResult StepReader::launch(Operation *op, const abi::FamilyParams &params, StringRef label,
                                 ArrayRef<Binding> bound) {
  auto checked = abi::fromParams(abi::familyName(params), abi::toParams(params));
  if (!checked.isOk())
    return op->emitOpError("cannot be launched: ") << checked.status().message();
  LaunchRecipe out{op->getLoc(), kernel(params), params, {}, label.str()};
  for (const abi::ArgSpec &spec : abi::familyArgs(params)) {
    auto found = llvm::find_if(bound, [&](const Binding &b) { return b.first == spec.name; });
    if (found != bound.end())
      out.args.push_back(found->second);
    else if (spec.name == StringRef(abi::kIoHeader) && isGathered(op))
      out.args.push_back(ioArg(abi::kIoGlobalHeader));
    else if (llvm::is_contained(hostArgs, StringRef(spec.name)))
      out.args.push_back(ioArg(spec.name));
    else if (spec.access == abi::ArgAccess::kScratch)
      out.args.push_back(newTransient((label + "." + spec.name).str()));
    else
      out.args.emplace_back();
  }
  recipe.commands.emplace_back(std::move(out));
  return success();
}

LogicalResult StepReader::exchange(Operation *op, plan::CollectiveKind kind,
                                   ArrayRef<int64_t> ranks) {
  Value source = op->getOperand(0), result = op->getResult(0);
  auto type = cast<RankedTensorType>(source.getType());
  if (!type.getElementType().isF32())
    return op->emitOpError("exchanges rows of ") << type.getElementType() << "; plans exchange f32";
  bool counted = kind != plan::CollectiveKind::AllReduce;
  StringRef leaf = kind == plan::CollectiveKind::AllReduce   ? "reduce"
                   : kind == plan::CollectiveKind::AllGather ? "gather"
                                                             : "scatter";
  std::string label = labelAfter(source, leaf);
  RecipeArg from = use(source), to = define(result, label, "out"), counts;
  if (counted)
    counts = ioArg(rowsOf(source) == abi::RowSet::kTokens ? abi::kIoGroupTokens
                                                          : abi::kIoGroupLogitRows);
  recipe.commands.emplace_back(
      CollectiveRecipe{op->getLoc(), kind, from, to, counts, rowsOf(source), widthOf(source),
                       DenseI64ArrayAttr::get(op->getContext(), ranks), label});
  return success();
}

LogicalResult StepReader::lower(moe::AllReduceOp op) {
  return exchange(op, plan::CollectiveKind::AllReduce, op.getRanks());
}
LogicalResult StepReader::lower(moe::AllGatherOp op) {
  return exchange(op, plan::CollectiveKind::AllGather, op.getRanks());
}
LogicalResult StepReader::lower(moe::ReduceScatterOp op) {
  return exchange(op, plan::CollectiveKind::ReduceScatter, op.getRanks());
}

FailureOr<RecipeArg> StepReader::productInput(Operation *op, Value x, StringRef format,
                                              StringRef label) {
  auto activations =
      context.module->getAttrOfType<StringAttr>(moe::MoeDialect::getActivationsAttrName());
  // Feed-forward parts multiply float32: rounding there costs quality (docs/quantization.md).
  if (!activations || !format.starts_with("f8e4m3") || x.getDefiningOp<moe::FfnGateUpOp>())
    return use(x);
  auto [entry, isNew] = rounded.try_emplace(x);
  if (isNew) {
    RecipeArg out = newTransient((label + ".rounded").str());
    abi::RoundRowsParams params{widthOf(x), activations.getValue().str(), rowsOf(x)};
    if (failed(launch(op, params, (label + ".round").str(), {{"x", use(x)}, {"out", out}})))
      return failure();
    rounded[x] = out;
  }
  return rounded[x];
}

LogicalResult StepReader::readOp(Operation *op) {
  if (StringRef fusion = fusionFor(op); !fusion.empty())
    return op->emitOpError("has no kernel of its own; run ") << fusion << " before lowering";
  for (Value result : op->getResults())
    if (op->getNumOperands() > 0 && logitRows.contains(op->getOperand(0)))
      logitRows.insert(result);
  bool overAll = isa<moe::AllGatherOp>(op) || (isGathered(op) && !isa<moe::ReduceScatterOp>(op));
  if (overAll)
    gathered.insert(op->result_begin(), op->result_end());
  if (!isa<moe::NormOp, moe::LinearOp, moe::SampleOp, moe::AllGatherOp>(op))
    for (Value operand : op->getOperands())
      if (logitRows.contains(operand))
        return op->emitOpError("has no kernel over the rows that moe.select_rows chose; only "
                               "norm, linear, sample and all_gather have");
  return TypeSwitch<Operation *, LogicalResult>(op)
      .Case<moe::EmbeddingOp, moe::NormOp, moe::LinearOp, moe::ResidualOp, moe::SelectRowsOp,
            moe::SampleOp, moe::AttentionOp, moe::TemperatureOp, moe::ResidualNormOp, moe::QkvOp,
            moe::LatentQueryOp, moe::LatentAppendOp, moe::AbsorbedAttentionOp, moe::SigmoidGateOp,
            moe::RouterOp, moe::ExpertsGateUpOp, moe::ExpertsDownOp, moe::FfnGateUpOp,
            moe::AssignSlotsOp, moe::AllReduceOp, moe::AllGatherOp, moe::ReduceScatterOp>(
          [&](auto typed) { return lower(typed); })
      .Default([](Operation *other) {
        return other->emitOpError("has no kernel family; no kernel of this build runs it");
      });
}

LogicalResult StepReader::lower(moe::EmbeddingOp op) {
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

LogicalResult StepReader::lower(moe::NormOp op) {
  FailureOr<RecipeArg> scale = vector(op, op.getWeightAttr()), bias = vector(op, op.getBiasAttr());
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

LogicalResult StepReader::lower(moe::ResidualNormOp op) {
  FailureOr<RecipeArg> scale = vector(op, op.getWeightAttr()), bias = vector(op, op.getBiasAttr());
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

LogicalResult StepReader::lower(moe::ResidualOp op) {
  std::string label = labelAfter(op.getDelta(), "residual");
  abi::ResidualParams params{widthOf(op.getResidual()), toDouble(op.getMultiplier())};
  return launch(op, params, label,
                {{"a", use(op.getResidual())},
                 {"b", use(op.getDelta())},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::LinearOp op) {
  FailureOr<Product> product = productOf(op, op.getWeightAttr(), op.getBiasAttr());
  if (failed(product))
    return failure();
  StringRef label = op.getWeight();
  FailureOr<RecipeArg> x = productInput(op, op.getX(), product->format, label);
  if (failed(x))
    return failure();
  abi::LinearParams params{widthOf(op.getResult()),  widthOf(op.getX()), product->format,
                           rowsOf(op.getX()),        product->hasBias,   toDouble(op.getScale()),
                           toDouble(op.getSoftcap())};
  return launch(op, params, label,
                {{"x", *x},
                 {"weight", product->weight},
                 {"bias", product->bias},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::SelectRowsOp op) {
  logitRows.insert(op.getResult());
  abi::GatherRowsParams params{widthOf(op.getX())};
  return launch(op, params, "select_rows",
                {{"x", use(op.getX())}, {"out", define(op.getResult(), "select_rows", "out")}});
}

LogicalResult StepReader::lower(moe::SampleOp op) {
  if (!logitRows.contains(op.getLogits()))
    return op.emitOpError("samples from rows of all tokens; moe.select_rows must choose the rows "
                          "with wanted logits before the head");
  abi::SampleParams params{widthOf(op.getLogits())};
  return launch(
      op, params, "sample",
      {{"logits", use(op.getLogits())}, {"sampled_ids", define(op.getResult(), "sample", "ids")}});
}

std::string StepReader::parentOf(StringRef name) {
  size_t dot = name.rfind('.');
  return dot == StringRef::npos ? "" : name.take_front(dot + 1).str();
}

std::string StepReader::labelAfter(Value operand, StringRef leaf) {
  RecipeArg arg = use(operand);
  if (arg.kind != RecipeArg::Transient)
    return leaf.str();
  std::string producer = parentOf(recipe.transients[arg.transient]);
  return parentOf(StringRef(producer).drop_back()) + leaf.str();
}

FailureOr<StepRecipe> readStep(func::FuncOp func, plan::RankOp rank, RecipeContext &context) {
  return StepReader(func, rank, context).read();
}

} // namespace sluice
