//===- PlacementSolverTest.cpp - Placing and replicating experts ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Traffic is drawn here: skewed loads with a few shared causes of variation, as in measured
// profiles, so that held-out samples reward what is common and punish what is fitted.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/PlacementSolver.h"

#include "runtime/placement/ReplicaRouter.h"
#include "test/runtime/placement/Baselines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

using namespace sluice;
using testing::HasSubstr;

namespace {

double unit(std::mt19937 &random) { return (random() + 0.5) / 4294967296.0; }

/// `count` samples of one layer: lognormal popularity, three shared causes and some noise of its
/// own.
std::vector<LoadSample> traffic(unsigned seed, int experts, int count) {
  std::mt19937 random(seed);
  auto normal = [&] {
    double sum = 0;
    for (int i = 0; i < 12; ++i)
      sum += unit(random);
    return sum - 6;
  };
  std::vector<double> base(experts);
  std::vector<std::vector<double>> causes(3, std::vector<double>(experts));
  for (double &b : base)
    b = 0.7 * normal();
  for (auto &cause : causes)
    for (double &c : cause)
      c = 0.25 * normal();
  std::vector<LoadSample> samples;
  for (int s = 0; s < count; ++s) {
    double a[3] = {normal(), normal(), normal()};
    LoadSample sample;
    for (int e = 0; e < experts; ++e)
      sample.loads.push_back(1000 * std::exp(base[e] + a[0] * causes[0][e] + a[1] * causes[1][e] +
                                             a[2] * causes[2][e] + 0.05 * normal()));
    samples.push_back(std::move(sample));
  }
  return samples;
}

PlacementRequest request(int experts, int slots, int devices, std::vector<LoadSample> samples) {
  PlacementRequest r;
  r.experts = experts;
  r.slots = slots;
  r.devices = devices;
  r.samples = std::move(samples);
  return r;
}

PlacementDecision solve(const PlacementRequest &r) {
  Result<PlacementDecision> decision = PlacementSolver().solve(r);
  EXPECT_TRUE(decision.isOk()) << decision.status().toString();
  if (!decision.isOk())
    std::abort();
  EXPECT_TRUE(checkPlacement(decision->placement).isOk())
      << checkPlacement(decision->placement).toString();
  EXPECT_EQ(decision->placement.slots(), r.slots);
  EXPECT_EQ(decision->placement.devices(), r.devices);
  return std::move(*decision);
}

std::string refusal(const PlacementRequest &r, StatusCode code = StatusCode::kInvalidArgument) {
  Result<PlacementDecision> decision = PlacementSolver().solve(r);
  EXPECT_FALSE(decision.isOk());
  EXPECT_EQ(decision.status().code(), code) << decision.status().toString();
  return std::string(decision.status().message());
}

TEST(PlacementSolver, IsNotWorseThanEplbOnTheProfileItFits) {
  for (auto [devices, slots] :
       {std::pair{8, 64}, {8, 72}, {16, 96}, {36, 72}, {64, 64}, {32, 96}}) {
    for (unsigned seed = 1; seed <= 6; ++seed) {
      std::vector<LoadSample> samples = traffic(seed, 64, 1);
      PlacementDecision decision = solve(request(64, slots, devices, samples));
      double theirs = loadImbalance(test::eplb(samples[0].loads, slots, devices), samples[0].loads);
      EXPECT_LE(decision.meanImbalance, theirs * (1 + 1e-9))
          << devices << " devices, " << slots << " slots, seed " << seed;
      EXPECT_GE(decision.meanImbalance, decision.meanImbalanceBound * (1 - 1e-9));
      EXPECT_NEAR(decision.meanImbalance, loadImbalance(decision.placement, samples[0].loads),
                  1e-12);
    }
  }
}

TEST(PlacementSolver, HoldsUpOnTrafficThatItHasNotSeen) {
  double ours = 0, theirs = 0;
  for (unsigned seed = 11; seed <= 18; ++seed) {
    std::vector<LoadSample> samples = traffic(seed, 64, 7);
    std::vector<double> unseen = samples.back().loads, average(64, 0.0);
    samples.pop_back();
    for (const LoadSample &sample : samples) {
      double total = std::accumulate(sample.loads.begin(), sample.loads.end(), 0.0);
      for (int e = 0; e < 64; ++e)
        average[e] += sample.loads[e] / total;
    }
    ours += loadImbalance(solve(request(64, 72, 8, samples)).placement, unseen) - 1;
    theirs += loadImbalance(test::eplb(average, 72, 8), unseen) - 1;
  }
  EXPECT_LT(ours, 0.75 * theirs);
}

TEST(PlacementSolver, TakesAnySizes) {
  for (int experts : {1, 7, 60}) {
    for (int devices : {1, 3, 8, 61}) {
      for (int slots : {experts, experts + 1, experts + devices / 2, 2 * experts + 3}) {
        if (slots > experts * devices)
          continue;
        PlacementDecision decision =
            solve(request(experts, slots, devices, traffic(5, experts, 3)));
        auto sizes = [&](int d) { return decision.placement.onDevice(d).size(); };
        for (int d = 0; d < devices; ++d)
          EXPECT_EQ(sizes(d), size_t(slots / devices + (d < slots % devices)));
        EXPECT_EQ(decision.placement.replicaCounts(), decision.replicas);
      }
    }
  }
}

TEST(PlacementSolver, IsDeterministic) {
  PlacementRequest r = request(60, 70, 8, traffic(3, 60, 5));
  EXPECT_EQ(solve(r).placement, solve(r).placement);
}

TEST(PlacementSolver, SpreadsCopiesOverNodes) {
  PlacementRequest r = request(32, 48, 8, traffic(9, 32, 4));
  r.devicesPerNode = 2;
  PlacementDecision decision = solve(r);
  for (int e = 0; e < 32; ++e) {
    std::vector<int> perNode(4, 0);
    for (int d = 0; d < 8; ++d)
      for (int held : decision.placement.onDevice(d))
        perNode[d / 2] += held == e;
    int most = *std::max_element(perNode.begin(), perNode.end());
    EXPECT_LE(most, decision.replicas[e] <= 4 ? 1 : 2) << "expert " << e;
  }
  EXPECT_GE(decision.nodeImbalance, 1);
  EXPECT_LE(decision.nodeImbalance, decision.meanImbalance + 1e-12);
}

TEST(PlacementSolver, KeepsToSlotLimits) {
  PlacementRequest r = request(32, 40, 4, traffic(2, 32, 3));
  r.slotLimits = {16, 4, 16, 16};
  PlacementDecision decision = solve(r);
  for (int d = 0; d < 4; ++d)
    EXPECT_LE(int(decision.placement.onDevice(d).size()), r.slotLimits[d]);
  EXPECT_EQ(decision.placement.onDevice(1).size(), 4u);
  r.slotLimits = {10, 4, 10, 10};
  EXPECT_THAT(refusal(r, StatusCode::kResourceExhausted), HasSubstr("at most 34 of the 40 slots"));
}

TEST(PlacementSolver, MovesFewCopiesWhenMovesCost) {
  std::vector<LoadSample> before = traffic(21, 64, 3), after = traffic(22, 64, 3);
  for (size_t s = 0; s < 3; ++s) // traffic that changed by a part
    for (int e = 0; e < 64; ++e)
      after[s].loads[e] = 0.8 * before[s].loads[e] + 0.2 * after[s].loads[e];
  PlacementRequest r = request(64, 72, 8, before);
  Placement old = solve(r).placement;
  r.samples = after;
  double stay = 0;
  for (const LoadSample &sample : after)
    stay += loadImbalance(old, sample.loads) / 3;
  r.initial = old;
  PlacementDecision free = solve(r);
  r.migrationCost = 0.002;
  PlacementDecision few = solve(r);
  r.migrationCost = 10;
  PlacementDecision none = solve(r);
  EXPECT_EQ(none.placement, old);
  EXPECT_EQ(none.movedCopies, 0);
  EXPECT_GT(few.movedCopies, 0);
  EXPECT_LT(few.movedCopies, free.movedCopies);
  EXPECT_LT(few.meanImbalance, stay);
  EXPECT_EQ(free.movedCopies, movedCopies(old, free.placement));
}

TEST(PlacementSolver, EvenTrafficAndNoTrafficAreSolved) {
  PlacementDecision even = solve(request(16, 16, 4, {{std::vector<double>(16, 5.0), 1}}));
  EXPECT_DOUBLE_EQ(even.meanImbalance, 1);
  PlacementDecision none = solve(request(16, 20, 4, {{std::vector<double>(16, 0.0), 1}}));
  EXPECT_DOUBLE_EQ(none.meanImbalance, 1);
  EXPECT_EQ(none.imbalance, std::vector<double>{1.0});
}

TEST(PlacementSolver, RefusesWhatCannotBePlaced) {
  PlacementRequest good = request(8, 10, 4, traffic(1, 8, 2));
  auto with = [&](auto change) {
    PlacementRequest r = good;
    change(r);
    return refusal(r);
  };
  using R = PlacementRequest;
  EXPECT_THAT(with([](R &r) { r.slots = 0; }), HasSubstr("slots = 0"));
  EXPECT_THAT(with([](R &r) { r.devices = 0; }), HasSubstr("devices = 0"));
  EXPECT_THAT(with([](R &r) { r.experts = -1; }), HasSubstr("experts = -1"));
  EXPECT_THAT(with([](R &r) { r.slots = 7; }),
              HasSubstr("slots = 7 is below the number of experts 8"));
  EXPECT_THAT(with([](R &r) { r.slots = 33; }), HasSubstr("exceeds experts x devices = 32"));
  EXPECT_THAT(with([](R &r) { r.devicesPerNode = -2; }), HasSubstr("devices per node"));
  EXPECT_THAT(with([](R &r) { r.slotLimits = {1, 2}; }), HasSubstr("2 limits for 4 devices"));
  EXPECT_THAT(with([](R &r) { r.slotLimits = {4, 4, -4, 4}; }), HasSubstr("limit of device 2"));
  EXPECT_THAT(with([](R &r) { r.samples.clear(); }), HasSubstr("no load samples"));
  EXPECT_THAT(with([](R &r) { r.samples[1].loads.pop_back(); }),
              HasSubstr("sample 1: 7 expert loads for a layer of 8 experts; the profile belongs to "
                        "another model"));
  EXPECT_THAT(with([](R &r) { r.samples[0].loads[3] = NAN; }), HasSubstr("expert 3"));
  EXPECT_THAT(with([](R &r) { r.samples[0].loads[3] = -1; }), HasSubstr("negative"));
  EXPECT_THAT(with([](R &r) { r.samples[0].loads[3] = INFINITY; }), HasSubstr("finite"));
  EXPECT_THAT(with([](R &r) { r.samples[0].loads[3] = r.samples[0].loads[4] = 1.7e308; }),
              HasSubstr("infinity"));
  EXPECT_THAT(with([](R &r) { r.samples[0].weight = 0; }), HasSubstr("weight"));
  EXPECT_THAT(with([](R &r) { r.migrationCost = NAN; }), HasSubstr("migration cost"));
  EXPECT_THAT(with([](R &r) {
                r.initial = Placement{8, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 4, 8}};
              }),
              HasSubstr("initial placement"));
  EXPECT_THAT(with([](R &r) {
                r.initial = Placement{8, {0, 0}, {0, 2}};
              }),
              HasSubstr("two copies of expert 0"));

