//===- Float16Test.cpp - Conversions of 16-bit floating point --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every 16-bit pattern is widened and narrowed again; rounding is checked at its corner cases.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/Float16.h"

#include <cmath>
#include <gtest/gtest.h>

namespace sluice::quant {
namespace {

TEST(Float16, EveryPatternSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float wide = bf16ToFloat(uint16_t(bits));
    if (std::isnan(wide))
      EXPECT_TRUE(std::isnan(bf16ToFloat(floatToBf16(wide)))) << bits;
    else
      EXPECT_EQ(floatToBf16(wide), bits);
    wide = f16ToFloat(uint16_t(bits));
    if (std::isnan(wide))
      EXPECT_TRUE(std::isnan(f16ToFloat(floatToF16(wide)))) << bits;
    else
      EXPECT_EQ(floatToF16(wide), bits);
  }
}

TEST(Float16, Bf16RoundsToNearestEven) {
  EXPECT_EQ(floatToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80); // tie, down to even
  EXPECT_EQ(floatToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82); // tie, up to even
  EXPECT_EQ(floatToBf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(floatToBf16(std::bit_cast<float>(0x7f7fffffu)), 0x7f80); // overflow
}

TEST(Float16, F16KnownValuesAndRounding) {
  EXPECT_EQ(f16ToFloat(0x3c00), 1.0f);
  EXPECT_EQ(f16ToFloat(0xc000), -2.0f);
  EXPECT_EQ(f16ToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(f16ToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(f16ToFloat(0x0400), 0x1p-14f);
  EXPECT_EQ(floatToF16(65519.0f), 0x7bff);
  EXPECT_EQ(floatToF16(65520.0f), 0x7c00);
  EXPECT_EQ(floatToF16(-1e30f), 0xfc00);
  EXPECT_EQ(floatToF16(1.0f + 0x1p-11f), 0x3c00);     // tie, down to even
  EXPECT_EQ(floatToF16(1.0f + 3 * 0x1p-11f), 0x3c02); // tie, up to even
  EXPECT_EQ(floatToF16(0x1p-25f), 0x0000);            // tie between 0 and the smallest subnormal
  EXPECT_EQ(floatToF16(0x1.8p-25f), 0x0001);
  EXPECT_EQ(floatToF16(-0.0f), 0x8000);
}

} // namespace
} // namespace sluice::quant
