//===- HostMemory.cpp - Large blocks of host memory -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// mmap aligns to a page; a larger alignment is found inside a mapping that is larger by as much,
// and the rest is given back.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/HostMemory.h"

#include "runtime/base/Format.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace sluice {
namespace {
constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = uint64_t(2) << 20;
/// What one thread populates at a time.
constexpr uint64_t kPopulateBytes = 8 * kHugePage;

Status doesNotFit(uint64_t bytes, std::string_view what, const char *why) {
  return resourceExhausted("cannot allocate " + formatBinaryBytes(bytes) + " for the " +
                           std::string(what) + ": " + why +
                           "; compile with fewer or shorter sequences or smaller batches");
}

uint64_t roundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
} // namespace

Result<HostMemory> HostMemory::allocate(uint64_t bytes, uint64_t alignment, std::string_view what) {
  HostMemory out;
  if (bytes == 0)
    return out;
  alignment = std::max(alignment, bytes >= kHugePage ? kHugePage : kPage);
  if (bytes > UINT64_MAX - alignment - kPage)
    return doesNotFit(bytes, what, "the size overflows");
  const uint64_t length = roundUp(bytes, kPage);
  void *mapping = ::mmap(nullptr, length + alignment, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return doesNotFit(bytes, what, std::strerror(errno));
  auto *begin = static_cast<std::byte *>(mapping);
  const uint64_t skip = roundUp(reinterpret_cast<uintptr_t>(mapping), alignment) -
                        reinterpret_cast<uintptr_t>(mapping);
  if (skip > 0)
    ::munmap(begin, skip);
  ::munmap(begin + skip + length, alignment - skip); // not empty: skip is below the alignment
  out.base = begin + skip;
  out.length = bytes;
  if (bytes >= kHugePage)
    ::madvise(out.base, length, MADV_HUGEPAGE); // a hint: without huge pages nothing is lost
  return out;
}

Status HostMemory::populate(host::ThreadPool &pool, std::string_view what) {
  std::atomic<int> failure{0};
  const uint64_t end = roundUp(length, kPage);
  const auto parts = static_cast<int64_t>(roundUp(end, kPopulateBytes) / kPopulateBytes);
  pool.parallelFor(parts, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t part = first; part < last; ++part) {
      const uint64_t offset = static_cast<uint64_t>(part) * kPopulateBytes;
      const uint64_t bytes = std::min(kPopulateBytes, end - offset);
#ifdef MADV_POPULATE_WRITE
      if (::madvise(base + offset, bytes, MADV_POPULATE_WRITE) == 0)
        continue;
      if (errno != EINVAL) { // which older kernels answer
        failure = errno;
        continue;
      }
#endif
      for (uint64_t page = 0; page < bytes; page += kPage)
        *const_cast<volatile std::byte *>(base + offset + page) = std::byte(0);
    }
  });
  return failure == 0 ? Status::ok() : doesNotFit(length, what, std::strerror(failure));
}

HostMemory::HostMemory(HostMemory &&other) noexcept { *this = std::move(other); }

HostMemory &HostMemory::operator=(HostMemory &&other) noexcept {
  std::swap(base, other.base);
  std::swap(length, other.length);
  return *this;
}

HostMemory::~HostMemory() {
  if (base)
    ::munmap(base, roundUp(length, kPage));
}

uint64_t physicalMemoryBytes() {
  long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  uint64_t bytes =
      pages > 0 && size > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(size) : 0;
  // Control groups, version 2 and 1, as a container sees its own; "max" is no number.
  for (const char *path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    uint64_t limit = 0;
    if (std::ifstream(path) >> limit && limit > 0)
      bytes = bytes == 0 ? limit : std::min(bytes, limit);
  }
  return bytes;
}

} // namespace sluice