  auto decode = [](R &r) {
    r.objective = PlacementObjective::kActivatedExperts;
    r.traces = {{2, {0, 1, 2, 3}, 1.0}};
  };
  EXPECT_THAT(with([&](R &r) { decode(r), r.traces[0].ids[0] = 8; }), HasSubstr("expert 8"));
  EXPECT_THAT(with([&](R &r) { decode(r), r.traces[0].topK = 3; }), HasSubstr("top_k = 3"));
  EXPECT_THAT(with([&](R &r) { decode(r), r.traces[0].topK = 9; }), HasSubstr("top_k = 9"));
  EXPECT_THAT(with([&](R &r) { decode(r), r.batchTokens = {}; }), HasSubstr("no batch sizes"));
  EXPECT_THAT(with([&](R &r) { decode(r), r.batchTokens = {0}; }), HasSubstr("batch of 0 tokens"));
  EXPECT_THAT(with([&](R &r) { decode(r), r.traces.clear(); }), HasSubstr("top_k = 0"));
}

/// Traces of three kinds of text, each with favourite experts.
std::vector<RoutingTrace> traces(unsigned seed, int experts, int topK, int tokens) {
  std::mt19937 random(seed);
  std::vector<RoutingTrace> result;
  for (int domain = 0; domain < 3; ++domain) {
    RoutingTrace trace{topK, {}, 1.0};
    for (int t = 0; t < tokens; ++t) {
      std::vector<uint16_t> row;
      while (int(row.size()) < topK) {
        bool favourite = unit(random) < 0.6;
        auto id = static_cast<uint16_t>(
            favourite ? (domain * 5 + random() % (experts / 3)) % experts : random() % experts);
        if (std::find(row.begin(), row.end(), id) == row.end())
          row.push_back(id);
      }
      trace.ids.insert(trace.ids.end(), row.begin(), row.end());
    }
    result.push_back(std::move(trace));
  }
  return result;
}

