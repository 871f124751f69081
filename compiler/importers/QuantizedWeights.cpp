//===- QuantizedWeights.cpp - Quantised matrices of imported models ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Where a family asks for a matrix and the checkpoint holds codes, the expression of its numbers is
// built here. Tensors are stored per module, or per expert and then stacked; everything below
// counts axes from the last, so that both are one case. Synthetic checkpoints get codes made up
// from names and constant scales that give the numbers the size of unquantised synthetic weights.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/ModelBuilder.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;

namespace sluice {

using Shape = SmallVector<int64_t>;

static RankedTensorType typeOf(TypedAttr expr) { return moe::getWeightType(expr); }

/// Element j of an AWQ word is its kAwqOrder[j]-th group of four bits.
static constexpr int64_t kAwqOrder[] = {0, 4, 1, 5, 2, 6, 3, 7};

/// Root mean squares of codes whose bits are random (SyntheticTensor::generateCodes()).
static double spreadOf(QuantStorage storage, int bits) {
  switch (storage) {
  case QuantStorage::kFloat8:
    return 0.62;
  case QuantStorage::kNvfp4:
  case QuantStorage::kMxfp4:
    return 2.93;
  default:
    return bits == 4 ? 4.64 : 73.9;
  }
}

/// Reads the tensors of one quantised matrix [rows, columns], or of `count` stacked ones.
class QuantizedReader {
public:
  QuantizedReader(ModelBuilder &model, const QuantGroup &group, StringRef module, int64_t count,
                  int64_t rows, int64_t columns)
      : model(model), group(group), module(module), count(count), rows(rows), columns(columns),
        groupColumns(group.groupColumns ? std::min(group.groupColumns, columns) : columns),
        groups(llvm::divideCeil(columns, groupColumns)) {
    synthetic = model.source.isSynthetic();
    scale = 1 / (spreadOf(group.storage, group.bits) * std::sqrt(double(columns)));
  }

  TypedAttr read() {
    switch (group.storage) {
    case QuantStorage::kFloat8:
      return dequantize(part(".weight", {rows, columns}, {DataType::kF8E4M3}), scales());
    case QuantStorage::kInt8:
      return dequantize(part(".weight", {rows, columns}, {DataType::kI8}), scales());
    case QuantStorage::kPacked:
      return readPacked();
    case QuantStorage::kNvfp4:
      return readNvfp4();
    case QuantStorage::kMxfp4:
      return dequantize(fourBitFloats(".weight_packed"), powersOfTwo(".weight_scale"));
    case QuantStorage::kAwq:
      return readAwq();
    case QuantStorage::kGptq:
      return readGptq();
    }
    llvm_unreachable("every storage is listed");
  }

private:
  static constexpr DataType kNumbers[] = {DataType::kF32, DataType::kBF16, DataType::kF16};

  MLIRContext *context() { return &model.context(); }

  TypedAttr part(StringRef suffix, ArrayRef<int64_t> shape, ArrayRef<DataType> types) {
    return model.leaf((module + suffix).str(), count, shape, types);
  }
  /// The name of the module's tensor, or of expert `index`'s.
  std::string nameOf(StringRef suffix, int64_t index) const {
    auto [before, after] = module.split("{}");
    std::string name = count > 0 ? (before + Twine(index) + after).str() : module.str();
    return name + suffix.str();
  }
  std::optional<CheckpointTensor> find(StringRef suffix) const {
    return model.source.find(nameOf(suffix, 0));
  }
  /// `shape` of one matrix with the stack's axis before it.
  Shape stacked(ArrayRef<int64_t> shape) const {
    Shape result;
    if (count > 0)
      result.push_back(count);
    result.append(shape.begin(), shape.end());
    return result;
  }

  TypedAttr splat(ArrayRef<int64_t> shape, Type element, double value) {
    auto type = RankedTensorType::get(stacked(shape), element);
    APFloat number(value);
    bool lossy;
    number.convert(cast<FloatType>(element).getFloatSemantics(), APFloat::rmNearestTiesToEven,
                   &lossy);
    return DenseElementsAttr::get(type, FloatAttr::get(element, number));
  }
  TypedAttr repeatRows(TypedAttr operand, int64_t times) {
    int64_t axis = typeOf(operand).getRank() - 2;
    return moe::RepeatAttr::get(context(), operand, axis, times, rows);
  }
  TypedAttr unpack(TypedAttr words, Type element, int64_t size, ArrayRef<int64_t> order = {}) {
    DenseI64ArrayAttr places;
    if (!order.empty())
      places = DenseI64ArrayAttr::get(context(), order);
    return moe::UnpackAttr::get(context(), words, element, size, places);
  }
  /// The last two axes exchanged.
  TypedAttr transpose(TypedAttr operand) {
    int64_t rank = typeOf(operand).getRank();
    Shape permutation;
    for (int64_t axis = 0; axis < rank; ++axis)
      permutation.push_back(axis);
    std::swap(permutation[rank - 1], permutation[rank - 2]);
    return ModelBuilder::transpose(operand, permutation);
  }
  TypedAttr dequantize(TypedAttr codes, TypedAttr scales, TypedAttr zeros = {},
                       int64_t origin = 0) {
    return moe::DequantizeAttr::get(context(), codes, scales, zeros, groupColumns, origin);
  }
  Type integer(unsigned bits) {
    return bits == 4 ? IntegerType::get(context(), 4)
                     : IntegerType::get(context(), 8, IntegerType::Unsigned);
  }

