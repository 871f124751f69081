//===- WeightEvaluator.cpp - Numbers of a weight expression -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Translates the attributes of an expression into readable nodes. Shapes were checked by the
// dialect; what is checked here is that the checkpoint at hand is the one the expression was made
// for, since a module may come from a file and meet another folder.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/WeightEvaluator.h"

#include "compiler/artifact/QuantizeNodes.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/TypeSwitch.h"

#include <numeric>

using namespace mlir;

namespace sluice {

std::optional<DataType> dataTypeOf(Type type) {
  if (type.isF64())
    return DataType::kF64;
  if (type.isF32())
    return DataType::kF32;
  if (type.isBF16())
    return DataType::kBF16;
  if (type.isF16())
    return DataType::kF16;
  if (isa<Float8E4M3FNType>(type))
    return DataType::kF8E4M3;
  if (isa<Float8E8M0FNUType>(type))
    return DataType::kF8E8M0;
  if (isa<Float4E2M1FNType>(type))
    return DataType::kF4E2M1;
  if (auto integer = dyn_cast<IntegerType>(type)) {
    bool isUnsigned = integer.isUnsigned();
    switch (integer.getWidth()) {
    case 4:
      return DataType::kU8;
    case 8:
      return isUnsigned ? DataType::kU8 : DataType::kI8;
    case 32:
      return isUnsigned ? DataType::kU32 : DataType::kI32;
    case 64:
      return isUnsigned ? DataType::kU64 : DataType::kI64;
    }
  }
  return std::nullopt;
}

namespace {

std::string text(Type type) {
  std::string out;
  llvm::raw_string_ostream stream(out);
  type.print(stream);
  return out;
}

int64_t product(ArrayRef<int64_t> dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t(1), std::multiplies<>());
}

/// Builds the nodes of one expression.
class NodeBuilder {
public:
  NodeBuilder(const Checkpoint &checkpoint, QuantizeSources &sources)
      : checkpoint(checkpoint), sources(sources) {}

  Result<WeightNodePtr> build(TypedAttr expr) {
    RankedTensorType type = moe::getWeightType(expr);
    std::optional<DataType> dtype = dataTypeOf(type.getElementType());
    if (!dtype)
      return unsupported("weights of type " + text(type) + " cannot be evaluated");
    if (type.getElementTypeBitWidth() < 8 &&
        isa<moe::SourceAttr, moe::StackAttr, ElementsAttr>(expr))
      return unsupported("elements of " + text(type) +
                         " are not stored one by one; unpack them from words");
    int64_t bytes = bytesInMemory(*dtype);
    return llvm::TypeSwitch<Attribute, Result<WeightNodePtr>>(expr)
        .Case([&](moe::SourceAttr attr) {
          return leaf(attr.getKey().getValue(), attr.getFile().empty(), type.getShape(), *dtype);
        })
        .Case([&](moe::StackAttr attr) { return stack(attr, type, *dtype); })
        .Case([&](moe::SliceAttr attr) { return slice(attr, bytes); })
        .Case([&](moe::TakeAttr attr) { return take(attr, bytes); })
        .Case([&](moe::ConcatAttr attr) { return concat(attr, bytes); })
        .Case([&](moe::TransposeAttr attr) { return transpose(attr, bytes); })
        // The same elements in the same order.
        .Case([&](moe::ReshapeAttr attr) { return build(attr.getOperand()); })
        .Case([&](moe::ConvertAttr attr) { return convert(attr, *dtype); })
        .Case([&](moe::DequantizeAttr attr) { return dequantize(attr, type); })
        .Case([&](moe::QuantizeAttr attr) { return quantize(attr); })
        .Case([&](moe::RepeatAttr attr) { return repeat(attr, bytes); })
        .Case([&](moe::UnpackAttr attr) { return unpack(attr); })
        .Case([&](moe::ReciprocalAttr attr) -> Result<WeightNodePtr> {
          SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
          return WeightNodePtr(std::make_shared<ReciprocalNode>(std::move(operand)));
        })
        .Case([&](DenseElementsAttr attr) -> Result<WeightNodePtr> {
          return constant(attr.getRawData(), bytes, attr.isSplat());
        })
        .Case([&](DenseResourceElementsAttr attr) -> Result<WeightNodePtr> {
          AsmResourceBlob *blob = attr.getRawHandle().getBlob();
          if (!blob || int64_t(blob->getData().size()) != product(type.getShape()) * bytes)
            return dataCorrupt("the data of constant \"" + attr.getRawHandle().getKey().str() +
                               "\" is missing or has not the size of " + text(type));
          return constant(blob->getData(), bytes, /*splat=*/false);
        })
        .Default([&](Attribute) -> Result<WeightNodePtr> {
          return internalError("a node of a weight expression has no evaluation");
        });
  }

private:
  Result<WeightNodePtr> leaf(StringRef key, bool synthetic, ArrayRef<int64_t> shape,
                             DataType dtype) {
    std::string name = "tensor \"" + key.str() + "\"";
    if (synthetic) {
      bool codes = dtype == DataType::kF8E4M3 || dtype == DataType::kI8 || dtype == DataType::kU8 ||
                   dtype == DataType::kI32;
      if (!codes && !canConvertElements(DataType::kF32, dtype))
        return unsupported(name +
                           ": synthetic weights are F32, BF16, F16 or quantised codes, not " +
                           dataTypeName(dtype));
      return WeightNodePtr(
          std::make_shared<SyntheticNode>(SyntheticTensor({key.data(), key.size()}, shape), dtype));
    }
    std::optional<CheckpointTensor> found = checkpoint.find({key.data(), key.size()});
    if (!found && checkpoint.folder().empty())
      return notFound(name + " is needed, but there is no checkpoint; name the folder of the "
                             "weights with --checkpoint");
    if (!found)
      return notFound(name + " is not in the checkpoint \"" + checkpoint.folder() +
                      "\"; the module was made from another one");
    if (found->info->dtype != dtype || ArrayRef<int64_t>(found->info->shape) != shape)
      return dataCorrupt(checkpoint.filePath(found->file) + ": " + name +
                         " has not the type and shape that the module expects; it was made from "
                         "another checkpoint");
    return WeightNodePtr(std::make_shared<TensorNode>(checkpoint, *found, bytesInMemory(dtype)));
  }

