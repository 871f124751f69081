//===- ModelTable.cpp - Sums over a model's weights -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/ModelTable.h"

#include <algorithm>
#include <map>

namespace sluice::planner {

const char *weightRoleName(WeightRole role) {
  constexpr const char *names[kWeightRoles] = {"embedding",      "attention", "router", "experts",
                                               "shared experts", "dense",     "head",   "tables"};
  return names[int(role)];
}

int64_t ModelTable::parameters() const {
  int64_t sum = 0;
  for (const TableWeight &weight : weights)
    sum += weight.elements();
  return sum;
}

int64_t ModelTable::activeParameters() const {
  int64_t sum = 0;
  for (const TableWeight &weight : weights) {
    if (weight.role == WeightRole::kEmbedding)
      sum += weight.k;
    else if (weight.role == WeightRole::kExperts)
      sum += weight.elements() / weight.blobs * layers[size_t(weight.layer)].topK;
    else
      sum += weight.elements();
  }
  return sum;
}

uint64_t ModelTable::weightBytes() const {
  uint64_t sum = 0;
  for (const TableWeight &weight : weights)
    sum += weight.bytes;
  return sum;
}

std::string ModelTable::mainFormat() const {
  std::map<std::string, uint64_t> bytes;
  for (const TableWeight &weight : weights)
    bytes[weight.format] += weight.bytes;
  auto most = std::max_element(bytes.begin(), bytes.end(),
                               [](auto &a, auto &b) { return a.second < b.second; });
  return most == bytes.end() ? "" : most->first;
}

int64_t ModelTable::moeLayers() const {
  return std::count_if(layers.begin(), layers.end(),
                       [](const TableLayer &layer) { return layer.experts > 0; });
}

int64_t ModelTable::maxExperts() const {
  int64_t most = 0;
  for (const TableLayer &layer : layers)
    most = std::max(most, layer.experts);
  return most;
}

} // namespace sluice::planner
