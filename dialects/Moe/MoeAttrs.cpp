//===- MoeAttrs.cpp - Attributes of `moe` -----------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Weight expressions and parameter groups: types, constraints and the hand-written parts of their
// assembly. A node of a weight expression prints without the trailing type that MLIR adds to typed
// attributes: leaves carry it inside their brackets and inner nodes derive it, so repeating it at
// every level would only hide the structure. Constraints are numbered as in MoeAttrs.td.
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <charconv>
#include <cmath>

using namespace mlir;

namespace sluice::moe {

using EmitError = function_ref<InFlightDiagnostic()>;

//===----------------------------------------------------------------------===//
// Assembly helpers
//===----------------------------------------------------------------------===//

ParseResult parseWeightExpr(AsmParser &parser, TypedAttr &expr) {
  SMLoc loc = parser.getCurrentLocation();
  Attribute attr;
  if (parser.parseAttribute(attr))
    return failure();
  expr = dyn_cast<TypedAttr>(attr);
  if (!expr || !isWeightExpr(attr))
    return parser.emitError(loc, "expected a weight expression (#moe.source, #moe.stack, ..., or a "
                                 "dense constant), but got ")
           << attr;
  return success();
}

void printWeightExpr(AsmPrinter &printer, TypedAttr expr) {
  if (isa<WeightExprInterface>(expr))
    printer.printAttributeWithoutType(expr);
  else
    printer.printAttribute(expr);
}

static ParseResult parseWeightExprs(AsmParser &parser, SmallVector<TypedAttr> &exprs) {
  return parser.parseCommaSeparatedList(
      [&]() { return parseWeightExpr(parser, exprs.emplace_back()); });
}

static void printWeightExprs(AsmPrinter &printer, ArrayRef<TypedAttr> exprs) {
  llvm::interleaveComma(exprs, printer.getStream(),
                        [&](TypedAttr expr) { printWeightExpr(printer, expr); });
}

// A string attribute would take the colon after it for its own type; a plain string does not.
static ParseResult parsePlainString(AsmParser &parser, StringAttr &attr) {
  std::string text;
  if (parser.parseString(&text))
    return failure();
  attr = parser.getBuilder().getStringAttr(text);
  return success();
}

static void printPlainString(AsmPrinter &printer, StringAttr attr) {
  printer.printAttributeWithoutType(attr);
}

static ParseResult parseWeightType(AsmParser &parser, RankedTensorType &type) {
  return parser.parseType(type);
}

static void printWeightType(AsmPrinter &printer, RankedTensorType type) { printer << type; }

void printReal(AsmPrinter &printer, double value) {
  if (!std::isfinite(value))
    return printer.printFloat(APFloat(value)); // as bits, the only form the parser takes
  char buffer[32];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  assert(error == std::errc() && "a double takes at most 24 characters");
  StringRef text(buffer, end - buffer);
  size_t exponent = text.find('e');
  printer << text.take_front(exponent);
  if (!text.contains('.'))
    printer << ".0";
  if (exponent != StringRef::npos)
    printer << text.drop_front(exponent);
}

/// `name = value` of a parameter group; `seen` refuses a second mention.
static ParseResult parseNewKey(AsmParser &parser, StringRef &key, StringSet<> &seen) {
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseKeyword(&key))
    return failure();
  if (!seen.insert(key).second)
    return parser.emitError(loc, "parameter '") << key << "' is given twice";
  return success();
}

template <typename Enum>
static ParseResult parseEnumWord(AsmParser &parser, Enum &value, StringRef what,
                                 std::optional<Enum> (*symbolize)(StringRef)) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return failure();
  std::optional<Enum> parsed = symbolize(word);
  if (!parsed)
    return parser.emitError(loc, "'") << word << "' is not a " << what;
  value = *parsed;
  return success();
}

static ParseResult parseReal(AsmParser &parser, Real &value) {
  double number;
  if (parser.parseFloat(number))
    return failure();
  value = number;
  return success();
}

} // namespace sluice::moe

#include "dialects/Moe/MoeEnums.cpp.inc"
#include "dialects/Moe/MoeInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Moe/MoeAttrs.cpp.inc"

namespace sluice::moe {

void MoeDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Moe/MoeAttrs.cpp.inc"
      >();
}

