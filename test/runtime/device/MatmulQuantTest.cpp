//===- MatmulQuantTest.cpp - Products of activations and quantised weights --===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Every instruction set and format against a reference in double of the unpacked numbers, over
// shapes that fill neither panels, groups, bytes nor widened blocks, and batches on both sides of
// each change of method; then the promise that bits depend on neither batch nor threads.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Matmul.h"

#include "test/runtime/device/HostTesting.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace sluice::host {
namespace {

using namespace testing;

constexpr const char *kFormats[] = {
    "f8e4m3:channel", "f8e4m3:group128", "f8e4m3:group9", "i8:channel", "i8:group300",
    "i4:channel",     "i4:group32",      "i4:group9",     "mxfp4",      "nvfp4"};

Floats run(const PackedWeights &w, const Floats &x, int64_t rows, ThreadPool &pool) {
  auto matmul = Matmul::create(w.layout.format(), w.layout.n(), w.layout.k());
  EXPECT_TRUE(matmul.isOk());
  Floats out(size_t(rows * w.layout.n()), NAN);
  matmul->run(w.data.data(), x.data(), w.layout.k(), rows, out.data(), w.layout.n(), pool);
  return out;
}

TEST(MatmulQuant, EqualsTheReference) {
  ThreadPool pool(2);
  struct Shape {
    int64_t n, k;
  };
  forEachIsa([&] {
    for (const char *format : kFormats) {
      for (auto [n, k] : {Shape{1, 1}, Shape{15, 7}, Shape{16, 16}, Shape{17, 33}, Shape{80, 128},
                          Shape{50, 653}}) {
        auto w = packRandom("panel16", format, n, k, 1, 11);
        // Up to 70 rows; smaller batches are the first rows of the same input.
        Floats x = randomFloats(70 * k, 12), expected;
        for (int64_t r = 0; r < 70; ++r)
          for (int64_t c = 0; c < n; ++c)
            expected.push_back(float(dot(x.data() + r * k, w.gate[0], c, k)));
        for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 17, 31, 70}) {
          SCOPED_TRACE(std::string(format) + " n " + std::to_string(n) + " k " + std::to_string(k) +
                       " rows " + std::to_string(rows));
          Floats head(expected.begin(), expected.begin() + rows * n);
          expectNear(run(w, x, rows, pool), head, 3e-6);
          if (::testing::Test::HasFatalFailure())
            return;
        }
      }
    }
  });
}

TEST(MatmulQuant, BitsOfARowDoNotDependOnBatchOrThreads) {
  const int64_t n = 100, k = 701, rows = 120;
  ThreadPool one(1), four(4);
  forEachIsa([&] {
    for (const char *format : kFormats) {
      auto w = packRandom("panel16", format, n, k, 1, 21);
      Floats x = randomFloats(rows * k, 22);
      Floats all = run(w, x, rows, one);
      EXPECT_EQ(run(w, x, rows, four), all);
      for (int64_t batch : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 97}) {
        Floats part(x.end() - batch * k, x.end());
        Floats tail(all.end() - batch * n, all.end());
        EXPECT_EQ(run(w, part, batch, four), tail) << format << " batch " << batch;
      }
    }
  });
}

/// Sums of a few exact numbers are exact: every code is worth what the format says, on every path.
TEST(MatmulQuant, EveryCodeHasItsValue) {
  ThreadPool pool(1);
  forEachIsa([&] {
    for (const char *name : {"f8e4m3:channel", "i8:channel", "i4:group16", "mxfp4", "nvfp4"}) {
      auto format = *quant::WeightFormat::parse(name);
      const int64_t n = 16, k = 16;
      quant::testing::QuantSource source(format, n, k, 31);
      const int codes = quant::elementBits(format.element) == 4 ? 16 : 256;
      for (int64_t i = 0; i < n * k; ++i) {
        int code = int(i % codes);
        bool nan = format.element == quant::ElementType::kF8E4M3 && (code & 127) == 127;
        source.codes[size_t(i)] = uint8_t(nan ? 0 : code);
      }
      auto layout = quant::PackedLayout::create("panel16", format, n, k);
      ASSERT_TRUE(layout.isOk());
      AlignedBuffer blob(layout->totalBytes());
      ASSERT_TRUE(
          layout->packRows(quant::PanelRole::kOnly, 0, n, source.rows(), blob.span()).isOk());
      auto matmul = Matmul::create(format, n, k);
      ASSERT_TRUE(matmul.isOk());
      for (int64_t rows : {16, 48}) {
        Floats x(size_t(rows * k), 0.0f), out(size_t(rows * n), NAN);
        for (int64_t r = 0; r < rows; ++r)
          x[size_t(r * k + r % k)] = 1;
        for (int64_t batch : {int64_t(1), rows}) {
          for (int64_t r = 0; r < rows; r += batch)
            matmul->run(blob.data(), x.data() + r * k, k, batch, out.data() + r * n, n, pool);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < n; ++c)
              ASSERT_EQ(out[size_t(r * n + c)], source.value(c, r % k))
                  << name << " row " << c << " column " << r % k << " batch " << batch;
        }
      }
    }
  });
}