TEST(PlacementSolver, DecodePlacesForFewActivatedExperts) {
  double oursTotal = 0, theirsTotal = 0;
  for (auto [devices, slots] : {std::pair{4, 40}, {8, 40}, {8, 64}}) {
    PlacementRequest r = request(32, slots, devices, {});
    r.objective = PlacementObjective::kActivatedExperts;
    r.traces = traces(7, 32, 4, 4000);
    PlacementDecision decision = solve(r);
    std::vector<double> counts(32, 0.0);
    for (const RoutingTrace &trace : r.traces)
      for (uint16_t id : trace.ids)
        counts[id] += 1;
    Placement reference = test::eplb(counts, slots, devices);

    std::vector<RoutingTrace> unseen = traces(8, 32, 4, 4000);
    std::mt19937 random(1);
    ReplicaRouter router(decision.placement);
    std::vector<int32_t> workspace(router.workspaceSize());
    long ours = 0, best = 0, theirs = 0;
    for (int size : {8, 32}) {
      for (int b = 0; b < 100; ++b) {
        std::vector<char> wanted(32, 0);
        for (int t = 0; t < size; ++t) {
          const RoutingTrace &trace = unseen[random() % unseen.size()];
          size_t token = random() % (trace.ids.size() / 4);
          for (int k = 0; k < 4; ++k)
            wanted[trace.ids[token * 4 + k]] = 1;
        }
        std::vector<int> active;
        for (int e = 0; e < 32; ++e)
          if (wanted[e])
            active.push_back(e);
        ours += router.route(active, workspace);
        best += test::optimalActivation(decision.placement, active);
        theirs += test::optimalActivation(reference, active);
      }
    }
    EXPECT_EQ(ours, best);
    EXPECT_LE(ours, 1.01 * theirs) << devices << " devices, " << slots << " slots";
    oursTotal += ours, theirsTotal += theirs;
    EXPECT_GE(decision.activatedExperts, decision.activatedBound);
    EXPECT_GE(decision.devicesPerToken, 1);
    EXPECT_LE(decision.devicesPerToken, 4);
  }
  EXPECT_LT(oursTotal, 0.99 * theirsTotal);
}

TEST(PlacementSolver, DecodeWithoutTracesPlacesByExpectedActivation) {
  PlacementRequest r = request(32, 40, 4, traffic(4, 32, 3));
  r.objective = PlacementObjective::kActivatedExperts;
  r.topK = 4;
  PlacementDecision decision = solve(r);
  EXPECT_EQ(decision.activatedExperts, 0) << "nothing is predicted without traces";
  EXPECT_NE(decision.placement, solve(request(32, 40, 4, traffic(4, 32, 3))).placement);
}

} // namespace
