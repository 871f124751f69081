//===- CollectiveErrors.h - What a rank says when others fail ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A broken world must read the same whatever carries the bytes: backends take the wording from
// here. All of these are kAborted, whose exit code a launcher's user sees.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_COLLECTIVEERRORS_H
#define SLUICE_RUNTIME_COLLECTIVES_COLLECTIVEERRORS_H

#include "sluice/status.h"

#include <chrono>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

/// `collective "<label>": `
std::string collectivePrefix(std::string_view label);

/// `ranks` did not take part in `label` in time.
Status missingRanksStatus(std::span<const int> ranks, std::string_view label,
                          std::chrono::milliseconds timeout);

/// `rank` ended its part of the world although `label` needs it.
Status departedRankStatus(int rank, std::string_view label);

/// `rank` gave up because of `why`.
Status abortedByStatus(int rank, const Status &why);

/// `label` cannot run because the world broke for the reason `why`.
Status abandonedStatus(std::string_view label, const Status &why);

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_COLLECTIVEERRORS_H
