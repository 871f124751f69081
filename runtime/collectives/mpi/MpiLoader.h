//===- MpiLoader.h - Opens libsluice_mpi.so ---------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_MPI_MPILOADER_H
#define SLUICE_RUNTIME_COLLECTIVES_MPI_MPILOADER_H

#include "runtime/collectives/mpi/MpiModule.h"
#include "sluice/status.h"

namespace sluice {

/// Opens the module and checks that it belongs to this build. $SLUICE_MPI_MODULE alone if set;
/// otherwise beside the executable, in the library folder of its installation, and where the
/// loader looks. The module stays open until the process ends, since MPI may not be unloaded.
Result<const SluiceMpiModule *> loadMpiModule();

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_MPI_MPILOADER_H
