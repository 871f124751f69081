//===- StepScript.h - The same steps on two engines -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Whatever the number of ranks, a model's logits are the same up to the order of sums. The script
// mixes prefill and decode, chunks, entries with and without rows, and sequences that come and go,
// so that data parallel groups are uneven and sometimes empty.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TEST_RUNTIME_EXECUTOR_STEPSCRIPT_H
#define SLUICE_TEST_RUNTIME_EXECUTOR_STEPSCRIPT_H

#include "sluice/engine.h"

namespace sluice::test {

/// Runs the script on both engines, of the tiny model with room for 4 sequences of 40 tokens, 16
/// tokens per step, and expects equal logits (1e-4) and equal draws.
void expectSameSteps(Engine &engine, Engine &reference);

} // namespace sluice::test

#endif // SLUICE_TEST_RUNTIME_EXECUTOR_STEPSCRIPT_H
