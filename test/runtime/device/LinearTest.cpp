//===- LinearTest.cpp - Dense products: linear and ffn_gate_up -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Kernels are run through their argument lists against references in double: biases, scale, soft
// cap, row sets, every activation with and without limits.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Kernels.h"

#include "test/runtime/device/GatedReference.h"
#include "test/runtime/device/HostTesting.h"

namespace sluice::host {
namespace {

using namespace testing;

constexpr abi::StepDims kDims = {/*tokens=*/120, 4, /*logitRows=*/9, 4, 16, 64};

TEST(Linear, EpiloguesEqualTheReference) {
  const int64_t n = 37, k = 80;
  ThreadPool pool(2);
  struct Case {
    bool bias;
    double scale, softcap;
  };
  forEachIsa([&] {
    for (auto [hasBias, scale, softcap] :
         {Case{false, 1, 0}, Case{true, 1, 0}, Case{false, 0.25, 0}, Case{true, 0.5, 2}}) {
      for (auto [rowSet, format] : {std::pair{abi::RowSet::kTokens, "bf16"},
                                    {abi::RowSet::kTokens, "nvfp4"},
                                    {abi::RowSet::kLogitRows, "bf16"},
                                    {abi::RowSet::kLogitRows, "f8e4m3:group32"}}) {
        SCOPED_TRACE(format);
        abi::LinearParams params{n, k, format, rowSet, hasBias, scale, softcap};
        auto kernel = createLinear(params, kDims);
        ASSERT_TRUE(kernel.isOk()) << kernel.status().toString();
        abi::StepHeader header{101, 2, 7, {}};
        const int64_t rows = rowSet == abi::RowSet::kTokens ? 101 : 7;
        const int64_t capacity = rowSet == abi::RowSet::kTokens ? 120 : 9;
        auto w = packRandom("panel16", format, n, k, 1, 5);
        auto x = AlignedBuffer::of(randomFloats(capacity * k, 6));
        auto bias = AlignedBuffer::of(randomFloats(n, 7));
        auto out = AlignedBuffer::of(Floats(size_t(capacity * n), 9.0f));
        void *args[] = {&header, x.data(), w.data.data(), hasBias ? bias.data() : nullptr,
                        out.data()};
        (*kernel)->run(args, pool);
        Floats xs = x.values<float>(), biases = bias.values<float>(), expected;
        for (int64_t r = 0; r < capacity; ++r) {
          for (int64_t c = 0; c < n; ++c) {
            double y = dot(xs.data() + r * k, w.gate[0], c, k);
            y = scale * (y + (hasBias ? biases[size_t(c)] : 0));
            y = softcap > 0 ? softcap * std::tanh(y / softcap) : y;
            expected.push_back(r < rows ? float(y) : 9.0f); // rows past the live ones stay
          }
        }
        expectNear(out.values<float>(), expected, 5e-6);
      }
    }
  });
}

TEST(FfnGateUp, EveryActivationEqualsTheReference) {
  const int64_t n = 40, k = 96, rows = 11;
  ThreadPool pool(2);
  forEachIsa([&] {
    for (const abi::GatedActivation &act : gatedActivations()) {
      for (auto [hasBias, format] : {std::pair{false, "bf16"},
                                     {true, "bf16"},
                                     {false, "i8:channel"},
                                     {true, "i4:group32"},
                                     {true, "mxfp4"}}) {
        SCOPED_TRACE(format);
        abi::FfnGateUpParams params{n, k, format, hasBias, act};
        auto kernel = createFfnGateUp(params, kDims);
        ASSERT_TRUE(kernel.isOk()) << kernel.status().toString();
        abi::StepHeader header{int32_t(rows), 1, 1, {}};
        auto w = packRandom("gate_up_panel16", format, n, k, 1, 15);
        auto x = AlignedBuffer::of(randomFloats(rows * k, 16, 3));
        auto bias = AlignedBuffer::of(randomFloats(2 * n, 17));
        AlignedBuffer out(size_t(rows * n) * sizeof(float));
        void *args[] = {&header, x.data(), w.data.data(), hasBias ? bias.data() : nullptr,
                        out.data()};
        (*kernel)->run(args, pool);
        Floats xs = x.values<float>(), biases = bias.values<float>(), expected;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < n; ++c) {
            double gate = dot(xs.data() + r * k, w.gate[0], c, k);
            double up = dot(xs.data() + r * k, w.up[0], c, k);
            if (hasBias)
              gate += biases[size_t(c)], up += biases[size_t(n + c)];
            expected.push_back(float(gatedReference(act, gate, up)));
          }
        }
        SCOPED_TRACE(int(act.kind));
        expectNear(out.values<float>(), expected, 1e-5);
      }
    }
  });
}

TEST(FfnGateUp, ExtremeGatesStayFinite) {
  // x = ±1000 with unit weights: sigmoid saturates on both sides, nothing overflows.
  const int64_t n = 16, k = 1;
  abi::FfnGateUpParams params{n, k, "f32", true, {}};
  auto kernel = createFfnGateUp(params, kDims);
  ASSERT_TRUE(kernel.isOk());
  ThreadPool pool(1);
  abi::StepHeader header{2, 1, 1, {}};
  auto w = AlignedBuffer::of(Floats(32, 1.0f));
  auto x = AlignedBuffer::of(Floats{1000, -1000});
  auto bias = AlignedBuffer::of(Floats(32, 0.0f));
  AlignedBuffer out(2 * 16 * sizeof(float));
  void *args[] = {&header, x.data(), w.data(), bias.data(), out.data()};
  (*kernel)->run(args, pool);
  Floats values = out.values<float>();
  EXPECT_FLOAT_EQ(values[0], 1e6f);
  EXPECT_NEAR(values[16], 0, 1e-20);
}

} // namespace
} // namespace sluice::host
