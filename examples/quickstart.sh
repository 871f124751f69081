#!/usr/bin/env bash
# The main job on a fresh machine: build, compile the example model, look at its plan, generate text.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/tools/build.sh"
bin=$root/build/bin
artifact=$root/build/moe-4m.sluice

"$bin/sluice-compile" "$root/examples/moe-4m" -o "$artifact"
"$bin/sluice-inspect" "$artifact"
"$bin/sluice-run" "$artifact" --prompt "The question of authority is " --max-new-tokens 48
