//===- GatedUnit.h - Gate and up products with their activation -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The part that dense feed-forward layers and experts share: a range of gate/up panel pairs of one
// gate_up_panel16 blob against some rows, finished by the gated activation.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_GATEDUNIT_H
#define SLUICE_RUNTIME_DEVICE_HOST_GATEDUNIT_H

#include "runtime/device/host/Epilogue.h"
#include "runtime/device/host/Matmul.h"

#include <cstring>

namespace sluice::host {

/// One gated layer prepared for running. A plain value, safe to share between threads.
class GatedUnit {
public:
  GatedUnit(const quant::PackedLayout &layout, const GatedEpilogue &epilogue)
      : packed(layout), matrix(layout), ops(chooseEpilogueOps()), epilogue(epilogue) {}

  int64_t n() const { return packed.n(); }
  int64_t k() const { return packed.k(); }
  /// Panels of a blob, gate and up counted.
  int64_t panels() const { return 2 * packed.panels(); }
  uint64_t blobBytes() const { return packed.blobBytes(); }

  /// out[rows, n] columns of panels [panelBegin, panelEnd) (both even) of `blob`. bias: [2, n] or
  /// null; rowScale: [rows] factors of the products or null; rowOf(r): input row r.
  template <typename RowOf>
  void run(const void *blob, const float *bias, const float *rowScale, int64_t rows,
           int64_t panelBegin, int64_t panelEnd, float *out, const RowOf &rowOf) const {
    matrix.forEachStrip(
        blob, rows, panelBegin, panelEnd, rowOf,
        [&](float *strip, int64_t row, int64_t height, int64_t panel, int64_t count) {
          finish(strip, height, panel / 2, count / 2, bias, rowScale ? rowScale + row : nullptr,
                 out + row * n());
        });
  }

private:
  void finish(float *strip, int64_t rows, int64_t firstPair, int64_t pairs, const float *bias,
              const float *rowScale, float *out) const {
    alignas(64) float stripBias[kStripWidth] = {};
    auto width = [&](int64_t pair) {
      return std::min(quant::kPanelRows, n() - (firstPair + pair) * quant::kPanelRows);
    };
    for (int64_t pair = 0; bias && pair < pairs; ++pair) {
      const float *gateBias = bias + (firstPair + pair) * quant::kPanelRows;
      float *to = stripBias + pair * 2 * quant::kPanelRows;
      std::memcpy(to, gateBias, size_t(width(pair)) * sizeof(float));
      std::memcpy(to + quant::kPanelRows, gateBias + n(), size_t(width(pair)) * sizeof(float));
    }
    ops.gated(epilogue, strip, rows, pairs, stripBias, rowScale);
    for (int64_t pair = 0; pair < pairs; ++pair)
      storeStrip(strip + pair * 2 * quant::kPanelRows, rows, width(pair),
                 out + (firstPair + pair) * quant::kPanelRows, n());
  }

  quant::PackedLayout packed;
  PanelMatrix matrix;
  EpilogueOps ops;
  GatedEpilogue epilogue;
};

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_GATEDUNIT_H
