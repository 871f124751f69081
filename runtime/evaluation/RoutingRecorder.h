//===- RoutingRecorder.h - Which experts the tokens of a text chose ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Records a profile from a run of the model itself: the ids that the routers of every layer give
// out are read where they are written, so that what is recorded is what was executed.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EVALUATION_ROUTINGRECORDER_H
#define SLUICE_RUNTIME_EVALUATION_ROUTINGRECORDER_H

#include "runtime/profile/Profile.h"
#include "sluice/engine.h"

#include <functional>
#include <string>
#include <vector>

namespace sluice {

/// A text of one kind, tokenised.
struct RecordedText {
  std::string domain;
  std::vector<int32_t> tokens;
};

/// Runs every text through `engine` in sequences of at most `window` tokens (no longer than the
/// plan's) and returns a profile with one window of counts per text and the ids of every token, by
/// domain. `window` tokens are a context: each starts afresh. Decoder layers without a router are
/// dense. kUnsupported for a model without experts and for plans whose attention is data parallel;
/// kInvalidArgument for no text. `progress` gets tokens done and tokens in total.
Result<Profile> recordRouting(Engine &engine, const std::vector<RecordedText> &texts, int window,
                              const std::function<void(int64_t, int64_t)> &progress = {});

} // namespace sluice

#endif // SLUICE_RUNTIME_EVALUATION_ROUTINGRECORDER_H
