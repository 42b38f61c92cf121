#!/usr/bin/env bash
# Why weights fail (docs/decisions/0009 and 0044). Arguments: folder, in which what is done already is not done again; device
# (cpu, or cuda for the paper's size); and `forecast` to run the sets of phantoms that the forecast of `viscera doctor` is
# fitted to as well, and to fit it again; then a folder of real organ shapes with simulated HU, where there is one, to judge
# it on as well. Two processes, of other seeds each.
set -euo pipefail
folder=$1
device=${2:-cpu}
shapes=${4:-}
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
long() { "$bin/python" -m benchmarks.long_studies "$1" "$folder" "${@:2}" --device "$device" ${shapes:+--shapes "$shapes"}; }

studies=(direction printed scale readings repair forecast_c)
[ "${3:-}" = forecast ] && studies+=(forecast_a forecast_b ${shapes:+forecast_shapes})
long run "${studies[@]}" --seeds 0 --stage 1 # the sets, and how this machine computes
long run "${studies[@]}" --seeds 1,3 &
long run "${studies[@]}" --seeds 0,2,4
wait $!
long collect
"$bin/python" -m benchmarks.why_weights_fail --device "$device"
if [ "${3:-}" = forecast ]; then
    judged=("phantom set c=$folder/forecast_c")
    [ -e "$folder"/permutation/study.yaml ] && judged+=("permuted weights=$folder/permutation") # make study-permutation, in that folder
    [ -n "$shapes" ] && judged+=("real shapes, simulated HU=$folder/forecast_shapes")
    "$bin/python" -m benchmarks.fit_forecast --fit main="$folder"/direction a="$folder"/forecast_a \
        b="$folder"/forecast_b repair="$folder"/repair printed="$folder"/printed scale="$folder"/scale \
        --test "${judged[@]}" \
        --paper "$folder"/data/demo/store --out benchmarks/results/forecast.json --page docs/results/forecast.md
fi