  /// [..., rows, groups] from whatever the rows share.
  TypedAttr scales() {
    if (synthetic)
      return group.blockRows
                 ? repeatRows(splat({int64_t(llvm::divideCeil(rows, group.blockRows)), groups},
                                    Float32Type::get(context()), scale),
                              group.blockRows)
                 : splat({rows, groups}, Float32Type::get(context()), scale);
    bool inverse = find(".weight_scale_inv") ||
                   (model.scheme.method == "fp8" && group.blockRows && !find(".weight_scale"));
    StringRef suffix = inverse ? ".weight_scale_inv" : ".weight_scale"; // both are multiplied with
    SmallVector<DataType> types{ArrayRef<DataType>(kNumbers)};
    if (group.storage == QuantStorage::kFloat8)
      types.push_back(DataType::kF8E8M0);
    if (group.blockRows) {
      int64_t blocks = llvm::divideCeil(rows, group.blockRows);
      return repeatRows(part(suffix, {blocks, groups}, types), group.blockRows);
    }
    if (groups > 1)
      return part(suffix, {rows, groups}, types);
    std::optional<CheckpointTensor> found = find(suffix);
    Shape shape = {rows, 1};
    if (found && (numElements(found->info->shape) == 1 || found->info->shape.size() == 1))
      shape.assign(found->info->shape.begin(), found->info->shape.end());
    if (found && numElements(shape) == 1)
      return ofTensor(part(suffix, shape, types));
    if (shape.size() == 1)
      shape = {rows};
    return ModelBuilder::reshape(part(suffix, shape, types), stacked({rows, 1}));
  }
  /// One scale of the whole matrix, for every row.
  TypedAttr ofTensor(TypedAttr one) {
    return repeatRows(ModelBuilder::reshape(one, stacked({1, 1})), rows);
  }

  TypedAttr fourBitFloats(StringRef suffix) {
    TypedAttr words = part(suffix, {rows, int64_t(llvm::divideCeil(columns, 2))}, {DataType::kU8});
    return unpack(words, Float4E2M1FNType::get(context()), columns);
  }
  TypedAttr powersOfTwo(StringRef suffix) {
    Type element = Float8E8M0FNUType::get(context());
    if (synthetic)
      return splat({rows, groups}, element, std::exp2(std::round(std::log2(scale))));
    TypedAttr stored = part(suffix, {rows, groups}, {DataType::kU8, DataType::kF8E8M0});
    return typeOf(stored).getElementType() == element ? stored : unpack(stored, element, groups);
  }

  TypedAttr readNvfp4() {
    StringRef codes = group.modelOpt ? ".weight" : ".weight_packed";
    StringRef tensorScale = group.modelOpt ? ".weight_scale_2" : ".weight_global_scale";
    TypedAttr scales = synthetic ? splat({rows, groups}, Float8E4M3FNType::get(context()), 1.0)
                                 : part(".weight_scale", {rows, groups}, {DataType::kF8E4M3});
    TypedAttr inner = dequantize(fourBitFloats(codes), scales);
    TypedAttr outer;
    if (synthetic) {
      outer = splat({}, Float32Type::get(context()), group.modelOpt ? scale : 1 / scale);
    } else {
      std::optional<CheckpointTensor> found = find(tensorScale);
      Shape shape = {1};
      if (found && found->info->shape.empty())
        shape.clear();
      outer = part(tensorScale, shape, {DataType::kF32});
    }
    // compressed-tensors stores what the scales were multiplied with, ModelOpt its inverse.
    if (!group.modelOpt)
      outer = moe::ReciprocalAttr::get(context(), outer);
    return moe::DequantizeAttr::get(context(), inner, ofTensor(outer), TypedAttr(), columns, 0);
  }