Attribute MoeDialect::parseAttribute(DialectAsmParser &parser, Type type) const {
  SMLoc loc = parser.getCurrentLocation();
  StringRef mnemonic;
  Attribute attr;
  OptionalParseResult result = generatedAttributeParser(parser, &mnemonic, type, attr);
  if (!result.has_value()) {
    parser.emitError(loc, "moe has no attribute '") << mnemonic << "'";
    return {};
  }
  if (failed(*result))
    return {};
  auto typed = dyn_cast<TypedAttr>(attr);
  if (type && !isa<NoneType>(type) && typed && typed.getType() != type) {
    parser.emitError(loc, "the weight expression has type ")
        << typed.getType() << ", but " << type << " is written after it";
    return {};
  }
  return attr;
}

void MoeDialect::printAttribute(Attribute attr, DialectAsmPrinter &printer) const {
  LogicalResult known = generatedAttributePrinter(attr, printer);
  assert(succeeded(known) && "every attribute of the dialect is generated");
  (void)known;
}

//===----------------------------------------------------------------------===//
// Weight expressions
//===----------------------------------------------------------------------===//

bool isWeightExpr(Attribute expr) {
  if (isa_and_nonnull<WeightExprInterface>(expr))
    return true;
  if (!isa_and_nonnull<DenseElementsAttr, DenseResourceElementsAttr>(expr))
    return false;
  return isa<RankedTensorType>(cast<TypedAttr>(expr).getType());
}

RankedTensorType getWeightType(TypedAttr expr) { return cast<RankedTensorType>(expr.getType()); }

static InFlightDiagnostic fail(EmitError emitError, StringRef attr, int constraint) {
  return emitError() << "moe." << attr << " C" << constraint << ": ";
}

/// C1 of every inner node.
static LogicalResult verifyOperand(EmitError emitError, StringRef attr, TypedAttr operand) {
  if (!isWeightExpr(operand))
    return fail(emitError, attr, 1) << "operand " << operand << " is not a weight expression";
  return success();
}

static LogicalResult verifyStatic(EmitError emitError, StringRef attr, int constraint,
                                  RankedTensorType type) {
  if (!type.hasStaticShape())
    return fail(emitError, attr, constraint) << "type " << type << " has dynamic dimensions";
  return success();
}

static LogicalResult verifyAxis(EmitError emitError, StringRef attr, int constraint, int64_t axis,
                                RankedTensorType type) {
  if (axis < 0 || axis >= type.getRank())
    return fail(emitError, attr, constraint)
           << "axis = " << axis << " is outside the " << type.getRank() << " axes of " << type;
  return success();
}

static RankedTensorType withDim(RankedTensorType type, int64_t axis, int64_t size) {
  SmallVector<int64_t> shape(type.getShape());
  shape[axis] = size;
  return type.clone(shape);
}

LogicalResult SourceAttr::verify(EmitError emitError, StringAttr key, StringAttr file,
                                 RankedTensorType type) {
  if (key.empty())
    return fail(emitError, "source", 1) << "the key is empty";
  return verifyStatic(emitError, "source", 2, type);
}

SmallVector<TypedAttr> SourceAttr::getOperandExprs() const { return {}; }

LogicalResult StackAttr::verify(EmitError emitError, StringAttr pattern, int64_t count,
                                ArrayAttr files, RankedTensorType type) {
  if (size_t holes = pattern.getValue().count("{}"); holes != 1)
    return fail(emitError, "stack", 1)
           << "pattern " << pattern << " has " << holes << " places for the index, expected one {}";
  if (count < 1 || type.getRank() < 1 || type.getDimSize(0) != count)
    return fail(emitError, "stack", 2)
           << "count = " << count << " is not the positive first dimension of " << type;
  if (files.empty() || !llvm::all_of(files, llvm::IsaPred<StringAttr>))
    return fail(emitError, "stack", 3)
           << "files " << files << " is not a non-empty list of strings";
  return verifyStatic(emitError, "stack", 4, type);
}

SmallVector<TypedAttr> StackAttr::getOperandExprs() const { return {}; }

