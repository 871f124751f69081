//===- HostMemory.h - Large blocks of host memory ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Slabs live as long as the engine and are read end to end by every step, so they come straight
// from the kernel: page aligned, zeroed, and on huge pages where there are any, which spares the
// TLB. The kernel hands out addresses at once and memory when it is touched; populate() touches all
// of it, so that what does not fit is an error while loading and steps meet no page faults.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_HOSTMEMORY_H
#define SLUICE_RUNTIME_EXECUTOR_HOSTMEMORY_H

#include "runtime/device/host/ThreadPool.h"
#include "sluice/status.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice {

/// An anonymous mapping, unmapped on destruction.
class HostMemory {
public:
  /// Zeroed memory aligned to `alignment`, a power of two; `what` names it in the
  /// kResourceExhausted error. No bytes give null.
  static Result<HostMemory> allocate(uint64_t bytes, uint64_t alignment, std::string_view what);

  /// Makes all of it resident, with the threads of `pool`. kResourceExhausted as above.
  Status populate(host::ThreadPool &pool, std::string_view what);

  HostMemory() = default;
  HostMemory(HostMemory &&other) noexcept;
  HostMemory &operator=(HostMemory &&other) noexcept;
  ~HostMemory();

  std::byte *data() const { return base; }
  uint64_t size() const { return length; }

private:
  std::byte *base = nullptr;
  uint64_t length = 0;
};

/// Bytes of physical memory of this machine, or what the container that this process runs in may
/// take of them; 0 when the system does not tell.
uint64_t physicalMemoryBytes();

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_HOSTMEMORY_H