  TypedAttr readPacked() {
    int64_t perWord = 32 / group.bits, half = int64_t(1) << (group.bits - 1);
    auto wordsOf = [&](int64_t elements) { return int64_t(llvm::divideCeil(elements, perWord)); };
    TypedAttr codes = unpack(part(".weight_packed", {rows, wordsOf(columns)}, {DataType::kI32}),
                             integer(group.bits), columns);
    if (!synthetic) {
      checkIntegers<int64_t>(".weight_shape", {2}, DataType::kI64,
                             [&](int64_t i) { return i == 0 ? rows : columns; });
      if (find(".weight_g_idx"))
        checkGroupOrder(".weight_g_idx");
    }
    TypedAttr zeros;
    if (!group.symmetric && !synthetic)
      zeros = transpose(
          unpack(transpose(part(".weight_zero_point", {wordsOf(rows), groups}, {DataType::kI32})),
                 integer(group.bits), rows));
    // Codes and zeros are signed numbers plus half of their range.
    return dequantize(codes, scales(), zeros, zeros ? 0 : half);
  }

  TypedAttr readAwq() {
    auto wordsOf = [&](int64_t elements) { return int64_t(llvm::divideCeil(elements, 8)); };
    auto spread = [&](StringRef suffix, int64_t lines) {
      TypedAttr words = part(suffix, {lines, wordsOf(rows)}, {DataType::kI32});
      return transpose(unpack(words, integer(4), rows, kAwqOrder));
    };
    TypedAttr codes = spread(".qweight", columns);
    if (synthetic)
      return dequantize(codes, scales(), TypedAttr(), 8);
    TypedAttr zeros = spread(".qzeros", groups);
    return dequantize(codes, transpose(part(".scales", {groups, rows}, kNumbers)), zeros);
  }

  TypedAttr readGptq() {
    auto wordsOf = [&](int64_t elements) { return int64_t(llvm::divideCeil(elements, 8)); };
    TypedAttr words = part(".qweight", {wordsOf(columns), rows}, {DataType::kI32});
    TypedAttr codes = unpack(transpose(words), integer(4), columns);
    if (synthetic)
      return dequantize(codes, scales(), TypedAttr(), 8);
    if (find(".g_idx"))
      checkGroupOrder(".g_idx");
    TypedAttr zeros = transpose(
        unpack(part(".qzeros", {groups, wordsOf(rows)}, {DataType::kI32}), integer(4), rows));
    return dequantize(codes, transpose(part(".scales", {groups, rows}, kNumbers)), zeros,
                      group.zerosMinusOne ? 1 : 0);
  }

  /// Reports the first of the matrices whose tensor of integers is not as expected.
  template <typename Int, typename Fn>
  bool checkIntegers(StringRef suffix, Shape shape, DataType type, const Fn &expected) {
    for (int64_t index = 0; index < std::max<int64_t>(count, 1); ++index) {
      std::string name = nameOf(suffix, index);
      std::optional<CheckpointTensor> found = model.request(name, shape, {type});
      if (!found)
        return true; // reported
      std::vector<Int> values(size_t(*numElements(shape)));
      const std::string &file = model.source.files()[found->file];
      if (Status status = model.source.read(*found, 0, values.data(), values.size() * sizeof(Int));
          !status.isOk()) {
        model.reportTensor(file, std::string(status.message()), "the file cannot be read");
        return true;
      }
      for (size_t i = 0; i < values.size(); ++i)
        if (int64_t(values[i]) != expected(int64_t(i))) {
          model.reportTensor(file,
                             "tensor \"" + name + "\" in " + file + " holds " +
                                 std::to_string(values[i]) + " at " + std::to_string(i) +
                                 ", expected " + std::to_string(expected(int64_t(i))),
                             suffix.ends_with("g_idx")
                                 ? "columns in another order (desc_act, actorder) are not supported"
                                 : "expected sizes follow from config.json");
          return true;
        }
    }
    return false;
  }
  void checkGroupOrder(StringRef suffix) {
    checkIntegers<int32_t>(suffix, {columns}, DataType::kI32,
                           [&](int64_t i) { return i / groupColumns; });
  }