LogicalResult SliceAttr::verify(EmitError emitError, TypedAttr operand, int64_t axis, int64_t begin,
                                int64_t size, int64_t stride) {
  if (failed(verifyOperand(emitError, "slice", operand)) ||
      failed(verifyAxis(emitError, "slice", 2, axis, getWeightType(operand))))
    return failure();
  if (begin < 0 || size < 1 || stride < 1)
    return fail(emitError, "slice", 3) << "begin = " << begin << ", size = " << size
                                       << ", stride = " << stride << " must be at least 0, 1, 1";
  int64_t span, last, extent = getWeightType(operand).getDimSize(axis);
  if (llvm::MulOverflow(size - 1, stride, span) || llvm::AddOverflow(begin, span, last) ||
      last >= extent)
    return fail(emitError, "slice", 4)
           << "begin = " << begin << ", size = " << size << ", stride = " << stride
           << " reach past the " << extent << " rows of axis " << axis;
  return success();
}

Type SliceAttr::getType() const {
  return withDim(getWeightType(getOperand()), getAxis(), getSize());
}

SmallVector<TypedAttr> SliceAttr::getOperandExprs() const { return {getOperand()}; }

LogicalResult TakeAttr::verify(EmitError emitError, TypedAttr operand, DenseI64ArrayAttr indices) {
  if (failed(verifyOperand(emitError, "take", operand)))
    return failure();
  RankedTensorType type = getWeightType(operand);
  if (type.getRank() < 1 || indices.empty())
    return fail(emitError, "take", 2)
           << "taking " << indices.size() << " rows of " << type << " leaves nothing";
  for (int64_t index : indices.asArrayRef())
    if (index < -1 || index >= type.getDimSize(0))
      return fail(emitError, "take", 3) << "index " << index << " is outside the "
                                        << type.getDimSize(0) << " rows of " << type;
  return success();
}

Type TakeAttr::getType() const {
  return withDim(getWeightType(getOperand()), 0, getIndices().size());
}

SmallVector<TypedAttr> TakeAttr::getOperandExprs() const { return {getOperand()}; }

LogicalResult ConcatAttr::verify(EmitError emitError, int64_t axis, ArrayRef<TypedAttr> operands) {
  for (TypedAttr operand : operands)
    if (failed(verifyOperand(emitError, "concat", operand)))
      return failure();
  if (operands.empty())
    return fail(emitError, "concat", 2) << "there is no operand";
  RankedTensorType first = getWeightType(operands.front());
  if (failed(verifyAxis(emitError, "concat", 3, axis, first)))
    return failure();
  int64_t total = 0;
  for (auto [index, operand] : llvm::enumerate(operands)) {
    RankedTensorType type = getWeightType(operand);
    if (type.getRank() != first.getRank() || withDim(type, axis, 0) != withDim(first, axis, 0) ||
        llvm::AddOverflow(total, type.getDimSize(axis), total))
      return fail(emitError, "concat", 4) << "operand " << index << " of type " << type
                                          << " does not fit to " << first << " along axis " << axis;
  }
  return success();
}

Type ConcatAttr::getType() const {
  int64_t size = 0;
  for (TypedAttr operand : getOperands())
    size += getWeightType(operand).getDimSize(getAxis());
  return withDim(getWeightType(getOperands().front()), getAxis(), size);
}

SmallVector<TypedAttr> ConcatAttr::getOperandExprs() const {
  return SmallVector<TypedAttr>(getOperands());
}

LogicalResult TransposeAttr::verify(EmitError emitError, TypedAttr operand,
                                    DenseI64ArrayAttr permutation) {
  if (failed(verifyOperand(emitError, "transpose", operand)))
    return failure();
  int64_t rank = getWeightType(operand).getRank();
  llvm::SmallBitVector seen(rank);
  for (int64_t axis : permutation.asArrayRef())
    if (axis >= 0 && axis < rank)
      seen.set(axis);
  if (permutation.size() != rank || !seen.all())
    return fail(emitError, "transpose", 2)
           << "[" << permutation.asArrayRef() << "] is not a permutation of " << rank << " axes";
  return success();
}

Type TransposeAttr::getType() const {
  RankedTensorType type = getWeightType(getOperand());
  SmallVector<int64_t> shape;
  for (int64_t axis : getPermutation().asArrayRef())
    shape.push_back(type.getDimSize(axis));
  return type.clone(shape);
}

