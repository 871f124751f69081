#!/usr/bin/env bash
# Sets up the machine, builds, and passes all tests: the command of the README, and what CI runs.
# The second part builds the runtime without LLVM under AddressSanitizer and UBSan with clang, runs its
# tests there, and fuzzes the readers of untrusted files for a bounded time.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/tools/build.sh"
ctest --test-dir "$root/build" --output-on-failure -j "$(nproc)"

CC=clang CXX=clang++ cmake -G Ninja -S "$root" -B "$root/build/sanitized" -DSLUICE_BUILD_COMPILER=OFF \
  -DSLUICE_SANITIZE=address,undefined -DSLUICE_BUILD_FUZZERS=ON >"$root/build/sanitized.log" 2>&1 ||
  { cat "$root/build/sanitized.log" >&2; exit 1; }
ninja -C "$root/build/sanitized"
ctest --test-dir "$root/build/sanitized" --output-on-failure -j "$(nproc)"
