//===- PackedLayoutTest.cpp - The order in which host kernels stream weights ===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Packed bytes are compared bit by bit with a plain statement of the layout, for sizes that are and
// are not multiples of a panel, whole and range by range, from unaligned sources.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/PackedLayout.h"

#include "runtime/base/NarrowFloat.h"

#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace sluice::quant {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

WeightFormat formatOf(const char *name) { return *WeightFormat::parse(name); }

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{1, 1}, {16, 64}, {17, 3}, {15, 65}, {48, 33}, {50, 130}};

/// Random bits; every value is finite.
std::vector<uint16_t> randomHalves(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> out(static_cast<size_t>(count));
  for (uint16_t &value : out)
    value = f32ToBf16(std::normal_distribution<float>(0, 1)(random));
  return out;
}

/// A copy of `values` at an odd address.
Bytes unaligned(const std::vector<uint16_t> &values) {
  Bytes out(values.size() * 2 + 1);
  std::memcpy(out.data() + 1, values.data(), values.size() * 2);
  return out;
}

uint16_t halfAt(const Bytes &blob, uint64_t index) {
  uint16_t value;
  std::memcpy(&value, blob.data() + index * 2, 2);
  return value;
}

TEST(PackedLayout, PanelsHoldSixteenRowsPerStep) {
  for (auto [n, k] : kShapes) {
    auto layout = PackedLayout::create("panel16", formatOf("bf16"), n, k);
    ASSERT_TRUE(layout.isOk()) << layout.status().toString();
    EXPECT_EQ(layout->blobBytes() % kBlobAlignment, 0u);
    auto values = randomHalves(n * k, 1);
    Bytes source = unaligned(values), blob(layout->blobBytes(), std::byte(0xee));
    Status status =
        layout->packRows(PanelRole::kOnly, 0, n, {source.data() + 1, ElementType::kBF16, k}, blob);
    ASSERT_TRUE(status.isOk()) << status.toString();
    for (uint64_t i = 0; i < blob.size() / 2; ++i) {
      int64_t panel = int64_t(i) / (16 * k), step = int64_t(i) / 16 % k;
      int64_t row = panel * 16 + int64_t(i) % 16;
      bool padding = panel >= layout->panels() || row >= n;
      ASSERT_EQ(halfAt(blob, i), padding ? 0 : values[size_t(row * k + step)])
          << n << "x" << k << " at " << i;
    }
  }
}

TEST(PackedLayout, GateAndUpPanelsAlternate) {
  for (auto [n, k] : kShapes) {
    auto layout = PackedLayout::create("gate_up_panel16", formatOf("bf16"), n, k);
    ASSERT_TRUE(layout.isOk());
    auto gate = randomHalves(n * k, 2), up = randomHalves(n * k, 3);
    Bytes blob(layout->blobBytes(), std::byte(0xee));
    auto bytesOf = [](const auto &v) { return reinterpret_cast<const std::byte *>(v.data()); };
    ASSERT_TRUE(
        layout->packRows(PanelRole::kGate, 0, n, {bytesOf(gate), ElementType::kBF16, k}, blob)
            .isOk());
    ASSERT_TRUE(
        layout->packRows(PanelRole::kUp, 0, n, {bytesOf(up), ElementType::kBF16, k}, blob).isOk());
    for (uint64_t i = 0; i < blob.size() / 2; ++i) {
      int64_t panel = int64_t(i) / (16 * k), step = int64_t(i) / 16 % k;
      int64_t row = panel / 2 * 16 + int64_t(i) % 16;
      bool padding = panel >= 2 * layout->panels() || row >= n;
      const auto &values = panel % 2 ? up : gate;
      ASSERT_EQ(halfAt(blob, i), padding ? 0 : values[size_t(row * k + step)]);
    }
  }
}

TEST(PackedLayout, RangesTileTheBlob) {
  for (const char *name : {"panel16", "gate_up_panel16"}) {
    const int64_t n = 75, k = 21;
    auto layout = PackedLayout::create(name, formatOf("f16"), n, k);
    ASSERT_TRUE(layout.isOk());
    std::vector<PanelRole> roles = layout->isPaired()
                                       ? std::vector{PanelRole::kGate, PanelRole::kUp}
                                       : std::vector{PanelRole::kOnly};
    // The source matrix is wider than the weight: a column slice of a sharded tensor.
    const int64_t stride = k + 5;
    auto values = randomHalves(n * stride, 4);
    const auto *source = reinterpret_cast<const std::byte *>(values.data());
    Bytes whole(layout->blobBytes()), pieces;
    for (PanelRole role : roles)
      ASSERT_TRUE(layout->packRows(role, 0, n, {source, ElementType::kF16, stride}, whole).isOk());
    for (int64_t row = 0; row < n; row += 32) {
      int64_t count = std::min<int64_t>(32, n - row);
      EXPECT_EQ(layout->offsetOfRow(row), pieces.size());
      Bytes piece(layout->bytesOfRows(row, count), std::byte(0xee));
      for (PanelRole role : roles) {
        SourceRows rows{source + row * stride * 2, ElementType::kF16, stride};
        ASSERT_TRUE(layout->packRows(role, row, count, rows, piece).isOk());
      }
      pieces.insert(pieces.end(), piece.begin(), piece.end());
    }
    EXPECT_EQ(whole, pieces);
  }
}

