//===- MpiCommunicator.h - One rank per process, by MPI ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_MPI_MPICOMMUNICATOR_H
#define SLUICE_RUNTIME_COLLECTIVES_MPI_MPICOMMUNICATOR_H

#include "runtime/collectives/Collectives.h"

#include <optional>
#include <string>

namespace sluice {

/// This process among those that one mpirun started.
struct MpiLaunch {
  int rank = 0;
  int size = 1;
  std::string variable; ///< the environment variable that told
};

/// Whether a launcher of MPI started this process, by its environment (Open MPI, and the PMI of
/// MPICH and Slurm). Touches no MPI library.
std::optional<MpiLaunch> detectMpiLaunch();

/// Makes this process one rank of the launch: a world of one communicator here. Opens the module
/// libsluice_mpi.so and initializes MPI, which works once per process. Errors: kInvalidArgument
/// when the launch has not options.worldSize processes; kNotFound without the module or MPI's
/// library; kVersionMismatch for a module of another build; kUnsupported where MPI offers too
/// little; kIo when MPI fails.
///
/// Destroying the communicator takes leave of the others and finalizes MPI once all have done so.
/// If they have not within the time-out (2 s at most in a broken world), MPI is left as it is and
/// the process may exit with its own code; mpirun then ends the ranks that remain.
Result<Communicators> connectMpi(const CollectiveOptions &options);

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_MPI_MPICOMMUNICATOR_H
