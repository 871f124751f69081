//===- MpiModule.cpp - Messages by MPI --------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The only file that includes mpi.h. A duplicate of the world communicator keeps our tags apart
// from those of a program that embeds us and uses MPI itself; such a program initializes and
// finalizes MPI on its own, which start and finish respect. Errors return instead of ending the
// job: one rank's trouble must reach the others as a message first.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/mpi/MpiModule.h"

#include "runtime/base/Version.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

MPI_Comm world = MPI_COMM_NULL;
std::vector<MPI_Request> requests;
bool initializedHere = false;

int start(int *outRank, int *outSize, int *outMaxTag, int *outThreads) {
  int initialized = 0;
  int level = MPI_THREAD_SINGLE;
  if (int code = MPI_Initialized(&initialized))
    return code;
  if (initialized) {
    if (int code = MPI_Query_thread(&level))
      return code;
  } else {
    if (int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level))
      return code;
    initializedHere = true;
  }
  *outThreads = level >= MPI_THREAD_SERIALIZED;
  if (int code = MPI_Comm_dup(MPI_COMM_WORLD, &world))
    return code;
  if (int code = MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN))
    return code;
  if (int code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN))
    return code;
  void *bound = nullptr;
  int found = 0;
  if (int code = MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &bound, &found))
    return code;
  *outMaxTag = found ? *static_cast<int *>(bound) : 32767; // what the standard guarantees
  if (int code = MPI_Comm_rank(world, outRank))
    return code;
  return MPI_Comm_size(world, outSize);
}

int reserve(size_t count) {
  requests.resize(std::max(count, requests.size()), MPI_REQUEST_NULL);
  return MPI_SUCCESS;
}

int send(size_t request, const void *data, size_t bytes, int peer, int tag) {
  return MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, world, &requests[request]);
}

int receive(size_t request, void *data, size_t bytes, int peer, int tag) {
  return MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE,
                   peer == kSluiceMpiAnyPeer ? MPI_ANY_SOURCE : peer, tag, world,
                   &requests[request]);
}

int test(size_t request, int *outDone, size_t *outBytes) {
  MPI_Status status;
  *outBytes = 0;
  if (int code = MPI_Test(&requests[request], outDone, &status))
    return code;
  if (!*outDone)
    return MPI_SUCCESS;
  int cancelled = 0;
  if (int code = MPI_Test_cancelled(&status, &cancelled); code || cancelled)
    return code;
  int count = 0;
  if (int code = MPI_Get_count(&status, MPI_BYTE, &count))
    return code;
  *outBytes = static_cast<size_t>(count);
  return MPI_SUCCESS;
}

int cancel(size_t request) {
  return requests[request] == MPI_REQUEST_NULL ? MPI_SUCCESS : MPI_Cancel(&requests[request]);
}

int finish() {
  int finalized = 0;
  if (int code = MPI_Finalized(&finalized); code || finalized)
    return code;
  if (int code = MPI_Comm_free(&world))
    return code;
  return initializedHere ? MPI_Finalize() : MPI_SUCCESS;
}

void describe(int code, char *out, size_t capacity) {
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  std::strncpy(out, text, capacity - 1);
  out[capacity - 1] = '\0';
}

} // namespace

extern "C" __attribute__((visibility("default"))) const SluiceMpiModule *sluiceMpiModule() {
  static const SluiceMpiModule table = {
      .structBytes = sizeof(SluiceMpiModule),
      .version = sluice::kVersion,
      .start = start,
      .reserve = reserve,
      .send = send,
      .receive = receive,
      .test = test,
      .cancel = cancel,
      .finish = finish,
      .describe = describe,
  };
  return &table;
}
