//===- KernelHarness.h - Runs host kernels on random data -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Kernels are tested through their calling convention: buffers of exactly the sizes that
// familyArgBytes() states, each followed by a guard, outputs and scratch poisoned with NaN. Every
// check runs for each instruction set that this machine has, and with one, two and three threads,
// whose results must be equal to the bit. References are written naively in double.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_DEVICE_KERNELHARNESS_H
#define SLUICE_TEST_RUNTIME_DEVICE_KERNELHARNESS_H

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/HostKernel.h"
#include "runtime/device/host/Isa.h"
#include "runtime/base/NarrowFloat.h"
#include "runtime/quant/PackedLayout.h"

#include "test/runtime/quant/QuantSource.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace sluice::host::test {

/// Lowers the instruction set while it lives.
class ScopedIsa {
public:
  explicit ScopedIsa(HostIsa isa) { setenv("SLUICE_HOST_ISA", hostIsaName(isa), 1); }
  ~ScopedIsa() { unsetenv("SLUICE_HOST_ISA"); }
};

/// The instruction sets of this machine, the least first.
inline std::vector<HostIsa> usableIsas() {
  std::vector<HostIsa> out;
  for (int isa = 0; isa <= int(hostIsa()); ++isa)
    out.push_back(HostIsa(isa));
  return out;
}

using Random = std::mt19937;

