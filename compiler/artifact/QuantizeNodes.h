//===- QuantizeNodes.h - Weights that are quantised while written -*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Codes and scales are separate parts of an expression, but scales are found by looking at all
// numbers of a tile, and finding them is what costs. So the parts of one weight share a source that
// remembers the scales of the rows it was asked for last: a writer that reads codes and then scales
// of a piece pays for them once.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_QUANTIZENODES_H
#define SLUICE_COMPILER_ARTIFACT_QUANTIZENODES_H

#include "compiler/artifact/QuantizedNodes.h"
#include "runtime/quant/Quantizer.h"

#include <deque>
#include <map>

namespace sluice {

/// The numbers of matrices [rows, columns], back to back, and the scales they are rounded with.
/// Thread-safe.
class QuantizeSource {
public:
  QuantizeSource(TypedNode numbers, const quant::Quantizer &quantizer, int64_t rows);

  const quant::Quantizer &quantizer() const { return rounding; }
  int64_t rows() const { return matrixRows; }
  int64_t columns() const { return rounding.columns(); }

  /// A run of rows within one matrix whose scales are chosen together; it begins a tile.
  struct Chunk {
    int64_t firstRow = 0, numRows = 0; ///< rows of all matrices counted through
    quant::TileScales scales;
  };
  using ChunkPtr = std::shared_ptr<const Chunk>;

  /// The chunk of a row, rows of all matrices counted through.
  Result<ChunkPtr> chunkOf(int64_t row) const;
  /// Per row of a chunk, Quantizer::chooseRowFactors(); `firstRow` is the chunk's.
  using FactorsPtr = std::shared_ptr<const std::vector<float>>;
  Result<FactorsPtr> rowFactorsOf(int64_t row, int64_t &firstRow) const;
  /// Numbers [begin, begin + count) of all matrices in row-major order.
  Status readNumbers(int64_t begin, int64_t count, std::vector<float> &out) const;

private:
  Result<float> tensorLargest(int64_t matrix) const;

  TypedNode numbers;
  quant::Quantizer rounding;
  int64_t matrixRows, chunkRows;

  int64_t firstRowOfChunk(int64_t row) const {
    return row / matrixRows * matrixRows + row % matrixRows / chunkRows * chunkRows;
  }
  int64_t rowsOfChunk(int64_t first) const {
    return std::min(chunkRows, matrixRows - first % matrixRows);
  }

  mutable std::mutex mutex;
  mutable std::map<int64_t, FactorsPtr> factors;                 ///< by first row; guarded by mutex
  mutable std::map<int64_t, float> largest;                      ///< by matrix; guarded by mutex
  mutable std::deque<std::pair<int64_t, ChunkPtr>> recentChunks; ///< guarded by mutex; latest last
};

/// What of a quantised weight is read.
enum class QuantizedPart : uint8_t { kNumbers, kCodes, kScales, kZeros, kRowScales };

class QuantizeNode final : public WeightNode {
public:
  QuantizeNode(std::shared_ptr<const QuantizeSource> source, QuantizedPart part);
  Status read(int64_t begin, int64_t count, std::byte *out) const override;

private:
  Status readElements(int64_t begin, int64_t count, std::byte *out) const;
  Status readFactors(int64_t begin, int64_t count, std::byte *out) const;
  void storeScale(const QuantizeSource::Chunk &chunk, int64_t row, int64_t tile,
                  std::byte *out) const;

  std::shared_ptr<const QuantizeSource> source;
  QuantizedPart part;
  int64_t elementBytes = 1;
  int64_t tileRows = 1, partRows = 0, partColumns = 1; ///< of scales, zeros and row scales
};

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_QUANTIZENODES_H
