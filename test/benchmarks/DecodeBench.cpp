//===- DecodeBench.cpp - Decode speed of several artifacts ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One model in several weight formats, or several plans of it: rounds of single-token decode go
// around the artifacts in turn, so that what else the machine does hits all of them alike. The
// first artifact is what the others are compared with.
//
//   decode_bench A.sluice B.sluice ... [--threads=N] [--rounds=N] [--tokens=32] > NAME.json
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/HostKernel.h"
#include "sluice/engine.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

using namespace sluice;

namespace {

[[noreturn]] void fail(const Status &status) {
  std::fprintf(stderr, "decode_bench: %s\n", status.toString().c_str());
  std::exit(1);
}

template <typename T> T valueOf(Result<T> result) {
  if (!result.isOk())
    fail(result.status());
  return std::move(*result);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + long(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Median milliseconds per token of one sequence that starts with `prompt`.
double decode(Engine &engine, const std::vector<int32_t> &prompt, int tokens) {
  SequenceId sequence = valueOf(engine.createSequence());
  StepOutput output;
  StepEntry entry{
      .sequence = sequence, .tokens = prompt, .logitRows = 1, .sample = true, .sampling = {}};
  auto step = [&] {
    if (Status status = engine.step({&entry, 1}, {&output, 1}); !status.isOk())
      fail(status);
  };
  step();
  std::vector<double> times;
  for (int i = 0; i < tokens; ++i) {
    int32_t id = output.sampledId;
    entry.tokens = {&id, 1};
    auto start = std::chrono::steady_clock::now();
    step();
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  engine.releaseSequence(sequence);
  return median(times);
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Decode speed of artifacts, measured in turn and compared with the first.");
  std::vector<std::string> paths;
  int threads = 0, rounds = 11, tokens = 32, promptTokens = 64;
  app.add_option("artifacts", paths)->required();
  app.add_option("--threads", threads);
  app.add_option("--rounds", rounds);
  app.add_option("--tokens", tokens);
  app.add_option("--prompt", promptTokens);
  CLI11_PARSE(app, argc, argv);

  std::vector<std::unique_ptr<Engine>> engines;
  std::vector<std::vector<double>> times(paths.size()), ratios(paths.size());
  for (const std::string &path : paths)
    engines.push_back(
        valueOf(Engine::load(path, {.device = "host", .threads = threads, .verify = false})));
  std::vector<int32_t> prompt(static_cast<size_t>(promptTokens));
  uint32_t state = 1;
  for (int32_t &id : prompt)
    id = int32_t((state = state * 1664525u + 1013904223u) >> 8) % engines[0]->info().vocabSize;

  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < engines.size(); ++i) {
      times[i].push_back(decode(*engines[i], prompt, tokens));
      ratios[i].push_back(times[i].back() / times[0].back());
    }

  nlohmann::ordered_json result;
  result["isa"] = host::hostIsaName();
  result["threads"] = threads;
  result["rounds"] = rounds;
  result["tokens_per_round"] = tokens;
  for (size_t i = 0; i < paths.size(); ++i)
    result["artifacts"].push_back(
        {{"name", std::filesystem::path(paths[i]).stem().string()},
         {"weight_bytes", engines[i]->info().weightBytes},
         {"weight_bytes_over_first",
          double(engines[i]->info().weightBytes) / double(engines[0]->info().weightBytes)},
         {"median_ms", median(times[i])},
         {"time_over_first", median(ratios[i])}});
  std::cout << result.dump(2) << "\n";
}
