//===- LaunchObserver.h - Looking at buffers between launches -----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Comparing a model with its reference layer by layer needs what lies between the launches of a
// step, which an engine otherwise keeps to itself: buffers share their memory, so what a launch
// wrote is gone a few launches later. An observer is called after each of them. This is for
// evaluation within the project and no part of the public interface.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_LAUNCHOBSERVER_H
#define SLUICE_RUNTIME_EXECUTOR_LAUNCHOBSERVER_H

#include "runtime/artifact/StepAbi.h"
#include "sluice/engine.h"

#include <cstddef>
#include <span>
#include <string_view>

namespace sluice {

/// One buffer argument of a launch, sized for the bucket's full batch.
struct ObservedArg {
  std::string_view name; ///< as in abi::familyArgs()
  std::span<const std::byte> data;
};

/// A launch that has just run. Everything is valid during the call only.
struct ObservedLaunch {
  std::string_view family; ///< "residual_norm"
  std::string_view label;  ///< "layers.3.input_norm"
  const abi::StepHeader &step;
  std::span<const ObservedArg> args; ///< those that are present, in calling order

  /// The argument of that name as floats; empty when there is none.
  std::span<const float> floats(std::string_view name) const;
};

class LaunchObserver {
public:
  virtual ~LaunchObserver() = default;
  /// Called on the thread that runs the step, once per launch of the first rank of the process.
  virtual void launched(const ObservedLaunch &launch) = 0;
};

/// Calls `observer` after every launch of the steps to come, until it is replaced; null ends that.
/// The observer must outlive its use. Fails for engines whose launches cannot be observed.
Status observeLaunches(Engine &engine, LaunchObserver *observer);

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_LAUNCHOBSERVER_H