inline int64_t uniformInt(Random &random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

inline void fillNormal(Random &random, float *out, int64_t count, float sigma = 1) {
  std::normal_distribution<float> normal(0, sigma);
  for (int64_t i = 0; i < count; ++i)
    out[i] = normal(random);
}

/// Stored elements ("f32", "bf16", "f16") of a buffer, one at a time.
inline int64_t bytesOf(const std::string &type) { return type == "f32" ? 4 : 2; }

inline float readElement(const std::string &type, const void *data, int64_t i) {
  if (type == "f32")
    return static_cast<const float *>(data)[i];
  uint16_t bits = static_cast<const uint16_t *>(data)[i];
  return type == "bf16" ? bf16ToF32(bits) : f16ToF32(bits);
}

inline void writeElement(const std::string &type, void *data, int64_t i, float value) {
  if (type == "f32")
    static_cast<float *>(data)[i] = value;
  else
    static_cast<uint16_t *>(data)[i] =
        type == "bf16" ? f32ToBf16(value) : f32ToF16(value);
}

/// The buffers of one launch.
class Launch {
public:
  Launch(const abi::FamilyParams &params, const abi::StepDims &dims) : params(params), dims(dims) {
    auto sizes = abi::familyArgBytes(params, dims);
    EXPECT_TRUE(sizes.isOk()) << sizes.status().toString();
    for (size_t i = 0; sizes.isOk() && i < sizes->size(); ++i) {
      uint64_t bytes = (*sizes)[i];
      Buffer buffer;
      buffer.bytes = bytes;
      uint64_t total = (bytes + kGuard + 63) / 64 * 64;
      buffer.data.reset(static_cast<std::byte *>(std::aligned_alloc(64, total)));
      // All ones are NaN in every floating-point type used here.
      std::memset(buffer.data.get(), 0xff, total);
      buffers.push_back(std::move(buffer));
    }
    header() = abi::StepHeader();
  }

  abi::StepHeader &header() { return *reinterpret_cast<abi::StepHeader *>(buffers[0].data.get()); }

  /// The buffer of the argument named `name`.
  template <typename T = float> T *arg(const char *name) {
    return reinterpret_cast<T *>(find(name).data.get());
  }
  int64_t bytes(const char *name) { return int64_t(find(name).bytes); }
  bool takes(const std::string &name) const {
    for (const abi::ArgSpec &spec : abi::familyArgs(params))
      if (spec.name == name)
        return true;
    return false;
  }

  /// Writes a matrix [n, k] into the packed argument `name` and replaces `values` by what its
  /// format can hold; a quantised matrix is random and replaces them altogether.
  void pack(const char *name, const std::string &format, int64_t n, int64_t k,
            std::vector<float> &values) {
    auto parsed = quant::WeightFormat::parse(format);
    ASSERT_TRUE(parsed.isOk());
    auto layout = quant::PackedLayout::create("panel16", *parsed, n, k);
    ASSERT_TRUE(layout.isOk());
    ASSERT_EQ(int64_t(layout->totalBytes()), bytes(name));
    if (parsed->isQuantized()) {
      quant::testing::QuantSource source(*parsed, n, k, unsigned(n * k));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = source.value(int64_t(i) / k, int64_t(i) % k);
      Status status = layout->packRows(quant::PanelRole::kOnly, 0, n, source.rows(),
                                       {arg<std::byte>(name), size_t(bytes(name))});
      ASSERT_TRUE(status.isOk()) << status.toString();
      return;
    }
    std::vector<uint16_t> narrow(values.size());
    quant::SourceRows rows;
    rows.rowStride = k;
    rows.type = parsed->element;
    rows.data = reinterpret_cast<const std::byte *>(values.data());
    if (format != "f32") {
      for (size_t i = 0; i < values.size(); ++i) {
        writeElement(format, narrow.data(), int64_t(i), values[i]);
        values[i] = readElement(format, narrow.data(), int64_t(i));
      }
      rows.data = reinterpret_cast<const std::byte *>(narrow.data());
    }
    Status status = layout->packRows(quant::PanelRole::kOnly, 0, n, rows,
                                     {arg<std::byte>(name), size_t(bytes(name))});
    ASSERT_TRUE(status.isOk()) << status.toString();
  }

  /// Runs the kernel once on `threads` threads and checks the guards.
  void run(int threads) {
    auto kernel = createHostKernel(params, dims);
    ASSERT_TRUE(kernel.isOk()) << kernel.status().toString();
    ThreadPool pool(threads);
    std::vector<void *> args;
    for (Buffer &buffer : buffers)
      args.push_back(buffer.bytes ? buffer.data.get() : nullptr);
    (*kernel)->run(args.data(), pool);
    for (Buffer &buffer : buffers)
      for (uint64_t i = buffer.bytes; i < buffer.bytes + kGuard; ++i)
        ASSERT_EQ(buffer.data.get()[i], std::byte(0xff)) << "a guard was overwritten";
  }

  std::vector<std::byte> snapshot(const char *name) {
    Buffer &buffer = find(name);
    return {buffer.data.get(), buffer.data.get() + buffer.bytes};
  }
  void restore(const char *name, const std::vector<std::byte> &bytes) {
    std::memcpy(find(name).data.get(), bytes.data(), bytes.size());
  }

  const abi::FamilyParams params;
  const abi::StepDims dims;

private:
  static constexpr uint64_t kGuard = 64;
  struct Free {
    void operator()(std::byte *p) const { std::free(p); }
  };
  struct Buffer {
    std::unique_ptr<std::byte, Free> data;
    uint64_t bytes = 0;
  };

  Buffer &find(const char *name) {
    const auto &args = abi::familyArgs(params);
    for (size_t i = 0; i < args.size(); ++i) {
      if (std::string(args[i].name) == name)
        return buffers[i];
    }
    ADD_FAILURE() << "no argument " << name;
    return buffers[0];
  }

  std::vector<Buffer> buffers;
};

/// Runs `launch` with one, two and three threads for each instruction set, calls `check` after the
/// first run of each, and compares the bytes of `outputs` between thread counts. Outputs start from
/// what they hold now.
inline void runEverywhere(Launch &launch, const std::vector<const char *> &outputs,
                          const std::function<void()> &check) {
  std::vector<std::vector<std::byte>> initial;
  for (const char *name : outputs)
    initial.push_back(launch.snapshot(name));
  for (HostIsa isa : usableIsas()) {
    SCOPED_TRACE(hostIsaName(isa));
    ScopedIsa scope(isa);
    std::vector<std::vector<std::byte>> first;
    for (int threads = 1; threads <= 3; ++threads) {
      for (size_t i = 0; i < outputs.size(); ++i)
        launch.restore(outputs[i], initial[i]);
      launch.run(threads);
      if (::testing::Test::HasFatalFailure())
        return;
      for (size_t i = 0; i < outputs.size(); ++i) {
        if (threads == 1)
          first.push_back(launch.snapshot(outputs[i]));
        else
          EXPECT_TRUE(first[i] == launch.snapshot(outputs[i]))
              << outputs[i] << " differs between 1 and " << threads << " threads";
      }
      if (threads == 1)
        check();
    }
  }
}

/// max |a - b| / max |b|.
inline double relativeError(const float *actual, const std::vector<double> &expected) {
  double difference = 0, scale = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    double d = std::fabs(double(actual[i]) - expected[i]);
    if (!(d <= difference))
      difference = d; // NaN stays
    scale = std::max(scale, std::fabs(expected[i]));
  }
  return difference / std::max(scale, 1e-30);
}

