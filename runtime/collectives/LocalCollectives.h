//===- LocalCollectives.h - Ranks as threads of one process -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_LOCALCOLLECTIVES_H
#define SLUICE_RUNTIME_COLLECTIVES_LOCALCOLLECTIVES_H

#include "runtime/collectives/Collectives.h"

namespace sluice {

/// A world whose ranks all live in this process; the caller runs each from its own thread. abort()
/// may be called from any thread. A rank that was told of a failure has not touched and will not
/// touch another rank's buffers afterwards, so those may be freed.
Result<Communicators> connectLocal(const CollectiveOptions &options);

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_LOCALCOLLECTIVES_H
