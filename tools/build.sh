#!/usr/bin/env bash
# Sets up the machine and builds everything into build/. Shared by the quickstart and the tests.
#   tools/build.sh [CMake arguments]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/tools/setup.sh"
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
cmake -G Ninja -S "$root" -B "$root/build" "$@" >"$root/build.log" 2>&1 || { cat "$root/build.log" >&2; exit 1; }
rm -f "$root/build.log"
ninja -C "$root/build"
