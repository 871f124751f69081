//===- EngineBench.cpp - Decode and prefill speed against their floors ------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Whole steps of an artifact on the host, beside what bounds them: decoding at batch 1 against the
// time to read the active weights at the measured read bandwidth, prefill against the time that
// OpenBLAS takes for the same matrix products alone, on float32 copies. Floors and steps alternate,
// and medians count, because the machine may be shared. Prints one JSON document.
//
//   engine_bench ARTIFACT [--threads=N] [--rounds=N] [--prefill=512] > docs/measurements/NAME.json
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Artifact.h"
#include "runtime/device/host/HostKernel.h"
#include "runtime/device/host/ThreadPool.h"
#include "runtime/quant/PackedLayout.h"
#include "sluice/engine.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cblas.h>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

extern "C" void openblas_set_num_threads(int threads);
extern "C" char *openblas_get_corename();

namespace {

using namespace sluice;
using Json = nlohmann::ordered_json;

[[noreturn]] void fail(const Status &status) {
  std::cerr << "engine_bench: " << status.toString() << "\n";
  std::exit(int(status.code()));
}
template <typename T> T valueOf(Result<T> result) {
  if (!result.isOk())
    fail(result.status());
  return std::move(*result);
}

double seconds(const std::function<void()> &work) {
  auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// One matrix product of a step: `count` times [m, k] by [k, n].
struct Product {
  int64_t m, n, k, count;
  double flops() const { return 2.0 * double(m) * double(n) * double(k) * double(count); }
};

/// The products of a step of `tokens` tokens, read off the plan's kernels; experts as if routing
/// were even. `weightBytes` gets the bytes of weights that a step reads.
std::vector<Product> productsOf(const Artifact &artifact, int64_t tokens, double &weightBytes) {
  std::vector<Product> products;
  weightBytes = 0;
  auto add = [&](int64_t m, int64_t n, int64_t k, int64_t count, const std::string &format) {
    products.push_back({m, n, k, count});
    quant::WeightFormat stored = valueOf(quant::WeightFormat::parse(format));
    weightBytes += double(valueOf(quant::packedBytes("panel16", stored, n, k, count)));
  };
  const proto::Bucket &bucket = artifact.plan().ranks(0).buckets(0);
  for (const proto::Command &command : bucket.commands()) {
    const abi::FamilyParams &params = artifact.kernels()[command.launch().kernel()];
    auto expertRows = [&](int64_t topK, int64_t experts) {
      int64_t used = std::min(experts, tokens * topK);
      return std::pair(std::max<int64_t>(1, tokens * topK / used), used);
    };
    if (auto *linear = std::get_if<abi::LinearParams>(&params)) {
      int64_t rows = linear->rows == abi::RowSet::kLogitRows ? 1 : tokens;
      add(rows, linear->n, linear->k, 1, linear->format);
    } else if (auto *qkv = std::get_if<abi::QkvParams>(&params)) {
      int64_t n = qkv->qHeads * qkv->headDim + qkv->kvHeads * (qkv->headDim + qkv->valueDim);
      add(tokens, n, qkv->k, 1, qkv->format);
    } else if (auto *router = std::get_if<abi::RouterParams>(&params)) {
      add(tokens, router->experts, router->hidden, 1, router->format);
    } else if (auto *ffn = std::get_if<abi::FfnGateUpParams>(&params)) {
      add(tokens, 2 * ffn->n, ffn->k, 1, ffn->format);
    } else if (auto *up = std::get_if<abi::ExpertsGateUpParams>(&params)) {
      auto [rows, used] = expertRows(up->topK, up->experts);
      add(rows, 2 * up->n, up->k, used, up->format);
    } else if (auto *down = std::get_if<abi::ExpertsDownParams>(&params)) {
      auto [rows, used] = expertRows(down->topK, down->experts);
      add(rows, down->n, down->k, used, down->format);
    }
  }
  return products;
}

/// Runs `products` with sgemm, as out = x · W^T.
void runBlas(const std::vector<Product> &products, const std::vector<float> &x,
             const std::vector<float> &w, std::vector<float> &out) {
  for (const Product &p : products)
    for (int64_t i = 0; i < p.count; ++i)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, int(p.m), int(p.n), int(p.k), 1,
                  x.data(), int(p.k), w.data(), int(p.k), 0, out.data(), int(p.n));
}

/// Sums `data` with all threads of the pool: the read-only bandwidth of memory (or of the caches
/// that hold it).
uint64_t readAll(host::ThreadPool &pool, const std::vector<uint64_t> &data) {
  std::vector<uint64_t> sums(size_t(pool.size()) * 8);
  pool.parallelFor(int64_t(data.size()), 1 << 16, [&](int64_t begin, int64_t end, int worker) {
    uint64_t sum[8] = {};
    for (int64_t i = begin; i + 8 <= end; i += 8)
      for (int j = 0; j < 8; ++j)
        sum[j] += data[size_t(i + j)];
    sums[size_t(worker) * 8] += std::accumulate(sum, sum + 8, uint64_t(0));
  });
  return std::accumulate(sums.begin(), sums.end(), uint64_t(0));
}

std::string cpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      return line.substr(line.find(':') + 2);
  return "unknown";
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Decode and prefill speed of an artifact against their floors.");
  std::string path;
  int threads = 0, rounds = 15, prefill = 512;
  app.add_option("artifact", path)->required();
  app.add_option("--threads", threads);
  app.add_option("--rounds", rounds);
  app.add_option("--prefill", prefill);
  CLI11_PARSE(app, argc, argv);

