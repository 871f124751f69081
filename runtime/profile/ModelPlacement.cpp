//===- ModelPlacement.cpp - Placing every layer of a model ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/ModelPlacement.h"

#include "runtime/profile/PlacementFile.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

namespace sluice {
namespace {

std::vector<LoadSample> layerSamples(std::span<const Profile> profiles, int layer) {
  std::vector<LoadSample> samples;
  for (const Profile &profile : profiles)
    for (int w = 0; w < profile.windows; ++w) {
      std::span<const double> row = profile.at(w, layer);
      samples.push_back({{row.begin(), row.end()}, 1.0 / profile.windows});
    }
  return samples;
}

std::vector<RoutingTrace> layerTraces(std::span<const Profile> profiles, int layer) {
  std::vector<RoutingTrace> traces;
  for (const Profile &profile : profiles) {
    for (const ProfileDomain &domain : profile.domains) {
      RoutingTrace trace{profile.topK, {}, 1.0};
      size_t stride = static_cast<size_t>(profile.layers) * profile.topK;
      for (size_t at = static_cast<size_t>(layer) * profile.topK; at < domain.ids.size();
           at += stride) {
        auto row = domain.ids.begin() + static_cast<long>(at);
        if (std::find(row, row + profile.topK, kNoExpert) == row + profile.topK)
          trace.ids.insert(trace.ids.end(), row, row + profile.topK);
      }
      if (!trace.ids.empty())
        traces.push_back(std::move(trace));
    }
  }
  return traces;
}

} // namespace

Result<ModelPlacement> placeModel(std::span<const Profile> profiles,
                                  std::span<const std::string> names,
                                  const ModelPlacementRequest &request) {
  if (profiles.empty() || names.size() != profiles.size())
    return invalidArgument("no profiles; give at least one");
  for (size_t i = 1; i < profiles.size(); ++i)
    SLUICE_RETURN_IF_ERROR(checkSameModel(profiles[0], names[0], profiles[i], names[i]));
  int layers = profiles[0].layers, experts = profiles[0].experts;
  if (!request.initial.empty() && static_cast<int>(request.initial.size()) != layers)
    return invalidArgument("the initial placement has " + std::to_string(request.initial.size()) +
                           " layers and the profile " + std::to_string(layers) +
                           "; it belongs to another model");
  int topK = 0;
  for (const Profile &profile : profiles)
    topK = std::max(topK, profile.topK);

  ModelPlacement result;
  result.layers.resize(layers);
  result.dense.assign(layers, false);
  std::vector<Status> statuses(layers);
  for (int l = 0; l < layers; ++l)
    result.dense[l] = std::all_of(profiles.begin(), profiles.end(),
                                  [&](const Profile &profile) { return profile.isDense(l); });
  auto solve = [&](int l) -> Status {
    PlacementRequest one;
    one.experts = experts;
    one.slots = request.slots;
    one.devices = request.devices;
    one.devicesPerNode = request.devicesPerNode;
    one.slotLimits = request.slotLimits;
    one.objective = request.objective;
    one.batchTokens = request.batchTokens;
    one.topK = topK;
    one.samples = layerSamples(profiles, l);
    if (request.objective == PlacementObjective::kActivatedExperts)
      one.traces = layerTraces(profiles, l);
    if (!request.initial.empty()) {
      one.initial = request.initial[l];
      one.migrationCost = request.migrationCost;
    }
    if (result.dense[l]) {
      // The request is checked all the same: an impossible one must not pass on a model whose
      // profile is empty.
      one.objective = PlacementObjective::kTokens;
      SLUICE_RETURN_IF_ERROR(PlacementSolver().solve(one).status());
      result.layers[l].placement =
          request.initial.empty() ? roundRobinPlacement(experts, request.devices, request.slots)
                                  : request.initial[l];
      result.layers[l].replicas = result.layers[l].placement.replicaCounts();
      return Status::ok();
    }
    SLUICE_ASSIGN_OR_RETURN(result.layers[l], PlacementSolver().solve(one));
    return Status::ok();
  };
  std::atomic<int> next{0};
  auto work = [&] {
    for (int l; (l = next++) < layers;)
      statuses[l] = solve(l);
  };
  int threads =
      request.threads > 0 ? request.threads : static_cast<int>(std::thread::hardware_concurrency());
  std::vector<std::thread> helpers;
  for (int t = 1; t < std::min(threads, layers); ++t)
    helpers.emplace_back(work);
  work();
  for (std::thread &helper : helpers)
    helper.join();
  for (int l = 0; l < layers; ++l)
    SLUICE_RETURN_IF_ERROR(statuses[l].withContext("layer " + std::to_string(l)));

  double count = 0, imbalance = 0, bound = 0;
  for (int l = 0; l < layers; ++l) {
    const PlacementDecision &decision = result.layers[l];
    result.movedCopies += decision.movedCopies;
    if (result.dense[l])
      continue;
    ++count;
    imbalance += decision.meanImbalance;
    bound += decision.meanImbalanceBound;
    result.activatedExperts += decision.activatedExperts;
    result.devicesPerToken += decision.devicesPerToken;
  }
  if (count > 0) {
    result.imbalance = imbalance / count;
    result.imbalanceBound = bound / count;
    result.activatedExperts /= count;
    result.devicesPerToken /= count;
  }
  return result;
}

} // namespace sluice