#if defined(__SSE__)
/// A program compiled for fast mathematics has the processor take subnormal float32 as zero.
TEST(MatmulQuant, SubnormalCodesCountInFastMathPrograms) {
  ThreadPool pool(1);
  const int64_t n = 16, k = 7;
  auto format = *quant::WeightFormat::parse("f8e4m3:channel");
  quant::testing::QuantSource source(format, n, k, 33);
  for (int64_t i = 0; i < n * k; ++i)
    source.codes[size_t(i)] = uint8_t(1 + i % k);
  auto layout = quant::PackedLayout::create("panel16", format, n, k);
  ASSERT_TRUE(layout.isOk());
  PackedWeights w;
  w.layout = *layout;
  w.data = AlignedBuffer(layout->totalBytes());
  ASSERT_TRUE(layout->packRows(quant::PanelRole::kOnly, 0, n, source.rows(), w.data.span()).isOk());
  const Floats x(size_t(k), 1.0f);
  constexpr unsigned subnormalsAreZero = 1u << 6;
  forEachIsa([&] {
    Floats expected = run(w, x, 1, pool);
    EXPECT_NE(expected[0], 0.0f);
    unsigned state = _mm_getcsr();
    _mm_setcsr(state | subnormalsAreZero);
    Floats found = run(w, x, 1, pool);
    _mm_setcsr(state);
    EXPECT_EQ(found, expected);
  });
}
#endif

TEST(MatmulQuant, ScalesAtTheEndsOfTheirRange) {
  ThreadPool pool(1);
  forEachIsa([&] {
    for (float exponent : {-127.0f, -126.0f, 0.0f, 100.0f}) {
      const int64_t n = 16, k = 32;
      quant::testing::QuantSource source(*quant::WeightFormat::parse("mxfp4"), n, k, 41);
      source.scales.assign(source.scales.size(), std::exp2(exponent));
      auto layout = quant::PackedLayout::create("panel16", source.format, n, k);
      AlignedBuffer blob(layout->totalBytes());
      ASSERT_TRUE(
          layout->packRows(quant::PanelRole::kOnly, 0, n, source.rows(), blob.span()).isOk());
      auto matmul = Matmul::create(source.format, n, k);
      Floats x(size_t(k), 0.0f), out(size_t(n), NAN);
      x[3] = 16;
      matmul->run(blob.data(), x.data(), k, 1, out.data(), n, pool);
      for (int64_t c = 0; c < n; ++c)
        EXPECT_EQ(out[size_t(c)], 16 * source.value(c, 3)) << exponent;
    }
  });
}

TEST(MatmulQuant, NotANumberStaysVisible) {
  const int64_t n = 32, k = 64;
  ThreadPool pool(1);
  for (const char *format : {"i8:channel", "mxfp4"}) {
    auto w = packRandom("panel16", format, n, k, 1, 51);
    Floats x = randomFloats(2 * k, 52);
    x[5] = NAN;
    Floats out = run(w, x, 2, pool);
    for (int64_t c = 0; c < n; ++c) {
      EXPECT_TRUE(std::isnan(out[size_t(c)]));
      EXPECT_FALSE(std::isnan(out[size_t(n + c)]));
    }
  }
}

} // namespace
} // namespace sluice::host
