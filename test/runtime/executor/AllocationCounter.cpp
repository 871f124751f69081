//===- AllocationCounter.cpp - How often a test program allocates -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A file of its own, so that no compiler inlines one half of a pair of operators and warns of a
// mismatch. Every form is replaced, because those of a sanitizer would not match the others.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/executor/AllocationCounter.h"

#include <atomic>
#include <cstdlib>
#include <new>

static std::atomic<uint64_t> count{0};

uint64_t sluice::test::allocationCount() { return count.load(); }

static void *allocate(size_t bytes) {
  count.fetch_add(1, std::memory_order_relaxed);
  if (void *memory = std::malloc(bytes ? bytes : 1))
    return memory;
  std::abort();
}

static void *allocate(size_t bytes, std::align_val_t alignment) {
  count.fetch_add(1, std::memory_order_relaxed);
  auto unit = static_cast<size_t>(alignment);
  if (void *memory = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit))
    return memory;
  std::abort();
}

void *operator new(size_t bytes) { return allocate(bytes); }
void *operator new[](size_t bytes) { return allocate(bytes); }
void *operator new(size_t bytes, const std::nothrow_t &) noexcept { return allocate(bytes); }
void *operator new[](size_t bytes, const std::nothrow_t &) noexcept { return allocate(bytes); }
void *operator new(size_t bytes, std::align_val_t unit) { return allocate(bytes, unit); }
void *operator new[](size_t bytes, std::align_val_t unit) { return allocate(bytes, unit); }

void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t) noexcept { std::free(memory); }
void operator delete(void *memory, const std::nothrow_t &) noexcept { std::free(memory); }
void operator delete[](void *memory, const std::nothrow_t &) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t, std::align_val_t) noexcept { std::free(memory); }
