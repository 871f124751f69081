//===- HiddenStates.h - What lies between the layers --------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Collects the residual stream while an engine runs. Plans hold no layers, only launches; but each
// launch is labelled with the weights it computes with, and importers name norms alike in all
// families: layer N reads the stream through "layers.N.input_norm", the head through "norm". That
// is where the states are taken from.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EVALUATION_HIDDENSTATES_H
#define SLUICE_RUNTIME_EVALUATION_HIDDENSTATES_H

#include "runtime/executor/LaunchObserver.h"

#include <vector>

namespace sluice {

/// Keeps the hidden states of the last step. State 0 is the first layer's input, state i the
/// output of layer i counted from 1, except that the last one is after the final norm and has rows
/// for wanted logits only.
class HiddenStates final : public LaunchObserver {
public:
  explicit HiddenStates(const EngineInfo &info)
      : hiddenSize(size_t(info.hiddenSize)), states(size_t(info.numLayers) + 1) {}

  void launched(const ObservedLaunch &launch) override;

  size_t count() const { return states.size(); }
  /// Rows [tokens, hidden size] of state `index`; empty when no launch showed it.
  std::span<const float> state(size_t index) const { return states[index]; }
  /// Forgets the last step.
  void clear();

private:
  void keep(size_t index, std::span<const float> rows, int64_t wanted);

  size_t hiddenSize;
  std::vector<std::vector<float>> states;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EVALUATION_HIDDENSTATES_H
