#!/usr/bin/env bash
# The ablation of docs/decisions/0035. Argument: folder, in which what is done already is not done again.
set -euo pipefail
folder=$1
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=1

[ -e "$folder/cost.json" ] || "$bin/python" -m benchmarks.recipes cost "$folder"
"$bin/python" -m benchmarks.recipes ablation "$folder"
"$bin/python" -m benchmarks.recipes page "$folder" --out "${PAGE:-docs/results/recipes.md}"
