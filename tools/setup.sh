#!/usr/bin/env bash
# Installs what building and testing Sluice needs on Debian 12. Idempotent; root or sudo.
#   tools/setup.sh            everything: compiler, runtime, tests
#   tools/setup.sh --runtime  only what the runtime and its tools need (no LLVM)
set -euo pipefail

runtime=(g++ cmake ninja-build libprotobuf-dev protobuf-compiler nlohmann-json3-dev libcli11-dev
  libhwy-dev libpcre2-dev libutf8proc-dev libssl-dev openmpi-bin libopenmpi-dev)
# LLVM was built with zlib and zstd; its CMake package looks for their headers.
compiler=(libmlir-22-dev mlir-22-tools llvm-22-dev llvm-22-tools zlib1g-dev libzstd-dev)
testing=(ccache clang libclang-rt-dev libgtest-dev libgmock-dev python3)

case "${1:-}" in
  "") packages=("${runtime[@]}" "${compiler[@]}" "${testing[@]}") ;;
  --runtime) packages=("${runtime[@]}") ;;
  *) echo "usage: tools/setup.sh [--runtime]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "tools/setup.sh: needs root or sudo to install: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -q
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
