//===- PlacementBench.cpp - Scores and speed of the placement solver --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Scores the solver on measured traffic, each figure beside that of the published EPLB rule:
//
//   placement_bench PROFILE...   several profiles: counts per layer
//   placement_bench TRACES       one profile with the experts of every token
//
// Profiles are placed from each one alone and scored on it, then from all but one and scored on
// that one. Traces are placed from the first half of every domain and scored on batches of the
// second half. The output is the JSON kept in docs/measurements.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Json.h"
#include "runtime/placement/ReplicaRouter.h"
#include "runtime/profile/ModelPlacement.h"
#include "runtime/profile/ProfileFile.h"
#include "test/runtime/placement/Baselines.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace sluice;
template <typename T> T orDie(Result<T> result) {
  if (!result.isOk()) {
    std::fprintf(stderr, "placement_bench: %s\n", result.status().toString().c_str());
    std::exit(2);
  }
  return std::move(*result);
}

/// Processor time: the machine may be shared.
double cpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

void benchProfiles(const std::vector<Profile> &profiles, const std::vector<std::string> &names,
                   json::Value &out) {
  std::vector<int> layers;
  for (int l = 0; l < profiles[0].layers; ++l)
    if (!profiles[0].isDense(l))
      layers.push_back(l);
  PlacementSolver solver;
  json::Value rows = json::Value::array();
  for (auto [devices, slots] : {std::pair{32, 288}, {8, 256}, {144, 288}, {320, 320}, {320, 640}}) {
    json::Value row = json::Value::object();
    row.set("devices", devices);
    row.set("slots", slots);
    int worse = 0;
    double same = 0, sameEplb = 0, heldOut = 0, heldOutEplb = 0, doubled = 0, seconds = 0;
    json::Value perProfile = json::Value::array();
    for (size_t p = 0; p < profiles.size(); ++p) {
      double mean = 0;
      for (int l : layers) {
        std::vector<double> own = profiles[p].total(l);
        PlacementRequest request;
        request.experts = profiles[p].experts;
        request.slots = slots;
        request.devices = devices;
        request.samples = {{own, 1.0}};
        double mine = orDie(solver.solve(request)).meanImbalance;
        double theirs = loadImbalance(test::eplb(own, slots, devices), own);
        same += mine;
        sameEplb += theirs;
        worse += mine > theirs * (1 + 1e-9);
        request.samples.clear();
        std::vector<double> average(request.experts, 0.0);
        for (size_t q = 0; q < profiles.size(); ++q) {
          if (q == p)
            continue;
          request.samples.push_back({profiles[q].total(l), 1.0});
          const std::vector<double> &loads = request.samples.back().loads;
          double total = std::accumulate(loads.begin(), loads.end(), 0.0);
          for (int e = 0; e < request.experts; ++e)
            average[e] += loads[e] / total;
        }
        double start = cpuSeconds();
        PlacementDecision decision = orDie(solver.solve(request));
        seconds += cpuSeconds() - start;
        doubled += !checkPlacement(decision.placement).isOk();
        mean += loadImbalance(decision.placement, own);
        heldOutEplb += loadImbalance(test::eplb(average, slots, devices), own);
      }
      heldOut += mean;
      perProfile.push(rounded(mean / layers.size()));
    }
    double count = static_cast<double>(profiles.size() * layers.size());
    row.set("same_profile", rounded(same / count));
    row.set("same_profile_eplb", rounded(sameEplb / count));
    row.set("layers_worse_than_eplb", worse);
    row.set("left_out", rounded(heldOut / count));
    row.set("left_out_eplb", rounded(heldOutEplb / count));
    row.set("left_out_by_profile", perProfile);
    row.set("invalid_placements", int(doubled));
    row.set("cpu_seconds_per_model", rounded(seconds / static_cast<double>(profiles.size())));
    ModelPlacementRequest model;
    model.devices = devices;
    model.slots = slots;
    model.threads = 2;
    auto from = std::chrono::steady_clock::now();
    orDie(placeModel(profiles, names, model));
    row.set(
        "wall_seconds_per_model_2_threads",
        rounded(std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count()));
    std::fprintf(stderr, "%s\n", row.dump().c_str());
    rows.push(row);
  }
  json::Value list = json::Value::array();
  for (const std::string &path : names)
    list.push(path.substr(path.find_last_of('/') + 1));
  out.set("profiles", list);
  out.set("layers", layers.size());
  out.set("results", rows);
}