SmallVector<TypedAttr> TransposeAttr::getOperandExprs() const { return {getOperand()}; }

/// The number of elements of a static shape, or nothing when it does not fit.
static std::optional<int64_t> countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    if (llvm::MulOverflow(count, dim, count))
      return std::nullopt;
  return count;
}

LogicalResult ReshapeAttr::verify(EmitError emitError, TypedAttr operand, RankedTensorType shape) {
  if (failed(verifyOperand(emitError, "reshape", operand)) ||
      failed(verifyStatic(emitError, "reshape", 2, shape)))
    return failure();
  RankedTensorType type = getWeightType(operand);
  std::optional<int64_t> from = countElements(type.getShape()),
                         to = countElements(shape.getShape());
  if (!from || from != to)
    return fail(emitError, "reshape", 3)
           << type << " and " << shape << " hold different numbers of elements";
  if (type.getElementType() != shape.getElementType())
    return fail(emitError, "reshape", 4) << "element types of " << type << " and " << shape
                                         << " differ, use moe.convert to change them";
  return success();
}

Type ReshapeAttr::getType() const { return getShape(); }

SmallVector<TypedAttr> ReshapeAttr::getOperandExprs() const { return {getOperand()}; }

LogicalResult ConvertAttr::verify(EmitError emitError, TypedAttr operand, Type elementType) {
  if (failed(verifyOperand(emitError, "convert", operand)))
    return failure();
  if (!elementType.isIntOrFloat())
    return fail(emitError, "convert", 2)
           << elementType << " is neither an integer nor a floating-point type";
  return success();
}

Type ConvertAttr::getType() const { return getWeightType(getOperand()).clone(getElementType()); }

SmallVector<TypedAttr> ConvertAttr::getOperandExprs() const { return {getOperand()}; }

//===----------------------------------------------------------------------===//
// Quantised weights
//===----------------------------------------------------------------------===//

LogicalResult DequantizeAttr::verify(EmitError emitError, TypedAttr codes, TypedAttr scales,
                                     TypedAttr zeros, int64_t group, int64_t origin) {
  for (TypedAttr operand : {codes, scales, zeros})
    if (operand && failed(verifyOperand(emitError, "dequantize", operand)))
      return failure();
  RankedTensorType type = getWeightType(codes), scaleType = getWeightType(scales);
  Type element = type.getElementType();
  bool isInteger =
      element.isSignlessInteger(8) || element.isUnsignedInteger(8) || element.isSignlessInteger(4);
  if ((!isInteger && !element.isF32() && !isa<Float8E4M3FNType, Float4E2M1FNType>(element)) ||
      type.getRank() < 2)
    return fail(emitError, "dequantize", 2)
           << "codes of type " << type
           << " are not a matrix of i8, ui8, i4, f8E4M3FN, f4E2M1FN or f32";
  int64_t columns = type.getShape().back();
  if (group < 1 || group > columns)
    return fail(emitError, "dequantize", 3)
           << "group = " << group << " is not between 1 and the " << columns << " columns";
  SmallVector<int64_t> expected(type.getShape());
  expected.back() = llvm::divideCeil(columns, group);
  if (!isa<FloatType>(scaleType.getElementType()) ||
      scaleType.getShape() != ArrayRef<int64_t>(expected))
    return fail(emitError, "dequantize", 4)
           << "scales of type " << scaleType << " do not fit to codes of type " << type
           << " in groups of " << group;
  if (!isInteger && (zeros || origin != 0))
    return fail(emitError, "dequantize", 5)
           << "codes of type " << element << " have neither zeros nor an origin";
  if (zeros) {
    RankedTensorType zeroType = getWeightType(zeros);
    Type zero = zeroType.getElementType();
    if ((!zero.isSignlessInteger(4) && !zero.isUnsignedInteger(8)) ||
        zeroType.getShape() != scaleType.getShape())
      return fail(emitError, "dequantize", 5)
             << "zeros of type " << zeroType << " are not i4 or ui8 of the scales' shape";
  }
  return success();
}

Type DequantizeAttr::getType() const {
  return getWeightType(getCodes()).clone(Float32Type::get(getContext()));
}