TEST(PackedLayout, ConversionsRoundOnceAndUnpackInverts) {
  const int64_t n = 19, k = 70;
  std::mt19937 random(7);
  std::vector<float> values(size_t(n * k));
  for (float &value : values)
    value = std::normal_distribution<float>(0, 3)(random);
  SourceRows source{reinterpret_cast<const std::byte *>(values.data()), ElementType::kF32, k};
  for (const char *name : {"f32", "bf16", "f16"}) {
    auto layout = PackedLayout::create("panel16", formatOf(name), n, k);
    ASSERT_TRUE(layout.isOk());
    Bytes blob(layout->blobBytes());
    ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, n, source, blob).isOk());
    std::vector<float> unpacked(values.size());
    ASSERT_TRUE(layout->unpack(PanelRole::kOnly, blob, unpacked).isOk());
    for (size_t i = 0; i < values.size(); ++i) {
      float expected = values[i];
      if (name == std::string("bf16"))
        expected = bf16ToF32(f32ToBf16(expected));
      else if (name == std::string("f16"))
        expected = f16ToF32(f32ToF16(expected));
      ASSERT_EQ(unpacked[i], expected) << name << " at " << i;
    }
  }
}

TEST(PackedLayout, WideningAndCrossingSources) {
  const uint16_t half = f32ToF16(0.333f), brain = f32ToBf16(-1.7f);
  struct Case {
    ElementType from;
    uint16_t bits;
    const char *to;
    float expected;
  };
  for (const Case &c :
       {Case{ElementType::kF16, half, "f32", f16ToF32(half)},
        Case{ElementType::kBF16, brain, "f32", bf16ToF32(brain)},
        Case{ElementType::kF16, half, "bf16", bf16ToF32(f32ToBf16(f16ToF32(half)))},
        Case{ElementType::kBF16, brain, "f16", f16ToF32(f32ToF16(bf16ToF32(brain)))}}) {
    auto layout = PackedLayout::create("panel16", formatOf(c.to), 1, 1);
    ASSERT_TRUE(layout.isOk());
    Bytes blob(layout->blobBytes());
    SourceRows source{reinterpret_cast<const std::byte *>(&c.bits), c.from, 1};
    ASSERT_TRUE(layout->packRows(PanelRole::kOnly, 0, 1, source, blob).isOk());
    float value = 0;
    ASSERT_TRUE(layout->unpack(PanelRole::kOnly, blob, {&value, 1}).isOk());
    EXPECT_EQ(value, c.expected);
  }
}

TEST(PackedLayout, Sizes) {
  EXPECT_EQ(*packedBytes("panel16", formatOf("bf16"), 512, 256), 512u * 256 * 2);
  EXPECT_EQ(*packedBytes("panel16", formatOf("f32"), 17, 4, 3), 3u * 2 * 16 * 4 * 4);
  EXPECT_EQ(*packedBytes("gate_up_panel16", formatOf("bf16"), 128, 256, 32),
            32u * 2 * 128 * 256 * 2);
  EXPECT_EQ(*packedBytes("panel16", formatOf("bf16"), 1, 1), 64u);
}

TEST(PackedLayout, RefusesWhatItCannotDo) {
  auto messageOf = [](const auto &result) { return result.status().toString(); };
  EXPECT_THAT(messageOf(PackedLayout::create("panel32", formatOf("bf16"), 1, 1)),
              HasSubstr("\"panel32\""));
  EXPECT_THAT(messageOf(PackedLayout::create("panel16", formatOf("f8e4m3:tensor"), 1, 1)),
              HasSubstr("f8e4m3:tensor"));
  EXPECT_THAT(messageOf(PackedLayout::create("panel16", formatOf("bf16"), 0, 1)),
              HasSubstr("size below 1"));
  EXPECT_THAT(messageOf(PackedLayout::create("panel16", formatOf("f32"), int64_t(1) << 40,
                                             int64_t(1) << 40)),
              HasSubstr("2^62"));
  EXPECT_THAT(messageOf(PackedLayout::create("panel16", formatOf("f32"), INT64_MAX, 1)),
              HasSubstr("2^62"));
  EXPECT_THAT(messageOf(PackedLayout::create("panel16", formatOf("f32"), 1, INT64_MAX)),
              HasSubstr("2^62"));

  auto layout = PackedLayout::create("panel16", formatOf("bf16"), 40, 8);
  ASSERT_TRUE(layout.isOk());
  std::vector<uint16_t> values(40 * 8);
  SourceRows source{reinterpret_cast<const std::byte *>(values.data()), ElementType::kBF16, 8};
  Bytes blob(layout->blobBytes()), shortBlob(layout->blobBytes() - 1);
  auto pack = [&](PanelRole role, int64_t begin, int64_t count, const SourceRows &from,
                  std::span<std::byte> to) {
    return layout->packRows(role, begin, count, from, to).toString();
  };
  EXPECT_THAT(pack(PanelRole::kGate, 0, 40, source, blob), HasSubstr("one matrix"));
  EXPECT_THAT(pack(PanelRole::kOnly, 8, 16, source, blob), HasSubstr("16-row panels"));
  EXPECT_THAT(pack(PanelRole::kOnly, 0, 20, source, blob), HasSubstr("16-row panels"));
  EXPECT_THAT(pack(PanelRole::kOnly, 32, 16, source, blob), HasSubstr("16-row panels"));
  EXPECT_THAT(pack(PanelRole::kOnly, 0, 40, source, shortBlob), HasSubstr("bytes"));
  SourceRows narrow = source;
  narrow.rowStride = 7;
  EXPECT_THAT(pack(PanelRole::kOnly, 0, 40, narrow, blob), HasSubstr("7 elements"));
  SourceRows odd = source;
  odd.type = ElementType::kF8E4M3;
  EXPECT_THAT(pack(PanelRole::kOnly, 0, 40, odd, blob), HasSubstr("f8e4m3"));
}

} // namespace
} // namespace sluice::quant
