//===- PlanDialect.cpp - The `plan` dialect, its types and attributes -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Registration, the few types and attributes, and the tables that passes and readers share: kernel
// parameters as attributes, sizes of stored weights and of a step. Sizes come from the functions
// that the loader checks artifacts with, so that a plan which verifies also loads.
//
//===----------------------------------------------------------------------===//
#include "dialects/Plan/Plan.h"

#include "runtime/artifact/PlanRecords.h"
#include "runtime/quant/PackedLayout.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

#include "dialects/Plan/PlanDialect.cpp.inc"
#include "dialects/Plan/PlanEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Plan/PlanAttrs.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/Plan/PlanTypes.cpp.inc"

namespace sluice::plan {

void PlanDialect::initialize() {
  registerAttributes();
  registerTypes();
  addOperations<
#define GET_OP_LIST
#include "dialects/Plan/PlanOps.cpp.inc"
      >();
}

void PlanDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Plan/PlanAttrs.cpp.inc"
      >();
}

void PlanDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Plan/PlanTypes.cpp.inc"
      >();
}

/// C1 on the module; C2 an array of i64, not empty; C3 ascending and positive.
LogicalResult PlanDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name != getBucketsAttrName())
    return op->emitError() << "'" << name << "' is not an attribute of the plan dialect";
  if (!isa<ModuleOp>(op))
    return op->emitError() << "'" << name << "' C1: belongs on the module, not on '"
                           << op->getName() << "'";
  auto buckets = dyn_cast<DenseI64ArrayAttr>(attribute.getValue());
  if (!buckets || buckets.empty())
    return op->emitError() << "'" << name << "' C2: must be a non-empty array<i64: ...>";
  int64_t previous = 0;
  for (int64_t tokens : buckets.asArrayRef()) {
    if (tokens <= previous)
      return op->emitError() << "'" << name << "' C3: " << tokens << " follows " << previous
                             << "; token counts must ascend from 1";
    previous = tokens;
  }
  return success();
}

LogicalResult BufferType::verify(function_ref<InFlightDiagnostic()> emitError, int64_t bytes) {
  if (bytes < 1)
    return emitError() << "plan.buffer C1: a buffer of " << bytes << " bytes holds nothing";
  return success();
}

//===----------------------------------------------------------------------===//
// #plan.range
//===----------------------------------------------------------------------===//

LogicalResult RangeAttr::verify(function_ref<InFlightDiagnostic()> emitError, SlabKind,
                                int64_t offset, int64_t bytes) {
  int64_t end;
  if (offset < 0 || bytes < 1 || llvm::AddOverflow(offset, bytes, end))
    return emitError() << "plan.range C1: [" << offset << " for " << bytes
                       << "] is not a range of bytes";
  return success();
}

Attribute RangeAttr::parse(AsmParser &parser, Type) {
  int64_t offset, bytes;
  StringRef word;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseKeyword(&word))
    return {};
  std::optional<SlabKind> kind = symbolizeSlabKind(word);
  if (!kind) {
    parser.emitError(loc, "'") << word << "' is not a slab: weights, kv, arena or io";
    return {};
  }
  if (parser.parseLSquare() || parser.parseInteger(offset) || parser.parseKeyword("for") ||
      parser.parseInteger(bytes) || parser.parseRSquare() || parser.parseGreater())
    return {};
  return parser.getChecked<RangeAttr>(loc, parser.getContext(), *kind, offset, bytes);
}

void RangeAttr::print(AsmPrinter &printer) const {
  printer << '<' << stringifySlabKind(getSlab()) << '[' << getOffset() << " for " << getBytes()
          << "]>";
}

//===----------------------------------------------------------------------===//
// Shared tables
//===----------------------------------------------------------------------===//

int64_t slabAlignment(SlabKind kind) {
  switch (kind) {
  case SlabKind::Weights:
  case SlabKind::Kv:
    return 4096;
  case SlabKind::Arena:
  case SlabKind::Io:
    return 256;
  }
  llvm_unreachable("every slab kind has an alignment");
}

std::optional<unsigned> replaceableArg(const abi::FamilyParams &params, unsigned written) {
  StringRef from, to;
  if (std::holds_alternative<abi::ResidualNormParams>(params))
    from = "residual", to = "residual_out";
  else if (std::holds_alternative<abi::ResidualParams>(params))
    from = "a", to = "out";
  const std::vector<abi::ArgSpec> &specs = abi::familyArgs(params);
  if (from.empty() || written >= specs.size() || specs[written].name != to)
    return std::nullopt;
  auto found = llvm::find_if(specs, [&](const abi::ArgSpec &spec) { return spec.name == from; });
  return found - specs.begin();
}

