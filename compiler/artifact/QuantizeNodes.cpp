//===- QuantizeNodes.cpp - Weights that are quantised while written ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/QuantizeNodes.h"

#include "compiler/artifact/ElementConversion.h"
#include "runtime/base/NarrowFloat.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sluice {

/// Numbers of a chunk, and of one read: few enough that they stay in the second-level cache.
static constexpr int64_t kChunkElements = 1 << 16;
/// Chunks whose scales are kept: those of the pieces that some threads are packing, which are at
/// most 2 MiB of codes each. Their scales are a small part of that.
static constexpr size_t kRecentChunks = 512;
/// Chunks whose row factors are kept, a few numbers each: those of all rows of several matrices,
/// since a column of factors belongs to a whole matrix.
static constexpr size_t kKeptFactors = 1 << 14;

QuantizeSource::QuantizeSource(TypedNode numbers, const quant::Quantizer &quantizer, int64_t rows)
    : numbers(std::move(numbers)), rounding(quantizer), matrixRows(rows) {
  int64_t tile = rounding.tileRows();
  chunkRows = std::max<int64_t>(1, kChunkElements / (rounding.columns() * tile)) * tile;
}

Status QuantizeSource::readNumbers(int64_t begin, int64_t count, std::vector<float> &out) const {
  std::vector<std::byte> raw(size_t(count * bytesInMemory(numbers.type)));
  out.resize(size_t(count));
  SLUICE_RETURN_IF_ERROR(numbers.node->read(begin, count, raw.data()));
  convertElements(numbers.type, raw.data(), DataType::kF32,
                  reinterpret_cast<std::byte *>(out.data()), count);
  return Status::ok();
}

Result<float> QuantizeSource::tensorLargest(int64_t matrix) const {
  if (rounding.format().scope != quant::ScaleScope::kTensor)
    return 0.0f;
  {
    std::lock_guard lock(mutex);
    if (auto found = largest.find(matrix); found != largest.end())
      return found->second;
  }
  int64_t begin = matrix * matrixRows * columns(), end = begin + matrixRows * columns();
  std::vector<float> values;
  float result = 0;
  for (; begin < end; begin += int64_t(values.size())) {
    SLUICE_RETURN_IF_ERROR(readNumbers(begin, std::min(kChunkElements, end - begin), values));
    for (float value : values)
      result = std::max(result, std::fabs(value));
  }
  std::lock_guard lock(mutex);
  return largest.emplace(matrix, result).first->second;
}

Result<QuantizeSource::ChunkPtr> QuantizeSource::chunkOf(int64_t row) const {
  int64_t first = firstRowOfChunk(row);
  {
    std::lock_guard lock(mutex);
    for (auto it = recentChunks.rbegin(); it != recentChunks.rend(); ++it)
      if (it->first == first)
        return it->second;
  }
  // Without the lock: two threads may choose the same scales, which is better than one waiting.
  SLUICE_ASSIGN_OR_RETURN(float tensor, tensorLargest(first / matrixRows));
  auto chunk = std::make_shared<Chunk>();
  chunk->firstRow = first;
  chunk->numRows = rowsOfChunk(first);
  std::vector<float> values;
  SLUICE_RETURN_IF_ERROR(readNumbers(first * columns(), chunk->numRows * columns(), values));
  auto scales = rounding.chooseScales(values, chunk->numRows, tensor);
  if (!scales.isOk())
    return scales.status().withContext("rows from " + std::to_string(first));
  chunk->scales = std::move(*scales);
  std::lock_guard lock(mutex);
  if (recentChunks.size() == kRecentChunks)
    recentChunks.pop_front();
  recentChunks.emplace_back(first, chunk);
  return ChunkPtr(chunk);
}

Result<QuantizeSource::FactorsPtr> QuantizeSource::rowFactorsOf(int64_t row,
                                                                int64_t &firstRow) const {
  firstRow = firstRowOfChunk(row);
  {
    std::lock_guard lock(mutex);
    if (auto found = factors.find(firstRow); found != factors.end())
      return found->second;
  }
  int64_t rows = rowsOfChunk(firstRow);
  std::vector<float> values;
  SLUICE_RETURN_IF_ERROR(readNumbers(firstRow * columns(), rows * columns(), values));
  auto chosen = std::make_shared<const std::vector<float>>(rounding.chooseRowFactors(values, rows));
  std::lock_guard lock(mutex);
  if (factors.size() >= kKeptFactors)
    factors.clear();
  return factors.emplace(firstRow, chosen).first->second;
}

