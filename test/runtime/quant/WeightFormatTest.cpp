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
        "f8e4m3:block1x64", "f8e4m3:group128", "i8:channel", "i8:group64", "i4:channel",
        "i4:group32", "i4:group128", "mxfp4", "nvfp4"}) {
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
  for (const char *name : {"",
                           "fp8",
                           "BF16",
                           "bf16:tensor",
                           "f8e4m3",
                           "f8e4m3:",
                           "f8e4m3:row",
                           "f8e4m3:block128",
                           "f8e4m3:block0x128",
                           "f8e4m3:block128x128x",
                           "f8e4m3:block99999x1",
                           "i4:group",
                           "i4:group-1",
                           "i4:group32z",
                           "i4:group99999999999",
                           "i4:group0",
                           "i8:tensor",
                           "i8:block1x8",
                           "i4:tensor",
                           "f8e4m3:group",
                           "bf16:channel",
                           "mxfp8"}) {
    auto format = WeightFormat::parse(name);
    ASSERT_FALSE(format.isOk()) << name;
    EXPECT_EQ(format.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(format.status().toString(), HasSubstr("\"" + std::string(name) + "\""));
  }
}

TEST(WeightFormat, GroupsOfARow) {
  auto groups = [](const char *name, int64_t k) {
    return WeightFormat::parse(name)->groupsPerRow(k);
  };
  EXPECT_EQ(groups("i8:channel", 100), 1);
  EXPECT_EQ(groups("i4:group32", 100), 4);
  EXPECT_EQ(groups("i4:group32", 96), 3);
  EXPECT_EQ(groups("i4:group4096", 1), 1);
  EXPECT_EQ(groups("nvfp4", 17), 2);
  EXPECT_EQ(WeightFormat::parse("i4:group32")->groupColumns(20), 20);
  EXPECT_EQ(WeightFormat::parse("mxfp4")->groupColumns(100), 32);
  EXPECT_TRUE(WeightFormat::parse("nvfp4")->hasRowScale());
  EXPECT_FALSE(WeightFormat::parse("mxfp4")->hasRowScale());
}

TEST(WeightFormat, OnlyPackableFormatsPass) {
  for (const char *name : {"f32", "bf16", "f16", "f8e4m3:channel", "f8e4m3:group128", "i8:channel",
                           "i8:group8", "i4:channel", "i4:group32", "mxfp4", "nvfp4"})
    EXPECT_TRUE(parsePackable(name).isOk()) << name;
  struct Case {
    const char *name, *remedy;
  };
  for (auto [name, remedy] :
       {Case{"f8e4m3:tensor", "f8e4m3:channel"}, Case{"f8e4m3:block128x64", "f8e4m3:group64"},
        Case{"i4:group4", "at least 8 columns"}}) {
    auto format = parsePackable(name);
    ASSERT_FALSE(format.isOk()) << name;
    EXPECT_EQ(format.status().code(), StatusCode::kUnsupported);
    EXPECT_THAT(format.status().toString(), HasSubstr(name));
    EXPECT_THAT(format.status().toString(), HasSubstr(remedy));
  }
}

TEST(WeightFormat, TablesAreUnquantised) {
  for (const char *name : {"f32", "bf16", "f16"})
    EXPECT_TRUE(requireRowMajor(*WeightFormat::parse(name)).isOk()) << name;
  for (const char *name : {"i8:channel", "mxfp4", "f8e4m3:tensor"}) {
    Status status = requireRowMajor(*WeightFormat::parse(name));
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    EXPECT_THAT(status.toString(), HasSubstr(name));
  }
}

} // namespace
} // namespace sluice::quant
