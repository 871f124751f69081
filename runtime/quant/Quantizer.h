//===- Quantizer.h - From numbers to codes and scales -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Rounding to a quantised format is choosing scales; the codes follow. Formats with 8-bit codes
// take the largest magnitude, which wastes less than a bit. With 4-bit codes the scale decides how
// much is lost: a scale that clips the largest number a little serves the others better, so
// candidates are compared by the sum of their squared errors, the rule that leaves the expected
// change of a product smallest when nothing is known about the activations. Plain rounding is
// always one of the candidates. Everything is deterministic: the same numbers give the same codes
// wherever and in however many pieces they are computed.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_QUANT_QUANTIZER_H
#define SLUICE_RUNTIME_QUANT_QUANTIZER_H

#include "runtime/quant/WeightFormat.h"

#include <span>
#include <vector>

namespace sluice::quant {

/// How scales of 4-bit formats are chosen.
enum class ScaleChoice : uint8_t {
  kLargest,   ///< so that the largest magnitude is kept: plain rounding
  kLeastError ///< among candidates, that of the least sum of squared errors
};

/// Scales of consecutive rows of a matrix. A tile is what shares a scale.
struct TileScales {
  std::vector<float> scales;    ///< [rows of tiles, tiles in a row], as the format can store them
  std::vector<uint8_t> zeros;   ///< of the same shape for formats with zero points, 0..15
  std::vector<float> rowScales; ///< [rows] for nvfp4
};

/// Rounds matrices [N, K] to one format. An immutable value, safe to share between threads.
class Quantizer {
public:
  /// Fails with kInvalidArgument for a format that is not quantised or `columns` that are not
  /// positive.
  static Result<Quantizer> create(const WeightFormat &format, int64_t columns,
                                  ScaleChoice choice = ScaleChoice::kLeastError);

  const WeightFormat &format() const { return weightFormat; }
  int64_t columns() const { return cols; }
  /// Rows and columns of a tile. One scale for the whole tensor counts as one per row here: rows
  /// are all that this class sees at a time.
  int64_t tileRows() const { return rowsOfTile; }
  int64_t tileColumns() const { return columnsOfTile; }
  int64_t tilesPerRow() const { return (cols - 1) / columnsOfTile + 1; }

  /// Chooses the scales of `rows` rows of numbers [rows, K]; the first row begins a tile, and so
  /// would the row after the last unless the matrix ends there. `tensorLargest` is the largest
  /// magnitude of the tensor, for formats with one scale of it. Fails with kDataCorrupt when a
  /// number is not finite, naming its row and column.
  Result<TileScales> chooseScales(std::span<const float> numbers, int64_t rows,
                                  float tensorLargest = 0) const;

  /// mxfp4: per row the factor in [1, 2) that it is best multiplied with before it is rounded,
  /// since scales that are powers of two fit some magnitudes better than others. Where a model lets
  /// a factor of a row be undone elsewhere, that costs nothing. `numbers` as for chooseScales().
  std::vector<float> chooseRowFactors(std::span<const float> numbers, int64_t rows) const;

  /// Codes of columns [column, column + numbers.size()) of row `row` of `scales`, one byte each as
  /// SourceRows takes them.
  void encode(const TileScales &scales, int64_t row, int64_t column, std::span<const float> numbers,
              uint8_t *codes) const;

  /// The numbers that codes stand for: (code - zero) * (scale * rowScale).
  void decode(const TileScales &scales, int64_t row, int64_t column, std::span<const uint8_t> codes,
              float *numbers) const;

private:
  void chooseGroups(const float *row, TileScales &out) const;
  template <typename Apply> void forEachTile(int64_t column, int64_t count, Apply apply) const;

  WeightFormat weightFormat;
  ScaleChoice choice = ScaleChoice::kLeastError;
  int64_t cols = 0, rowsOfTile = 1, columnsOfTile = 1;
};

} // namespace sluice::quant

#endif // SLUICE_RUNTIME_QUANT_QUANTIZER_H