void benchTraces(const Profile &profile, json::Value &out) {
  int experts = profile.experts, layers = profile.layers, topK = profile.topK;
  auto rowAt = [&](const ProfileDomain &domain, int64_t token, int layer) {
    return domain.ids.data() + (token * layers + layer) * topK;
  };
  PlacementSolver solver;
  json::Value rows = json::Value::array();
  for (auto [devices, slots] : {std::pair{4, 40}, {4, 48}, {8, 40}, {8, 64}}) {
    json::Value row = json::Value::object();
    row.set("devices", devices);
    row.set("slots", slots);
    std::vector<double> mine(3, 0.0), optimum(3, 0.0), eplbBest(3, 0.0);
    double seconds = 0, perToken = 0, routeSeconds = 0;
    long routed = 0;
    for (int layer = 0; layer < layers; ++layer) {
      PlacementRequest request;
      request.experts = experts;
      request.slots = slots;
      request.devices = devices;
      request.objective = PlacementObjective::kActivatedExperts;
      std::vector<double> counts(experts, 0.0);
      for (const ProfileDomain &domain : profile.domains) {
        RoutingTrace trace{topK, {}, 1.0};
        for (int64_t t = 0; t < profile.tokens(domain) / 2; ++t)
          for (int k = 0; k < topK; ++k) {
            trace.ids.push_back(rowAt(domain, t, layer)[k]);
            counts[trace.ids.back()] += 1;
          }
        request.traces.push_back(std::move(trace));
      }
      double start = cpuSeconds();
      PlacementDecision decision = orDie(solver.solve(request));
      seconds += cpuSeconds() - start;
      perToken += decision.devicesPerToken;
      Placement reference = test::eplb(counts, slots, devices);
      ReplicaRouter router(decision.placement);
      std::vector<int32_t> workspace(router.workspaceSize());
      std::mt19937 random(11);
      int index = 0;
      for (int size : {8, 32, 128}) {
        constexpr int kBatches = 300;
        for (int b = 0; b < kBatches; ++b) {
          std::vector<char> wanted(experts, 0);
          for (int t = 0; t < size; ++t) {
            const ProfileDomain &domain = profile.domains[random() % profile.domains.size()];
            int64_t half = profile.tokens(domain) / 2;
            const uint16_t *ids =
                rowAt(domain, half + static_cast<int64_t>(random() % half), layer);
            for (int k = 0; k < topK; ++k)
              wanted[ids[k]] = 1;
          }
          std::vector<int> active;
          for (int e = 0; e < experts; ++e)
            if (wanted[e])
              active.push_back(e);
          auto from = std::chrono::steady_clock::now();
          mine[index] += router.route(active, workspace) / double(kBatches);
          routeSeconds +=
              std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
          ++routed;
          optimum[index] += test::optimalActivation(decision.placement, active) / double(kBatches);
          eplbBest[index] += test::optimalActivation(reference, active) / double(kBatches);
        }
        ++index;
      }
    }
    for (int i = 0; i < 3; ++i) {
      std::string suffix = "_b" + std::to_string(i == 0 ? 8 : i == 1 ? 32 : 128);
      row.set("routed" + suffix, rounded(mine[i] / layers));
      row.set("optimum" + suffix, rounded(optimum[i] / layers));
      row.set("eplb_optimum" + suffix, rounded(eplbBest[i] / layers));
    }
    row.set("devices_per_token", rounded(perToken / layers));
    row.set("cpu_seconds_per_layer", rounded(seconds / layers));
    row.set("microseconds_per_route", rounded(routeSeconds / static_cast<double>(routed) * 1e6));
    std::fprintf(stderr, "%s\n", row.dump().c_str());
    rows.push(row);
  }
  out.set("results", rows);
}

} // namespace

int main(int argc, char **argv) {
  std::vector<std::string> paths(argv + 1, argv + argc);
  std::vector<Profile> profiles;
  for (const std::string &path : paths)
    profiles.push_back(orDie(readProfile(path)));
  json::Value out = json::Value::object();
  if (profiles.size() >= 2) {
    benchProfiles(profiles, paths, out);
  } else if (profiles.size() == 1 && !profiles[0].domains.empty()) {
    benchTraces(profiles[0], out);
  } else {
    std::fprintf(stderr, "usage: placement_bench PROFILE PROFILE... | TRACES\n");
    return 2;
  }
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}
