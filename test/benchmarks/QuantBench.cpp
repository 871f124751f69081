//===- QuantBench.cpp - Speed of quantised weights in decoding --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Products of 1, 2 and 8 rows with matrices that are read from memory, as in decoding: a format
// that moves fewer bytes than bf16 should take less time. Formats alternate within a round, so that
// what else the machine does meets all of them, and medians count. Prints one JSON document.
//
//   quant_bench [--threads=N] [--rounds=N] [--megabytes=N] > docs/measurements/NAME.json
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"
#include "runtime/device/host/Matmul.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

namespace {

using namespace sluice;
using namespace sluice::host;
using Json = nlohmann::ordered_json;

constexpr const char *kFormats[] = {"bf16",        "f8e4m3:channel", "f8e4m3:group128",
                                    "i8:channel",  "i8:group32",     "i4:group32",
                                    "i4:group128", "mxfp4",          "nvfp4"};

[[noreturn]] void fail(const Status &status) {
  std::cerr << "quant_bench: " << status.toString() << "\n";
  std::exit(1);
}
template <typename T> T valueOf(Result<T> result) {
  if (!result.isOk())
    fail(result.status());
  return std::move(*result);
}

/// With one thread, processor time is measured: what else runs on the machine then disturbs less.
bool measureCpuTime = false;

double now() {
  timespec time;
  clock_gettime(measureCpuTime ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + long(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Matrices of one format that together exceed the caches: copies of one random matrix.
class Weights {
public:
  Weights(const char *name, int64_t n, int64_t k, int64_t copies)
      : format(valueOf(quant::WeightFormat::parse(name))),
        matmul(valueOf(Matmul::create(format, n, k))), copies(copies) {
    const quant::PackedLayout &layout = matmul.packed();
    memory.reset(
        static_cast<std::byte *>(std::aligned_alloc(64, layout.blobBytes() * uint64_t(copies))));
    if (!memory)
      fail(internalError("out of memory"));
    std::minstd_rand random(7);
    std::vector<float> values(size_t(n * k));
    std::vector<uint8_t> codes(size_t(n * k));
    for (size_t i = 0; i < codes.size(); ++i) {
      values[i] = float(random() % 256) / 256 - 0.5f;
      codes[i] = uint8_t(random() % (quant::elementBits(format.element) == 4 ? 16 : 120));
    }
    std::vector<float> scales(size_t(n * k / quant::kMinGroupColumns + n), 0.125f);
    quant::SourceRows source;
    source.rowStride = k;
    source.data = reinterpret_cast<const std::byte *>(values.data());
    if (format.isQuantized()) {
      source.type = format.element;
      source.data = reinterpret_cast<const std::byte *>(codes.data());
      source.scales = scales.data();
      source.scaleStride = format.groupsPerRow(k);
      source.rowScales = format.hasRowScale() ? scales.data() : nullptr;
    }
    Status status =
        layout.packRows(quant::PanelRole::kOnly, 0, n, source, {memory.get(), layout.blobBytes()});
    if (!status.isOk())
      fail(status);
    for (int64_t copy = 1; copy < copies; ++copy)
      std::memcpy(memory.get() + uint64_t(copy) * layout.blobBytes(), memory.get(),
                  layout.blobBytes());
  }

  /// Seconds per matrix.
  double run(const float *x, int64_t rows, float *out, ThreadPool &pool) const {
    double start = now();
    for (int64_t copy = 0; copy < copies; ++copy)
      matmul.run(memory.get() + uint64_t(copy) * matmul.packed().blobBytes(), x, matmul.k(), rows,
                 out, matmul.n(), pool);
    return (now() - start) / double(copies);
  }

  double bytes() const { return double(matmul.packed().blobBytes()); }

private:
  quant::WeightFormat format;
  Matmul matmul;
  int64_t copies;
  std::unique_ptr<std::byte, decltype(&std::free)> memory{nullptr, std::free};
};

/// Every format on matrices [n, k], of which the smallest format fills `megabytes`.
void measure(int64_t n, int64_t k, int64_t megabytes, int rounds, ThreadPool &pool, Json &out) {
  int64_t copies = std::max<int64_t>(2, (megabytes << 20) / (n * k / 2));
  std::vector<Weights> weights;
  for (const char *format : kFormats)
    weights.emplace_back(format, n, k, copies);
  for (int64_t rows : {1, 2, 8}) {
    std::vector<float> x(size_t(rows * k), 0.5f), result(size_t(rows * n));
    std::vector<std::vector<double>> times(weights.size());
    for (int round = 0; round < rounds; ++round)
      for (size_t i = 0; i < weights.size(); ++i)
        times[i].push_back(weights[i].run(x.data(), rows, result.data(), pool));
    const double base = median(times[0]);
    for (size_t i = 0; i < weights.size(); ++i) {
      double time = median(times[i]);
      out.push_back({{"format", kFormats[i]},
                     {"n", n},
                     {"k", k},
                     {"rows", rows},
                     {"microseconds", time * 1e6},
                     {"gb_per_s", weights[i].bytes() / time * 1e-9},
                     {"bytes_of_bf16", weights[i].bytes() / weights[0].bytes()},
                     {"time_of_bf16", time / base}});
    }
  }
}

/// The processor's name as the system gives it; nothing else that would identify the machine.
std::string processorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name"))
      return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

} // namespace

int main(int argc, char **argv) {
  int threads = 0, rounds = 9;
  int64_t megabytes = 80;
  CLI::App app("Measures decode-shaped products with quantised weights against bf16");
  app.add_option("--threads", threads, "threads; 0 = all")->check(CLI::Range(0, 1024));
  app.add_option("--rounds", rounds, "alternating rounds, of which the median counts")
      ->check(CLI::Range(1, 1000));
  app.add_option("--megabytes", megabytes,
                 "what the smallest format reads in one round; more than the caches hold")
      ->check(CLI::Range(1, 4096));
  CLI11_PARSE(app, argc, argv);

  measureCpuTime = threads == 1;
  ThreadPool pool(threads);
  Json out = {{"cpu", processorName()}, {"isa", hostIsaName(hostIsa())},
              {"threads", pool.size()}, {"clock", measureCpuTime ? "processor time" : "wall time"},
              {"rounds", rounds},       {"megabytes", megabytes}};
  // Small matrices as in a model of hidden 256 with experts of width 128; large ones as in models
  // of a billion parameters.
  for (auto [n, k] : {std::pair<int64_t, int64_t>{256, 256},
                      {512, 256},
                      {1024, 256},
                      {256, 128},
                      {1536, 512},
                      {2048, 2048},
                      {4096, 4096}})
    measure(n, k, megabytes, rounds, pool, out["decode"]);
  std::cout << out.dump(2) << "\n";
  return 0;
}
