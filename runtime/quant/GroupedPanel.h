//===- GroupedPanel.h - One panel of a quantised weight ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A panel of a quantised weight is read front to back by one thread, so everything it needs lies in
// the order of use. 16 values stand for the 16 rows of the panel:
//
//   nvfp4: 16 float32 row scales
//   per group of columns:
//     16 scales: float32, or one byte each (mxfp4: E8M0, nvfp4: E4M3)
//     i4: 16 zero points, one byte each
//     codes: 8-bit formats 16 bytes per step; 4-bit formats 32 bytes per four steps, which hold
//     steps 0 and 1 in their low nibbles and 2 and 3 in their high ones; the last unit of a group
//     is filled up with zeros
//
// The last group may be shorter. Two register operations on 32 bytes of nibbles give two times two
// steps in order. Every part is a multiple of 16 bytes long.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_QUANT_GROUPEDPANEL_H
#define SLUICE_RUNTIME_QUANT_GROUPEDPANEL_H

#include "runtime/quant/PackedLayout.h"

#include <algorithm>

namespace sluice::quant {

/// The geometry of a panel of `k` columns in a packable quantised format. A plain value.
class GroupedPanel {
public:
  GroupedPanel() = default;
  GroupedPanel(const WeightFormat &format, int64_t k)
      : format(format), cols(k), groupWidth(format.groupColumns(k)) {}

  int64_t k() const { return cols; }
  int64_t groups() const { return format.groupsPerRow(cols); }
  /// Columns of every group but perhaps the last.
  int64_t groupCols() const { return groupWidth; }
  int64_t colsOf(int64_t group) const { return std::min(groupWidth, cols - group * groupWidth); }

  int64_t rowScaleBytes() const { return format.hasRowScale() ? 4 * kPanelRows : 0; }
  int64_t scaleBytes() const {
    return format.scale == ScaleType::kF32 ? 4 * kPanelRows : kPanelRows;
  }
  int64_t zeroBytes() const { return format.zeroPoint ? kPanelRows : 0; }
  /// Bytes of `steps` consecutive steps from the start of a group.
  int64_t codeBytes(int64_t steps) const {
    return elementBits(format.element) == 4 ? (steps + 3) / 4 * 2 * kPanelRows : steps * kPanelRows;
  }
  int64_t groupBytes(int64_t steps) const { return scaleBytes() + zeroBytes() + codeBytes(steps); }
  /// Where group `group` begins within the panel.
  int64_t offsetOf(int64_t group) const { return rowScaleBytes() + group * groupBytes(groupWidth); }
  int64_t panelBytes() const { return offsetOf(groups() - 1) + groupBytes(colsOf(groups() - 1)); }

  /// Fails when arrays that the format needs are missing, or are given to one without them.
  Status checkSource(const SourceRows &source) const;

  /// Packs rows [row, row + rows) of `source`, at most 16, and zeroes the rest of the panel.
  Status pack(const SourceRows &source, int64_t row, int64_t rows, std::byte *panel) const;

  /// The first `rows` rows as float32 [rows, k].
  void unpack(const std::byte *panel, int64_t rows, float *out) const;

private:
  Status packScales(const SourceRows &source, int64_t row, int64_t group, int64_t lane,
                    std::byte *header) const;
  Status packCodes(const SourceRows &source, int64_t row, int64_t begin, int64_t steps,
                   int64_t offset, std::byte *codes) const;

  WeightFormat format;
  int64_t cols = 0, groupWidth = 1;
};

} // namespace sluice::quant

#endif // SLUICE_RUNTIME_QUANT_GROUPEDPANEL_H
