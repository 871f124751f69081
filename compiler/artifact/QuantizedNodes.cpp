//===- QuantizedNodes.cpp - Readable nodes of quantised weights -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/QuantizedNodes.h"

#include "compiler/artifact/ElementConversion.h"

#include <algorithm>
#include <cstring>

namespace sluice {

/// Elements treated at once: the buffers stay in the second-level cache.
static constexpr int64_t kChunkElements = 1 << 15;

/// Elements [begin, begin + count) of an operand as float32.
static Status readFloats(const TypedNode &operand, int64_t begin, int64_t count,
                         std::vector<std::byte> &buffer, std::vector<float> &out) {
  buffer.resize(size_t(count * bytesInMemory(operand.type)));
  out.resize(size_t(count));
  SLUICE_RETURN_IF_ERROR(operand.node->read(begin, count, buffer.data()));
  convertElements(operand.type, buffer.data(), DataType::kF32,
                  reinterpret_cast<std::byte *>(out.data()), count);
  return Status::ok();
}

Status DequantizeNode::read(int64_t begin, int64_t count, std::byte *out) const {
  std::vector<std::byte> buffer;
  std::vector<float> values, scaleValues, zeroValues;
  auto placeOfScale = [&](int64_t element) {
    return element / columns * groups + element % columns / group;
  };
  while (count > 0) {
    int64_t n = std::min(count, kChunkElements);
    int64_t firstScale = placeOfScale(begin);
    int64_t numScales = placeOfScale(begin + n - 1) - firstScale + 1;
    SLUICE_RETURN_IF_ERROR(readFloats(codes, begin, n, buffer, values));
    SLUICE_RETURN_IF_ERROR(readFloats(scales, firstScale, numScales, buffer, scaleValues));
    if (zeros.node)
      SLUICE_RETURN_IF_ERROR(readFloats(zeros, firstScale, numScales, buffer, zeroValues));
    int64_t column = begin % columns;
    for (int64_t i = 0, scale = 0; i < n; ++scale) {
      int64_t groupEnd = std::min(column / group * group + group, columns);
      int64_t end = std::min(n, i + groupEnd - column);
      float zero = origin + (zeros.node ? zeroValues[size_t(scale)] : 0.0f);
      for (column += end - i; i < end; ++i)
        values[size_t(i)] = (values[size_t(i)] - zero) * scaleValues[size_t(scale)];
      if (column == columns)
        column = 0;
    }
    std::memcpy(out, values.data(), size_t(n) * sizeof(float));
    begin += n, count -= n, out += n * int64_t(sizeof(float));
  }
  return Status::ok();
}

Status RepeatNode::read(int64_t begin, int64_t count, std::byte *out) const {
  int64_t sourceRows = (size + times - 1) / times;
  std::vector<std::byte> source;
  while (count > 0) {
    int64_t outer = begin / (size * inner), rest = begin % (size * inner);
    int64_t row = rest / inner, column = rest % inner;
    // Rows to the end of this outer index, as many source rows as fit into a chunk.
    int64_t firstSource = row / times;
    int64_t lastSource = std::min({sourceRows - 1, (rest + count - 1) / inner / times,
                                   firstSource + std::max<int64_t>(1, kChunkElements / inner) - 1});
    int64_t rows = lastSource - firstSource + 1;
    source.resize(size_t(rows * inner * elementBytes));
    SLUICE_RETURN_IF_ERROR(
        operand->read((outer * sourceRows + firstSource) * inner, rows * inner, source.data()));
    int64_t endRow = std::min(size, (lastSource + 1) * times);
    for (; count > 0 && row < endRow; ++row, column = 0) {
      int64_t n = std::min(count, inner - column);
      std::memcpy(out,
                  source.data() + ((row / times - firstSource) * inner + column) * elementBytes,
                  size_t(n * elementBytes));
      begin += n, count -= n, out += n * elementBytes;
    }
  }
  return Status::ok();
}

Status UnpackNode::read(int64_t begin, int64_t count, std::byte *out) const {
  int64_t perWord = wordBytes * 8 / bits, words = (size + perWord - 1) / perWord;
  uint32_t mask = (1u << bits) - 1;
  std::vector<std::byte> source;
  auto placeOfWord = [&](int64_t element) {
    return element / size * words + element % size / perWord;
  };
  while (count > 0) {
    int64_t n = std::min(count, kChunkElements);
    int64_t firstWord = placeOfWord(begin), numWords = placeOfWord(begin + n - 1) - firstWord + 1;
    source.resize(size_t(numWords * wordBytes));
    SLUICE_RETURN_IF_ERROR(operand->read(firstWord, numWords, source.data()));
    int64_t column = begin % size, place = column % perWord;
    const std::byte *word = source.data();
    for (int64_t i = 0; i < n; ++i) {
      uint32_t bytes = 0;
      std::memcpy(&bytes, word, size_t(wordBytes)); // little endian, as is the host
      out[i] = std::byte(bytes >> (order[size_t(place)] * bits) & mask);
      if (++column == size)
        column = 0;
      if (++place == perWord || column == 0)
        place = 0, word += wordBytes;
    }
    begin += n, count -= n, out += n;
  }
  return Status::ok();
}

Status ReciprocalNode::read(int64_t begin, int64_t count, std::byte *out) const {
  SLUICE_RETURN_IF_ERROR(operand->read(begin, count, out));
  for (int64_t i = 0; i < count; ++i) {
    float value;
    std::memcpy(&value, out + i * int64_t(sizeof(value)), sizeof(value));
    value = 1.0f / value;
    std::memcpy(out + i * int64_t(sizeof(value)), &value, sizeof(value));
  }
  return Status::ok();
}

} // namespace sluice
