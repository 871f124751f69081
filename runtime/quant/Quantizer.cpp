//===- Quantizer.cpp - From numbers to codes and scales ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The loops over a group are written without calls and branches so that compilers vectorise them:
// a checkpoint has 10^11 numbers, and each is rounded about twenty times in a search. Numbers are
// multiplied by the reciprocal of the scale, in the search and in the codes alike, so that the
// error compared is the error made.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/Quantizer.h"

#include "runtime/base/NarrowFloat.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>

namespace sluice::quant {
namespace {

constexpr float kLargestE4M3 = 448, kLargestE2M1 = 6, kLargestI4 = 15;

/// To the nearest integer, ties to even, for |x| < 2^22: the sum has no bits after the point.
inline float roundToInteger(float x) { return (x + 12582912.0f) - 12582912.0f; }

/// The nearest magnitude of E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6), ties to even codes.
inline float roundE2M1(float magnitude) {
  float x = std::min(magnitude, kLargestE2M1);
  float unit = x < 2 ? 2.0f : x < 4 ? 1.0f : 0.5f, inverse = x < 2 ? 0.5f : x < 4 ? 1.0f : 2.0f;
  return roundToInteger(x * unit) * inverse;
}

inline float roundI4(float x, float zero) {
  return roundToInteger(std::min(std::max(x + zero, 0.0f), kLargestI4));
}

constexpr std::array<float, 16> kE2M1Values{0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                            -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

uint8_t encodeE2M1(float x) {
  float magnitude = roundE2M1(std::fabs(x));
  uint8_t code = uint8_t(magnitude < 2    ? magnitude * 2
                         : magnitude < 4  ? magnitude + 2
                         : magnitude == 4 ? 6
                                          : 7);
  return uint8_t(code | (std::signbit(x) ? 8 : 0));
}

float largestOf(const float *x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i)
    largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

/// Largest magnitude to scale. A group of zeros, or of numbers too small to be scaled, has scale 1
/// and codes that are all zero.
float scaleOf(float largest, float largestCode) {
  float scale = largest / largestCode;
  return scale >= FLT_MIN ? scale : 1.0f;
}

/// Σ error(x)² in eight interleaved sums, whose order does not depend on the target.
template <typename Error> double sumOfSquares(const float *x, int64_t count, Error error) {
  constexpr int64_t kLanes = 8;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      float e = error(x[i + lane]);
      sums[lane] += e * e;
    }
  for (int64_t lane = 0; i < count; ++i, ++lane) {
    float e = error(x[i]);
    sums[lane] += e * e;
  }
  double sum = 0;
  for (float lane : sums)
    sum += lane;
  return sum;
}

double errorE2M1(const float *x, int64_t count, float scale) {
  const float inverse = 1 / scale;
  return sumOfSquares(x, count, [=](float value) {
    float magnitude = std::fabs(value);
    return magnitude - roundE2M1(magnitude * inverse) * scale;
  });
}

double errorI4(const float *x, int64_t count, float scale, float zero) {
  const float inverse = 1 / scale;
  return sumOfSquares(x, count, [=](float value) {
    return value - (roundI4(value * inverse, zero) - zero) * scale;
  });
}

/// The scale with which the codes that (scale, zero) give fit best: Σ x q / Σ q².
float fittedScale(const float *x, int64_t count, float scale, float zero) {
  float inverse = 1 / scale;
  double products = 0, squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    float code = roundI4(x[i] * inverse, zero) - zero;
    products += double(x[i]) * code;
    squares += double(code) * code;
  }
  float fitted = squares > 0 ? float(products / squares) : scale;
  return fitted >= FLT_MIN ? fitted : scale;
}

struct AffineScale {
  float scale = 1;
  uint8_t zero = 0;
};

/// Scale and zero point of a group of i4 codes. The range is shrunk in steps to either side of the
/// zero point, then the scale is fitted to the codes a few times.
AffineScale chooseI4(const float *x, int64_t count, ScaleChoice choice) {
  float low = 0, high = 0; // zero has to be a code: pruned weights stay zero
  for (int64_t i = 0; i < count; ++i)
    low = std::min(low, x[i]), high = std::max(high, x[i]);
  float widest = high / kLargestI4 - low / kLargestI4; // the difference itself may overflow
  widest = widest >= FLT_MIN ? widest : 1.0f;
  float place = std::clamp(-low / widest, 0.0f, kLargestI4);
  AffineScale best{widest, uint8_t(roundToInteger(place))};
  if (choice == ScaleChoice::kLargest)
    return best;
  double least = errorI4(x, count, best.scale, best.zero);
  auto consider = [&](float scale, float zero) {
    double error = errorI4(x, count, scale, zero);
    if (error < least)
      least = error, best = {scale, uint8_t(zero)};
  };
  constexpr int kSteps = 10;
  constexpr float kStep = 0.04f;
  for (int step = 0; step < kSteps; ++step) {
    float scale = widest * (1 - kStep * float(step));
    if (scale < FLT_MIN)
      break;
    for (float zero : {std::floor(place), std::ceil(place)})
      consider(scale, zero);
  }
  for (int round = 0; round < 3; ++round)
    consider(fittedScale(x, count, best.scale, best.zero), best.zero);
  return best;
}

/// A power of two for a group of E2M1 codes, and the error that it leaves.
struct PowerScale {
  float scale = 1;
  double error = 0;
};

/// The rule of the OCP MX format, which clips what exceeds 6, or its double, which does not. The
/// numbers are x times `factor`; errors are those of x.
PowerScale chooseE8M0(const float *x, int64_t count, float largest, float factor,
                      ScaleChoice choice) {
  if (largest < FLT_MIN * 4)
    return {};
  // floor(log2(largest)) - 2: the largest number gets the exponent of 4 and 6.
  int code = std::max(int(f32ToF8E8M0(largest * factor, ScaleRounding::kDown)) - 2, 1);
  PowerScale best{f8E8M0ToF32(uint8_t(code)), 0};
  if (choice == ScaleChoice::kLargest)
    return best;
  best.error = errorE2M1(x, count, best.scale / factor);
  float twice = f8E8M0ToF32(uint8_t(std::min(code + 1, 254)));
  if (double error = errorE2M1(x, count, twice / factor); error < best.error)
    best = {twice, error};
  return best;
}

/// An E4M3 number, to be multiplied by `rowScale`, for a group of E2M1 codes.
float chooseE4M3(const float *x, int64_t count, float rowScale, ScaleChoice choice) {
  int plain = std::clamp<int>(f32ToF8E4M3(largestOf(x, count) / kLargestE2M1 / rowScale), 1, 126);
  float best = f8E4M3ToF32(uint8_t(plain));
  if (choice == ScaleChoice::kLargest)
    return best;
  double least = errorE2M1(x, count, best * rowScale);
  for (int code = std::max(plain - 5, 1); code <= std::min(plain + 2, 126); ++code) {
    float scale = f8E4M3ToF32(uint8_t(code));
    if (double error = errorE2M1(x, count, scale * rowScale); error < least)
      least = error, best = scale;
  }
  return best;
}

} // namespace