/// A ragged batch: for each sequence, the tokens it has in the cache and those of this step. Pages
/// are handed out in random order, and again from the first one when there are too few (for tests
/// that only write a few slots at large positions).
struct Batch {
  struct Sequence {
    int64_t cached = 0, fresh = 1;
  };
  std::vector<Sequence> sequences;

  int64_t tokens() const {
    int64_t sum = 0;
    for (const Sequence &s : sequences)
      sum += s.fresh;
    return sum;
  }
  int64_t longest() const {
    int64_t length = 1;
    for (const Sequence &s : sequences)
      length = std::max(length, s.cached + s.fresh);
    return length;
  }
  /// Dimensions with room to spare, so that unused rows exist.
  abi::StepDims dims(int64_t pageSize) const {
    abi::StepDims dims;
    dims.tokens = tokens() + 3;
    dims.seqs = int64_t(sequences.size()) + 1;
    dims.logitRows = dims.seqs;
    dims.pageSize = pageSize;
    dims.pagesPerSeq = (longest() + pageSize - 1) / pageSize;
    dims.numPages = dims.pagesPerSeq * dims.seqs;
    return dims;
  }
  /// Fills the step's inputs that the family takes (positions, token_seq, page_table, and
  /// seq_starts and kv_lengths).
  void describe(Launch &launch, Random &random, bool withStarts) const {
    launch.header().numTokens = int32_t(tokens());
    launch.header().numSeqs = int32_t(sequences.size());
    std::vector<int32_t> pages(size_t(launch.dims.numPages));
    for (size_t i = 0; i < pages.size(); ++i)
      pages[i] = int32_t(i);
    std::shuffle(pages.begin(), pages.end(), random);
    auto *table = launch.takes("page_table") ? launch.arg<int32_t>("page_table") : nullptr;
    int32_t token = 0, page = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const Sequence &sequence = sequences[s];
      if (withStarts)
        launch.arg<int32_t>("seq_starts")[s] = token;
      launch.arg<int32_t>("kv_lengths")[s] = int32_t(sequence.cached + sequence.fresh);
      for (int64_t i = 0; table && i * launch.dims.pageSize < sequence.cached + sequence.fresh; ++i)
        table[int64_t(s) * launch.dims.pagesPerSeq + i] = pages[size_t(page++) % pages.size()];
      for (int64_t i = 0; i < sequence.fresh; ++i, ++token) {
        launch.arg<int32_t>("positions")[token] = int32_t(sequence.cached + i);
        launch.arg<int32_t>("token_seq")[token] = int32_t(s);
      }
    }
    if (withStarts)
      launch.arg<int32_t>("seq_starts")[sequences.size()] = token;
  }
};

/// The element of a paged cache [pages, heads, pageSize, dim].
inline int64_t cacheIndex(Launch &launch, int64_t seq, int64_t position, int64_t heads,
                          int64_t head, int64_t dim, int64_t i) {
  const abi::StepDims &d = launch.dims;
  int64_t page = launch.arg<int32_t>("page_table")[seq * d.pagesPerSeq + position / d.pageSize];
  return ((page * heads + head) * d.pageSize + position % d.pageSize) * dim + i;
}

} // namespace sluice::host::test

#endif // SLUICE_TEST_RUNTIME_DEVICE_KERNELHARNESS_H