static FailureOr<proto::Limits> readLimits(ModuleOp module) {
  auto dict = module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getLimitsAttrName());
  if (!dict)
    return failure();
  bool inRange = true;
  auto get = [&](StringRef name) -> uint32_t {
    auto value = dict.getAs<IntegerAttr>(name);
    inRange &= value && value.getInt() >= 1 && value.getInt() <= INT32_MAX;
    return inRange ? value.getInt() : 0;
  };
  proto::Limits limits;
  limits.set_max_batch_tokens(get("max_batch_tokens"));
  limits.set_max_seqs(get("max_seqs"));
  limits.set_max_seq_len(get("max_seq_len"));
  limits.set_max_logit_rows(get("max_logit_rows"));
  limits.set_page_size(get("page_size"));
  limits.set_num_pages(get("num_pages"));
  if (!inRange)
    return failure();
  return limits;
}

FailureOr<abi::StepDims> stepDims(ModuleOp module, int64_t tokens) {
  FailureOr<proto::Limits> limits = readLimits(module);
  if (failed(limits) || tokens < 1 || tokens > int64_t(limits->max_batch_tokens()))
    return failure();
  return bucketDims(*limits, tokens);
}

FailureOr<SmallVector<std::pair<StringRef, int64_t>>> stepBuffers(ModuleOp module,
                                                                  int64_t vocabSize) {
  FailureOr<proto::Limits> limits = readLimits(module);
  if (failed(limits) || vocabSize < 1 || vocabSize > INT32_MAX)
    return failure();
  int64_t dp = 1;
  if (auto parallel =
          module->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getParallelAttrName()))
    dp = parallel.getAs<IntegerAttr>("dp").getInt();
  auto buffers = ioBufferBytes(*limits, vocabSize, dp);
  if (!buffers.isOk())
    return failure();
  SmallVector<std::pair<StringRef, int64_t>> out;
  for (const auto &[name, bytes] : *buffers)
    out.emplace_back(name, bytes);
  return out;
}

Result<uint64_t> weightBytes(StringRef layout, StringRef format, ArrayRef<int64_t> shape) {
  SLUICE_ASSIGN_OR_RETURN(quant::WeightFormat parsed, quant::WeightFormat::parse(format));
  SLUICE_RETURN_IF_ERROR(layout == "row_major" ? quant::requireRowMajor(parsed)
                                               : quant::requirePackable(parsed));
  auto misfit = [&](const char *expected) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    llvm::interleaveComma(shape, stream << "shape [");
    stream << "] does not fit layout \"" << layout << "\", which stores " << expected;
    return invalidArgument(std::move(text));
  };
  if (layout == "row_major") {
    uint64_t total = quant::elementBytes(parsed.element);
    for (int64_t extent : shape)
      if (extent < 1 || __builtin_mul_overflow(total, uint64_t(extent), &total) || total >> 62)
        return invalidArgument("the weight's size is zero or exceeds 2^62 bytes");
    return total;
  }
  bool paired = layout == "gate_up_panel16";
  if (!paired && layout != "panel16")
    return invalidArgument("layout \"" + layout.str() +
                           "\" is not known; it is row_major, panel16 or gate_up_panel16");
  size_t matrixRank = paired ? 3 : 2;
  if (shape.size() != matrixRank && shape.size() != matrixRank + 1)
    return misfit(paired ? "[2, N, K] or [E, 2, N, K]" : "[N, K] or [E, N, K]");
  int64_t blobs = shape.size() > matrixRank ? shape.front() : 1;
  ArrayRef<int64_t> matrix = shape.take_back(matrixRank);
  if (paired && matrix.front() != 2)
    return misfit("[2, N, K] or [E, 2, N, K]");
  return quant::packedBytes(layout, parsed, matrix[matrixRank - 2], matrix[matrixRank - 1], blobs);
}

DictionaryAttr paramsToAttr(MLIRContext *context, const abi::FamilyParams &params) {
  Builder builder(context);
  SmallVector<NamedAttribute> entries;
  for (const auto &[name, value] : abi::toParams(params)) {
    Attribute attr;
    if (const auto *integer = std::get_if<int64_t>(&value))
      attr = builder.getI64IntegerAttr(*integer);
    else if (const auto *number = std::get_if<double>(&value))
      attr = builder.getF64FloatAttr(*number);
    else
      attr = builder.getStringAttr(std::get<std::string>(value));
    entries.push_back(builder.getNamedAttr(name, attr));
  }
  return builder.getDictionaryAttr(entries);
}

Result<abi::FamilyParams> paramsFromAttr(StringRef family, DictionaryAttr params) {
  abi::Params values;
  for (NamedAttribute entry : params) {
    std::string name = entry.getName().str();
    if (auto integer = dyn_cast<IntegerAttr>(entry.getValue());
        integer && integer.getType().isSignlessInteger(64))
      values.emplace_back(name, integer.getInt());
    else if (auto number = dyn_cast<FloatAttr>(entry.getValue());
             number && number.getType().isF64())
      values.emplace_back(name, number.getValueAsDouble());
    else if (auto text = dyn_cast<StringAttr>(entry.getValue()))
      values.emplace_back(name, text.str());
    else
      return invalidArgument("parameter \"" + name + "\" is neither an i64, an f64 nor a string");
  }
  return abi::fromParams(std::string_view(family), values);
}

} // namespace sluice::plan
