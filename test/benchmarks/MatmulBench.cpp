//===- MatmulBench.cpp - Speed of the host's matrix products ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The yardsticks that justify the host's own products: memory read bandwidth for decode (every
// weight is read once per token) and OpenBLAS's sgemm on float32 copies of the same weights for
// prefill. Competitors run in alternation and the best of several rounds counts, because the
// machine may be shared. Prints one JSON document.
//
//   matmul_bench [--threads=N] [--rounds=N] > docs/measurements/NAME.json
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Isa.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/Matmul.h"

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <cblas.h>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

extern "C" void openblas_set_num_threads(int threads);
extern "C" char *openblas_get_corename();

namespace {

using namespace sluice;
using namespace sluice::host;
using Json = nlohmann::ordered_json;

/// Ends the program when a library call that cannot fail here does.
template <typename T> T valueOf(Result<T> result) {
  if (!result.isOk()) {
    std::cerr << "matmul_bench: " << result.status().toString() << "\n";
    std::exit(1);
  }
  return std::move(*result);
}

/// With one thread, processor time is measured: what else runs on the machine then disturbs less.
bool measureCpuTime = false;

double now() {
  timespec time;
  clock_gettime(measureCpuTime ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

double seconds(const std::function<void()> &work) {
  double start = now();
  work();
  return now() - start;
}

/// The best time of each competitor over `rounds` alternating rounds; a round repeats a competitor
/// until it has run for about ten milliseconds.
std::vector<double> bestTimes(int rounds, const std::vector<std::function<void()>> &competitors) {
  std::vector<double> best(competitors.size(), std::numeric_limits<double>::infinity());
  std::vector<int> repeats;
  for (const auto &work : competitors) {
    work();
    repeats.push_back(std::max(1, int(0.01 / std::max(seconds(work), 1e-9))));
  }
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < competitors.size(); ++i) {
      double time = seconds([&] {
        for (int r = 0; r < repeats[i]; ++r)
          competitors[i]();
      });
      best[i] = std::min(best[i], time / repeats[i]);
    }
  }
  return best;
}

/// Random float32 values in [-1, 1] / sqrt(k), 64-byte aligned.
class Floats {
public:
  explicit Floats(int64_t count, int64_t k = 1)
      : memory(static_cast<float *>(std::aligned_alloc(64, (size_t(count) * 4 + 63) / 64 * 64)),
               std::free) {
    std::minstd_rand random(7);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < count; ++i)
      memory.get()[i] = uniform(random) / std::sqrt(float(k));
  }
  float *data() const { return memory.get(); }

private:
  std::unique_ptr<float, decltype(&std::free)> memory;
};

/// `blobs` matrices [n, k] packed from the rows of `source`, one after the other (gate rows before
/// up rows in a paired layout).
std::vector<std::byte> pack(const quant::PackedLayout &layout, const Floats &source) {
  // The vector's storage is aligned to 16 bytes only; kernels load unaligned, so that is enough
  // here.
  std::vector<std::byte> out(layout.totalBytes());
  const float *rows = source.data();
  for (int64_t blob = 0; blob < layout.blobs(); ++blob) {
    std::span<std::byte> bytes(out.data() + uint64_t(blob) * layout.blobBytes(),
                               layout.blobBytes());
    auto add = [&](quant::PanelRole role) {
      quant::SourceRows from{reinterpret_cast<const std::byte *>(rows), quant::ElementType::kF32,
                             layout.k()};
      Status status = layout.packRows(role, 0, layout.n(), from, bytes);
      if (!status.isOk())
        std::cerr << status.toString() << "\n", std::exit(1);
      rows += layout.n() * layout.k();
    };
    if (layout.isPaired())
      add(quant::PanelRole::kGate), add(quant::PanelRole::kUp);
    else
      add(quant::PanelRole::kOnly);
  }
  return out;
}

class Bench {
public:
  Bench(int threads, int rounds) : pool(threads), rounds(rounds) {
    openblas_set_num_threads(pool.size());
  }

  /// GB/s at which all threads together read a buffer far larger than the caches.
  double readBandwidth() {
    std::vector<uint64_t> buffer(size_t(32) << 20, 1); // 256 MiB, as much as gemv() reads
    const int64_t chunk = 1 << 16;
    std::atomic<uint64_t> total{0};
    double time = bestTimes(
        rounds, {[&] {
          pool.parallelFor(int64_t(buffer.size()) / chunk, 4, [&](int64_t begin, int64_t end, int) {
            // Four streams per thread keep more cache lines in flight than one.
            uint64_t sum = 0;
            for (int64_t part = begin; part < end; ++part) {
              const uint64_t *p = buffer.data() + part * chunk;
              for (int64_t i = 0; i < chunk / 4; ++i)
                sum += p[i] + p[i + chunk / 4] + p[i + chunk / 2] + p[i + 3 * chunk / 4];
            }
            total += sum;
          });
        }})[0];
    if (total % buffer.size() != 0)
      std::cerr << "matmul_bench: the sum of the buffer is wrong\n", std::exit(1);
    return double(buffer.size()) * 8 / time / 1e9;
  }