SmallVector<TypedAttr> DequantizeAttr::getOperandExprs() const {
  SmallVector<TypedAttr> operands = {getCodes(), getScales()};
  if (getZeros())
    operands.push_back(getZeros());
  return operands;
}

LogicalResult RepeatAttr::verify(EmitError emitError, TypedAttr operand, int64_t axis,
                                 int64_t times, int64_t size) {
  if (failed(verifyOperand(emitError, "repeat", operand)) ||
      failed(verifyAxis(emitError, "repeat", 2, axis, getWeightType(operand))))
    return failure();
  if (times < 1)
    return fail(emitError, "repeat", 3) << "times = " << times << " is not positive";
  int64_t extent = getWeightType(operand).getDimSize(axis);
  if (size < 1 || size / times + (size % times != 0) != extent)
    return fail(emitError, "repeat", 4) << "the " << extent << " rows of axis " << axis << ", each "
                                        << times << " times, do not make " << size << " rows";
  return success();
}

Type RepeatAttr::getType() const {
  return withDim(getWeightType(getOperand()), getAxis(), getSize());
}

SmallVector<TypedAttr> RepeatAttr::getOperandExprs() const { return {getOperand()}; }

LogicalResult UnpackAttr::verify(EmitError emitError, TypedAttr operand, Type elementType,
                                 int64_t size, DenseI64ArrayAttr order) {
  if (failed(verifyOperand(emitError, "unpack", operand)))
    return failure();
  RankedTensorType type = getWeightType(operand);
  if (type.getRank() < 1)
    return fail(emitError, "unpack", 1) << type << " has no axis";
  Type word = type.getElementType();
  auto bitsOf = [](Type t) { return t.isIntOrFloat() ? t.getIntOrFloatBitWidth() : 0; };
  unsigned wordBits = isa<IntegerType>(word) ? bitsOf(word) : 0, bits = bitsOf(elementType);
  if ((wordBits != 8 && wordBits != 32) || (bits != 4 && bits != 8))
    return fail(emitError, "unpack", 2)
           << "words of " << word << " cannot be taken apart into " << elementType;
  int64_t perWord = wordBits / bits, words = type.getShape().back();
  if (size < 1 || size / perWord + (size % perWord != 0) != words)
    return fail(emitError, "unpack", 3)
           << words << " words of " << perWord << " elements do not make rows of " << size;
  if (order) {
    llvm::SmallBitVector seen(perWord);
    for (int64_t place : order.asArrayRef())
      if (place >= 0 && place < perWord)
        seen.set(place);
    if (order.size() != perWord || !seen.all())
      return fail(emitError, "unpack", 4)
             << "[" << order.asArrayRef() << "] is not a permutation of " << perWord << " elements";
  }
  return success();
}

Type UnpackAttr::getType() const {
  RankedTensorType type = getWeightType(getOperand());
  return withDim(type, type.getRank() - 1, getSize()).clone(getElementType());
}

SmallVector<TypedAttr> UnpackAttr::getOperandExprs() const { return {getOperand()}; }

LogicalResult ReciprocalAttr::verify(EmitError emitError, TypedAttr operand) {
  if (failed(verifyOperand(emitError, "reciprocal", operand)))
    return failure();
  if (!getWeightType(operand).getElementType().isF32())
    return fail(emitError, "reciprocal", 2)
           << "elements of type " << getWeightType(operand).getElementType() << " are not f32";
  return success();
}

Type ReciprocalAttr::getType() const { return getWeightType(getOperand()); }

SmallVector<TypedAttr> ReciprocalAttr::getOperandExprs() const { return {getOperand()}; }

//===----------------------------------------------------------------------===//
// RopeAttr
//===----------------------------------------------------------------------===//

LogicalResult RopeAttr::verify(EmitError emitError, int64_t dim, int64_t offset, bool interleaved,
                               FloatAttr base, DictionaryAttr scaling) {
  if (dim < 2 || dim % 2 != 0)
    return fail(emitError, "rope", 1) << "dim = " << dim << " is not a positive even number";
  if (offset < 0)
    return fail(emitError, "rope", 2) << "offset = " << offset << " is negative";
  if (!base.getType().isF64() || !std::isfinite(base.getValueAsDouble()) ||
      base.getValueAsDouble() <= 0)
    return fail(emitError, "rope", 3) << "base = " << base << " is not a positive f64";
  if (scaling) {
    auto kind = scaling.getAs<StringAttr>("rope_type");
    if (!kind ||
        !llvm::is_contained({"linear", "dynamic", "yarn", "llama3", "longrope"}, kind.getValue()))
      return fail(emitError, "rope", 4)
             << "scaling " << scaling
             << " needs a rope_type of linear, dynamic, yarn, llama3 or longrope";
  }
  return success();
}

