//===- RankTeam.cpp - One thread per rank of a process ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A round is published by raising a counter that members sleep on, after spinning for about as long
// as the pause between two steps of a busy server. Order of memory: the caller writes the call,
// then raises `round` (release); a member that sees the new round (acquire) sees the call. A member
// lowers `busy` (release) when its part is done; the caller that sees zero (acquire) sees all its
// writes.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/RankTeam.h"

#include <atomic>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace sluice {
namespace {

constexpr std::chrono::microseconds kSpinTime(100);

/// Waits until `word` is not `seen`; returns its value.
template <typename T> T waitForChange(const std::atomic<T> &word, T seen, bool spin) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  while (spin && std::chrono::steady_clock::now() < deadline)
    for (int i = 0; i < 64; ++i) {
      if (T value = word.load(std::memory_order_acquire); value != seen)
        return value;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  word.wait(seen, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

} // namespace

struct RankTeam::State {
  alignas(64) std::atomic<uint32_t> round{0};
  alignas(64) std::atomic<int> busy{0};
  std::atomic<bool> stop{false};
  Call call = nullptr;
  const void *context = nullptr;
  bool spin = false; ///< pays only while every member has a processor
  std::vector<std::thread> threads;

  void memberLoop(int member) {
    for (uint32_t seen = 0;;) {
      seen = waitForChange(round, seen, spin);
      if (stop.load(std::memory_order_acquire))
        return;
      call(context, member);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1)
        busy.notify_one();
    }
  }
};

RankTeam::RankTeam(int size) : count(size), state(std::make_unique<State>()) {
  state->spin = unsigned(size) <= std::thread::hardware_concurrency();
  state->threads.reserve(size_t(size - 1));
}

Result<std::unique_ptr<RankTeam>> RankTeam::create(int size) {
  std::unique_ptr<RankTeam> team(new RankTeam(size));
  try {
    for (int member = 1; member < size; ++member)
      team->state->threads.emplace_back([s = team->state.get(), member] { s->memberLoop(member); });
  } catch (const std::system_error &error) {
    return resourceExhausted("cannot start a thread for each of " + std::to_string(size) +
                             " ranks: " + error.what() +
                             "; raise the limit of threads or start one process per rank");
  }
  return team;
}

RankTeam::~RankTeam() {
  state->stop.store(true, std::memory_order_release);
  state->round.fetch_add(1, std::memory_order_release);
  state->round.notify_all();
  for (std::thread &thread : state->threads)
    thread.join();
}

void RankTeam::run(Call call, const void *context) {
  State &s = *state;
  if (count > 1) {
    s.call = call;
    s.context = context;
    s.busy.store(count - 1, std::memory_order_relaxed);
    s.round.fetch_add(1, std::memory_order_release);
    s.round.notify_all();
  }
  call(context, 0);
  for (int left = s.busy.load(std::memory_order_acquire); left > 0;)
    left = waitForChange(s.busy, left, s.spin);
}

} // namespace sluice
