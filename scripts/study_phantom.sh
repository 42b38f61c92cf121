#!/usr/bin/env bash
# Why weights fail (docs/decisions/0009 and 0044). Arguments: folder, in which what is done already is not done again; device
# (cpu, or cuda for the paper's size); and `forecast` to run the sets of phantoms that the forecast of `viscera doctor` is
# fitted to as well, and to fit it again. Two processes, of other seeds each.
set -euo pipefail
folder=$1
device=${2:-cpu}
bin=${BIN:-.venv/bin}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
long() { "$bin/python" -m benchmarks.long_studies "$1" "$folder" "${@:2}" --device "$device"; }

studies=(direction printed scale readings repair forecast_c)
[ "${3:-}" = forecast ] && studies+=(forecast_a forecast_b)
long run "${studies[@]}" --seeds 0 --stage 1 # the sets, and how this machine computes
long run "${studies[@]}" --seeds 1,3 &
long run "${studies[@]}" --seeds 0,2,4
wait $!
long collect
"$bin/python" -m benchmarks.why_weights_fail --device "$device"
if [ "${3:-}" = forecast ]; then
    "$bin/python" -m benchmarks.fit_forecast --fit main="$folder"/direction a="$folder"/forecast_a \
        b="$folder"/forecast_b repair="$folder"/repair printed="$folder"/printed scale="$folder"/scale \
        --test c="$folder"/forecast_c
fi
