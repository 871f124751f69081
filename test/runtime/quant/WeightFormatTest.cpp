//===- WeightFormatTest.cpp - How the numbers of a weight are stored -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Names round-trip; formats without a packed layout and unknown names are refused by name.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/WeightFormat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::quant {
namespace {

using testing::HasSubstr;

TEST(WeightFormat, NamesRoundTrip) {
  for (const char *name :
       {"f32", "bf16", "f16", "f8e4m3:tensor", "f8e4m3:channel", "f8e4m3:block128x128",
        "f8e4m3:block1x64", "i8:channel", "i4:group32", "i4:group128", "mxfp4", "nvfp4"}) {
    auto format = WeightFormat::parse(name);
    ASSERT_TRUE(format.isOk()) << format.status().toString();
    EXPECT_EQ(format->name(), name);
  }
}

TEST(WeightFormat, PartsOfNames) {
  auto block = WeightFormat::parse("f8e4m3:block128x64");
  ASSERT_TRUE(block.isOk());
  EXPECT_EQ(block->element, ElementType::kF8E4M3);
  EXPECT_EQ(block->scope, ScaleScope::kBlock);
  EXPECT_EQ(block->blockRows, 128);
  EXPECT_EQ(block->blockCols, 64);
  EXPECT_FALSE(block->zeroPoint);
  auto group = WeightFormat::parse("i4:group32");
  ASSERT_TRUE(group.isOk());
  EXPECT_TRUE(group->zeroPoint);
  EXPECT_EQ(group->blockCols, 32);
  EXPECT_EQ(elementBits(group->element), 4);
  EXPECT_NE(*WeightFormat::parse("mxfp4"), *WeightFormat::parse("nvfp4"));
  EXPECT_FALSE(WeightFormat::parse("bf16")->isQuantized());
}

TEST(WeightFormat, UnknownNamesAreRefused) {
  for (const char *name :
       {"", "fp8", "BF16", "bf16:tensor", "f8e4m3", "f8e4m3:", "f8e4m3:row", "f8e4m3:block128",
        "f8e4m3:block0x128", "f8e4m3:block128x128x", "f8e4m3:block99999x1", "i4:group",
        "i4:group-1", "i4:group32z", "i4:group99999999999", "i8:tensor", "mxfp8"}) {
    auto format = WeightFormat::parse(name);
    ASSERT_FALSE(format.isOk()) << name;
    EXPECT_EQ(format.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(format.status().toString(), HasSubstr("\"" + std::string(name) + "\""));
  }
}

TEST(WeightFormat, OnlyPackableFormatsPass) {
  for (const char *name : {"f32", "bf16", "f16"})
    EXPECT_TRUE(parsePackable(name).isOk()) << name;
  for (const char *name : {"f8e4m3:tensor", "i8:channel", "i4:group32", "mxfp4", "nvfp4"}) {
    auto format = parsePackable(name);
    ASSERT_FALSE(format.isOk()) << name;
    EXPECT_EQ(format.status().code(), StatusCode::kUnsupported);
    EXPECT_THAT(format.status().toString(), HasSubstr(name));
  }
}

} // namespace
} // namespace sluice::quant