  Result<WeightNodePtr> stack(moe::StackAttr attr, RankedTensorType type, DataType dtype) {
    auto [before, after] = attr.getPattern().getValue().split("{}");
    bool synthetic = llvm::all_of(attr.getFiles().getAsRange<StringAttr>(),
                                  [](StringAttr file) { return file.empty(); });
    std::vector<WeightNodePtr> parts;
    for (int64_t i = 0; i < attr.getCount(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(WeightNodePtr part, leaf((before + Twine(i) + after).str(), synthetic,
                                                       type.getShape().drop_front(), dtype));
      parts.push_back(std::move(part));
    }
    std::vector<int64_t> widths(parts.size(), product(type.getShape().drop_front()));
    return WeightNodePtr(
        std::make_shared<ConcatNode>(std::move(parts), widths, bytesInMemory(dtype)));
  }

  Result<WeightNodePtr> slice(moe::SliceAttr attr, int64_t bytes) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
    ArrayRef<int64_t> shape = moe::getWeightType(attr.getOperand()).getShape();
    return WeightNodePtr(std::make_shared<SliceNode>(
        std::move(operand), shape[attr.getAxis()], attr.getBegin(), attr.getSize(),
        attr.getStride(), product(shape.drop_front(attr.getAxis() + 1)), bytes));
  }

  Result<WeightNodePtr> take(moe::TakeAttr attr, int64_t bytes) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
    ArrayRef<int64_t> shape = moe::getWeightType(attr.getOperand()).getShape();
    ArrayRef<int64_t> indices = attr.getIndices().asArrayRef();
    return WeightNodePtr(std::make_shared<TakeNode>(std::move(operand), indices.vec(),
                                                    product(shape.drop_front()), bytes));
  }

  Result<WeightNodePtr> concat(moe::ConcatAttr attr, int64_t bytes) {
    std::vector<WeightNodePtr> parts;
    std::vector<int64_t> widths;
    for (TypedAttr operand : attr.getOperands()) {
      SLUICE_ASSIGN_OR_RETURN(WeightNodePtr part, build(operand));
      parts.push_back(std::move(part));
      widths.push_back(product(moe::getWeightType(operand).getShape().drop_front(attr.getAxis())));
    }
    return WeightNodePtr(std::make_shared<ConcatNode>(std::move(parts), widths, bytes));
  }

