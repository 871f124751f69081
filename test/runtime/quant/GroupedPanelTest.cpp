//===- GroupedPanelTest.cpp - Packed quantised weights ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Unpacking returns exactly the numbers that were packed, for shapes that fill neither panels,
// groups nor bytes; the bytes themselves are pinned for one example of each kind; and everything a
// format cannot hold is refused with its place.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/GroupedPanel.h"

#include "test/runtime/quant/QuantSource.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::quant {
namespace {

using ::testing::HasSubstr;
using testing::QuantSource;
using Bytes = std::vector<std::byte>;

constexpr const char *kFormats[] = {
    "f8e4m3:channel", "f8e4m3:group128", "f8e4m3:group9", "i8:channel", "i8:group32", "i4:channel",
    "i4:group32",     "i4:group128",     "i4:group9",     "mxfp4",      "nvfp4"};

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{1, 1}, {15, 7}, {16, 64}, {17, 33}, {40, 261}};

WeightFormat formatOf(const char *name) { return *WeightFormat::parse(name); }

TEST(GroupedPanel, UnpackReturnsWhatWasPacked) {
  for (const char *name : kFormats) {
    for (auto [n, k] : kShapes) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(n) + "x" + std::to_string(k));
      QuantSource source(formatOf(name), n, k, 1);
      auto layout = PackedLayout::create("panel16", source.format, n, k);
      ASSERT_TRUE(layout.isOk()) << layout.status().toString();
      EXPECT_EQ(layout->panelBytes() % 16, 0u);
      Bytes blob(layout->blobBytes(), std::byte(0xee));
      Status status = layout->packRows(PanelRole::kOnly, 0, n, source.rows(), blob);
      ASSERT_TRUE(status.isOk()) << status.toString();
      std::vector<float> values(size_t(n * k), NAN);
      ASSERT_TRUE(layout->unpack(PanelRole::kOnly, blob, values).isOk());
      for (int64_t row = 0; row < n; ++row)
        for (int64_t col = 0; col < k; ++col)
          ASSERT_EQ(values[size_t(row * k + col)], source.value(row, col)) << row << ", " << col;
    }
  }
}

TEST(GroupedPanel, GateAndUpAlternate) {
  for (const char *name : kFormats) {
    const int64_t n = 21, k = 50;
    QuantSource gate(formatOf(name), n, k, 2), up(formatOf(name), n, k, 3);
    auto layout = PackedLayout::create("gate_up_panel16", gate.format, n, k);
    auto single = PackedLayout::create("panel16", gate.format, n, k);
    ASSERT_TRUE(layout.isOk() && single.isOk());
    Bytes blob(layout->blobBytes()), gateBlob(single->blobBytes()), upBlob(single->blobBytes());
    ASSERT_TRUE(layout->packRows(PanelRole::kGate, 0, n, gate.rows(), blob).isOk());
    ASSERT_TRUE(layout->packRows(PanelRole::kUp, 0, n, up.rows(), blob).isOk());
    ASSERT_TRUE(single->packRows(PanelRole::kOnly, 0, n, gate.rows(), gateBlob).isOk());
    ASSERT_TRUE(single->packRows(PanelRole::kOnly, 0, n, up.rows(), upBlob).isOk());
    const uint64_t size = layout->panelBytes();
    for (uint64_t panel = 0; panel < 2; ++panel) {
      EXPECT_EQ(std::memcmp(&blob[2 * panel * size], &gateBlob[panel * size], size), 0) << name;
      EXPECT_EQ(std::memcmp(&blob[(2 * panel + 1) * size], &upBlob[panel * size], size), 0) << name;
    }
  }
}

TEST(GroupedPanel, RangesTileTheBlob) {
  for (const char *layoutName : {"panel16", "gate_up_panel16"}) {
    for (const char *name : kFormats) {
      const int64_t n = 75, k = 41;
      auto layout = PackedLayout::create(layoutName, formatOf(name), n, k);
      ASSERT_TRUE(layout.isOk());
      std::vector<PanelRole> roles{PanelRole::kOnly};
      if (layout->isPaired())
        roles = {PanelRole::kGate, PanelRole::kUp};
      QuantSource source(formatOf(name), n, k, 4);
      Bytes whole(layout->blobBytes()), pieces;
      for (PanelRole role : roles)
        ASSERT_TRUE(layout->packRows(role, 0, n, source.rows(), whole).isOk());
      for (int64_t row = 0; row < n; row += 32) {
        int64_t count = std::min<int64_t>(32, n - row);
        EXPECT_EQ(layout->offsetOfRow(row), pieces.size());
        Bytes piece(layout->bytesOfRows(row, count), std::byte(0xee));
        for (PanelRole role : roles)
          ASSERT_TRUE(layout->packRows(role, row, count, source.rows(row), piece).isOk());
        pieces.insert(pieces.end(), piece.begin(), piece.end());
      }
      EXPECT_EQ(whole, pieces) << layoutName << " " << name;
    }
  }
}

