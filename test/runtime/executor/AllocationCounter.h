//===- AllocationCounter.h - How often a test program allocates -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Linking AllocationCounter.cpp replaces the global operator new with one that counts.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_EXECUTOR_ALLOCATIONCOUNTER_H
#define SLUICE_TEST_RUNTIME_EXECUTOR_ALLOCATIONCOUNTER_H

#include <cstdint>

namespace sluice::test {

/// Calls of operator new since the program started, by all threads.
uint64_t allocationCount();

} // namespace sluice::test

#endif // SLUICE_TEST_RUNTIME_EXECUTOR_ALLOCATIONCOUNTER_H
