//===- PlacementSolver.cpp - Placing and replicating experts ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Checks the request, takes it through counting, packing and search, and reports what the decision
// is predicted to give.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/PlacementSolver.h"

#include "runtime/placement/ActivationSearch.h"
#include "runtime/placement/LoadSearch.h"
#include "runtime/placement/Replication.h"
#include "runtime/placement/Scenarios.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

namespace sluice {
namespace {

using namespace placement;

constexpr int kBatchesPerSize = 96;

Status checkSizes(const PlacementRequest &r) {
  auto number = [](auto value) { return std::to_string(value); };
  auto inRange = [](int value) { return value >= 1 && value <= kMaxPlacementSlots; };
  for (auto [name, value] : {std::pair{"experts", r.experts}, std::pair{"slots", r.slots},
                             std::pair{"devices", r.devices}})
    if (!inRange(value))
      return invalidArgument(std::string(name) + " = " + number(value) + " is outside 1 .. " +
                             number(kMaxPlacementSlots));
  if (r.slots < r.experts)
    return invalidArgument("slots = " + number(r.slots) + " is below the number of experts " +
                           number(r.experts) + "; every expert needs a slot");
  if (static_cast<long>(r.slots) > static_cast<long>(r.experts) * r.devices)
    return invalidArgument("slots = " + number(r.slots) + " exceeds experts x devices = " +
                           number(static_cast<long>(r.experts) * r.devices) +
                           "; more copies of an expert than devices would be needed");
  if (r.devicesPerNode < 0)
    return invalidArgument("devices per node = " + number(r.devicesPerNode) +
                           " is negative; give 0 for a flat system");
  if (!r.slotLimits.empty() && static_cast<int>(r.slotLimits.size()) != r.devices)
    return invalidArgument("slot limits: " + number(r.slotLimits.size()) + " limits for " +
                           number(r.devices) + " devices; give one per device or none");
  for (size_t d = 0; d < r.slotLimits.size(); ++d)
    if (r.slotLimits[d] < 0)
      return invalidArgument("slot limits: the limit of device " + number(d) + " is negative, " +
                             number(r.slotLimits[d]));
  if (!(r.migrationCost >= 0) || !std::isfinite(r.migrationCost))
    return invalidArgument("migration cost must be finite and not negative");
  return Status::ok();
}

Status checkSamples(const PlacementRequest &r) {
  for (size_t s = 0; s < r.samples.size(); ++s) {
    const LoadSample &sample = r.samples[s];
    std::string name = "sample " + std::to_string(s) + ": ";
    if (static_cast<int>(sample.loads.size()) != r.experts)
      return invalidArgument(name + std::to_string(sample.loads.size()) +
                             " expert loads for a layer of " + std::to_string(r.experts) +
                             " experts; the profile belongs to another model");
    if (!(sample.weight > 0) || !std::isfinite(sample.weight))
      return invalidArgument(name + "its weight must be positive and finite");
    double total = 0;
    for (size_t e = 0; e < sample.loads.size(); ++e) {
      if (!std::isfinite(sample.loads[e]) || sample.loads[e] < 0)
        return invalidArgument(name + "the load of expert " + std::to_string(e) +
                               " is negative or not a finite number");
      total += sample.loads[e];
    }
    if (!std::isfinite(total))
      return invalidArgument(name + "the loads add up to infinity; scale them down");
  }
  return Status::ok();
}

Status checkTraces(const PlacementRequest &r) {
  for (size_t t = 0; t < r.traces.size(); ++t) {
    const RoutingTrace &trace = r.traces[t];
    std::string name = "trace " + std::to_string(t) + ": ";
    if (trace.topK < 1 || trace.topK > r.experts)
      return invalidArgument(name + "top_k = " + std::to_string(trace.topK) + " is outside 1 .. " +
                             std::to_string(r.experts));
    if (trace.ids.empty() || trace.ids.size() % trace.topK != 0)
      return invalidArgument(name + std::to_string(trace.ids.size()) +
                             " expert ids are not rows of top_k = " + std::to_string(trace.topK));
    if (!(trace.weight > 0) || !std::isfinite(trace.weight))
      return invalidArgument(name + "its weight must be positive and finite");
    for (uint16_t id : trace.ids)
      if (id >= r.experts)
        return invalidArgument(name + "expert " + std::to_string(id) + " of a layer with " +
                               std::to_string(r.experts) +
                               " experts; the trace belongs to another model");
  }
  if (r.batchTokens.empty())
    return invalidArgument("no batch sizes; give at least one number of tokens");
  for (int tokens : r.batchTokens)
    if (tokens < 1 || tokens > kMaxPlacementSlots)
      return invalidArgument("batch of " + std::to_string(tokens) + " tokens is outside 1 .. " +
                             std::to_string(kMaxPlacementSlots));
  if (r.traces.empty() && (r.topK < 1 || r.topK > r.experts))
    return invalidArgument("top_k = " + std::to_string(r.topK) + " is outside 1 .. " +
                           std::to_string(r.experts) +
                           "; without traces the decode objective needs it");
  return Status::ok();
}

Status checkInitial(const PlacementRequest &r, const std::vector<int> &slotsPerDevice) {
  if (!r.initial)
    return Status::ok();
  if (Status status = checkPlacement(*r.initial); !status.isOk())
    return status.withContext("initial");
  bool same = r.initial->experts == r.experts && r.initial->devices() == r.devices;
  for (int d = 0; same && d < r.devices; ++d)
    same = static_cast<int>(r.initial->onDevice(d).size()) == slotsPerDevice[d];
  if (!same)
    return invalidArgument("initial placement: it must have the " + std::to_string(r.experts) +
                           " experts, " + std::to_string(r.devices) +
                           " devices and slots per device of the request");
  return Status::ok();
}

/// Loads under which balanced tokens are balanced activations: the probability that an expert with
/// share p of the choices is in a batch of B tokens, 1 - (1 - p k)^B, one sample per size.
std::vector<LoadSample> activationSamples(const PlacementRequest &r) {
  std::vector<LoadSample> result;
  for (const LoadSample &sample : r.samples) {
    double total = std::accumulate(sample.loads.begin(), sample.loads.end(), 0.0);
    if (total <= 0)
      continue;
    for (int tokens : r.batchTokens) {
      LoadSample active{{}, sample.weight};
      for (double load : sample.loads)
        active.loads.push_back(1 - std::pow(1 - std::min(1.0, load / total * r.topK), tokens));
      result.push_back(std::move(active));
    }
  }
  return result;
}

Arrangement toArrangement(const Placement &placement) {
  Arrangement arrangement;
  for (int d = 0; d < placement.devices(); ++d) {
    std::span<const int> list = placement.onDevice(d);
    arrangement.held.emplace_back(list.begin(), list.end());
  }
  arrangement.counts = placement.replicaCounts();
  return arrangement;
}

/// Renames devices of equal slot counts (inside a node, if there are nodes) so that lists go where
/// most of their experts already are: pairs by descending overlap.
void renameDevices(Arrangement &arrangement, const Placement &initial, int devicesPerNode) {
  int devices = static_cast<int>(arrangement.held.size());
  std::vector<std::vector<int>> initialHosts(initial.experts);
  for (int d = 0; d < devices; ++d)
    for (int e : initial.onDevice(d))
      initialHosts[e].push_back(d);
  struct Pair {
    int overlap, from, to;
  };
  std::vector<Pair> pairs;
  std::vector<int> overlap(devices);
  for (int from = 0; from < devices; ++from) {
    std::fill(overlap.begin(), overlap.end(), 0);
    for (int e : arrangement.held[from])
      for (int d : initialHosts[e])
        ++overlap[d];
    for (int to = 0; to < devices; ++to)
      if (overlap[to] > 0 && arrangement.held[from].size() == arrangement.held[to].size() &&
          (devicesPerNode == 0 || from / devicesPerNode == to / devicesPerNode))
        pairs.push_back({overlap[to], from, to});
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair &a, const Pair &b) { return a.overlap > b.overlap; });
  std::vector<int> target(devices, -1), source(devices, -1);
  for (const Pair &pair : pairs) {
    if (target[pair.from] >= 0 || source[pair.to] >= 0)
      continue;
    target[pair.from] = pair.to;
    source[pair.to] = pair.from;
  }
  for (int from = 0; from < devices; ++from) {
    if (target[from] >= 0)
      continue;
    for (int to = 0; to < devices; ++to) {
      if (source[to] < 0 && arrangement.held[from].size() == arrangement.held[to].size() &&
          (devicesPerNode == 0 || from / devicesPerNode == to / devicesPerNode)) {
        target[from] = to;
        source[to] = from;
        break;
      }
    }
  }
  std::vector<std::vector<int>> renamed(devices);
  for (int from = 0; from < devices; ++from)
    renamed[target[from]] = std::move(arrangement.held[from]);
  arrangement.held = std::move(renamed);
}

void predict(const PlacementRequest &r, PlacementDecision &decision) {
  const Placement &placement = decision.placement;
  decision.replicas = placement.replicaCounts();
  double weights = 0, imbalance = 0, bound = 0, node = 0;
  for (const LoadSample &sample : r.samples) {
    double total = std::accumulate(sample.loads.begin(), sample.loads.end(), 0.0);
    double heaviest = 0;
    for (int e = 0; e < r.experts; ++e)
      heaviest = std::max(heaviest, sample.loads[e] / decision.replicas[e]);
    decision.imbalance.push_back(loadImbalance(placement, sample.loads));
    decision.imbalanceBound.push_back(total > 0 ? std::max(1.0, heaviest * r.devices / total) : 1);
    if (total <= 0)
      continue;
    weights += sample.weight;
    imbalance += sample.weight * decision.imbalance.back();
    bound += sample.weight * decision.imbalanceBound.back();
    if (r.devicesPerNode == 0)
      continue;
    std::vector<double> loads = deviceLoads(placement, sample.loads);
    double fullest = 0; // per device, because the last node may be smaller
    for (int d = 0; d < r.devices; d += r.devicesPerNode) {
      int end = std::min(d + r.devicesPerNode, r.devices);
      double sum = std::accumulate(loads.begin() + d, loads.begin() + end, 0.0);
      fullest = std::max(fullest, sum / (end - d));
    }
    node += sample.weight * fullest * r.devices / total;
  }
  if (weights > 0) {
    decision.meanImbalance = imbalance / weights;
    decision.meanImbalanceBound = bound / weights;
    if (r.devicesPerNode > 0)
      decision.nodeImbalance = node / weights;
  }
  if (!r.traces.empty()) {
    // Other batches than the search saw: the figure is a prediction, not a fit.
    ActivationFigures figures =
        scoreActivation(placement, drawBatches(r, kBatchesPerSize, r.seed ^ 0x5eed0fba7c4e5ull));
    decision.activatedExperts = figures.largest;
    decision.activatedBound = figures.bound;
    decision.devicesPerToken = devicesPerToken(r, placement);
  }
  if (r.initial)
    decision.movedCopies = movedCopies(*r.initial, placement);
}

} // namespace

