//===- QuantSource.h - Random quantised matrices for tests ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Codes, scales and zero points as a checkpoint would hold them, every code of the format among
// them, and the numbers that they stand for.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_QUANT_QUANTSOURCE_H
#define SLUICE_TEST_RUNTIME_QUANT_QUANTSOURCE_H

#include "runtime/base/NarrowFloat.h"
#include "runtime/quant/PackedLayout.h"

#include <cmath>
#include <random>
#include <vector>

namespace sluice::quant::testing {

struct QuantSource {
  WeightFormat format;
  int64_t n = 0, k = 0;
  std::vector<uint8_t> codes, zeros;
  std::vector<float> scales, rowScales;

  /// Products with normal activations are of the order of one.
  QuantSource(const WeightFormat &format, int64_t n, int64_t k, unsigned seed)
      : format(format), n(n), k(k) {
    std::mt19937 random(seed);
    auto pick = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
    const bool nibbles = elementBits(format.element) == 4;
    for (int64_t i = 0; i < n * k; ++i) {
      int code = pick(0, nibbles ? 15 : 255);
      codes.push_back(format.element == ElementType::kF8E4M3 && (code & 127) == 127
                          ? uint8_t(0x38)
                          : uint8_t(code));
    }
    const float typical = format.element == ElementType::kF8E4M3 ? 100
                          : format.element == ElementType::kI8   ? 70
                          : format.element == ElementType::kI4   ? 10
                                                                 : 4;
    const float unit = 1 / (typical * std::sqrt(float(k)));
    for (int64_t i = 0; i < n * format.groupsPerRow(k); ++i) {
      if (format.scale == ScaleType::kE8M0)
        scales.push_back(std::ldexp(1.0f, std::ilogb(unit) + pick(-1, 1)));
      else if (format.scale == ScaleType::kE4M3)
        scales.push_back(f8E4M3ToF32(uint8_t(pick(0x28, 0x40))));
      else
        scales.push_back(unit * std::uniform_real_distribution<float>(-2, 2)(random));
      if (format.zeroPoint)
        zeros.push_back(uint8_t(pick(0, 16)));
    }
    for (int64_t i = 0; format.hasRowScale() && i < n; ++i)
      rowScales.push_back(unit * std::uniform_real_distribution<float>(0.5f, 2)(random));
  }

  SourceRows rows(int64_t begin = 0) const {
    SourceRows out;
    out.data = reinterpret_cast<const std::byte *>(codes.data()) + begin * k;
    out.type = format.element;
    out.rowStride = k;
    out.scaleStride = format.groupsPerRow(k);
    out.scales = scales.data() + begin * out.scaleStride;
    out.zeros = zeros.empty() ? nullptr : zeros.data() + begin * out.scaleStride;
    out.rowScales = rowScales.empty() ? nullptr : rowScales.data() + begin;
    return out;
  }

  /// The number that the code stands for, before scales.
  double code(int64_t row, int64_t col) const {
    constexpr double e2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};
    uint8_t value = codes[size_t(row * k + col)];
    switch (format.element) {
    case ElementType::kF8E4M3:
      return double(f8E4M3ToF32(value));
    case ElementType::kI8:
      return int8_t(value);
    case ElementType::kI4:
      return int(value) - int(zeros[groupOf(row, col)]);
    default:
      return e2m1[value];
    }
  }
  float scale(int64_t row, int64_t col) const {
    float scale = scales[groupOf(row, col)];
    return rowScales.empty() ? scale : scale * rowScales[size_t(row)];
  }
  /// The weight as float32.
  float value(int64_t row, int64_t col) const { return float(code(row, col)) * scale(row, col); }

private:
  size_t groupOf(int64_t row, int64_t col) const {
    return size_t(row * format.groupsPerRow(k) + col / format.groupColumns(k));
  }
};

} // namespace sluice::quant::testing

#endif // SLUICE_TEST_RUNTIME_QUANT_QUANTSOURCE_H
