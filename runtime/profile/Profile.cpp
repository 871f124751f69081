//===- Profile.cpp - Checks, sums and skew of profiles ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/Profile.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace sluice {
namespace {

constexpr int64_t kMaxCounts = int64_t(1) << 27;

std::string number(auto value) { return std::to_string(value); }

} // namespace

std::vector<double> Profile::total(int layer) const {
  std::vector<double> sum(experts, 0.0);
  for (int w = 0; w < windows; ++w) {
    std::span<const double> row = at(w, layer);
    for (int e = 0; e < experts; ++e)
      sum[e] += row[e];
  }
  return sum;
}

bool Profile::isDense(int layer) const {
  for (int w = 0; w < windows; ++w)
    for (double count : at(w, layer))
      if (count > 0)
        return false;
  return true;
}

Status checkProfileSize(int64_t windows, int64_t layers, int64_t experts, const std::string &name) {
  if (windows >= 1 && layers >= 1 && experts >= 1 && experts < kNoExpert && windows <= kMaxCounts &&
      layers <= kMaxCounts / windows && experts <= kMaxCounts / (windows * layers))
    return Status::ok();
  return dataCorrupt(name + ": " + number(windows) + " windows, " + number(layers) +
                     " layers and " + number(experts) +
                     " experts are no sizes of a profile; all must be positive, experts below " +
                     number(kNoExpert) + " and the product at most " + number(kMaxCounts));
}

Status checkProfile(const Profile &p, const std::string &name) {
  SLUICE_RETURN_IF_ERROR(checkProfileSize(p.windows, p.layers, p.experts, name));
  if (p.topK < 0 || p.topK > p.experts)
    return dataCorrupt(name + ": top_k " + number(p.topK) + " of " + number(p.experts) +
                       " experts");
  if (p.counts.size() != static_cast<size_t>(p.windows) * p.layers * p.experts)
    return dataCorrupt(name + ": " + number(p.counts.size()) + " counts for " + number(p.windows) +
                       " windows of " + number(p.layers) + " layers with " + number(p.experts) +
                       " experts");
  for (size_t i = 0; i < p.counts.size(); ++i) {
    if (std::isfinite(p.counts[i]) && p.counts[i] >= 0)
      continue;
    size_t layer = i / p.experts % p.layers;
    return dataCorrupt(name + ": layer " + number(layer) + ", expert " + number(i % p.experts) +
                       ": the count is " +
                       (std::isfinite(p.counts[i]) ? "negative" : "not a finite number") +
                       "; counts are numbers of tokens");
  }
  for (const ProfileDomain &domain : p.domains) {
    std::string what = name + ": domain \"" + domain.name + "\": ";
    if (p.topK < 1 || domain.ids.size() % (static_cast<size_t>(p.layers) * p.topK) != 0)
      return dataCorrupt(what + number(domain.ids.size()) + " expert ids are not rows of " +
                         number(p.layers) + " layers with top_k " + number(p.topK));
    for (uint16_t id : domain.ids)
      if (id != kNoExpert && id >= p.experts)
        return dataCorrupt(what + "expert " + number(id) + " of a model with " + number(p.experts) +
                           " experts");
  }
  return Status::ok();
}

Status checkSameModel(const Profile &a, const std::string &nameA, const Profile &b,
                      const std::string &nameB) {
  auto differ = [&](const char *what, const std::string &valueA, const std::string &valueB) {
    return invalidArgument(nameB + " is a profile of another model than " + nameA + ": " + what +
                           " " + valueB + " against " + valueA);
  };
  if (a.layers != b.layers)
    return differ("layers", number(a.layers), number(b.layers));
  if (a.experts != b.experts)
    return differ("experts", number(a.experts), number(b.experts));
  if (a.topK && b.topK && a.topK != b.topK)
    return differ("top_k", number(a.topK), number(b.topK));
  if (!a.model.empty() && !b.model.empty() && a.model != b.model)
    return differ("model", "\"" + a.model + "\"", "\"" + b.model + "\"");
  return Status::ok();
}

Result<Profile> mergeProfiles(std::span<const Profile> profiles,
                              std::span<const std::string> names) {
  if (profiles.empty() || names.size() != profiles.size())
    return invalidArgument("no profiles to merge; give at least one");
  Profile merged = profiles[0];
  for (size_t i = 1; i < profiles.size(); ++i) {
    const Profile &next = profiles[i];
    SLUICE_RETURN_IF_ERROR(checkSameModel(merged, names[0], next, names[i]));
    if (merged.model.empty())
      merged.model = next.model;
    if (merged.topK == 0)
      merged.topK = next.topK;
    merged.windows += next.windows;
    merged.counts.insert(merged.counts.end(), next.counts.begin(), next.counts.end());
    for (const ProfileDomain &domain : next.domains) {
      auto same = std::find_if(merged.domains.begin(), merged.domains.end(),
                               [&](const ProfileDomain &d) { return d.name == domain.name; });
      if (same == merged.domains.end())
        merged.domains.push_back(domain);
      else
        same->ids.insert(same->ids.end(), domain.ids.begin(), domain.ids.end());
    }
  }
  SLUICE_RETURN_IF_ERROR(checkProfile(merged, "merged profile"));
  return merged;
}

std::vector<LayerSkew> inspectProfile(const Profile &profile) {
  std::vector<LayerSkew> result;
  for (int layer = 0; layer < profile.layers; ++layer) {
    if (profile.isDense(layer))
      continue;
    LayerSkew skew;
    skew.layer = layer;
    std::vector<double> shares = profile.total(layer);
    double sum = std::accumulate(shares.begin(), shares.end(), 0.0), entropy = 0;
    for (double &share : shares) {
      share /= sum;
      skew.unused += share == 0;
      if (share > 0)
        entropy -= share * std::log(share);
    }
    skew.entropy = profile.experts > 1 ? entropy / std::log(double(profile.experts)) : 1;
    if (profile.topK > 0) {
      for (int batch : kDistinctBatches) {
        double distinct = 0;
        for (double share : shares)
          distinct += 1 - std::pow(1 - std::min(1.0, share * profile.topK), batch);
        skew.distinct.push_back(distinct);
      }
    }
    std::sort(shares.begin(), shares.end(), std::greater<>());
    skew.heaviest = shares.front() * profile.experts;
    skew.topTenth =
        std::accumulate(shares.begin(), shares.begin() + (profile.experts + 9) / 10, 0.0);
    result.push_back(std::move(skew));
  }
  return result;
}

} // namespace sluice