/// The packed bytes of one row of codes and scales, as the lane 0 of its panel: every 16th byte (a
/// float's four bytes count once, as its value).
TEST(GroupedPanel, BytesOfNibbles) {
  QuantSource source(formatOf("i4:group9"), 1, 11, 5);
  for (int i = 0; i < 11; ++i)
    source.codes[size_t(i)] = uint8_t(i + 1);
  source.scales = {0.5f, -3};
  source.zeros = {7, 16};
  auto layout = PackedLayout::create("panel16", source.format, 1, 11);
  ASSERT_TRUE(layout.isOk());
  // Two groups of 64 + 16 bytes of scales and zeros; three and one units of four steps.
  ASSERT_EQ(layout->panelBytes(), 2u * 80 + 4 * 32);
  ASSERT_EQ(layout->blobBytes(), 320u);
  Bytes blob(layout->blobBytes());
  ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, 1, source.rows(), blob).isOk());
  auto floatAt = [&](size_t offset) {
    float value;
    std::memcpy(&value, &blob[offset], 4);
    return value;
  };
  EXPECT_EQ(floatAt(0), 0.5f);
  EXPECT_EQ(blob[64], std::byte(7));
  std::vector<int> codes;
  for (size_t byte = 0; byte < 6; ++byte)
    codes.push_back(int(blob[80 + byte * 16]));
  EXPECT_EQ(codes, (std::vector{0x31, 0x42, 0x75, 0x86, 0x09, 0}));
  EXPECT_EQ(floatAt(176), -3.0f);
  EXPECT_EQ(blob[240], std::byte(16));
  EXPECT_EQ(blob[256], std::byte(0x0a));
  EXPECT_EQ(blob[272], std::byte(0x0b));
  size_t set = 0;
  for (std::byte byte : blob)
    set += byte != std::byte(0);
  // 0.5 and -3 have one and two bytes that are not zero.
  EXPECT_EQ(set, 1u + 2 + 2 + 7) << "lanes of absent rows are not zero";
}

TEST(GroupedPanel, BytesOfSmallScales) {
  QuantSource mx(formatOf("mxfp4"), 1, 33, 6);
  mx.scales = {std::ldexp(1.0f, -127), std::ldexp(1.0f, 127)};
  auto layout = PackedLayout::create("panel16", mx.format, 1, 33);
  ASSERT_TRUE(layout.isOk());
  ASSERT_EQ(layout->panelBytes(), 2u * 16 + 16 * 16 + 32);
  Bytes blob(layout->blobBytes());
  ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, 1, mx.rows(), blob).isOk());
  EXPECT_EQ(blob[0], std::byte(0));
  EXPECT_EQ(blob[16 + 256], std::byte(254));

  QuantSource nv(formatOf("nvfp4"), 1, 17, 7);
  nv.scales = {448, -1};
  nv.rowScales = {0.1f};
  layout = PackedLayout::create("panel16", nv.format, 1, 17);
  ASSERT_TRUE(layout.isOk());
  ASSERT_EQ(layout->panelBytes(), 64u + 2 * 16 + 8 * 16 + 32);
  blob.assign(layout->blobBytes(), std::byte(0));
  ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, 1, nv.rows(), blob).isOk());
  float rowScale;
  std::memcpy(&rowScale, blob.data(), 4);
  EXPECT_EQ(rowScale, 0.1f);
  EXPECT_EQ(blob[64], std::byte(0x7e));
  EXPECT_EQ(blob[64 + 16 + 128], std::byte(0xb8));
}

TEST(GroupedPanel, WithoutZeroPointsTheyAreEight) {
  QuantSource source(formatOf("i4:group16"), 3, 20, 8);
  auto layout = PackedLayout::create("panel16", source.format, 3, 20);
  ASSERT_TRUE(layout.isOk());
  Bytes explicitly(layout->blobBytes()), implicitly(layout->blobBytes());
  source.zeros.assign(source.zeros.size(), 8);
  ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, 3, source.rows(), explicitly).isOk());
  SourceRows rows = source.rows();
  rows.zeros = nullptr;
  ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, 3, rows, implicitly).isOk());
  EXPECT_EQ(explicitly, implicitly);
}