  /// One activation row against bf16 matrices [n, k] that together exceed the caches, in turn.
  Json gemv(int64_t n, int64_t k, double bandwidth) {
    auto format = valueOf(quant::WeightFormat::parse("bf16"));
    int64_t copies = std::max<int64_t>(2, (int64_t(256) << 20) / (n * k * 2));
    auto layout = valueOf(quant::PackedLayout::create("panel16", format, n, k, copies));
    auto matmul = valueOf(Matmul::create(format, n, k));
    std::vector<std::byte> weights = pack(layout, Floats(copies * n * k, k));
    Floats x(k), out(n);
    double time = bestTimes(rounds, {[&] {
                              for (int64_t copy = 0; copy < copies; ++copy)
                                matmul.run(weights.data() + uint64_t(copy) * layout.blobBytes(),
                                           x.data(), k, 1, out.data(), n, pool);
                            }})[0];
    double rate = double(layout.totalBytes()) / time / 1e9;
    return {{"n", n},           {"k", k},
            {"format", "bf16"}, {"microseconds", time / double(copies) * 1e6},
            {"gb_per_s", rate}, {"of_read_bandwidth", rate / bandwidth}};
  }

  /// `rows` activation rows against one matrix, ours from bf16 and from float32, sgemm from
  /// float32.
  Json gemm(const std::string &name, int64_t rows, int64_t n, int64_t k) {
    Floats x(rows * k), w(n * k, k), ours(rows * n), theirs(rows * n);
    std::vector<std::function<void()>> competitors;
    std::vector<Matmul> matmuls;
    std::vector<std::vector<std::byte>> weights;
    for (const char *name : {"bf16", "f32"}) {
      matmuls.push_back(valueOf(Matmul::create(valueOf(quant::WeightFormat::parse(name)), n, k)));
      weights.push_back(pack(matmuls.back().packed(), w));
    }
    for (size_t i = 0; i < 2; ++i)
      competitors.push_back(
          [&, i] { matmuls[i].run(weights[i].data(), x.data(), k, rows, ours.data(), n, pool); });
    competitors.push_back([&] { sgemm(rows, n, k, x.data(), w.data(), theirs.data()); });
    auto times = bestTimes(rounds, competitors);
    competitors[1]();
    for (int64_t i = 0; i < rows * n; ++i) {
      if (std::abs(ours.data()[i] - theirs.data()[i]) > 1e-3)
        std::cerr << "matmul_bench: " << name << " differs from sgemm\n", std::exit(1);
    }
    return row(name, rows, n, k, 2.0 * double(rows) * double(n) * double(k), times[0], times[1],
               times[2]);
  }

  /// Gate, up and down of `experts` experts with `rowsEach` rows each, as the two expert kernels
  /// run them (activation and combine included), against three sgemm calls per expert and nothing
  /// else.
  Json experts(int64_t experts, int64_t topK, int64_t tokens, int64_t hidden, int64_t width) {
    const int64_t pairs = tokens * topK, rowsEach = pairs / experts;
    Floats x(tokens * hidden), gathered(pairs * hidden), h(pairs * width), out(tokens * hidden),
        scratch(pairs * hidden), gateUp(experts * 2 * width * hidden, hidden),
        down(experts * hidden * width, width), weights(pairs);
    std::vector<int32_t> offsets, order, inverse;
    inverse.resize(size_t(pairs));
    for (int64_t e = 0; e <= experts; ++e)
      offsets.push_back(int32_t(e * rowsEach));
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t pair = 0; pair < pairs; ++pair) {
        // Choice c of token t goes to expert (t * topK + c) mod experts: distinct and even.
        if (pair % experts == e) {
          inverse[size_t(pair)] = int32_t(order.size());
          order.push_back(int32_t(pair));
        }
      }
    }
    abi::StepHeader header{int32_t(tokens), 1, 1, {}};
    abi::StepDims dims{tokens, 1, 1, 1, 16, 16};
    std::vector<double> times;
    for (const char *name : {"bf16", "f32"}) {
      auto format = valueOf(quant::WeightFormat::parse(name));
      auto up = valueOf(
          createExpertsGateUp({experts, topK, width, hidden, name, false, false, {}}, dims));
      auto downKernel =
          valueOf(createExpertsDown({experts, topK, hidden, width, name, false, false}, dims));
      auto gateUpBytes = pack(
          valueOf(quant::PackedLayout::create("gate_up_panel16", format, width, hidden, experts)),
          gateUp);
      auto downBytes = pack(
          valueOf(quant::PackedLayout::create("panel16", format, hidden, width, experts)), down);
      auto ours = [&] {
        void *upArgs[] = {&header,        x.data(),           offsets.data(), order.data(),
                          weights.data(), gateUpBytes.data(), nullptr,        h.data()};
        up->run(upArgs, pool);
        void *downArgs[] = {&header,        h.data(),       offsets.data(),   order.data(),
                            inverse.data(), weights.data(), downBytes.data(), nullptr,
                            out.data(),     scratch.data()};
        downKernel->run(downArgs, pool);
      };
      auto theirs = [&] {
        for (int64_t e = 0; e < experts; ++e) {
          const float *in = gathered.data() + e * rowsEach * hidden;
          float *mid = h.data() + e * rowsEach * width;
          const float *gate = gateUp.data() + e * 2 * width * hidden;
          sgemm(rowsEach, width, hidden, in, gate, mid);
          sgemm(rowsEach, width, hidden, in, gate + width * hidden, mid);
          sgemm(rowsEach, hidden, width, mid, down.data() + e * hidden * width,
                scratch.data() + e * rowsEach * hidden);
        }
      };
      auto both = bestTimes(rounds, {ours, theirs});
      times.push_back(both[0]);
      blasExpertTime = std::min(blasExpertTime, both[1]);
    }
    Json result = row("experts", rowsEach, width, hidden,
                      6.0 * double(pairs) * double(width) * double(hidden), times[0], times[1],
                      blasExpertTime);
    result["experts"] = experts;
    return result;
  }

  int threads() const { return pool.size(); }

