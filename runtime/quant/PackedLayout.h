//===- PackedLayout.h - The order in which host kernels stream weights ------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The host kernels compute 16 outputs at a time and read each weight once, front to back. So a
// weight W[N, K] is stored as ceil(N / 16) panels of [K][16] elements: step k of a panel holds the
// 16 weights that one activation x[k] is multiplied with. Rows past N are zero. A panel is what a
// thread owns, therefore the scales of quantised formats will live inside it too.
//
//   panel16           panels of W
//   gate_up_panel16   gate panel 0, up panel 0, gate panel 1, up panel 1, ...
//
// so that one pass yields both halves of the gated activation. Each matrix (or gate/up pair) is a
// blob padded with zeros to a multiple of 64 bytes; the experts of a layer are blobs back to back.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_QUANT_PACKEDLAYOUT_H
#define SLUICE_RUNTIME_QUANT_PACKEDLAYOUT_H

#include "runtime/quant/WeightFormat.h"

#include <cstddef>
#include <span>

namespace sluice::quant {

inline constexpr int64_t kPanelRows = 16;
inline constexpr int64_t kBlobAlignment = 64;

/// Which matrix of a gate_up_panel16 blob is meant; kOnly for panel16.
enum class PanelRole : uint8_t { kOnly, kGate, kUp };

/// Row-major rows of a checkpoint tensor. `data` may be unaligned; it stays the caller's, and so do
/// the scales.
///
/// Unquantised formats take f32, bf16 or f16 elements and convert them. Quantised formats take the
/// codes of their own element type, one byte each (i4: 0..15; kF4E2M1: sign, two exponent bits and
/// one mantissa bit in bits 3..0; NaN codes of f8e4m3 are refused), and per row the scales of its
/// groups: value = (code - zero) * scale * rowScale. Scales are numbers, whatever they are stored
/// as; those that the format cannot hold exactly are refused.
struct SourceRows {
  const std::byte *data = nullptr;
  ElementType type = ElementType::kF32; ///< kF32, kBF16 or kF16; the format's own when quantised
  int64_t rowStride = 0;                ///< elements from one row to the next, at least K

  const float *scales = nullptr; ///< [rows, scaleStride], of which WeightFormat::groupsPerRow count
  int64_t scaleStride = 0;       ///< values from the scales (and zeros) of one row to the next
  const uint8_t *zeros = nullptr;   ///< i4: zero points 0..127, as `scales`; null = all are 8
  const float *rowScales = nullptr; ///< nvfp4: [rows] common factors of the scales of a row
};

/// The packed form of one weight: `n` rows (of each of gate and up, when paired), `k` columns,
/// `blobs` equal matrices. An immutable value, safe to share between threads.
class PackedLayout {
public:
  PackedLayout() = default;

  /// `layout` is "panel16" or "gate_up_panel16". Fails when the layout or format is unknown or
  /// unsupported, a size is not positive, or the total exceeds 2^62 bytes.
  static Result<PackedLayout> create(std::string_view layout, const WeightFormat &format, int64_t n,
                                     int64_t k, int64_t blobs = 1);

  const WeightFormat &format() const { return weightFormat; }
  const char *name() const { return paired ? "gate_up_panel16" : "panel16"; }
  bool isPaired() const { return paired; }
  int64_t n() const { return rows; }
  int64_t k() const { return cols; }
  int64_t blobs() const { return blobCount; }

  /// Panels of one matrix: ceil(n / 16); a paired blob has twice as many.
  int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  uint64_t panelBytes() const { return panelSize; }
  /// Bytes from a panel of one role to the next panel of the same role.
  uint64_t panelStride() const { return paired ? 2 * panelSize : panelSize; }
  uint64_t blobBytes() const { return blobSize; }
  uint64_t totalBytes() const { return blobSize * uint64_t(blobCount); }

  /// Where, within its blob, the panel (pair) that holds row `row` begins; row is a multiple of 16.
  uint64_t offsetOfRow(int64_t row) const { return uint64_t(row / kPanelRows) * panelStride(); }
  /// Bytes of the panels (pairs) of rows [rowBegin, rowBegin + rowCount), with the blob's padding
  /// when they are its last: consecutive ranges tile the blob.
  uint64_t bytesOfRows(int64_t rowBegin, int64_t rowCount) const;

  /// Packs rows [rowBegin, rowBegin + rowCount) of one matrix into `out`, which stands for the
  /// bytes at offsetOfRow(rowBegin) of the blob and has bytesOfRows(rowBegin, rowCount) of them, so
  /// that a huge matrix can be packed range by range. rowBegin is a multiple of 16, and so is
  /// rowCount unless the range ends the matrix. source.data is row `rowBegin`. A paired range is
  /// complete after one call for kGate and one for kUp on the same `out`. Padding is zeroed. Fails
  /// when the source does not suit the format, naming the row (counted from rowBegin) and column.
  Status packRows(PanelRole role, int64_t rowBegin, int64_t rowCount, const SourceRows &source,
                  std::span<std::byte> out) const;

  /// The inverse on one whole blob: rows of `role` as float32 [n, k] into `out` (n * k values).
  /// Quantised: (code - zero) * (scale * rowScale), each product rounded to float32.
  Status unpack(PanelRole role, std::span<const std::byte> blob, std::span<float> out) const;

private:
  Status checkRole(PanelRole role) const;

  WeightFormat weightFormat;
  bool paired = false;
  int64_t rows = 0, cols = 0, blobCount = 1;
  uint64_t panelSize = 0, blobSize = 0;
};

/// Total bytes of `blobs` matrices [n, k] as panel16 blobs; paired sizes are those of two matrices.
Result<uint64_t> packedBytes(std::string_view layout, const WeightFormat &format, int64_t n,
                             int64_t k, int64_t blobs = 1);

} // namespace sluice::quant

#endif // SLUICE_RUNTIME_QUANT_PACKEDLAYOUT_H