Attribute RopeAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  int64_t dim = 0, offset = 0;
  bool interleaved = false;
  double base = 0.0;
  DictionaryAttr scaling;
  StringSet<> seen;
  auto parseParameter = [&]() -> ParseResult {
    StringRef key;
    SMLoc keyLoc = parser.getCurrentLocation();
    if (parseNewKey(parser, key, seen))
      return failure();
    if (key == "interleaved") {
      interleaved = true;
      return success();
    }
    if (parser.parseEqual())
      return failure();
    if (key == "dim")
      return parser.parseInteger(dim);
    if (key == "offset")
      return parser.parseInteger(offset);
    if (key == "base")
      return parser.parseFloat(base);
    if (key == "scaling")
      return parser.parseAttribute(scaling);
    return parser.emitError(keyLoc, "unknown parameter '")
           << key << "', expected dim, offset, interleaved, base or scaling";
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater, parseParameter))
    return {};
  return parser.getChecked<RopeAttr>(loc, parser.getContext(), dim, offset, interleaved,
                                     parser.getBuilder().getF64FloatAttr(base), scaling);
}

void RopeAttr::print(AsmPrinter &printer) const {
  printer << "<dim = " << getDim();
  if (getOffset() != 0)
    printer << ", offset = " << getOffset();
  if (getInterleaved())
    printer << ", interleaved";
  printer << ", base = ";
  printReal(printer, getBase().getValueAsDouble());
  if (getScaling())
    printer << ", scaling = " << getScaling();
  printer << ">";
}

//===----------------------------------------------------------------------===//
// RoutingAttr
//===----------------------------------------------------------------------===//

LogicalResult RoutingAttr::verify(EmitError emitError, ScoreFunction score, int64_t topK,
                                  bool scoreFirst, bool renormalize, Real epsilon, Real scale,
                                  int64_t groups, int64_t topkGroup, GroupScore groupScore,
                                  bool sparseMixer, Real jitter) {
  if (topK < 1)
    return fail(emitError, "routing", 1) << "top_k = " << topK << " is not positive";
  if (groups < 1 || topkGroup < 1 || topkGroup > groups)
    return fail(emitError, "routing", 2) << "topk_group = " << topkGroup
                                         << " is not between 1 and the number of groups " << groups;
  if ((groups > 1) != (groupScore != GroupScore::None))
    return fail(emitError, "routing", 3)
           << "groups = " << groups << " and group_score = " << stringifyGroupScore(groupScore)
           << " contradict each other, more than one group needs a score and one group none";
  if (!(epsilon >= 0) || !(jitter >= 0) || !std::isfinite(epsilon) || !std::isfinite(jitter))
    return fail(emitError, "routing", 4)
           << "epsilon = " << double(epsilon) << " and jitter = " << double(jitter)
           << " must be at least 0 and finite";
  if (!std::isfinite(scale) || double(scale) == 0.0)
    return fail(emitError, "routing", 5)
           << "scale = " << double(scale) << " must be finite and not 0";
  return success();
}