QuantizeNode::QuantizeNode(std::shared_ptr<const QuantizeSource> from, QuantizedPart part)
    : source(std::move(from)), part(part) {
  const quant::Quantizer &quantizer = source->quantizer();
  const quant::WeightFormat &format = quantizer.format();
  partRows = source->rows();
  if (part == QuantizedPart::kScales || part == QuantizedPart::kZeros) {
    tileRows = format.scope == quant::ScaleScope::kTensor ? source->rows() : quantizer.tileRows();
    partRows = (source->rows() - 1) / tileRows + 1;
    partColumns = quantizer.tilesPerRow();
  }
  bool floats = part == QuantizedPart::kNumbers || part == QuantizedPart::kRowScales ||
                (part == QuantizedPart::kScales && format.scale == quant::ScaleType::kF32);
  elementBytes = floats ? int64_t(sizeof(float)) : 1;
}

Status QuantizeNode::read(int64_t begin, int64_t count, std::byte *out) const {
  if (part == QuantizedPart::kNumbers || part == QuantizedPart::kCodes)
    return readElements(begin, count, out);
  if (part == QuantizedPart::kRowScales && !source->quantizer().format().hasRowScale())
    return readFactors(begin, count, out);
  QuantizeSource::ChunkPtr chunk;
  for (; count > 0; ++begin, --count, out += elementBytes) {
    int64_t partRow = begin / partColumns, matrix = partRow / partRows;
    int64_t row = matrix * source->rows() + partRow % partRows * tileRows;
    if (!chunk || row >= chunk->firstRow + chunk->numRows) {
      SLUICE_ASSIGN_OR_RETURN(chunk, source->chunkOf(row));
    }
    storeScale(*chunk, row - chunk->firstRow, begin % partColumns, out);
  }
  return Status::ok();
}

Status QuantizeNode::readFactors(int64_t begin, int64_t count, std::byte *out) const {
  for (int64_t row = begin; row < begin + count;) {
    int64_t firstRow = 0;
    SLUICE_ASSIGN_OR_RETURN(QuantizeSource::FactorsPtr factors,
                            source->rowFactorsOf(row, firstRow));
    int64_t n = std::min(begin + count, firstRow + int64_t(factors->size())) - row;
    std::memcpy(out, factors->data() + (row - firstRow), size_t(n) * sizeof(float));
    row += n, out += n * int64_t(sizeof(float));
  }
  return Status::ok();
}

void QuantizeNode::storeScale(const QuantizeSource::Chunk &chunk, int64_t row, int64_t tile,
                              std::byte *out) const {
  const quant::Quantizer &quantizer = source->quantizer();
  size_t place = size_t(row / quantizer.tileRows() * quantizer.tilesPerRow() + tile);
  float value = 0;
  if (part == QuantizedPart::kZeros) {
    *out = std::byte(chunk.scales.zeros[place]);
    return;
  }
  value = part == QuantizedPart::kRowScales ? chunk.scales.rowScales[size_t(row)]
                                            : chunk.scales.scales[place];
  if (elementBytes == int64_t(sizeof(float)))
    std::memcpy(out, &value, sizeof(value));
  else if (quantizer.format().scale == quant::ScaleType::kE8M0)
    *out = std::byte(f32ToF8E8M0(value, ScaleRounding::kDown));
  else
    *out = std::byte(f32ToF8E4M3(value));
}

Status QuantizeNode::readElements(int64_t begin, int64_t count, std::byte *out) const {
  const quant::Quantizer &quantizer = source->quantizer();
  const int64_t columns = source->columns();
  std::vector<float> numbers;
  std::vector<uint8_t> codes;
  while (count > 0) {
    int64_t n = std::min(count, kChunkElements);
    SLUICE_RETURN_IF_ERROR(source->readNumbers(begin, n, numbers));
    codes.resize(size_t(n));
    QuantizeSource::ChunkPtr chunk;
    for (int64_t i = 0; i < n;) {
      int64_t row = (begin + i) / columns, column = (begin + i) % columns;
      int64_t width = std::min(n - i, columns - column);
      if (!chunk || row >= chunk->firstRow + chunk->numRows) {
        SLUICE_ASSIGN_OR_RETURN(chunk, source->chunkOf(row));
      }
      row -= chunk->firstRow;
      std::span<float> piece = std::span(numbers).subspan(size_t(i), size_t(width));
      quantizer.encode(chunk->scales, row, column, piece, codes.data() + i);
      if (part == QuantizedPart::kNumbers)
        quantizer.decode(chunk->scales, row, column,
                         std::span(codes).subspan(size_t(i), size_t(width)), piece.data());
      i += width;
    }
    if (part == QuantizedPart::kNumbers)
      std::memcpy(out, numbers.data(), size_t(n) * sizeof(float));
    else
      std::memcpy(out, codes.data(), size_t(n));
    begin += n, count -= n, out += n * elementBytes;
  }
  return Status::ok();
}

} // namespace sluice