Result<PlacementDecision> PlacementSolver::solve(const PlacementRequest &request) const {
  bool decode = request.objective == PlacementObjective::kActivatedExperts;
  SLUICE_RETURN_IF_ERROR(checkSizes(request));
  SLUICE_RETURN_IF_ERROR(checkSamples(request));
  if (decode || !request.traces.empty())
    SLUICE_RETURN_IF_ERROR(checkTraces(request));
  if (request.samples.empty() && (!decode || request.traces.empty()))
    return invalidArgument("no load samples; give at least one profile");
  SLUICE_ASSIGN_OR_RETURN(std::vector<int> slotsPerDevice, distributeSlots(request));
  SLUICE_RETURN_IF_ERROR(checkInitial(request, slotsPerDevice));

  BatchSet batches;
  std::vector<LoadSample> samples = request.samples;
  if (decode && !request.traces.empty()) {
    batches = drawBatches(request, kBatchesPerSize, request.seed);
    samples = {{activationRates(batches, request.experts), 1.0}};
  } else if (decode) {
    samples = activationSamples(request);
  }
  ScenarioSet set = buildScenarios(samples, request.experts);

  LoadSearchOptions options;
  options.devicesPerNode = request.devicesPerNode;
  options.initial = request.initial ? &*request.initial : nullptr;
  options.migrationCost = request.migrationCost;
  LoadSearchOptions free = options;
  free.initial = nullptr;

  Arrangement fresh;
  SLUICE_ASSIGN_OR_RETURN(fresh.counts, replicate(set.robustLoads, slotsPerDevice));
  fresh.held = packCopies(set.robustLoads, fresh.counts, slotsPerDevice, request.devicesPerNode);
  Arrangement packed = fresh;
  double best = balanceLoads(fresh, set, free);
  // The search lowers a smooth stand-in of the maximum. With one sample the maximum itself can be
  // asked, and the packing may have had the smaller one.
  if (set.scenarios.size() == 1) {
    const std::vector<double> &loads = set.scenarios[0].loads;
    if (loadImbalance(toPlacement(packed), loads) < loadImbalance(toPlacement(fresh), loads))
      fresh = std::move(packed);
  }
  if (!batches.active.empty())
    balanceActivation(fresh, batches, free, request.seed);
  if (request.initial)
    renameDevices(fresh, *request.initial, request.devicesPerNode);

  PlacementDecision decision;
  decision.placement = toPlacement(fresh);
  if (request.initial && request.migrationCost > 0) {
    // From the placement in force, each move paying its cost; against the best one, paying all.
    Arrangement warm = toArrangement(*request.initial);
    double stay;
    if (batches.active.empty()) {
      stay = balanceLoads(warm, set, options);
    } else {
      balanceActivation(warm, batches, options, request.seed);
      best = scoreActivation(decision.placement, batches).largest;
      Placement moved = toPlacement(warm);
      stay = scoreActivation(moved, batches).largest +
             request.migrationCost * movedCopies(*request.initial, moved);
    }
    best += request.migrationCost * movedCopies(*request.initial, decision.placement);
    if (stay <= best)
      decision.placement = toPlacement(warm);
  }
  predict(request, decision);
  return decision;
}

} // namespace sluice