Result<Quantizer> Quantizer::create(const WeightFormat &format, int64_t columns,
                                    ScaleChoice choice) {
  if (!format.isQuantized())
    return invalidArgument("weight format \"" + format.name() + "\" has no codes to round to");
  if (columns < 1)
    return invalidArgument("rows of " + std::to_string(columns) + " columns cannot be quantised");
  Quantizer result;
  result.weightFormat = format;
  result.choice = choice;
  result.cols = columns;
  result.columnsOfTile =
      format.blockCols > 0 ? std::min<int64_t>(format.blockCols, columns) : columns;
  result.rowsOfTile = format.scope == ScaleScope::kBlock ? format.blockRows : 1;
  return result;
}

Result<TileScales> Quantizer::chooseScales(std::span<const float> numbers, int64_t rows,
                                           float tensorLargest) const {
  for (size_t i = 0; i < numbers.size(); ++i)
    if (!std::isfinite(numbers[i]))
      return dataCorrupt("the number in row " + std::to_string(int64_t(i) / cols) + ", column " +
                         std::to_string(int64_t(i) % cols) +
                         " is not finite and cannot be quantised");
  TileScales out;
  const float largestCode = weightFormat.element == ElementType::kI8 ? 127 : kLargestE4M3;
  if (weightFormat.scope == ScaleScope::kTensor) {
    out.scales.assign(size_t(rows), scaleOf(tensorLargest, largestCode));
    return out;
  }
  const bool plain =
      weightFormat.element == ElementType::kF8E4M3 || weightFormat.element == ElementType::kI8;
  for (int64_t row = 0; row < rows; row += rowsOfTile) {
    if (!plain) {
      chooseGroups(numbers.data() + row * cols, out);
      continue;
    }
    for (int64_t column = 0; column < cols; column += columnsOfTile) {
      float largest = 0;
      for (int64_t r = row; r < std::min(row + rowsOfTile, rows); ++r)
        largest = std::max(largest, largestOf(numbers.data() + r * cols + column,
                                              std::min(columnsOfTile, cols - column)));
      out.scales.push_back(scaleOf(largest, largestCode));
    }
  }
  return out;
}