  std::unique_ptr<Engine> engine;
  std::vector<double> loads;
  for (int i = 0; i < 5; ++i) {
    engine.reset();
    loads.push_back(seconds([&] {
      engine = valueOf(Engine::load(path, {.device = "host", .threads = threads, .verify = true}));
    }));
  }
  const EngineInfo &info = engine->info();
  Artifact artifact = valueOf(Artifact::open(path, {.verify = false}));
  host::ThreadPool pool(threads);
  openblas_set_num_threads(pool.size());
  prefill = std::min({prefill, info.maxBatchTokens, info.maxSeqLen});

  double decodeBytes = 0, prefillBytes = 0;
  productsOf(artifact, 1, decodeBytes);
  std::vector<Product> products = productsOf(artifact, prefill, prefillBytes);
  int64_t largestX = 1, largestW = 1, largestOut = 1;
  double flops = 0;
  for (const Product &p : products) {
    largestX = std::max(largestX, p.m * p.k);
    largestW = std::max(largestW, p.n * p.k);
    largestOut = std::max(largestOut, p.m * p.n);
    flops += p.flops();
  }
  std::vector<float> x(size_t(largestX), 0.5f), w(size_t(largestW), 0.25f),
      out(size_t(largestOut), 0);
  // As many bytes as the model has: what one token reads lies between cache and memory, and so does
  // this.
  std::vector<uint64_t> stream(std::max<size_t>(info.weightBytes / 8, 1 << 20), 1);

  std::vector<int32_t> prompt(static_cast<size_t>(prefill));
  uint32_t state = 1;
  for (int32_t &id : prompt)
    id = int32_t((state = state * 1664525u + 1013904223u) >> 8) % info.vocabSize;

  std::vector<double> prefills, blas, reads, tokenMedians;
  for (int round = 0; round < rounds; ++round) {
    reads.push_back(seconds([&] { readAll(pool, stream); }));
    blas.push_back(seconds([&] { runBlas(products, x, w, out); }));
    SequenceId sequence = valueOf(engine->createSequence());
    StepOutput output;
    StepEntry entry{
        .sequence = sequence, .tokens = prompt, .logitRows = 1, .sample = true, .sampling = {}};
    auto step = [&] {
      if (Status status = engine->step({&entry, 1}, {&output, 1}); !status.isOk())
        fail(status);
    };
    prefills.push_back(seconds(step));
    std::vector<double> tokens;
    int32_t id = 0;
    for (int i = 0; i < 64 && engine->sequenceLength(sequence) < info.maxSeqLen; ++i) {
      id = output.sampledId;
      entry.tokens = {&id, 1};
      tokens.push_back(seconds(step));
    }
    tokenMedians.push_back(median(tokens));
    engine->releaseSequence(sequence);
  }

  double bandwidth = double(stream.size()) * 8 / *std::min_element(reads.begin(), reads.end());
  double token = median(tokenMedians), floor = decodeBytes / bandwidth;
  double step = median(prefills), library = median(blas);
  Json result;
  result["cpu"] = cpuName();
  result["isa"] = host::hostIsaName();
  result["threads"] = pool.size();
  result["model"] = info.name;
  result["rounds"] = rounds;
  result["load_s"] = median(loads);
  result["decode"] = {
      {"batch", 1},
      {"context", prefill},
      {"active_weight_bytes", decodeBytes},
      {"read_bandwidth_GB_s", bandwidth * 1e-9},
      {"floor_ms", floor * 1e3},
      {"median_ms", token * 1e3},
      {"best_ms", *std::min_element(tokenMedians.begin(), tokenMedians.end()) * 1e3},
      {"tokens_per_s", 1 / token},
      {"time_over_floor", token / floor}};
  result["prefill"] = {{"tokens", prefill},
                       {"product_GFLOP", flops * 1e-9},
                       {"median_ms", step * 1e3},
                       {"tokens_per_s", prefill / step},
                       {"openblas_core", openblas_get_corename()},
                       {"openblas_products_only_ms", library * 1e3},
                       {"openblas_time_over_step_time", library / step}};
  std::cout << result.dump(2) << "\n";
}