private:
  static void sgemm(int64_t rows, int64_t n, int64_t k, const float *x, const float *w,
                    float *out) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(n), blasint(k), 1,
                x, blasint(k), w, blasint(k), 0, out, blasint(n));
  }

  static Json row(const std::string &name, int64_t rows, int64_t n, int64_t k, double flops,
                  double bf16, double f32, double blas) {
    return {{"name", name},
            {"rows", rows},
            {"n", n},
            {"k", k},
            {"gflop", flops / 1e9},
            {"bf16_gflop_per_s", flops / bf16 / 1e9},
            {"f32_gflop_per_s", flops / f32 / 1e9},
            {"openblas_gflop_per_s", flops / blas / 1e9},
            {"bf16_of_openblas", blas / bf16}};
  }

  ThreadPool pool;
  int rounds;
  double blasExpertTime = std::numeric_limits<double>::infinity();
};

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
  int threads = 0, rounds = 15;
  CLI::App app("Measures the host's matrix products against memory bandwidth and OpenBLAS");
  app.add_option("--threads", threads, "threads of both competitors; 0 = all")
      ->check(CLI::Range(0, 1024));
  app.add_option("--rounds", rounds, "alternating rounds; the best one counts")
      ->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);

  measureCpuTime = threads == 1;
  Bench bench(threads, rounds);
  Json out = {{"cpu", processorName()},
              {"isa", hostIsaName()},
              {"openblas_core", openblas_get_corename()},
              {"threads", bench.threads()},
              {"clock", measureCpuTime ? "processor time" : "wall time"},
              {"rounds", rounds}};
  double bandwidth = bench.readBandwidth();
  out["read_gb_per_s"] = bandwidth;
  for (auto [n, k] : {std::pair<int64_t, int64_t>{512, 256},
                      {256, 256},
                      {4096, 256},
                      {128, 2048},
                      {2048, 2048},
                      {4096, 4096}})
    out["decode"].push_back(bench.gemv(n, k, bandwidth));

  // The products of a model with hidden 256, 6 layers, 32 experts of width 128, top 4, vocabulary
  // 4096 in a prefill of 512 tokens, with their number in one step.
  double ours = 0, theirs = 0;
  auto add = [&](Json row, int times) {
    ours += times * row["gflop"].get<double>() / row["bf16_gflop_per_s"].get<double>();
    theirs += times * row["gflop"].get<double>() / row["openblas_gflop_per_s"].get<double>();
    row["times"] = times;
    out["prefill"].push_back(std::move(row));
  };
  add(bench.gemm("qkv", 512, 512, 256), 6);
  add(bench.gemm("o", 512, 256, 256), 6);
  add(bench.gemm("router", 512, 32, 256), 6);
  add(bench.experts(32, 4, 512, 256, 128), 6);
  add(bench.gemm("head", 512, 4096, 256), 1);
  out["prefill_of_openblas"] = theirs / ours;
  for (auto [rows, n, k] : {std::array<int64_t, 3>{512, 2048, 2048},
                            {512, 4096, 4096},
                            {64, 4096, 4096},
                            {16, 4096, 4096}})
    out["large"].push_back(bench.gemm("linear", rows, n, k));
  std::cout << out.dump(2) << "\n";
  return 0;
}
