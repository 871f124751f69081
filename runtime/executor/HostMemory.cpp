//===- HostMemory.cpp - Large blocks of host memory -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// mmap aligns to a page; a larger alignment is found inside a mapping that is larger by as much.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/HostMemory.h"

#include "runtime/base/Format.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace sluice {
namespace {
constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = uint64_t(2) << 20;
} // namespace

Result<HostMemory> HostMemory::allocate(uint64_t bytes, uint64_t alignment, std::string_view what) {
  HostMemory out;
  if (bytes == 0)
    return out;
  alignment = std::max(alignment, bytes >= kHugePage ? kHugePage : kPage);
  uint64_t total = 0;
  auto fail = [&](const char *why) {
    return resourceExhausted("cannot allocate " + formatBinaryBytes(bytes) + " for the " +
                             std::string(what) + ": " + why +
                             "; compile with fewer or shorter sequences or smaller batches");
  };
  if (__builtin_add_overflow(bytes, alignment, &total))
    return fail("the size overflows");
  void *mapping =
      ::mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return fail(std::strerror(errno));
  out.mapping = mapping;
  out.mappedBytes = total;
  uint64_t address = reinterpret_cast<uintptr_t>(mapping);
  uint64_t skip = (alignment - address % alignment) % alignment;
  out.base = static_cast<std::byte *>(mapping) + skip;
  out.length = bytes;
  if (bytes >= kHugePage)
    ::madvise(out.base, bytes, MADV_HUGEPAGE); // a hint: without huge pages nothing is lost
  return out;
}

HostMemory::HostMemory(HostMemory &&other) noexcept { *this = std::move(other); }

HostMemory &HostMemory::operator=(HostMemory &&other) noexcept {
  std::swap(mapping, other.mapping);
  std::swap(mappedBytes, other.mappedBytes);
  std::swap(base, other.base);
  std::swap(length, other.length);
  return *this;
}

HostMemory::~HostMemory() {
  if (mapping)
    ::munmap(mapping, mappedBytes);
}

uint64_t physicalMemoryBytes() {
  long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(size) : 0;
}

} // namespace sluice
