//===- HostTesting.h - Helpers for tests of host kernels -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Random data, packed weights beside the exact values they hold, aligned argument buffers and a
// loop over the instruction sets of the machine.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_DEVICE_HOSTTESTING_H
#define SLUICE_TEST_RUNTIME_DEVICE_HOSTTESTING_H

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/HostKernel.h"
#include "runtime/device/host/Isa.h"
#include "runtime/quant/PackedLayout.h"

#include "test/runtime/quant/QuantSource.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace sluice::host::testing {

using Floats = std::vector<float>;

/// Independent standard normal values times `scale`.
inline Floats randomFloats(int64_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Floats out(static_cast<size_t>(count));
  for (float &value : out)
    value = normal(random);
  return out;
}

/// A 64-byte aligned copy of bytes, as kernels expect their arguments.
class AlignedBuffer {
public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes, int fill = 0xff)
      : bytes(bytes), memory(static_cast<std::byte *>(std::aligned_alloc(
                                 64, (std::max<size_t>(bytes, 1) + 63) / 64 * 64)),
                             std::free) {
    std::memset(memory.get(), fill, bytes);
  }
  template <typename T> static AlignedBuffer of(const std::vector<T> &values) {
    AlignedBuffer out(values.size() * sizeof(T));
    if (!values.empty())
      std::memcpy(out.data(), values.data(), out.bytes);
    return out;
  }
  void *data() const { return memory.get(); }
  std::span<std::byte> span() const { return {memory.get(), bytes}; }
  template <typename T> std::vector<T> values() const {
    const T *begin = static_cast<const T *>(data());
    return {begin, begin + bytes / sizeof(T)};
  }

private:
  size_t bytes = 0;
  std::unique_ptr<std::byte, decltype(&std::free)> memory{nullptr, std::free};
};

/// Packed weights and, per matrix, the values they hold exactly.
struct PackedWeights {
  quant::PackedLayout layout;
  AlignedBuffer data;
  std::vector<Floats> gate; ///< or the only matrix, per blob, [n, k]
  std::vector<Floats> up;   ///< per blob, [n, k], when paired
};

inline PackedWeights packRandom(const char *layoutName, const char *format, int64_t n, int64_t k,
                                int64_t blobs, unsigned seed) {
  PackedWeights out;
  auto created =
      quant::PackedLayout::create(layoutName, *quant::WeightFormat::parse(format), n, k, blobs);
  EXPECT_TRUE(created.isOk()) << created.status().toString();
  out.layout = *created;
  out.data = AlignedBuffer(out.layout.totalBytes());
  for (int64_t blob = 0; blob < blobs; ++blob) {
    auto bytes =
        out.data.span().subspan(size_t(blob) * out.layout.blobBytes(), out.layout.blobBytes());
    auto add = [&](quant::PanelRole role, std::vector<Floats> &to) {
      if (out.layout.format().isQuantized()) {
        quant::testing::QuantSource source(out.layout.format(), n, k, seed++);
        EXPECT_TRUE(out.layout.packRows(role, 0, n, source.rows(), bytes).isOk());
        to.emplace_back(size_t(n * k));
        return;
      }
      Floats values = randomFloats(n * k, seed++, 1.0f / std::sqrt(float(k)));
      quant::SourceRows source{reinterpret_cast<const std::byte *>(values.data()),
                               quant::ElementType::kF32, k};
      EXPECT_TRUE(out.layout.packRows(role, 0, n, source, bytes).isOk());
      to.push_back(std::move(values));
    };
    if (out.layout.isPaired()) {
      add(quant::PanelRole::kGate, out.gate);
      add(quant::PanelRole::kUp, out.up);
      EXPECT_TRUE(out.layout.unpack(quant::PanelRole::kUp, bytes, out.up.back()).isOk());
    } else {
      add(quant::PanelRole::kOnly, out.gate);
    }
    auto role = out.layout.isPaired() ? quant::PanelRole::kGate : quant::PanelRole::kOnly;
    EXPECT_TRUE(out.layout.unpack(role, bytes, out.gate.back()).isOk());
  }
  return out;
}

/// x[k] · row `n` of w[., k], in double.
inline double dot(const float *x, const Floats &w, int64_t n, int64_t k) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i)
    sum += double(x[i]) * double(w[size_t(n * k + i)]);
  return sum;
}

/// Checks |a - b| <= tolerance * (1 + |b|) everywhere.
inline void expectNear(const Floats &a, const Floats &b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_LE(std::abs(double(a[i]) - double(b[i])), tolerance * (1 + std::abs(double(b[i]))))
        << "at " << i << ": " << a[i] << " instead of " << b[i];
}

/// Calls `body` once per instruction set that this machine has, with kernels created inside using
/// it.
template <typename Body> void forEachIsa(const Body &body) {
  for (const char *isa : {"portable", "avx2", "avx512"}) {
    setenv("SLUICE_HOST_ISA", isa, 1);
    if (std::string(hostIsaName()) != isa)
      continue;
    SCOPED_TRACE(isa);
    body();
  }
  unsetenv("SLUICE_HOST_ISA");
}

} // namespace sluice::host::testing

#endif // SLUICE_TEST_RUNTIME_DEVICE_HOSTTESTING_H
