//===- NumbersTest.cpp - Narrow floats, data types, formatted quantities ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every code of every narrow format is decoded and encoded again. Rounding is checked against the
// definition: each midpoint between neighbours goes to the even code, the floats beside the
// midpoint to the nearer one.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/NarrowFloat.h"
#include "runtime/base/DataType.h"
#include "runtime/base/Format.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace sluice;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Checks codes 0..maxCode (the finite magnitudes in ascending order) of a format.
template <typename Code, typename Decode, typename Encode>
void checkFormat(unsigned maxCode, unsigned signBit, Decode decode, Encode encode) {
  for (unsigned code = 0; code <= maxCode; ++code) {
    float value = decode(static_cast<Code>(code));
    ASSERT_TRUE(std::isfinite(value)) << code;
    ASSERT_EQ(encode(value), code) << value;
    ASSERT_EQ(encode(-value), code | signBit) << value;
    ASSERT_EQ(decode(static_cast<Code>(code | signBit)), -value);
    if (code == maxCode)
      continue;
    float next = decode(static_cast<Code>(code + 1));
    ASSERT_LT(value, next);
    float middle = static_cast<float>((static_cast<double>(value) + next) / 2);
    ASSERT_EQ(encode(middle), code + code % 2) << middle;
    ASSERT_EQ(encode(std::nextafter(middle, 0.0f)), code) << middle;
    ASSERT_EQ(encode(std::nextafter(middle, kInf)), code + 1) << middle;
  }
}

TEST(NarrowFloat, Bf16) {
  // Below the smallest normal the midpoint's neighbours are fewer bits apart, but floats all the
  // same.
  checkFormat<uint16_t>(0x7f7f, 0x8000, bf16ToF32, f32ToBf16);
  EXPECT_EQ(f32ToBf16(kInf), 0x7f80);
  EXPECT_EQ(f32ToBf16(-kInf), 0xff80);
  EXPECT_EQ(f32ToBf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(bf16ToF32(f32ToBf16(kNan))));
  // A NaN whose payload lies in the dropped half must not become infinity.
  EXPECT_TRUE(std::isnan(bf16ToF32(f32ToBf16(std::bit_cast<float>(0x7f800001u)))));
  static_assert(f32ToBf16(1.0f) == 0x3f80 && bf16ToF32(0x4049) == 3.140625f);
}

