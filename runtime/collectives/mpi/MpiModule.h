//===- MpiModule.h - What libsluice_mpi.so offers ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Open MPI comes as a shared library only, and our programs must start where there is none. So all
// calls of MPI live in a module that is opened at run time, behind this table of C functions. The
// table carries messages between two ranks and nothing else: algorithms, time-outs and failures are
// the concern of MpiCommunicator, in the program. No C++ object crosses the boundary.
//
// Every function returns 0 or an error code of MPI; none of them waits for another rank, but start
// and finish. Requests are numbered slots, so that nothing is allocated per message.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_MPI_MPIMODULE_H
#define SLUICE_RUNTIME_COLLECTIVES_MPI_MPIMODULE_H

#include <stddef.h>
#include <stdint.h>

extern "C" {

/// Any rank, as the peer of a receive.
inline constexpr int kSluiceMpiAnyPeer = -1;

struct SluiceMpiModule {
  /// sizeof of this structure and the version of Sluice that built the module: both must be equal
  /// to the program's, since the table may change from one version to the next.
  size_t structBytes;
  const char *version;

  /// Initializes MPI, once per process; waits for all ranks of the launch. `outMaxTag` gets the
  /// largest tag and `outThreads` whether calls may come from any thread (one at a time).
  int (*start)(int *outRank, int *outSize, int *outMaxTag, int *outThreads);
  /// Makes room for requests 0 ... count - 1, all idle. More may be asked for while all are idle or
  /// below the old count.
  int (*reserve)(size_t count);
  /// Begin to move up to INT_MAX bytes; `request` must be idle. Messages of one tag from one rank
  /// to another arrive in order. A receive of fewer bytes than were sent is an error.
  int (*send)(size_t request, const void *data, size_t bytes, int peer, int tag);
  int (*receive)(size_t request, void *data, size_t bytes, int peer, int tag);
  /// Whether `request` is finished, which makes it idle; the bytes moved. Idle requests are
  /// finished, with 0 bytes. A cancelled receive finishes with 0 bytes.
  int (*test)(size_t request, int *outDone, size_t *outBytes);
  /// Asks a receive to finish without a message, if none has begun to arrive.
  int (*cancel)(size_t request);
  /// Finalizes MPI; waits for all ranks.
  int (*finish)();
  /// Writes a zero-terminated text of at most `capacity` bytes for an error code.
  void (*describe)(int code, char *out, size_t capacity);
};

/// The one symbol that the module exports.
const SluiceMpiModule *sluiceMpiModule();
inline constexpr char kSluiceMpiModuleSymbol[] = "sluiceMpiModule";
}

#endif // SLUICE_RUNTIME_COLLECTIVES_MPI_MPIMODULE_H