TEST(GroupedPanel, RefusesWhatTheFormatCannotHold) {
  const int64_t n = 20, k = 40;
  auto errorOf = [&](const char *name, const auto &change) {
    QuantSource source(formatOf(name), n, k, 9);
    SourceRows rows = source.rows();
    change(source, rows);
    auto layout = PackedLayout::create("panel16", source.format, n, k);
    EXPECT_TRUE(layout.isOk());
    Bytes blob(layout->blobBytes());
    return layout->packRows(PanelRole::kOnly, 0, n, rows, blob).toString();
  };
  auto code = [](int64_t row, int64_t col, uint8_t value) {
    return [=](QuantSource &s, SourceRows &) { s.codes[size_t(row * s.k + col)] = value; };
  };
  auto scale = [](size_t index, float value) {
    return [=](QuantSource &s, SourceRows &) { s.scales[index] = value; };
  };
  EXPECT_THAT(errorOf("f8e4m3:channel", code(17, 3, 0x7f)),
              HasSubstr("code 127 of row 17, column 3"));
  EXPECT_THAT(errorOf("f8e4m3:group16", code(2, 39, 0xff)),
              HasSubstr("code 255 of row 2, column 39"));
  EXPECT_THAT(errorOf("i4:group16", code(0, 35, 16)), HasSubstr("code 16 of row 0, column 35"));
  EXPECT_THAT(errorOf("mxfp4", code(19, 0, 200)), HasSubstr("exceeds 15"));

  EXPECT_THAT(errorOf("i8:channel", scale(3, INFINITY)), HasSubstr("row 3, column 0"));
  EXPECT_THAT(errorOf("i8:group16", scale(7, NAN)), HasSubstr("row 2, column 16"));
  EXPECT_THAT(errorOf("mxfp4", scale(1, 3)), HasSubstr("powers of two"));
  EXPECT_THAT(errorOf("mxfp4", scale(1, 0)), HasSubstr("powers of two"));
  EXPECT_THAT(errorOf("mxfp4", scale(1, -1)), HasSubstr("powers of two"));
  EXPECT_THAT(errorOf("nvfp4", scale(1, 0.3f)), HasSubstr("values of e4m3"));
  EXPECT_THAT(errorOf("nvfp4", scale(1, 449)), HasSubstr("values of e4m3"));
  EXPECT_THAT(errorOf("nvfp4", scale(1, NAN)), HasSubstr("values of e4m3"));
  EXPECT_THAT(errorOf("nvfp4", [](QuantSource &s, SourceRows &) { s.rowScales[18] = NAN; }),
              HasSubstr("row 18 is not finite"));
  EXPECT_THAT(errorOf("i4:group16", [](QuantSource &s, SourceRows &) { s.zeros[5] = 128; }),
              HasSubstr("zero point 128 of row 1, column 32"));

  EXPECT_THAT(errorOf("i8:channel", [](auto &, SourceRows &r) { r.scales = nullptr; }),
              HasSubstr("needs a scale"));
  EXPECT_THAT(errorOf("nvfp4", [](auto &, SourceRows &r) { r.scaleStride = 2; }),
              HasSubstr("3 groups"));
  EXPECT_THAT(errorOf("nvfp4", [](auto &, SourceRows &r) { r.rowScales = nullptr; }),
              HasSubstr("for every row"));
  EXPECT_THAT(errorOf("mxfp4", [](auto &, SourceRows &r) { r.rowScales = r.scales; }),
              HasSubstr("no row scales"));
  EXPECT_THAT(errorOf("i8:channel", [](auto &s, SourceRows &r) { r.zeros = s.codes.data(); }),
              HasSubstr("no zero points"));
  EXPECT_THAT(errorOf("i8:channel", [](auto &, SourceRows &r) { r.type = ElementType::kBF16; }),
              HasSubstr("codes of i8"));
  EXPECT_THAT(errorOf("i8:channel", [](auto &, SourceRows &r) { r.rowStride = 39; }),
              HasSubstr("39 elements"));
}

TEST(GroupedPanel, SizesWithinLimits) {
  EXPECT_EQ(*packedBytes("panel16", formatOf("f8e4m3:group128"), 32, 256),
            2u * (256 * 16 + 2 * 64));
  EXPECT_EQ(*packedBytes("panel16", formatOf("i4:group32"), 16, 64, 3),
            3u * 704); // 2 * (80 + 256), padded
  EXPECT_EQ(*packedBytes("gate_up_panel16", formatOf("mxfp4"), 16, 64), 2u * 2 * (16 + 256));
  EXPECT_EQ(*packedBytes("panel16", formatOf("nvfp4"), 16, 64), 64u + 4 * (16 + 128));
  auto huge = packedBytes("panel16", formatOf("nvfp4"), 16, INT64_MAX);
  EXPECT_THAT(huge.status().toString(), HasSubstr("2^62"));
}

} // namespace
} // namespace sluice::quant
