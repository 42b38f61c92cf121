#!/usr/bin/env bash
# The ablation of docs/decisions/0035. Arguments: folder, in which what is done already is not done again; a folder of
# real organ shapes with simulated HU, and one with the real scans ts_example and lidc0001, where there are any. One
# seed per processor at a time.
set -euo pipefail
folder=$1 shapes=${2:-} data=${3:-}
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=1

seeds() { # piece, seeds, more
    local piece=$1 seeds=$2
    shift 2
    printf '%s\n' "$seeds" | tr ' ' '\n' |
        xargs -P "$(nproc)" -I{} "$bin/python" -m benchmarks.recipes "$piece" "$folder" --seeds {} "$@"
}

"$bin/python" -m benchmarks.recipes sets "$folder" ${shapes:+--shapes "$shapes"}
[ -e "$folder/cost.json" ] || "$bin/python" -m benchmarks.recipes cost "$folder"
seeds ablation "0 1 2"
[ -z "$shapes" ] || seeds shapes "0 1 2" --shapes "$shapes"
[ ! -e "$data/imagesTr/ts_example_0000.nii.gz" ] ||
    "$bin/python" -m benchmarks.recipes real "$folder" --data "$data"
seeds confirm "3 4 5" ${shapes:+--shapes "$shapes"}
"$bin/python" -m benchmarks.recipes collect "$folder"
"$bin/python" -m benchmarks.recipes_page
# the voxels that `viscera plan` chooses for it (docs/decisions/0055)
"$bin/python" -m benchmarks.planned_grids sets "$folder/grids"
printf '%s\n' 0 1 | xargs -P "$(nproc)" -I{} "$bin/python" -m benchmarks.planned_grids run "$folder/grids" --seeds {}
"$bin/python" -m benchmarks.planned_grids collect "$folder/grids"
