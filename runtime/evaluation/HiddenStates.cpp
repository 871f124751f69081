//===- HiddenStates.cpp - What lies between the layers ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/evaluation/HiddenStates.h"

#include <algorithm>
#include <charconv>

namespace sluice {

/// The layer of "layers.N.input_norm"; -1 for every other label.
static int64_t layerOfInputNorm(std::string_view label) {
  constexpr std::string_view before = "layers.", after = ".input_norm";
  if (!label.starts_with(before) || !label.ends_with(after))
    return -1;
  label.remove_prefix(before.size());
  int64_t layer = -1;
  auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), layer);
  return error == std::errc() && std::string_view(end, after.size()) == after ? layer : -1;
}

void HiddenStates::launched(const ObservedLaunch &launch) {
  if (launch.label == "norm" && launch.family == "norm") {
    keep(count() - 1, launch.floats("out"), launch.step.numLogitRows);
    return;
  }
  int64_t layer = layerOfInputNorm(launch.label);
  if (layer < 0 || layer >= int64_t(count()) - 1)
    return;
  // A norm that follows an addition is fused with it and leaves the sum.
  bool fused = launch.family == "residual_norm";
  keep(size_t(layer), launch.floats(fused ? "residual_out" : "x"), launch.step.numTokens);
}

void HiddenStates::keep(size_t index, std::span<const float> rows, int64_t wanted) {
  size_t size = std::min(rows.size(), size_t(wanted) * hiddenSize);
  states[index].assign(rows.begin(), rows.begin() + ptrdiff_t(size));
}

void HiddenStates::clear() {
  for (std::vector<float> &state : states)
    state.clear();
}

} // namespace sluice
