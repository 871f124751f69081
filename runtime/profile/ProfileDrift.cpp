//===- ProfileDrift.cpp - How far two profiles lie apart --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Distances between distributions say whether traffic changed; what a placement made for the old
// traffic costs under the new one says whether it matters. Both are reported, the second beside
// what a placement made for the new traffic would give.
//
//===------------------------------------------------------------------------===//
#include "runtime/placement/PlacementSolver.h"
#include "runtime/profile/Profile.h"

#include <cmath>
#include <numeric>

namespace sluice {

Result<ProfileDrift> compareProfiles(const Profile &from, const Profile &to, int devices,
                                     int slots) {
  SLUICE_RETURN_IF_ERROR(checkSameModel(from, "the first profile", to, "the second profile"));
  ProfileDrift drift;
  double variation = 0, correlation = 0, carried = 0, refitted = 0;
  for (int layer = 0; layer < from.layers; ++layer) {
    if (from.isDense(layer) || to.isDense(layer))
      continue;
    ProfileDrift::Layer row;
    row.layer = layer;
    std::vector<double> a = from.total(layer), b = to.total(layer);
    double sumA = std::accumulate(a.begin(), a.end(), 0.0);
    double sumB = std::accumulate(b.begin(), b.end(), 0.0);
    double mean = 1.0 / from.experts, ab = 0, aa = 0, bb = 0;
    for (int e = 0; e < from.experts; ++e) {
      double x = a[e] / sumA, y = b[e] / sumB;
      row.totalVariation += 0.5 * std::abs(x - y);
      ab += (x - mean) * (y - mean);
      aa += (x - mean) * (x - mean);
      bb += (y - mean) * (y - mean);
    }
    // Even loads have no direction: they correlate with themselves and with nothing else.
    row.correlation = aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : (aa == bb ? 1.0 : 0.0);

    PlacementRequest request;
    request.experts = from.experts;
    request.devices = devices;
    request.slots = slots;
    for (int w = 0; w < from.windows; ++w)
      request.samples.push_back({{from.at(w, layer).begin(), from.at(w, layer).end()}, 1.0});
    SLUICE_ASSIGN_OR_RETURN(PlacementDecision old, PlacementSolver().solve(request));
    request.samples = {{b, 1.0}};
    SLUICE_ASSIGN_OR_RETURN(PlacementDecision fresh, PlacementSolver().solve(request));
    row.carriedOver = loadImbalance(old.placement, b);
    row.refitted = fresh.meanImbalance;
    variation += row.totalVariation;
    correlation += row.correlation;
    carried += row.carriedOver;
    refitted += row.refitted;
    drift.layers.push_back(row);
  }
  if (double count = static_cast<double>(drift.layers.size()); count > 0) {
    drift.totalVariation = variation / count;
    drift.correlation = correlation / count;
    drift.carriedOver = carried / count;
    drift.refitted = refitted / count;
  }
  return drift;
}

} // namespace sluice
