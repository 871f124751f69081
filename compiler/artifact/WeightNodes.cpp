//===- WeightNodes.cpp - Readable nodes of weight expressions ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/WeightNodes.h"

#include "compiler/artifact/ElementConversion.h"

#include <algorithm>
#include <cstring>

namespace sluice {

/// Elements converted or generated at once: the buffers stay in the second-level cache.
static constexpr int64_t kChunkElements = 1 << 15;
/// Strided rows shorter than this are read together with what lies between them: one larger read is
/// cheaper than many small ones.
static constexpr int64_t kShortRowBytes = 16 << 10;
static constexpr int64_t kSpanBytes = 1 << 20;

Status TensorNode::read(int64_t begin, int64_t count, std::byte *out) const {
  return checkpoint.read(tensor, uint64_t(begin * elementBytes), out, size_t(count * elementBytes));
}

Status SyntheticNode::read(int64_t begin, int64_t count, std::byte *out) const {
  if (!canConvertElements(DataType::kF32, type)) {
    tensor.generateCodes(begin * bytesInMemory(type), type == DataType::kF8E4M3,
                         {out, size_t(count * bytesInMemory(type))});
    return Status::ok();
  }
  std::vector<float> values(size_t(std::min(count, kChunkElements)));
  while (count > 0) {
    int64_t n = std::min(count, kChunkElements);
    tensor.generate(begin, std::span(values).first(size_t(n)));
    convertElements(DataType::kF32, reinterpret_cast<const std::byte *>(values.data()), type, out,
                    n);
    begin += n, count -= n, out += n * bytesInMemory(type);
  }
  return Status::ok();
}

Status ConstantNode::read(int64_t begin, int64_t count, std::byte *out) const {
  if (!splat) {
    std::memcpy(out, elements.data() + begin * elementBytes, size_t(count * elementBytes));
    return Status::ok();
  }
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(out + i * elementBytes, elements.data(), size_t(elementBytes));
  return Status::ok();
}

ConcatNode::ConcatNode(std::vector<WeightNodePtr> operands, const std::vector<int64_t> &widths,
                       int64_t elementBytes)
    : operands(std::move(operands)), starts{0}, elementBytes(elementBytes) {
  for (int64_t width : widths)
    starts.push_back(starts.back() + width);
}

Status ConcatNode::read(int64_t begin, int64_t count, std::byte *out) const {
  int64_t row = begin / starts.back(), column = begin % starts.back();
  size_t part = size_t(std::upper_bound(starts.begin(), starts.end(), column) - starts.begin()) - 1;
  while (count > 0) {
    int64_t width = starts[part + 1] - starts[part];
    int64_t n = std::min(count, starts[part + 1] - column);
    if (n > 0)
      SLUICE_RETURN_IF_ERROR(operands[part]->read(row * width + column - starts[part], n, out));
    count -= n, column += n, out += n * elementBytes;
    if (++part == operands.size())
      part = 0, column = 0, ++row;
  }
  return Status::ok();
}

Status SliceNode::read(int64_t begin, int64_t count, std::byte *out) const {
  std::vector<std::byte> span;
  while (count > 0) {
    int64_t group = begin / (size * inner), rest = begin % (size * inner);
    int64_t row = rest / inner, column = rest % inner;
    int64_t source = (group * extent + first + row * stride) * inner + column;
    int64_t rowBytes = inner * elementBytes;
    int64_t n;
    if (stride == 1) {
      n = std::min(count, size * inner - rest);
      SLUICE_RETURN_IF_ERROR(operand->read(source, n, out));
    } else if (column != 0 || count < inner || rowBytes >= kShortRowBytes) {
      n = std::min(count, inner - column);
      SLUICE_RETURN_IF_ERROR(operand->read(source, n, out));
    } else {
      int64_t rows = std::min(
          {count / inner, size - row, std::max<int64_t>(1, kSpanBytes / (stride * rowBytes))});
      int64_t elements = ((rows - 1) * stride + 1) * inner;
      span.resize(size_t(elements * elementBytes));
      SLUICE_RETURN_IF_ERROR(operand->read(source, elements, span.data()));
      for (int64_t i = 0; i < rows; ++i)
        std::memcpy(out + i * rowBytes, span.data() + i * stride * rowBytes, size_t(rowBytes));
      n = rows * inner;
    }
    begin += n, count -= n, out += n * elementBytes;
  }
  return Status::ok();
}

Status TakeNode::read(int64_t begin, int64_t count, std::byte *out) const {
  while (count > 0) {
    int64_t row = begin / inner, column = begin % inner;
    int64_t n = std::min(count, inner - column), index = indices[size_t(row)];
    if (index < 0)
      std::memset(out, 0, size_t(n * elementBytes));
    else
      SLUICE_RETURN_IF_ERROR(operand->read(index * inner + column, n, out));
    begin += n, count -= n, out += n * elementBytes;
  }
  return Status::ok();
}

TransposeNode::TransposeNode(WeightNodePtr operand, std::span<const int64_t> operandShape,
                             std::span<const int64_t> permutation, int64_t elementBytes)
    : operand(std::move(operand)), elementBytes(elementBytes) {
  size_t fixed = 0;
  while (fixed < permutation.size() && permutation[fixed] == int64_t(fixed))
    ++fixed;
  std::vector<int64_t> operandStrides(operandShape.size(), 1);
  for (size_t axis = operandShape.size(); axis-- > fixed;) {
    operandStrides[axis] = blockElements;
    blockElements *= operandShape[axis];
  }
  for (size_t axis = fixed; axis < permutation.size(); ++axis) {
    dims.push_back(operandShape[size_t(permutation[axis])]);
    strides.push_back(operandStrides[size_t(permutation[axis])]);
  }
}

Result<TransposeNode::Block> TransposeNode::block(int64_t index) const {
  std::lock_guard lock(mutex);
  for (auto &[held, data] : recent)
    if (held == index)
      return data;
  auto data = std::make_shared<std::vector<std::byte>>(size_t(blockElements * elementBytes));
  SLUICE_RETURN_IF_ERROR(operand->read(index * blockElements, blockElements, data->data()));
  if (recent.size() == 2)
    recent.erase(recent.begin());
  recent.emplace_back(index, data);
  return Block(data);
}

template <size_t Bytes>
void TransposeNode::gather(const std::byte *data, int64_t begin, int64_t count,
                           std::byte *out) const {
  size_t last = dims.size() - 1;
  std::vector<int64_t> position(dims.size());
  int64_t source = 0;
  for (size_t axis = dims.size(); axis-- > 0; begin /= dims[axis]) {
    position[axis] = begin % dims[axis];
    source += position[axis] * strides[axis];
  }
  while (count > 0) {
    int64_t n = std::min(count, dims[last] - position[last]);
    for (int64_t i = 0; i < n; ++i)
      std::memcpy(out + i * int64_t(Bytes), data + (source + i * strides[last]) * int64_t(Bytes),
                  Bytes);
    out += n * int64_t(Bytes), count -= n;
    source += n * strides[last], position[last] += n;
    for (size_t axis = last; axis > 0 && position[axis] == dims[axis]; --axis) {
      source += strides[axis - 1] - dims[axis] * strides[axis];
      position[axis] = 0, ++position[axis - 1];
    }
  }
}

Status TransposeNode::read(int64_t begin, int64_t count, std::byte *out) const {
  if (dims.empty()) // every axis stays
    return operand->read(begin, count, out);
  while (count > 0) {
    int64_t within = begin % blockElements, n = std::min(count, blockElements - within);
    SLUICE_ASSIGN_OR_RETURN(Block data, block(begin / blockElements));
    switch (elementBytes) {
    case 1:
      gather<1>(data->data(), within, n, out);
      break;
    case 2:
      gather<2>(data->data(), within, n, out);
      break;
    case 4:
      gather<4>(data->data(), within, n, out);
      break;
    default:
      gather<8>(data->data(), within, n, out);
      break;
    }
    begin += n, count -= n, out += n * elementBytes;
  }
  return Status::ok();
}

Status ConvertNode::read(int64_t begin, int64_t count, std::byte *out) const {
  std::vector<std::byte> values(size_t(std::min(count, kChunkElements) * bytesInMemory(from)));
  while (count > 0) {
    int64_t n = std::min(count, kChunkElements);
    SLUICE_RETURN_IF_ERROR(operand->read(begin, n, values.data()));
    convertElements(from, values.data(), to, out, n);
    begin += n, count -= n, out += n * bytesInMemory(to);
  }
  return Status::ok();
}

} // namespace sluice