TEST(NarrowFloat, F16) {
  checkFormat<uint16_t>(0x7bff, 0x8000, f16ToF32, f32ToF16);
  EXPECT_EQ(f32ToF16(65519.996f), 0x7bff);
  EXPECT_EQ(f32ToF16(65520.0f), 0x7c00);
  EXPECT_EQ(f32ToF16(-kInf), 0xfc00);
  EXPECT_EQ(f16ToF32(0x7c00), kInf);
  EXPECT_TRUE(std::isnan(f16ToF32(0x7c01)));
  EXPECT_TRUE(std::isnan(f16ToF32(f32ToF16(kNan))));
  EXPECT_EQ(f32ToF16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_TRUE(std::signbit(f16ToF32(0x8000)));
  static_assert(f32ToF16(1.0f) == 0x3c00 && f16ToF32(0x0001) == 0x1p-24f);
}

TEST(NarrowFloat, F8E4M3) {
  checkFormat<uint8_t>(0x7e, 0x80, f8E4M3ToF32, f32ToF8E4M3);
  EXPECT_EQ(f8E4M3ToF32(0x7e), 448.0f);
  EXPECT_EQ(f8E4M3ToF32(0x01), 0x1p-9f);
  EXPECT_EQ(f32ToF8E4M3(1e30f), 0x7e);
  EXPECT_EQ(f32ToF8E4M3(480.0f), 0x7e);
  EXPECT_EQ(f32ToF8E4M3(-kInf), 0xfe);
  EXPECT_EQ(f32ToF8E4M3(kNan), 0x7f);
  EXPECT_TRUE(std::isnan(f8E4M3ToF32(0x7f)) && std::isnan(f8E4M3ToF32(0xff)));
}

TEST(NarrowFloat, F8E5M2) {
  checkFormat<uint8_t>(0x7b, 0x80, f8E5M2ToF32, f32ToF8E5M2);
  EXPECT_EQ(f8E5M2ToF32(0x7b), 57344.0f);
  EXPECT_EQ(f8E5M2ToF32(0x7c), kInf);
  EXPECT_TRUE(std::isnan(f8E5M2ToF32(0x7d)));
  EXPECT_EQ(f32ToF8E5M2(kInf), 0x7b);
  EXPECT_EQ(f32ToF8E5M2(-1e30f), 0xfb);
  EXPECT_EQ(f32ToF8E5M2(kNan), 0x7f);
}

TEST(NarrowFloat, F8E8M0) {
  using enum ScaleRounding;
  for (int code = 0; code <= 254; ++code) {
    float value = f8E8M0ToF32(static_cast<uint8_t>(code));
    EXPECT_EQ(value, std::ldexp(1.0f, code - 127));
    EXPECT_EQ(f32ToF8E8M0(value, kDown), code);
    EXPECT_EQ(f32ToF8E8M0(value, kUp), code);
    float above = std::nextafter(value, kInf);
    EXPECT_EQ(f32ToF8E8M0(above, kDown), code);
    EXPECT_EQ(f32ToF8E8M0(above, kUp), std::min(code + 1, 254));
  }
  EXPECT_EQ(f32ToF8E8M0(0.0f, kDown), 0);
  EXPECT_EQ(f32ToF8E8M0(-0.0f, kUp), 0);
  EXPECT_EQ(f32ToF8E8M0(kInf, kUp), 254);
  EXPECT_EQ(f32ToF8E8M0(-1.0f, kUp), 255);
  EXPECT_EQ(f32ToF8E8M0(kNan, kDown), 255);
  EXPECT_TRUE(std::isnan(f8E8M0ToF32(255)));
}

TEST(DataType, NamesAndWidths) {
  for (size_t i = 0; i < kNumDataTypes; ++i) {
    DataType type = static_cast<DataType>(i);
    EXPECT_EQ(parseDataType(dataTypeName(type)), type);
  }
  EXPECT_EQ(dataTypeBits(DataType::kBF16), 16);
  EXPECT_EQ(dataTypeBits(DataType::kF4E2M1), 4);
  EXPECT_STREQ(dataTypeName(DataType::kF8E4M3), "F8_E4M3");
  EXPECT_FALSE(parseDataType("bf16"));
  EXPECT_FALSE(parseDataType(""));
}

TEST(DataType, TensorSizes) {
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(tensorBytes(DataType::kF32, Shape{}), 4u);
  EXPECT_EQ(tensorBytes(DataType::kBF16, Shape{3, 5}), 30u);
  EXPECT_EQ(tensorBytes(DataType::kF4E2M1, Shape{3, 2}), 3u);
  EXPECT_FALSE(tensorBytes(DataType::kF4E2M1, Shape{3}));
  EXPECT_EQ(tensorBytes(DataType::kF32, Shape{INT64_MAX, INT64_MAX, 0}), 0u);
  EXPECT_FALSE(tensorBytes(DataType::kF32, Shape{0, -1}));
  EXPECT_FALSE(tensorBytes(DataType::kU8, Shape{int64_t(1) << 32, int64_t(1) << 32}));
  EXPECT_FALSE(tensorBytes(DataType::kF32, Shape{INT64_MAX / 2}));
  EXPECT_EQ(numElements(Shape{INT64_MAX}), INT64_MAX);
}

TEST(Format, Quantities) {
  EXPECT_EQ(formatBytes(0), "0 B");
  EXPECT_EQ(formatBytes(999), "999 B");
  EXPECT_EQ(formatBytes(1000), "1.00 kB");
  EXPECT_EQ(formatBytes(12'345'678), "12.3 MB");
  EXPECT_EQ(formatBytes(999'999'999), "1.00 GB");
  EXPECT_EQ(formatBytes(1'340'000'000'000), "1.34 TB");
  EXPECT_EQ(formatBytes(UINT64_MAX), "18.4 EB");
  EXPECT_EQ(formatBinaryBytes(1023), "1023 B");
  EXPECT_EQ(formatBinaryBytes(uint64_t(80) << 30), "80.0 GiB");
  EXPECT_EQ(formatBinaryBytes((uint64_t(1) << 30) - 1), "1.00 GiB");
  EXPECT_EQ(formatCount(128), "128");
  EXPECT_EQ(formatCount(46'702'792'704), "46.7 B");
}

TEST(Format, Durations) {
  EXPECT_EQ(formatDuration(0), "0 s");
  EXPECT_EQ(formatDuration(350e-9), "350 ns");
  EXPECT_EQ(formatDuration(12.34e-6), "12.3 us");
  EXPECT_EQ(formatDuration(0.9999), "1.00 s");
  EXPECT_EQ(formatDuration(1.236), "1.24 s");
  EXPECT_EQ(formatDuration(59.99), "1 min 00 s");
  EXPECT_EQ(formatDuration(125), "2 min 05 s");
  EXPECT_EQ(formatDuration(3599.9), "1 h 00 min");
  EXPECT_EQ(formatDuration(-2), "-2.00 s");
  EXPECT_EQ(formatDuration(kNan), "unknown");
}

TEST(Format, Printf) {
  EXPECT_EQ(format("%d %s", 7, "x"), "7 x");
  EXPECT_EQ(format("%s", std::string(5000, 'y').c_str()), std::string(5000, 'y'));
  EXPECT_EQ(format("%s", ""), "");
}

} // namespace
