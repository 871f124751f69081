//===- ThreadPool.cpp - Fork-join threads for host kernels ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A region is published through one 64-bit word, the gate: generation, an open bit and the number
// of workers inside. Workers join by raising that number while the gate is open; the caller works
// too, closes the gate when nothing is left to claim and waits only for those who joined. A worker
// that the operating system has not scheduled yet therefore never delays a region, which matters on
// machines that run something else beside us.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/ThreadPool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <sched.h>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sluice::host {
namespace {

constexpr uint64_t kOpen = uint64_t(1) << 31;
constexpr uint64_t kActiveMask = kOpen - 1;
constexpr int kGenerationShift = 32;

/// How long an idle worker polls before it sleeps in the kernel: longer than the gap between two
/// launches of a step, far shorter than the time between two steps of an idle server.
constexpr std::chrono::microseconds kSpinTime(200);

void pauseCpu() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

int usableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1, int(std::thread::hardware_concurrency()));
}

} // namespace

struct ThreadPool::State {
  alignas(64) std::atomic<uint64_t> gate{0};
  /// The gate's generation again, as a word that workers can sleep on.
  std::atomic<uint32_t> wake{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int64_t> next{0};
  int64_t count = 0, grain = 1;
  Body body = nullptr;
  const void *context = nullptr;
  std::vector<std::thread> workers;

  void claimParts(int worker) {
    for (;;) {
      int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count)
        return;
      body(context, begin, std::min(begin + grain, count), worker);
    }
  }

  void waitForChange(uint32_t seen) {
    auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    do {
      for (int i = 0; i < 64; ++i) {
        if (wake.load(std::memory_order_acquire) != seen)
          return;
        pauseCpu();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    wake.wait(seen, std::memory_order_acquire);
  }

  void workerLoop(int worker) {
    uint32_t seen = 0;
    for (;;) {
      waitForChange(seen);
      if (stop.load(std::memory_order_acquire))
        return;
      uint64_t word = gate.load(std::memory_order_acquire);
      bool joined = false;
      while ((word & kOpen) && !joined)
        joined = gate.compare_exchange_weak(word, word + 1, std::memory_order_acq_rel);
      seen = uint32_t(word >> kGenerationShift);
      if (joined) {
        claimParts(worker);
        gate.fetch_sub(1, std::memory_order_release);
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : state(std::make_unique<State>()) {
  int wanted = threads > 0 ? threads : usableCpus();
  try {
    state->workers.reserve(size_t(wanted - 1));
    for (int worker = 1; worker < wanted; ++worker)
      state->workers.emplace_back([s = state.get(), worker] { s->workerLoop(worker); });
  } catch (const std::system_error &) {
    // The system grants fewer threads than asked for; the pool works with what it got.
  }
  threadCount = int(state->workers.size()) + 1;
}

ThreadPool::~ThreadPool() {
  state->stop.store(true, std::memory_order_release);
  state->wake.fetch_add(1, std::memory_order_release);
  state->wake.notify_all();
  for (std::thread &worker : state->workers)
    worker.join();
}

void ThreadPool::run(int64_t count, int64_t grain, Body body, const void *context) {
  if (count <= 0)
    return;
  grain = std::max<int64_t>(grain, 1);
  if (threadCount == 1 || count <= grain) {
    body(context, 0, count, 0);
    return;
  }
  State &s = *state;
  s.count = count;
  s.grain = grain;
  s.body = body;
  s.context = context;
  s.next.store(0, std::memory_order_relaxed);
  uint32_t generation = s.wake.load(std::memory_order_relaxed) + 1;
  s.gate.store((uint64_t(generation) << kGenerationShift) | kOpen, std::memory_order_release);
  s.wake.store(generation, std::memory_order_release);
  s.wake.notify_all();

  s.claimParts(0);
  uint64_t word = s.gate.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spins = 0; (word & kActiveMask) != 0; ++spins) {
    if (spins < 2000)
      pauseCpu();
    else
      std::this_thread::yield();
    word = s.gate.load(std::memory_order_acquire);
  }
}

} // namespace sluice::host