Attribute RoutingAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  ScoreFunction score = ScoreFunction::Softmax;
  int64_t topK = 0, groups = 1, topkGroup = 1;
  bool scoreFirst = true, renormalize = false, sparseMixer = false;
  Real epsilon = 0.0, scale = 1.0, jitter = 0.0;
  GroupScore groupScore = GroupScore::None;
  if (parser.parseLess() || parseEnumWord(parser, score, "score function", symbolizeScoreFunction))
    return {};
  if (succeeded(parser.parseOptionalKeyword("after"))) {
    scoreFirst = false;
    if (parser.parseKeyword("top_k"))
      return {};
  }
  StringSet<> seen;
  while (succeeded(parser.parseOptionalComma())) {
    StringRef key;
    SMLoc keyLoc = parser.getCurrentLocation();
    if (parseNewKey(parser, key, seen))
      return {};
    if (key == "renormalize") {
      renormalize = true;
      continue;
    }
    if (key == "sparse_mixer") {
      sparseMixer = true;
      continue;
    }
    if (parser.parseEqual())
      return {};
    ParseResult parsed = failure();
    if (key == "top_k")
      parsed = parser.parseInteger(topK);
    else if (key == "epsilon")
      parsed = parseReal(parser, epsilon);
    else if (key == "scale")
      parsed = parseReal(parser, scale);
    else if (key == "groups")
      parsed = parser.parseInteger(groups);
    else if (key == "topk_group")
      parsed = parser.parseInteger(topkGroup);
    else if (key == "group_score")
      parsed = parseEnumWord(parser, groupScore, "group score", symbolizeGroupScore);
    else if (key == "jitter")
      parsed = parseReal(parser, jitter);
    else
      parser.emitError(keyLoc, "unknown parameter '")
          << key << "', expected top_k, renormalize, epsilon, scale, groups, topk_group, "
          << "group_score, sparse_mixer or jitter";
    if (parsed)
      return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<RoutingAttr>(loc, parser.getContext(), score, topK, scoreFirst,
                                        renormalize, epsilon, scale, groups, topkGroup, groupScore,
                                        sparseMixer, jitter);
}

void RoutingAttr::print(AsmPrinter &printer) const {
  printer << "<" << stringifyScoreFunction(getScore());
  if (!getScoreFirst())
    printer << " after top_k";
  printer << ", top_k = " << getTopK();
  auto printUnless = [&](StringRef name, double value, double usual) {
    if (value == usual)
      return;
    printer << ", " << name << " = ";
    printReal(printer, value);
  };
  if (getRenormalize())
    printer << ", renormalize";
  printUnless("epsilon", getEpsilon(), 0.0);
  printUnless("scale", getScale(), 1.0);
  if (getGroups() != 1)
    printer << ", groups = " << getGroups();
  if (getTopkGroup() != 1)
    printer << ", topk_group = " << getTopkGroup();
  if (getGroupScore() != GroupScore::None)
    printer << ", group_score = " << stringifyGroupScore(getGroupScore());
  if (getSparseMixer())
    printer << ", sparse_mixer";
  printUnless("jitter", getJitter(), 0.0);
  printer << ">";
}

//===----------------------------------------------------------------------===//
// ActivationAttr
//===----------------------------------------------------------------------===//

LogicalResult ActivationAttr::verify(EmitError emitError, ActivationKind kind, Real alpha,
                                     Real limit) {
  if (!(alpha > 0) || !std::isfinite(alpha))
    return fail(emitError, "activation", 1) << "alpha = " << double(alpha) << " is not positive";
  if (!(limit >= 0) || !std::isfinite(limit))
    return fail(emitError, "activation", 2)
           << "limit = " << double(limit) << " is negative, 0 means no limit";
  return success();
}

Attribute ActivationAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  ActivationKind kind = ActivationKind::Silu;
  Real alpha = 1.0, limit = 0.0;
  if (parser.parseLess() || parseEnumWord(parser, kind, "activation", symbolizeActivationKind))
    return {};
  StringSet<> seen;
  while (succeeded(parser.parseOptionalComma())) {
    StringRef key;
    SMLoc keyLoc = parser.getCurrentLocation();
    if (parseNewKey(parser, key, seen) || parser.parseEqual())
      return {};
    if (key != "alpha" && key != "limit") {
      parser.emitError(keyLoc, "unknown parameter '") << key << "', expected alpha or limit";
      return {};
    }
    if (parseReal(parser, key == "alpha" ? alpha : limit))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<ActivationAttr>(loc, parser.getContext(), kind, alpha, limit);
}

void ActivationAttr::print(AsmPrinter &printer) const {
  printer << "<" << stringifyActivationKind(getKind());
  if (getAlpha() != 1.0) {
    printer << ", alpha = ";
    printReal(printer, getAlpha());
  }
  if (getLimit() != 0.0) {
    printer << ", limit = ";
    printReal(printer, getLimit());
  }
  printer << ">";
}

} // namespace sluice::moe
