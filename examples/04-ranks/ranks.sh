#!/usr/bin/env bash
# Shares the example model among four ranks: experts dealt to two groups of two ranks, each sequence
# attended to by one of two data parallel groups. Runs the ranks as threads of one process, then, where
# Open MPI is installed, as processes of their own. The text is the same.
#   examples/04-ranks/ranks.sh [FOLDER FOR THE ARTIFACT]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${SLUICE_BIN_DIR:-$root/build/bin}
artifact=${1:-$root/build}/moe-4m-ranks.sluice

"$bin/sluice-compile" "$root/examples/moe-4m" -o "$artifact" --ranks=4 --tp=2 --ep=2 --dp=2 --quiet
run=("$bin/sluice-run" "$artifact" --prompt "The question of authority is " --max-new-tokens 32 --quiet)
threads=$("${run[@]}")
echo "$threads"
if command -v mpirun >/dev/null && [ -e "$bin/../lib/libsluice_mpi.so" ]; then
  # Containers run as root and on fewer cores than ranks, which Open MPI wants to be told.
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  processes=$(mpirun --oversubscribe -n 4 "${run[@]}")
  [ "$processes" = "$threads" ] || { echo "processes gave another text: $processes" >&2; exit 1; }
fi
