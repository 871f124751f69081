//===- ThreadPool.h - Fork-join threads for host kernels --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Host kernels are tens of microseconds long, so forking must cost about one: workers spin on a
// generation counter for a short while after each region before they sleep. The calling thread takes
// part as worker 0.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_THREADPOOL_H
#define SLUICE_RUNTIME_DEVICE_HOST_THREADPOOL_H

#include <cstdint>
#include <memory>

namespace sluice::host {

/// A fixed set of threads that run one region at a time. Not thread-safe: one owner calls
/// parallelFor; regions do not nest.
class ThreadPool {
public:
  /// `threads` counts the caller; 0 means one per hardware thread (affinity respected).
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int size() const { return threadCount; }

  /// Calls fn(begin, end, worker) on disjoint parts that cover [0, count). Parts are claimed
  /// dynamically in units of `grain`; worker < size(). `fn` must not throw. Allocates nothing.
  template <typename Fn> void parallelFor(int64_t count, int64_t grain, const Fn &fn) {
    run(count, grain, [](const void *context, int64_t begin, int64_t end, int worker) {
      (*static_cast<const Fn *>(context))(begin, end, worker);
    }, &fn);
  }

private:
  using Body = void (*)(const void *context, int64_t begin, int64_t end, int worker);
  void run(int64_t count, int64_t grain, Body body, const void *context);

  struct State;
  std::unique_ptr<State> state;
  int threadCount = 1;
};

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_THREADPOOL_H