  Result<WeightNodePtr> transpose(moe::TransposeAttr attr, int64_t bytes) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
    return WeightNodePtr(std::make_shared<TransposeNode>(
        std::move(operand), moe::getWeightType(attr.getOperand()).getShape(),
        attr.getPermutation().asArrayRef(), bytes));
  }

  Result<WeightNodePtr> convert(moe::ConvertAttr attr, DataType to) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
    // build() of the operand has checked that its type has an equivalent.
    DataType from = *dataTypeOf(moe::getWeightType(attr.getOperand()).getElementType());
    if (from == to)
      return operand;
    if (!canConvertElements(from, to))
      return unsupported(std::string("weights cannot be converted from ") + dataTypeName(from) +
                         " to " + dataTypeName(to));
    return WeightNodePtr(std::make_shared<ConvertNode>(std::move(operand), from, to));
  }

  Result<TypedNode> typed(TypedAttr expr) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr node, build(expr));
    return TypedNode{std::move(node), *dataTypeOf(moe::getWeightType(expr).getElementType())};
  }

  Result<WeightNodePtr> dequantize(moe::DequantizeAttr attr, RankedTensorType type) {
    SLUICE_ASSIGN_OR_RETURN(TypedNode codes, typed(attr.getCodes()));
    SLUICE_ASSIGN_OR_RETURN(TypedNode scales, typed(attr.getScales()));
    TypedNode zeros;
    if (attr.getZeros()) {
      SLUICE_ASSIGN_OR_RETURN(zeros, typed(attr.getZeros()));
    }
    for (const TypedNode &node : {codes, scales})
      if (!canConvertElements(node.type, DataType::kF32))
        return unsupported(std::string("quantised weights cannot have codes or scales of type ") +
                           dataTypeName(node.type));
    return WeightNodePtr(std::make_shared<DequantizeNode>(std::move(codes), std::move(scales),
                                                          std::move(zeros), type.getShape().back(),
                                                          attr.getGroup(), attr.getOrigin()));
  }

  Result<WeightNodePtr> quantize(moe::QuantizeAttr attr) {
    std::pair<Attribute, Attribute> key(attr.getOperand(), attr.getFormat());
    std::shared_ptr<QuantizeSource> source = sources.lookup(key);
    if (!source) {
      ArrayRef<int64_t> shape = moe::getWeightType(attr.getOperand()).getShape();
      SLUICE_ASSIGN_OR_RETURN(TypedNode numbers, typed(attr.getOperand()));
      SLUICE_ASSIGN_OR_RETURN(quant::WeightFormat format,
                              quant::WeightFormat::parse(attr.getFormat().getValue().str()));
      SLUICE_ASSIGN_OR_RETURN(quant::Quantizer quantizer,
                              quant::Quantizer::create(format, shape.back()));
      source =
          std::make_shared<QuantizeSource>(std::move(numbers), quantizer, shape[shape.size() - 2]);
      sources[key] = source;
    }
    auto part = [&] {
      switch (attr.getPart()) {
      case moe::QuantizePart::Numbers:
        return QuantizedPart::kNumbers;
      case moe::QuantizePart::Codes:
        return QuantizedPart::kCodes;
      case moe::QuantizePart::Scales:
        return QuantizedPart::kScales;
      case moe::QuantizePart::Zeros:
        return QuantizedPart::kZeros;
      case moe::QuantizePart::RowScales:
        return QuantizedPart::kRowScales;
      }
      llvm_unreachable("every part is handled");
    };
    return WeightNodePtr(std::make_shared<QuantizeNode>(source, part()));
  }

  Result<WeightNodePtr> repeat(moe::RepeatAttr attr, int64_t bytes) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
    ArrayRef<int64_t> shape = moe::getWeightType(attr.getOperand()).getShape();
    return WeightNodePtr(
        std::make_shared<RepeatNode>(std::move(operand), attr.getTimes(), attr.getSize(),
                                     product(shape.drop_front(attr.getAxis() + 1)), bytes));
  }

  Result<WeightNodePtr> unpack(moe::UnpackAttr attr) {
    SLUICE_ASSIGN_OR_RETURN(WeightNodePtr operand, build(attr.getOperand()));
    int wordBits = moe::getWeightType(attr.getOperand()).getElementTypeBitWidth();
    int bits = attr.getElementType().getIntOrFloatBitWidth();
    std::vector<int64_t> order(size_t(wordBits / bits));
    if (attr.getOrder())
      order = attr.getOrder().asArrayRef().vec();
    else
      std::iota(order.begin(), order.end(), 0);
    return WeightNodePtr(std::make_shared<UnpackNode>(std::move(operand), attr.getSize(),
                                                      wordBits / 8, bits, std::move(order)));
  }

  static WeightNodePtr constant(ArrayRef<char> data, int64_t bytes, bool splat) {
    ArrayRef<std::byte> elements(reinterpret_cast<const std::byte *>(data.data()), data.size());
    return std::make_shared<ConstantNode>(elements.vec(), bytes, splat);
  }

  const Checkpoint &checkpoint;
  QuantizeSources &sources;
};

} // namespace

Result<WeightEvaluator> WeightEvaluator::create(TypedAttr expr, const Checkpoint &checkpoint,
                                                QuantizeSources *shared) {
  WeightEvaluator evaluator;
  QuantizeSources own;
  SLUICE_ASSIGN_OR_RETURN(evaluator.root,
                          NodeBuilder(checkpoint, shared ? *shared : own).build(expr));
  RankedTensorType type = moe::getWeightType(expr);
  evaluator.type = *dataTypeOf(type.getElementType());
  evaluator.dims = type.getShape().vec();
  evaluator.count = type.getNumElements();
  return evaluator;
}

Status WeightEvaluator::read(int64_t begin, int64_t n, std::byte *out) const {
  if (begin < 0 || n < 0 || begin > count || n > count - begin)
    return invalidArgument("elements [" + std::to_string(begin) + ", +" + std::to_string(n) +
                           ") are outside the " + std::to_string(count) + " of the weight");
  return n == 0 ? Status::ok() : root->read(begin, n, out);
}

} // namespace sluice
