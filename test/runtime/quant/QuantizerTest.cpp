//===- QuantizerTest.cpp - Codes and scales against exhaustive search -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every code must be the nearest that its scale has, found here by trying all of them, and searched
// scales must never lose more than plain rounding does.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/Quantizer.h"

#include "runtime/base/NarrowFloat.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

namespace sluice::quant {
namespace {

const char *const kFormats[] = {
    "f8e4m3:tensor", "f8e4m3:channel", "f8e4m3:block16x32", "f8e4m3:group32", "i8:channel",
    "i8:group16",    "i4:group32",     "i4:channel",        "mxfp4",          "nvfp4"};

Quantizer make(const std::string &format, int64_t columns,
               ScaleChoice choice = ScaleChoice::kLeastError) {
  auto result = Quantizer::create(*WeightFormat::parse(format), columns, choice);
  EXPECT_TRUE(result.isOk()) << result.status().toString();
  return *result;
}

/// Rows of different magnitude, a few numbers far from the others, one row of zeros.
std::vector<float> numbers(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> result;
  for (int64_t i = 0; i < rows * columns; ++i) {
    int64_t row = i / columns;
    float outlier = random() % 61 == 0 ? 5.0f : 1.0f;
    result.push_back(row == 2 ? 0.0f : normal(random) * outlier * std::exp2(float(row % 7) - 9));
  }
  return result;
}

float largestOf(const std::vector<float> &x) {
  float largest = 0;
  for (float value : x)
    largest = std::max(largest, std::fabs(value));
  return largest;
}

/// The numbers that `x` is rounded to; fails when a code is not the nearest.
std::vector<float> roundTrip(const Quantizer &quantizer, const std::vector<float> &x,
                             int64_t rows) {
  auto scales = quantizer.chooseScales(x, rows, largestOf(x));
  EXPECT_TRUE(scales.isOk()) << scales.status().toString();
  const int64_t columns = quantizer.columns();
  std::vector<uint8_t> codes(x.size());
  std::vector<float> result(x.size());
  for (int64_t row = 0; row < rows; ++row) {
    quantizer.encode(*scales, row, 0, std::span(x).subspan(size_t(row * columns), size_t(columns)),
                     codes.data() + row * columns);
    quantizer.decode(*scales, row, 0,
                     std::span(codes).subspan(size_t(row * columns), size_t(columns)),
                     result.data() + row * columns);
  }
  return result;
}

double errorOf(const std::vector<float> &x, const std::vector<float> &y) {
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i)
    error += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
  return error;
}

TEST(Quantizer, CodesAreTheNearest) {
  constexpr int64_t kRows = 20, kColumns = 64;
  std::vector<float> x = numbers(kRows, kColumns, 1);
  for (const char *format : kFormats) {
    SCOPED_TRACE(format);
    Quantizer quantizer = make(format, kColumns);
    auto scales = quantizer.chooseScales(x, kRows, largestOf(x));
    ASSERT_TRUE(scales.isOk());
    std::vector<float> rounded = roundTrip(quantizer, x, kRows);
    const bool nibbles = elementBits(quantizer.format().element) == 4;
    for (int64_t i = 0; i < kRows * kColumns && !HasFailure(); ++i) {
      float least = std::numeric_limits<float>::infinity();
      for (int code = 0; code < (nibbles ? 16 : 256); ++code) {
        const uint8_t byte = uint8_t(code);
        float value;
        quantizer.decode(*scales, i / kColumns, i % kColumns, {&byte, 1}, &value);
        if (!std::isnan(value))
          least = std::min(least, std::fabs(value - x[size_t(i)]));
      }
      EXPECT_LE(std::fabs(rounded[size_t(i)] - x[size_t(i)]), least * 1.0001f) << "number " << i;
    }
  }
}

TEST(Quantizer, SearchNeverLosesMoreThanPlainRounding) {
  constexpr int64_t kRows = 64, kColumns = 128;
  for (const char *format : {"i4:group32", "i4:group128", "mxfp4", "nvfp4"}) {
    SCOPED_TRACE(format);
    Quantizer plain = make(format, kColumns, ScaleChoice::kLargest),
              search = make(format, kColumns);
    double plainError = 0, searchError = 0;
    for (unsigned seed = 0; seed < 4; ++seed) {
      std::vector<float> x = numbers(kRows, kColumns, seed);
      std::vector<float> byLargest = roundTrip(plain, x, kRows),
                         byError = roundTrip(search, x, kRows);
      const int64_t group = plain.tileColumns();
      for (size_t i = 0; i < x.size(); i += size_t(group)) {
        auto groupOf = [&](const std::vector<float> &y) {
          return std::vector<float>(y.begin() + int64_t(i), y.begin() + int64_t(i) + group);
        };
        double before = errorOf(groupOf(x), groupOf(byLargest));
        EXPECT_LE(errorOf(groupOf(x), groupOf(byError)), before * 1.00001) << "group at " << i;
      }
      plainError += errorOf(x, byLargest), searchError += errorOf(x, byError);
    }
    EXPECT_LT(searchError, 0.97 * plainError);
  }
}

TEST(Quantizer, ScalesDoNotDependOnTheRowsAroundThem) {
  constexpr int64_t kRows = 48, kColumns = 96;
  std::vector<float> x = numbers(kRows, kColumns, 5);
  for (const char *format : kFormats) {
    SCOPED_TRACE(format);
    Quantizer quantizer = make(format, kColumns);
    auto whole = quantizer.chooseScales(x, kRows, largestOf(x));
    ASSERT_TRUE(whole.isOk());
    TileScales parts;
    for (int64_t row = 0; row < kRows; row += 16) {
      auto part = quantizer.chooseScales(
          std::span(x).subspan(size_t(row * kColumns), size_t(16 * kColumns)), 16, largestOf(x));
      ASSERT_TRUE(part.isOk());
      parts.scales.insert(parts.scales.end(), part->scales.begin(), part->scales.end());
      parts.zeros.insert(parts.zeros.end(), part->zeros.begin(), part->zeros.end());
      parts.rowScales.insert(parts.rowScales.end(), part->rowScales.begin(), part->rowScales.end());
    }
    EXPECT_EQ(parts.scales, whole->scales);
    EXPECT_EQ(parts.zeros, whole->zeros);
    EXPECT_EQ(parts.rowScales, whole->rowScales);
  }
}

TEST(Quantizer, ZerosAndTinyNumbersStayFinite) {
  std::vector<float> x(64, 0.0f);
  x[5] = 1e-44f, x[40] = -1e-40f;
  for (const char *format : kFormats) {
    SCOPED_TRACE(format);
    for (float value : roundTrip(make(format, 32), x, 2))
      EXPECT_LE(std::fabs(value), 1e-37f);
  }
}

TEST(Quantizer, ExtremeNumbersKeepTheirMagnitude) {
  std::vector<float> x(32, 0.0f);
  x[0] = 3e38f, x[1] = -2e38f;
  for (const char *format : {"f8e4m3:channel", "i8:channel", "mxfp4", "nvfp4", "i4:group32"}) {
    std::vector<float> rounded = roundTrip(make(format, 32), x, 1);
    EXPECT_NEAR(rounded[0] / x[0], 1, 0.3) << format;
    EXPECT_NEAR(rounded[1] / x[1], 1, 0.3) << format;
  }
}

TEST(Quantizer, ScalesAreWhatTheFormatStores) {
  std::vector<float> x = numbers(16, 64, 7);
  auto scalesOf = [&](const char *format) { return *make(format, 64).chooseScales(x, 16); };
  const TileScales powers = scalesOf("mxfp4"), narrow = scalesOf("nvfp4"),
                   affine = scalesOf("i4:group32");
  for (float scale : powers.scales)
    EXPECT_EQ(f8E8M0ToF32(f32ToF8E8M0(scale, ScaleRounding::kDown)), scale);
  for (float scale : narrow.scales)
    EXPECT_EQ(f8E4M3ToF32(f32ToF8E4M3(scale)), scale);
  for (uint8_t zero : affine.zeros)
    EXPECT_LE(zero, 15);
}

TEST(Quantizer, RowFactorsLowerTheError) {
  constexpr int64_t kRows = 32, kColumns = 64;
  std::vector<float> x = numbers(kRows, kColumns, 9);
  Quantizer quantizer = make("mxfp4", kColumns);
  std::vector<float> factors = quantizer.chooseRowFactors(x, kRows), scaled = x;
  ASSERT_EQ(factors.size(), size_t(kRows));
  for (size_t i = 0; i < x.size(); ++i) {
    float factor = factors[i / size_t(kColumns)];
    ASSERT_TRUE(factor >= 1 && factor < 2) << factor;
    scaled[i] *= factor;
  }
  std::vector<float> rounded = roundTrip(quantizer, scaled, kRows);
  for (size_t i = 0; i < x.size(); ++i)
    rounded[i] /= factors[i / size_t(kColumns)];
  EXPECT_LT(errorOf(x, rounded), 0.97 * errorOf(x, roundTrip(quantizer, x, kRows)));
  EXPECT_EQ(factors[2], 1) << "a row of zeros";
}

TEST(Quantizer, Refuses) {
  EXPECT_EQ(Quantizer::create(*WeightFormat::parse("bf16"), 8).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Quantizer::create(*WeightFormat::parse("mxfp4"), 0).status().code(),
            StatusCode::kInvalidArgument);
  for (float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> x(96, 1.0f);
    x[70] = bad;
    auto result = make("i4:group32", 32).chooseScales(x, 3);
    ASSERT_EQ(result.status().code(), StatusCode::kDataCorrupt);
    EXPECT_NE(result.status().message().find("row 2, column 6"), std::string::npos);
  }
}

} // namespace
} // namespace sluice::quant
