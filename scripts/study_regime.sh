#!/usr/bin/env bash
# The paper's regime (docs/decisions/0038). Arguments: folder, in which what is done already is not done again; device (cpu,
# or cuda for the paper's size); and a folder of real organ shapes with simulated HU, where there is one. One process.
set -euo pipefail
folder=$1 device=${2:-cpu} shapes=${3:-}
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
long() { "$bin/python" -m benchmarks.long_studies "$@" --device "$device"; }

studies=(phantom phantom_direction)
lower=(phantom_lower)
if [ -n "$shapes" ] && [ "$device" = cpu ]; then
    studies+=(shapes shapes_direction)
    lower+=(shapes_lower)
fi
[ -e benchmarks/results/paper_regime.json ] || "$bin/python" -m benchmarks.paper_regime claim "$folder/claim"
for stage in 2500 5000 10000; do
    if [ "$stage" = 10000 ] && "$bin/python" -m benchmarks.paper_regime settled; then
        echo "No arm rose by a point from 2,500 to 5,000 steps on either set: the last stage is left out."
        stage=5000
        break
    fi
    long run "$folder" "${studies[@]}" --stage "$stage" ${shapes:+--shapes "$shapes"}
    long collect "$folder"
    "$bin/python" -m benchmarks.paper_regime page
done
long run "$folder" "${lower[@]}" --stage "$stage" ${shapes:+--shapes "$shapes"}
long collect "$folder"
"$bin/python" -m benchmarks.paper_regime page
