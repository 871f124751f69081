//===- CollectiveOrder.h - Do all ranks meet in their collectives? ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Programs of several ranks wait for each other in collectives, so a plan whose ranks disagree on
// what comes next would hang. Nothing in a program depends on data, so this can be decided when the
// plan is loaded.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_COLLECTIVEORDER_H
#define SLUICE_RUNTIME_ARTIFACT_COLLECTIVEORDER_H

#include "runtime/artifact/plan.pb.h"
#include "sluice/status.h"

namespace sluice::validation {

/// Runs the collectives of every bucket on paper. Each rank's programs have been checked by
/// themselves, and all ranks have the same buckets. kDataCorrupt names the bucket and the two
/// commands that do not fit, or the rank that waits for ever.
Status checkCollectiveOrder(const proto::Plan &plan);

} // namespace sluice::validation

#endif // SLUICE_RUNTIME_ARTIFACT_COLLECTIVEORDER_H
