#!/usr/bin/env bash
# Permuted weights and their rivals (docs/decisions/0036). Argument: folder, in which what is done already is not done again.
set -euo pipefail
folder=$1
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
for study in permutation rivals rate_times_steps; do
    "$bin/python" -m benchmarks.long_studies run "$folder" "$study"
    "$bin/python" -m benchmarks.long_studies collect "$folder"
    "$bin/python" -m benchmarks.permuted_weights
done
