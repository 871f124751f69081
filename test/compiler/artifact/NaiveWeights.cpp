//===- NaiveWeights.cpp - Weight expressions element by element -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "test/compiler/artifact/NaiveWeights.h"

#include "compiler/artifact/SyntheticWeights.h"
#include "compiler/artifact/WeightEvaluator.h"
#include "runtime/base/NarrowFloat.h"
#include "runtime/quant/Quantizer.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <map>

using namespace mlir;

namespace sluice::test {

float roundTo(DataType type, float value) {
  return type == DataType::kBF16  ? bf16ToF32(f32ToBf16(value))
         : type == DataType::kF16 ? f16ToF32(f32ToF16(value))
                                  : value;
}

float codeValue(DataType type, uint8_t code) {
  static const float e2m1[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  int exponent = code >> 3 & 15, mantissa = code & 7;
  float e4m3 = exponent ? std::ldexp(1.0f + float(mantissa) / 8, exponent - 7)
                        : std::ldexp(float(mantissa) / 8, -6);
  switch (type) {
  case DataType::kF4E2M1:
    return code & 8 ? -e2m1[code & 7] : e2m1[code];
  case DataType::kF8E4M3:
    return code & 128 ? -e4m3 : e4m3;
  case DataType::kF8E8M0:
    return std::ldexp(1.0f, code - 127);
  case DataType::kI8:
    return int8_t(code);
  default:
    return code;
  }
}

std::vector<float> toFloats(DataType type, const void *data, size_t count) {
  std::vector<float> values(count);
  const char *bytes = static_cast<const char *>(data);
  for (size_t i = 0; i < count; ++i) {
    if (type == DataType::kF32) {
      std::memcpy(&values[i], bytes + 4 * i, 4);
      continue;
    }
    if (dataTypeBits(type) <= 8) {
      values[i] = codeValue(type, uint8_t(bytes[i]));
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, 2);
    values[i] = type == DataType::kBF16 ? bf16ToF32(bits) : f16ToF32(bits);
  }
  return values;
}

namespace {

using Index = std::vector<int64_t>;

int64_t flatten(ArrayRef<int64_t> shape, ArrayRef<int64_t> index) {
  int64_t flat = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis)
    flat = flat * shape[axis] + index[axis];
  return flat;
}

Index unflatten(ArrayRef<int64_t> shape, int64_t flat) {
  Index index(shape.size());
  for (size_t axis = shape.size(); axis-- > 0; flat /= shape[axis])
    index[axis] = flat % shape[axis];
  return index;
}

double leafAt(const std::string &key, bool synthetic, RankedTensorType type,
              ArrayRef<int64_t> shape, ArrayRef<int64_t> index, const TinyCheckpoint &checkpoint) {
  int64_t flat = flatten(shape, index);
  DataType dtype = *dataTypeOf(type.getElementType());
  if (synthetic && (dtype == DataType::kI32 || dataTypeBits(dtype) == 8)) {
    std::byte bytes[4];
    size_t size = size_t(bytesInMemory(dtype));
    SyntheticTensor(key, shape)
        .generateCodes(flat * int64_t(size), dtype == DataType::kF8E4M3, {bytes, size});
    int32_t word;
    std::memcpy(&word, bytes, sizeof(word));
    return dtype == DataType::kI32 ? double(word) : codeValue(dtype, uint8_t(bytes[0]));
  }
  if (synthetic) {
    float value;
    SyntheticTensor(key, shape).generate(flat, {&value, 1});
    return roundTo(dtype, value);
  }
  auto found = checkpoint.tensors.find(key);
  EXPECT_NE(found, checkpoint.tensors.end()) << key;
  std::vector<uint8_t> bytes = TinyCheckpoint::bytesOf(key, found->second);
  size_t size = size_t(dataTypeBits(found->second.dtype) / 8);
  return toFloats(found->second.dtype, bytes.data() + size_t(flat) * size, 1).front();
}

double at(TypedAttr expr, Index index, const TinyCheckpoint &checkpoint);

/// A whole matrix and its scales: they do not depend on what is read of it.
struct RoundedMatrix {
  std::vector<float> numbers, factors;
  quant::Quantizer quantizer;
  quant::TileScales scales;
};
/// By expression and index of the matrix; kept while one expression is evaluated.
std::map<std::pair<const void *, int64_t>, RoundedMatrix> roundedMatrices;

const RoundedMatrix &matrixOf(moe::QuantizeAttr attr, Index index,
                              const TinyCheckpoint &checkpoint) {
  ArrayRef<int64_t> shape = moe::getWeightType(attr.getOperand()).getShape();
  int64_t rows = shape[shape.size() - 2], columns = shape.back();
  int64_t number = flatten(shape.drop_back(2), ArrayRef(index).drop_back(2));
  auto [entry, isNew] = roundedMatrices.try_emplace({attr.getAsOpaquePointer(), number});
  RoundedMatrix &matrix = entry->second;
  if (!isNew)
    return matrix;
  float largest = 0;
  for (int64_t i = 0; i < rows * columns; ++i) {
    index[index.size() - 2] = i / columns, index.back() = i % columns;
    matrix.numbers.push_back(float(at(attr.getOperand(), index, checkpoint)));
    largest = std::max(largest, std::abs(matrix.numbers.back()));
  }
  matrix.quantizer = *quant::Quantizer::create(
      *quant::WeightFormat::parse(attr.getFormat().getValue().str()), columns);
  matrix.scales = *matrix.quantizer.chooseScales(matrix.numbers, rows, largest);
  if (attr.getFormat().getValue() == "mxfp4")
    matrix.factors = matrix.quantizer.chooseRowFactors(matrix.numbers, rows);
  return matrix;
}

double quantizedAt(moe::QuantizeAttr attr, Index index, const TinyCheckpoint &checkpoint) {
  const RoundedMatrix &matrix = matrixOf(attr, index, checkpoint);
  int64_t row = index[index.size() - 2], column = index.back();
  size_t tile = size_t(row * matrix.quantizer.tilesPerRow() + column);
  size_t element = size_t(row * matrix.quantizer.columns() + column);
  uint8_t code;
  float number;
  switch (attr.getPart()) {
  case moe::QuantizePart::Scales:
    return matrix.scales.scales[tile];
  case moe::QuantizePart::Zeros:
    return matrix.scales.zeros[tile];
  case moe::QuantizePart::RowScales:
    return (matrix.factors.empty() ? matrix.scales.rowScales : matrix.factors)[size_t(row)];
  case moe::QuantizePart::Numbers:
  case moe::QuantizePart::Codes:
    break;
  }
  matrix.quantizer.encode(matrix.scales, row, column, {&matrix.numbers[element], 1}, &code);
  matrix.quantizer.decode(matrix.scales, row, column, {&code, 1}, &number);
  if (attr.getPart() == moe::QuantizePart::Numbers)
    return number;
  return codeValue(*dataTypeOf(cast<RankedTensorType>(attr.getType()).getElementType()), code);
}

double at(TypedAttr expr, Index index, const TinyCheckpoint &checkpoint) {
  RankedTensorType type = moe::getWeightType(expr);
  auto shapeOf = [](TypedAttr operand) { return moe::getWeightType(operand).getShape(); };
  if (auto attr = dyn_cast<moe::SourceAttr>(expr))
    return leafAt(attr.getKey().str(), attr.getFile().empty(), type, type.getShape(), index,
                  checkpoint);
  if (auto attr = dyn_cast<moe::StackAttr>(expr)) {
    std::string key = attr.getPattern().str();
    key.replace(key.find("{}"), 2, std::to_string(index.front()));
    return leafAt(key, cast<StringAttr>(attr.getFiles()[0]).empty(), type,
                  type.getShape().drop_front(), ArrayRef(index).drop_front(), checkpoint);
  }
  if (auto attr = dyn_cast<moe::SliceAttr>(expr)) {
    int64_t &i = index[size_t(attr.getAxis())];
    i = attr.getBegin() + i * attr.getStride();
    return at(attr.getOperand(), index, checkpoint);
  }
  if (auto attr = dyn_cast<moe::TakeAttr>(expr)) {
    index.front() = attr.getIndices()[index.front()];
    return index.front() < 0 ? 0.0f : at(attr.getOperand(), index, checkpoint);
  }
  if (auto attr = dyn_cast<moe::ConcatAttr>(expr)) {
    int64_t &i = index[size_t(attr.getAxis())];
    for (TypedAttr operand : attr.getOperands()) {
      int64_t extent = shapeOf(operand)[size_t(attr.getAxis())];
      if (i < extent)
        return at(operand, index, checkpoint);
      i -= extent;
    }
  }
  if (auto attr = dyn_cast<moe::TransposeAttr>(expr)) {
    Index operand(index.size());
    for (size_t axis = 0; axis < index.size(); ++axis)
      operand[size_t(attr.getPermutation()[int64_t(axis)])] = index[axis];
    return at(attr.getOperand(), operand, checkpoint);
  }
  if (auto attr = dyn_cast<moe::ReshapeAttr>(expr))
    return at(attr.getOperand(),
              unflatten(shapeOf(attr.getOperand()), flatten(type.getShape(), index)), checkpoint);
  if (auto attr = dyn_cast<moe::ConvertAttr>(expr))
    return roundTo(*dataTypeOf(attr.getElementType()),
                   float(at(attr.getOperand(), index, checkpoint)));
  if (auto attr = dyn_cast<moe::DequantizeAttr>(expr)) {
    double number = at(attr.getCodes(), index, checkpoint) - double(attr.getOrigin());
    index.back() /= attr.getGroup();
    if (attr.getZeros())
      number -= at(attr.getZeros(), index, checkpoint);
    return float(number * at(attr.getScales(), index, checkpoint));
  }
  if (auto attr = dyn_cast<moe::QuantizeAttr>(expr))
    return quantizedAt(attr, index, checkpoint);
  if (auto attr = dyn_cast<moe::RepeatAttr>(expr)) {
    index[size_t(attr.getAxis())] /= attr.getTimes();
    return at(attr.getOperand(), index, checkpoint);
  }
  if (auto attr = dyn_cast<moe::UnpackAttr>(expr)) {
    int64_t bits = attr.getElementType().getIntOrFloatBitWidth();
    int64_t perWord = moe::getWeightType(attr.getOperand()).getElementTypeBitWidth() / bits;
    int64_t place = index.back() % perWord;
    index.back() /= perWord;
    auto word = uint32_t(int64_t(at(attr.getOperand(), index, checkpoint)));
    int64_t shift = (attr.getOrder() ? attr.getOrder()[place] : place) * bits;
    return codeValue(*dataTypeOf(attr.getElementType()),
                     uint8_t(word >> shift & ((1u << bits) - 1)));
  }
  if (auto attr = dyn_cast<moe::ReciprocalAttr>(expr))
    return float(1 / at(attr.getOperand(), index, checkpoint));
  if (auto attr = dyn_cast<DenseElementsAttr>(expr)) {
    APFloat value = attr.getValues<APFloat>()[uint64_t(flatten(type.getShape(), index))];
    bool lossy;
    value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &lossy);
    return value.convertToFloat();
  }
  ADD_FAILURE() << "no definition for this node";
  return 0;
}

} // namespace

std::vector<float> naiveValues(TypedAttr expr, const TinyCheckpoint &checkpoint) {
  RankedTensorType type = moe::getWeightType(expr);
  std::vector<float> values;
  roundedMatrices.clear();
  for (int64_t i = 0; i < type.getNumElements(); ++i)
    values.push_back(float(at(expr, unflatten(type.getShape(), i), checkpoint)));
  return values;
}

} // namespace sluice::test