  ModelBuilder &model;
  const QuantGroup &group;
  StringRef module;
  int64_t count, rows, columns, groupColumns, groups;
  bool synthetic;
  double scale; ///< of synthetic codes
};

TypedAttr ModelBuilder::quantizedMatrix(const QuantGroup &group, StringRef module, int64_t count,
                                        int64_t rows, int64_t columns) {
  return QuantizedReader(*this, group, module, count, rows, columns).read();
}

/// Whether a module of a synthetic checkpoint is one that quantisers leave alone even where no list
/// says so: tables, norms, routers and heads are not among the linear layers that they replace.
static bool isUsuallyPlain(StringRef module) {
  for (StringRef part : {"embed", "norm", "lm_head", "router", "wte", "output_layer"})
    if (module.contains(part))
      return true;
  return module.ends_with(".gate") || module.ends_with("shared_expert_gate");
}

LogicalResult ModelBuilder::findStorage(StringRef module, int64_t count, ArrayRef<int64_t> shape,
                                        const QuantGroup *&group) {
  std::string first = module.str();
  if (size_t hole = first.find("{}"); count > 0 && hole != std::string::npos)
    first.replace(hole, 2, "0");
  if (source.isSynthetic()) {
    if (!isUsuallyPlain(first) && !scheme.excludes(first))
      for (const QuantGroup &each : scheme.groups)
        // Of the two forms of integers, words are what 4 bits come in and bytes what 8 bits do.
        if ((each.storage != QuantStorage::kInt8 && each.storage != QuantStorage::kPacked) ||
            (each.storage == QuantStorage::kInt8) == (each.bits == 8 && each.groupColumns == 0)) {
          group = &each;
          break;
        }
    return success();
  }
  SmallVector<QuantStorage> storages;
  std::string stored;
  auto holds = [&](StringRef suffix, DataType type) {
    std::optional<CheckpointTensor> found = source.find(first + suffix.str());
    if (!found || found->info->dtype != type)
      return false;
    stored = found->info->name + " of type " + dataTypeName(type);
    return true;
  };
  if (holds(".weight", DataType::kF8E4M3))
    storages = {QuantStorage::kFloat8};
  else if (holds(".weight", DataType::kI8))
    storages = {QuantStorage::kInt8};
  else if (holds(".weight", DataType::kU8))
    storages = {QuantStorage::kNvfp4};
  else if (holds(".weight_packed", DataType::kI32))
    storages = {QuantStorage::kPacked};
  else if (holds(".weight_packed", DataType::kU8))
    storages = {QuantStorage::kNvfp4, QuantStorage::kMxfp4};
  else if (holds(".qweight", DataType::kI32))
    storages = {QuantStorage::kAwq, QuantStorage::kGptq};
  else
    return success();
  group = scheme.groupOf(first, storages);
  if (!group)
    reportTensor(
        "",
        "module \"" + first + "\" is stored as " + stored +
            ", for which quantization_config has no settings",
        "the quantization_config of config.json belongs to another checkpoint, or says too "
        "little about it");
  else if (scheme.excludes(first))
    reportTensor("",
                 "module \"" + first + "\" is stored as " + stored +
                     ", but quantization_config lists it as not quantized",
                 "one of both is wrong");
  return success();
}

TypedAttr ModelBuilder::mxfp4Tensor(StringRef key, ArrayRef<int64_t> shape) {
  std::string name = keyPrefix + key.str();
  int64_t columns = shape.back(), groups = columns / 32;
  SmallVector<int64_t> words(shape), scaleShape(shape), packed(shape);
  words.back() = groups;
  words.push_back(16);
  packed.back() = groups * 16;
  scaleShape.back() = groups;
  Type code = Float4E2M1FNType::get(&context()), power = Float8E8M0FNUType::get(&context());
  if (columns % 32 != 0) {
    reportTensor("",
                 "tensor \"" + name + "_blocks\" cannot hold rows of " + std::to_string(columns) +
                     " columns; blocks have 32",
                 "expected shapes follow from the sizes in config.json");
    return moe::SourceAttr::get(&context(), builder.getStringAttr(name), builder.getStringAttr(""),
                                RankedTensorType::get(shape, builder.getF32Type()));
  }
  TypedAttr blocks = reshape(leaf(name + "_blocks", 0, words, {DataType::kU8}), packed);
  TypedAttr scales;
  if (source.isSynthetic()) {
    double size = 1 / (spreadOf(QuantStorage::kMxfp4, 4) * std::sqrt(double(columns)));
    APFloat number(std::exp2(std::round(std::log2(size))));
    bool lossy;
    number.convert(cast<FloatType>(power).getFloatSemantics(), APFloat::rmNearestTiesToEven,
                   &lossy);
    scales = DenseElementsAttr::get(RankedTensorType::get(scaleShape, power),
                                    FloatAttr::get(power, number));
  } else {
    scales =
        moe::UnpackAttr::get(&context(), leaf(name + "_scales", 0, scaleShape, {DataType::kU8}),
                             power, groups, DenseI64ArrayAttr());
  }
  TypedAttr codes = moe::UnpackAttr::get(&context(), blocks, code, columns, DenseI64ArrayAttr());
  return moe::DequantizeAttr::get(&context(), codes, scales, TypedAttr(), /*group=*/32,
                                  /*origin=*/0);
}

} // namespace sluice
