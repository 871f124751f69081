//===- MatmulTest.cpp - Products of activations and packed weights ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every instruction set, format and batch size against a reference in double; then the promise that
// a row's bits depend neither on the other rows nor on how the panels are divided.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Matmul.h"

#include "test/runtime/device/HostTesting.h"

namespace sluice::host {
namespace {

using namespace testing;

Floats runMatmul(const PackedWeights &w, const Floats &x, int64_t rows, ThreadPool &pool) {
  auto matmul = Matmul::create(w.layout.format(), w.layout.n(), w.layout.k());
  EXPECT_TRUE(matmul.isOk());
  Floats out(size_t(rows * w.layout.n()), NAN);
  matmul->run(w.data.data(), x.data(), w.layout.k(), rows, out.data(), w.layout.n(), pool);
  return out;
}

TEST(Matmul, EqualsTheReference) {
  ThreadPool pool(3);
  struct Shape {
    int64_t n, k;
  };
  forEachIsa([&] {
    for (const char *format : {"f32", "bf16", "f16"}) {
      for (auto [n, k] : {Shape{1, 1}, Shape{16, 7}, Shape{50, 300}, Shape{144, 64}}) {
        auto w = packRandom("panel16", format, n, k, 1, 11);
        for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 31, 100, 200}) {
          SCOPED_TRACE(std::string(format) + " n " + std::to_string(n) + " k " + std::to_string(k) +
                       " rows " + std::to_string(rows));
          Floats x = randomFloats(rows * k, 12), expected;
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < n; ++c)
              expected.push_back(float(dot(x.data() + r * k, w.gate[0], c, k)));
          expectNear(runMatmul(w, x, rows, pool), expected, 3e-6);
        }
      }
    }
  });
}

TEST(Matmul, BitsOfARowDoNotDependOnBatchOrThreads) {
  const int64_t n = 200, k = 700, rows = 150;
  ThreadPool one(1), four(4);
  forEachIsa([&] {
    for (const char *format : {"f32", "bf16", "f16"}) {
      auto w = packRandom("panel16", format, n, k, 1, 21);
      Floats x = randomFloats(rows * k, 22);
      Floats all = runMatmul(w, x, rows, one);
      EXPECT_EQ(runMatmul(w, x, rows, four), all);
      for (int64_t batch : {1, 2, 3, 5, 7, 11, 97}) {
        Floats part(x.end() - batch * k, x.end());
        Floats tail(all.end() - batch * n, all.end());
        EXPECT_EQ(runMatmul(w, part, batch, four), tail) << format << " batch " << batch;
      }
    }
  });
}

TEST(Matmul, RowsWritesOnlyItsPanelsAndHonoursStrides) {
  const int64_t n = 70, k = 40, rows = 9, ldx = 45, ldo = 80;
  auto w = packRandom("panel16", "bf16", n, k, 1, 31);
  auto matmul = Matmul::create(w.layout.format(), n, k);
  ASSERT_TRUE(matmul.isOk());
  Floats x = randomFloats(rows * ldx, 32), out(size_t(rows * ldo), 7.0f);
  matmul->rows(w.data.data(), x.data(), ldx, rows, out.data(), ldo, 3, 5);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < ldo; ++c) {
      float value = out[size_t(r * ldo + c)];
      if (c >= 48 && c < n)
        EXPECT_NEAR(value, dot(x.data() + r * ldx, w.gate[0], c, k), 1e-5);
      else
        EXPECT_EQ(value, 7.0f) << "row " << r << " column " << c;
    }
  }
}

TEST(Matmul, NotANumberStaysVisible) {
  const int64_t n = 32, k = 64;
  auto w = packRandom("panel16", "bf16", n, k, 1, 41);
  ThreadPool pool(1);
  Floats x = randomFloats(2 * k, 42);
  x[5] = NAN;
  Floats out = runMatmul(w, x, 2, pool);
  for (int64_t c = 0; c < n; ++c) {
    EXPECT_TRUE(std::isnan(out[size_t(c)]));
    EXPECT_FALSE(std::isnan(out[size_t(n + c)]));
  }
}

TEST(Matmul, UnpackableFormatsAreRefused) {
  auto matmul = Matmul::create(*quant::WeightFormat::parse("f8e4m3:tensor"), 16, 16);
  EXPECT_EQ(matmul.status().code(), StatusCode::kUnsupported);
}

TEST(WorkSplit, CoversEverythingAndKeepsPairsTogether) {
  for (int threads : {1, 2, 64}) {
    for (int64_t panels : {2, 6, 32, 512}) {
      for (int64_t unit : {1, 2}) {
        WorkSplit split = WorkSplit::of(2, 150, panels, 256, threads, unit);
        EXPECT_EQ(split.panelsPerItem % unit, 0);
        EXPECT_LE(split.panelsPerItem, kPanelBlock);
        EXPECT_LE(WorkSplit::of(2, 4, panels, 256, threads, unit).panelsPerItem, kMaxItemPanels);
        EXPECT_GE(split.panelsPerItem * split.panelBlocks, panels);
        EXPECT_LT(split.panelsPerItem * (split.panelBlocks - 1), panels);
        EXPECT_EQ(split.items, 2 * split.panelBlocks);
      }
    }
  }
  WorkSplit tiny = WorkSplit::of(1, 1, 4, 64, 8);
  EXPECT_EQ(tiny.grain, tiny.items);
  EXPECT_EQ(WorkSplit::of(0, 0, 4, 64, 8).items, 0);
}

} // namespace
} // namespace sluice::host
