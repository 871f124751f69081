//===- PlanOps.cpp - Assembly and accessors of `plan` -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The hand-written parts of the assembly. Programs are long, so what would be repeated is left out:
// kernel parameters print in the order of their family and without types, ranges without the
// attribute's own spelling, and a launch puts the bytes of a buffer next to it instead of types at
// the end of the line.
//
//===----------------------------------------------------------------------===//
#include "dialects/Plan/Plan.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <charconv>

using namespace mlir;

namespace sluice::plan {

//===----------------------------------------------------------------------===//
// Kernel parameters: (k = 256, eps = 1.0e-05, format = "bf16")
//===----------------------------------------------------------------------===//

static ParseResult parseKernelParams(OpAsmParser &parser, DictionaryAttr &params, StringAttr) {
  SmallVector<NamedAttribute> entries;
  auto parseEntry = [&]() -> ParseResult {
    SMLoc loc = parser.getCurrentLocation();
    std::string name;
    Attribute value;
    if (parser.parseKeywordOrString(&name) || parser.parseEqual() || parser.parseAttribute(value))
      return failure();
    for (NamedAttribute entry : entries)
      if (entry.getName() == name)
        return parser.emitError(loc, "parameter '") << name << "' is given twice";
    entries.push_back(parser.getBuilder().getNamedAttr(name, value));
    return success();
  };
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, parseEntry))
    return failure();
  params = parser.getBuilder().getDictionaryAttr(entries);
  return success();
}

/// The shortest decimal that reads back as `value`, in MLIR's syntax (which wants a point).
static std::string shortestDecimal(double value) {
  char buffer[32];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  assert(error == std::errc() && "a double takes at most 24 characters");
  StringRef text(buffer, end - buffer);
  size_t exponent = text.find('e');
  std::string out = text.take_front(exponent).str();
  if (!text.contains('.'))
    out += ".0";
  return exponent == StringRef::npos ? out : out + text.drop_front(exponent).str();
}

static void printKernelParams(OpAsmPrinter &printer, Operation *, DictionaryAttr params,
                              StringAttr family) {
  SmallVector<NamedAttribute> entries(params.getValue());
  if (auto parsed = paramsFromAttr(family.getValue(), params); parsed.isOk()) {
    entries.clear();
    for (const auto &[name, value] : abi::toParams(*parsed))
      entries.push_back(*params.getNamed(name));
  }
  printer << '(';
  llvm::interleaveComma(entries, printer.getStream(), [&](NamedAttribute entry) {
    printer << entry.getName().getValue() << " = ";
    auto number = dyn_cast<FloatAttr>(entry.getValue());
    auto integer = dyn_cast<IntegerAttr>(entry.getValue());
    if (number && number.getType().isF64() && std::isfinite(number.getValueAsDouble()))
      printer << shortestDecimal(number.getValueAsDouble());
    else if (integer && integer.getType().isSignlessInteger(64))
      printer << integer.getInt();
    else
      printer << entry.getValue();
  });
  printer << ')';
}

void KernelOp::build(OpBuilder &builder, OperationState &state, StringRef name,
                     const abi::FamilyParams &params) {
  build(builder, state, builder.getStringAttr(name), builder.getStringAttr(abi::familyName(params)),
        paramsToAttr(builder.getContext(), params));
}

Result<abi::FamilyParams> KernelOp::getFamilyParams() {
  return paramsFromAttr(getFamily(), getParams());
}

//===----------------------------------------------------------------------===//
// Ranges: arena[4096 for 8192]
//===----------------------------------------------------------------------===//

static ParseResult parseRangeOf(OpAsmParser &parser, StringRef slab, SMLoc loc, RangeAttr &range) {
  std::optional<SlabKind> kind = symbolizeSlabKind(slab);
  if (!kind)
    return parser.emitError(loc, "'") << slab << "' is not a slab: weights, kv, arena or io";
  int64_t offset, bytes;
  if (parser.parseLSquare() || parser.parseInteger(offset) || parser.parseKeyword("for") ||
      parser.parseInteger(bytes) || parser.parseRSquare())
    return failure();
  range = parser.getChecked<RangeAttr>(loc, parser.getContext(), *kind, offset, bytes);
  return success(range != nullptr);
}

static ParseResult parseRange(OpAsmParser &parser, RangeAttr &range) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef slab;
  return failure(parser.parseKeyword(&slab) || parseRangeOf(parser, slab, loc, range));
}

static void printRange(OpAsmPrinter &printer, Operation *, RangeAttr range) {
  printer << stringifySlabKind(range.getSlab()) << '[' << range.getOffset() << " for "
          << range.getBytes() << ']';
}

static ParseResult parseRangeList(OpAsmParser &parser, ArrayAttr &args) {
  SmallVector<Attribute> ranges;
  auto parseOne = [&]() -> ParseResult {
    SMLoc loc = parser.getCurrentLocation();
    StringRef word;
    if (parser.parseKeyword(&word))
      return failure();
    if (word == "none") {
      ranges.push_back(parser.getBuilder().getUnitAttr());
      return success();
    }
    RangeAttr range;
    if (parseRangeOf(parser, word, loc, range))
      return failure();
    ranges.push_back(range);
    return success();
  };
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, parseOne))
    return failure();
  args = parser.getBuilder().getArrayAttr(ranges);
  return success();
}

