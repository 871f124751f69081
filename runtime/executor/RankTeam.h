//===- RankTeam.h - One thread per rank of a process ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Ranks of one process wait for each other inside collectives, so each needs a thread of its own,
// for its whole life: a pool that runs them one after the other would hang. The thread that calls
// is the first rank's, which makes a team of one free.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_EXECUTOR_RANKTEAM_H
#define SLUICE_RUNTIME_EXECUTOR_RANKTEAM_H

#include "sluice/status.h"

#include <memory>

namespace sluice {

/// Not thread-safe: one thread at a time calls run(), and not from within.
class RankTeam {
public:
  /// Starts `size` - 1 threads; kResourceExhausted when the system grants fewer.
  static Result<std::unique_ptr<RankTeam>> create(int size);
  ~RankTeam();
  RankTeam(const RankTeam &) = delete;
  RankTeam &operator=(const RankTeam &) = delete;

  int size() const { return count; }

  /// Calls body(0) here and body(1) ... body(size - 1) on the other threads, all at once, and
  /// returns when all have. A member always runs on the same thread. `body` must not throw.
  /// Allocates nothing.
  template <typename Body> void run(const Body &body) {
    run([](const void *context, int member) { (*static_cast<const Body *>(context))(member); },
        &body);
  }

private:
  using Call = void (*)(const void *context, int member);
  struct State;

  explicit RankTeam(int size);
  void run(Call call, const void *context);

  const int count;
  std::unique_ptr<State> state;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_EXECUTOR_RANKTEAM_H
