#!/usr/bin/env bash
# Plans DeepSeek-V3 before any weight or GPU is there: does it fit, how should ranks share it, how fast
# will it be? The second machine is too small for bf16 weights, and the refusal says what would fit.
#   examples/03-plan/plan.sh [FOLDER FOR THE REPORTS]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${SLUICE_BIN_DIR:-$root/build/bin}
out=${1:-$root/build}
model=$root/examples/configs/DeepSeek-V3

"$bin/sluice-plan" "$model" --weights=synthetic --target=h200x8 --max-seqs=64 \
  --report="$out/deepseek-v3.json" --html="$out/deepseek-v3.html"
echo "charts: $out/deepseek-v3.html"

if "$bin/sluice-plan" "$model" --weights=synthetic --quantize=bf16 --target=h100x8 --quiet; then
  echo "bf16 weights of 1.34 TB cannot fit on 8 x 80 GB" >&2
  exit 1
fi