void Quantizer::chooseGroups(const float *row, TileScales &out) const {
  float rowScale = 1;
  if (weightFormat.hasRowScale()) {
    rowScale = scaleOf(largestOf(row, cols), kLargestE2M1 * kLargestE4M3);
    out.rowScales.push_back(rowScale);
  }
  for (int64_t column = 0; column < cols; column += columnsOfTile) {
    const float *x = row + column;
    int64_t count = std::min(columnsOfTile, cols - column);
    if (weightFormat.zeroPoint) {
      AffineScale chosen = chooseI4(x, count, choice);
      out.scales.push_back(chosen.scale);
      out.zeros.push_back(chosen.zero);
    } else if (weightFormat.scale == ScaleType::kE8M0) {
      out.scales.push_back(chooseE8M0(x, count, largestOf(x, count), 1, choice).scale);
    } else {
      out.scales.push_back(chooseE4M3(x, count, rowScale, choice));
    }
  }
}

std::vector<float> Quantizer::chooseRowFactors(std::span<const float> numbers, int64_t rows) const {
  // Finer steps lower the error by less than a thousandth.
  constexpr int kSteps = 16;
  std::array<float, kSteps> candidates;
  for (int step = 0; step < kSteps; ++step)
    candidates[size_t(step)] = std::exp2(float(step) / kSteps);
  std::vector<float> factors;
  for (int64_t row = 0; row < rows; ++row) {
    std::array<double, kSteps> errors{};
    for (int64_t column = 0; column < cols; column += columnsOfTile) {
      const float *x = numbers.data() + row * cols + column;
      const int64_t count = std::min(columnsOfTile, cols - column);
      const float largest = largestOf(x, count);
      for (size_t step = 0; step < errors.size(); ++step)
        errors[step] +=
            chooseE8M0(x, count, largest, candidates[step], ScaleChoice::kLeastError).error;
    }
    factors.push_back(candidates[size_t(std::ranges::min_element(errors) - errors.begin())]);
  }
  return factors;
}

template <typename Apply>
void Quantizer::forEachTile(int64_t column, int64_t count, Apply apply) const {
  for (int64_t i = 0; i < count;) {
    int64_t tile = (column + i) / columnsOfTile;
    int64_t end = std::min(count, (tile + 1) * columnsOfTile - column);
    apply(tile, i, end);
    i = end;
  }
}

void Quantizer::encode(const TileScales &scales, int64_t row, int64_t column,
                       std::span<const float> numbers, uint8_t *codes) const {
  const float rowScale = scales.rowScales.empty() ? 1 : scales.rowScales[size_t(row)];
  forEachTile(column, int64_t(numbers.size()), [&](int64_t tile, int64_t begin, int64_t end) {
    size_t place = size_t(row / rowsOfTile * tilesPerRow() + tile);
    const float inverse = 1 / (scales.scales[place] * rowScale);
    const float *x = numbers.data();
    switch (weightFormat.element) {
    case ElementType::kF8E4M3:
      for (int64_t i = begin; i < end; ++i)
        codes[i] = f32ToF8E4M3(x[i] * inverse);
      break;
    case ElementType::kI8:
      for (int64_t i = begin; i < end; ++i)
        codes[i] = uint8_t(int8_t(roundToInteger(std::clamp(x[i] * inverse, -127.0f, 127.0f))));
      break;
    case ElementType::kI4: {
      const float zero = scales.zeros[place];
      for (int64_t i = begin; i < end; ++i)
        codes[i] = uint8_t(roundI4(x[i] * inverse, zero));
      break;
    }
    default:
      for (int64_t i = begin; i < end; ++i)
        codes[i] = encodeE2M1(x[i] * inverse);
      break;
    }
  });
}

void Quantizer::decode(const TileScales &scales, int64_t row, int64_t column,
                       std::span<const uint8_t> codes, float *numbers) const {
  const float rowScale = scales.rowScales.empty() ? 1 : scales.rowScales[size_t(row)];
  forEachTile(column, int64_t(codes.size()), [&](int64_t tile, int64_t begin, int64_t end) {
    size_t place = size_t(row / rowsOfTile * tilesPerRow() + tile);
    const float scale = scales.scales[place] * rowScale;
    const float zero = scales.zeros.empty() ? 0 : scales.zeros[place];
    for (int64_t i = begin; i < end; ++i) {
      uint8_t code = codes[size_t(i)];
      float value = weightFormat.element == ElementType::kF8E4M3 ? f8E4M3ToF32(code)
                    : weightFormat.element == ElementType::kI8   ? float(int8_t(code))
                    : weightFormat.element == ElementType::kI4   ? float(code) - zero
                                                                 : kE2M1Values[code & 15];
      numbers[i] = value * scale;
    }
  });
}

} // namespace sluice::quant