static void printRangeList(OpAsmPrinter &printer, Operation *op, ArrayAttr args) {
  printer << '(';
  llvm::interleaveComma(args, printer.getStream(), [&](Attribute arg) {
    if (auto range = dyn_cast<RangeAttr>(arg))
      printRange(printer, op, range);
    else
      printer << "none";
  });
  printer << ')';
}

//===----------------------------------------------------------------------===//
// Launch arguments: (%x[8192], none, %y[8192])
//===----------------------------------------------------------------------===//

static ParseResult parseLaunchArgs(OpAsmParser &parser,
                                   SmallVectorImpl<OpAsmParser::UnresolvedOperand> &buffers,
                                   SmallVectorImpl<Type> &types, DenseBoolArrayAttr &present) {
  SmallVector<bool> flags;
  auto parseOne = [&]() -> ParseResult {
    flags.push_back(failed(parser.parseOptionalKeyword("none")));
    if (!flags.back())
      return success();
    SMLoc loc = parser.getCurrentLocation();
    int64_t bytes;
    if (parser.parseOperand(buffers.emplace_back()) || parser.parseLSquare() ||
        parser.parseInteger(bytes) || parser.parseRSquare())
      return failure();
    types.push_back(parser.getChecked<BufferType>(loc, parser.getContext(), bytes));
    return success(types.back() != nullptr);
  };
  if (parser.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, parseOne))
    return failure();
  present = parser.getBuilder().getDenseBoolArrayAttr(flags);
  return success();
}

static void printLaunchArgs(OpAsmPrinter &printer, Operation *, OperandRange buffers,
                            TypeRange types, DenseBoolArrayAttr present) {
  printer << '(';
  size_t next = 0;
  llvm::interleaveComma(present.asArrayRef(), printer.getStream(), [&](bool isPresent) {
    if (!isPresent) {
      printer << "none";
      return;
    }
    printer << buffers[next] << '[' << cast<BufferType>(types[next]).getBytes() << ']';
    ++next;
  });
  printer << ')';
}

void AsyncLaunchOp::build(OpBuilder &builder, OperationState &state, FlatSymbolRefAttr kernel,
                          ArrayRef<Value> args, int64_t stream, StringRef label) {
  SmallVector<Value> buffers;
  SmallVector<bool> present;
  for (Value arg : args) {
    present.push_back(arg != nullptr);
    if (arg)
      buffers.push_back(arg);
  }
  state.addOperands(buffers);
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.kernel = kernel;
  properties.present = builder.getDenseBoolArrayAttr(present);
  properties.stream = builder.getI64IntegerAttr(stream);
  properties.label = builder.getStringAttr(label);
}

SmallVector<Value> AsyncLaunchOp::getArgs() {
  SmallVector<Value> args;
  size_t next = 0;
  for (bool isPresent : getPresent())
    args.push_back(isPresent ? getBuffers()[next++] : Value());
  return args;
}

//===----------------------------------------------------------------------===//
// Result names
//===----------------------------------------------------------------------===//

void AsyncTransientOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getResult(), getName());
}
void AsyncWeightOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getResult(), getSymbol());
}
void AsyncCacheOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getResult(), getSymbol());
}
void AsyncIoOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getResult(), getSymbol());
}

//===----------------------------------------------------------------------===//
// Accessors
//===----------------------------------------------------------------------===//

static KernelOp lookupKernelOf(Operation *launch, FlatSymbolRefAttr kernel) {
  auto module = launch->getParentOfType<ModuleOp>();
  return module ? module.lookupSymbol<KernelOp>(kernel.getAttr()) : KernelOp();
}

KernelOp AsyncLaunchOp::lookupKernel() { return lookupKernelOf(*this, getKernelAttr()); }
KernelOp CmdLaunchOp::lookupKernel() { return lookupKernelOf(*this, getKernelAttr()); }

SmallVector<RangeAttr> CmdLaunchOp::getRanges() {
  return llvm::map_to_vector(getArgs(), [](Attribute arg) { return dyn_cast<RangeAttr>(arg); });
}

void RankOp::build(OpBuilder &builder, OperationState &state, StringRef name, int64_t number) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.sym_name = builder.getStringAttr(name);
  properties.number = builder.getI64IntegerAttr(number);
  state.addRegion()->emplaceBlock();
}

SlabOp RankOp::getSlab(SlabKind kind) {
  for (SlabOp slab : getSlabs())
    if (slab.getKind() == kind)
      return slab;
  return {};
}

bool RankOp::isPacked() {
  return llvm::any_of(getPrograms(), [](ProgramOp program) { return program.isPacked(); });
}

void ProgramOp::build(OpBuilder &builder, OperationState &state, StringRef name, int64_t tokens) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.sym_name = builder.getStringAttr(name);
  properties.tokens = builder.getI64IntegerAttr(tokens);
  state.addRegion()->emplaceBlock();
}

RankOp ProgramOp::getRank() { return cast<RankOp>((*this)->getParentOp()); }

FailureOr<abi::StepDims> ProgramOp::getStepDims() {
  auto module = (*this)->getParentOfType<ModuleOp>();
  if (!module)
    return failure();
  return stepDims(module, getTokens());
}

} // namespace sluice::plan

#define GET_OP_CLASSES
#include "dialects/Plan/PlanOps.cpp.inc"
